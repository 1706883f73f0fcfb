import json
import unittest
from wsgiref.util import setup_testing_defaults

from greeting.service import application


def get(path: str) -> tuple[str, bytes]:
    environment = {"PATH_INFO": path}
    setup_testing_defaults(environment)
    statuses = []
    body = application(environment, lambda status, headers, error=None: statuses.append(status))
    return statuses[0], b"".join(body)


class ServiceTest(unittest.TestCase):
    def test_greets_by_name(self) -> None:
        status, body = get("/hello/Ada")
        self.assertEqual((status, json.loads(body)), ("200 OK", {"greeting": "Hello, Ada!"}))

    def test_unknown_page(self) -> None:
        self.assertEqual(get("/nothing")[0], "404 Not Found")
