"""A proxy in front of a registry that does to some requests what networks and servers do."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import NamedTuple


class Answer(NamedTuple):
    """What goes back: the registry's own answer, as a fault may change it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: int | None = None
    """The connection ends after so many bytes of the body."""
    stall: bool = False
    """There the server falls silent, and the connection stays, until the test ends."""
    drips: float = 0
    """Seconds between one byte of the body and the next."""


class Passed(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]


Fault = Callable[[Passed, Answer], Answer]


class FaultProxy:
    """``with FaultProxy(registry.host) as proxy``: `proxy.host` is in front of it.

    `faults` are used up in their order, each by the next request that `hit` names by a piece of `METHOD path`.
    """

    def __init__(self, upstream: str, certificate: Path | None = None) -> None:
        """`certificate`: it speaks TLS, with this and its key."""
        self.passed: list[Passed] = []
        self._faults: list[tuple[str, Fault]] = []
        self._together: list[tuple[str, Fault]] = []
        self._late: list[tuple[str, float, bool]] = []
        self._lock = threading.Lock()
        self.over = threading.Event()
        self.upstream = upstream
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                outer.handle(self, upstream)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that hang up are what is tested."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.tls = certificate is not None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # In the thread of the request: a client may not finish its handshake.
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.host = f"127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()

    def hit(self, what: str, fault: Fault, times: int = 1) -> None:
        self._faults += [(what, fault)] * times

    def together(self, what: str, fault: Fault) -> None:
        """As `hit`, for a fault that takes its time: other requests go on beside it."""
        self._together.append((what, fault))

    def late(self, what: str, seconds: float, times: int = 1, *, lose: bool = False) -> None:
        """The next answers to what `hit` would name come so much later; what is to be lost does not reach the registry."""
        self._late += [(what, seconds, lose)] * times

    def _is_lost(self, passed: Passed) -> tuple[bool, float]:
        with self._lock:
            for number, (what, seconds, lose) in enumerate(self._late):
                if what in f"{passed.method} {passed.path}":
                    del self._late[number]
                    return lose, seconds
        return False, 0

    def _slow(self, passed: Passed) -> Fault | None:
        with self._lock:
            for number, (what, fault) in enumerate(self._together):
                if what in f"{passed.method} {passed.path}":
                    del self._together[number]
                    return fault
        return None

    def handle(self, request: BaseHTTPRequestHandler, upstream: str) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        passed = Passed(request.command, request.path, dict(request.headers.items()))
        lost, late = self._is_lost(passed)
        if lost:
            with self._lock:
                self.passed.append(passed)
            self.over.wait(late)
            request.close_connection = True
            return
        connection = http.client.HTTPConnection(upstream, timeout=30)
        connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            # Some come several times, as skopeo's Accept.
            connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        answer = Answer(response.status, {k: v for k, v in response.getheaders() if k != "Transfer-Encoding"}, data)
        with self._lock:
            self.passed.append(passed)
            for number, (what, fault) in enumerate(self._faults):
                if what in f"{passed.method} {passed.path}":
                    del self._faults[number]
                    answer = fault(passed, answer)
                    break
        slow = self._slow(passed)
        answer = answer if slow is None else slow(passed, answer)
        self.over.wait(late)
        self._send(request, answer)

    def _send(self, request: BaseHTTPRequestHandler, answer: Answer) -> None:
        request.send_response(answer.status)
        headers = dict(answer.headers)
        if request.command != "HEAD" and answer.status != 204:
            headers.setdefault("Content-Length", str(len(answer.body)))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if answer.drips:
            for byte in answer.body:
                request.wfile.write(bytes([byte]))
                request.wfile.flush()
                self.over.wait(answer.drips)
        elif request.command != "HEAD":
            request.wfile.write(answer.body[: answer.cut])
        if answer.stall:
            request.wfile.flush()
            self.over.wait(60)
        if answer.cut is not None or answer.stall:
            request.close_connection = True


def dropped(after: int) -> Fault:
    """The connection breaks after so many bytes of the body."""
    return lambda _, answer: answer._replace(cut=after)


def stalled(after: int) -> Fault:
    return lambda _, answer: answer._replace(cut=after, stall=True)


def status(code: int, **headers: str) -> Fault:
    """Another status, without a body; underscores in names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _, answer: Answer(code, {**named, "Content-Length": "0"}, b"")


def altered(_: Passed, answer: Answer) -> Answer:
    """One bit of the body is another."""
    middle = len(answer.body) // 2
    changed = bytes([answer.body[middle] ^ 1])
    return answer._replace(body=answer.body[:middle] + changed + answer.body[middle + 1 :])


def replaced(body: bytes, **headers: str) -> Fault:
    """Another body, as it would be sent with these headers instead of the registry's."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _, answer: Answer(200, {**named, "Content-Length": str(len(body))}, body)
