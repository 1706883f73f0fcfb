"""A real HTTP server on loopback, over TLS where a test wants it, that answers as a test says and remembers who asked."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUy+f4Pg5eDMIHYpu
i9piXfab4UBp/1e3XoFrtLw1pzOhRANCAASH7JcS/Cny5+SxUKMS3rISSZ4jWK8i
8ShzUIycJoVPy3VnMgK6mf6wxJ92TTQPwYnzkniIK7jiBb1TT0ApAWu2
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUFqVxkwPealuuZTUxXmO8Iv0W2kowCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMTkxMjA4
MDAwMDAwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASH7JcS/Cny5+SxUKMS3rISSZ4jWK8i8ShzUIycJoVPy3VnMgK6mf6w
xJ92TTQPwYnzkniIK7jiBb1TT0ApAWu2o28wbTAdBgNVHQ4EFgQUcSvEtEtWq1nH
6PKWncffSyQSMtMwHwYDVR0jBBgwFoAUcSvEtEtWq1nH6PKWncffSyQSMtMwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAKY8dOlr/UpY6tyxrC8rAJZliw72joJdpXgCrvv2DgeoAiA7
tputc0ZdrKGbeegJsAp+VA+mR6ppAZlqt5+STsl/aQ==
-----END CERTIFICATE-----
"""
"""Key and certificate for localhost and 127.0.0.1, signed by itself, for nothing but this; valid from 2020 to 2119."""


class Asked(NamedTuple):
    path: str
    headers: Mapping[str, str]
    """Names as in `If-None-Match`, however they were sent."""


Answer = Callable[[BaseHTTPRequestHandler], object]


def answer(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    """The same for every request. `Content-Length` is right unless given; underscores in names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def reply(request: BaseHTTPRequestHandler) -> None:
        etag = named.get("ETag", "")
        unchanged = bool(etag) and request.headers.get("If-None-Match") == etag
        unchanged = unchanged or (not etag and named.get("Last-Modified", "?") == request.headers.get("If-Modified-Since"))
        request.send_response(304 if unchanged else status)
        for name, value in {"Content-Length": str(len(body)), **named}.items():
            request.send_header(name, value)
        request.end_headers()
        if not unchanged:
            request.wfile.write(body)

    return reply


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what is tested."""


class Server:
    """``with Server() as server``: serves `routes`, and below `folder` files; `asked` has all requests, in their order.

    A path of `routes` may have a list of answers: one for each request, the last one for all further ones.
    """

    def __init__(self, folder: Path | None = None, *, tls: Path | None = None, address: str = "127.0.0.1") -> None:
        """`tls`: a folder for the certificate."""
        self.routes: dict[str, Answer | list[Answer]] = {}
        self.asked: list[Asked] = []
        self._folder = folder
        self._http = _Quiet((address, 0), self._handler())
        self.certificate = Path()
        if tls is not None:
            self.certificate = tls / "certificate.pem"
            self.certificate.write_text(CERTIFICATE)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._http.server_address[1]
        self.host = f"{address}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked.append(Asked(self.path, {name.title(): value for name, value in self.headers.items()}))
                self.close_connection = True
                route = server.routes.get(self.path)
                if isinstance(route, list):
                    route = route.pop(0) if len(route) > 1 else route[0]
                if route is None:
                    route = server._file(self.path)
                route(self)

            def end_headers(self) -> None:
                # Said, too: git would use the connection for its next request while it is being closed.
                self.send_header("Connection", "close")
                super().end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler

    def _file(self, path: str) -> Answer:
        plain = path.partition("?")[0].lstrip("/")
        file = self._folder / plain if self._folder else None
        return answer(file.read_bytes()) if file and file.is_file() else answer(b"not here", 404)
