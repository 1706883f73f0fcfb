"""Engines that images are handed to: Debian's dockerd, podman's service, and one of ours that does as it is told."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import chdir
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

# What a daemon of Debian's package would leave on the machine vanishes with its mount namespace.
_ALONE = """
for place in /etc/docker /run/docker; do if [ -d $place ]; then mount -t tmpfs none $place; fi; done
exec "$@"
"""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with chdir(self._path.parent):
            self.sock.connect(self._path.name)


class Engine:
    """``with DockerEngine() as engine: engine.host``. Its sockets lie where their paths are short."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pbe-", dir="/tmp"))
        self.socket = self.folder / "s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def __enter__(self) -> Engine:
        self._log = (self.folder / "log").open("wb")
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _ALONE, "sh", *self.command()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)
        self._log.close()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/_ping")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, target: str) -> tuple[int, bytes]:
        connection = _Connection(self.socket)
        try:
            connection.request(method, target)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def image(self, name: str) -> dict[str, Any]:
        status, data = self.ask("GET", f"/images/{name}/json")
        assert status == 200, data
        found: dict[str, Any] = json.loads(data)
        return found

    def remove(self, name: str) -> None:
        status, data = self.ask("DELETE", f"/images/{name}?force=1")
        assert status == 200, data

    def saved(self, name: str) -> bytes:
        status, data = self.ask("GET", f"/images/{name}/get")
        assert status == 200, data
        return data


class DockerEngine(Engine):
    def command(self) -> list[str]:
        folders = [
            "--data-root",
            f"{self.folder}/data",
            "--exec-root",
            f"{self.folder}/exec",
            "--pidfile",
            f"{self.folder}/pid",
        ]
        # Nothing of the machine's network is touched.
        network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        return ["dockerd", "--host", self.host, *folders, *network]


class PodmanEngine(Engine):
    def command(self) -> list[str]:
        roots = ["--root", f"{self.folder}/data", "--runroot", f"{self.folder}/run", "--storage-driver", "vfs"]
        return ["podman", *roots, "system", "service", "--time=0", self.host]


Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class FakeEngine:
    """Speaks HTTP/1.1 over a unix socket and answers by a table: method and path without its query -> status and JSON, or what
    answers by itself. `asked` has all requests; `loaded` the members of the archives that came."""

    def __init__(self, path: Path, answers: Mapping[str, tuple[int, object] | Answer]) -> None:
        self.host = f"unix://{path}"
        self.asked: list[str] = []
        self.loaded: list[dict[str, bytes]] = []
        answers = {
            "GET /version": (200, {"Version": "1"}),
            "GET /info": (200, {"Driver": "vfs"}),
            "GET /images/json": (200, []),
        } | dict(answers)
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self) -> str:
                return "local"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def answer(self) -> None:
                body = self._body()
                key = f"{self.command} {self.path.partition('?')[0]}"
                fake.asked.append(key)
                found = answers.get(key, (404, {"message": "no such thing"}))
                if callable(found):
                    found(self, body)
                    return
                if key == "POST /images/load" and found[0] == 200:
                    fake.loaded.append(members(body))
                data = json.dumps(found[1]).encode()
                self.send_response(found[0])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _body(self) -> bytes:
                """A body whose chunks are as RFC 9112 has them, or none."""
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", "0")))
                body = b""
                while size := int(self.rfile.readline().strip(), 16):
                    body += self.rfile.read(size)
                    assert self.rfile.readline() == b"\r\n"
                assert self.rfile.readline() == b"\r\n"
                return body

            do_GET = do_POST = answer

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_UNIX
            daemon_threads = True

            def server_bind(self) -> None:
                with chdir(path.parent):
                    self.socket.bind(path.name)
                self.server_name, self.server_port = "local", 0

            def get_request(self) -> tuple[socket.socket, Any]:
                return super().get_request()[0], ("local", 0)

        self._server = Server(("local", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FakeEngine:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = [member for member in tar.getmembers() if member.isfile()]
        return {member.name: tar.extractfile(member).read() for member in files}  # type: ignore[union-attr]
