"""Debian's docker-registry on a free loopback port: without authentication, with a password file, or with tokens from a server
of the suite's own; and what it was asked."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.context.context_server import CERTIFICATE

USER, PASSWORD = "jane", "s3cret-word"
# bcrypt of PASSWORD, all that the registry takes.
_HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuEpHRRKIlpAGo.iP7Bpa.htQEJMAAnRe\n"


class Asked(NamedTuple):
    method: str
    path: str
    status: int
    size: int
    """Bytes of the answer's body."""


class RegistryServer:
    """``with RegistryServer(folder) as registry: registry.host``; `auth` is one of `none`, `htpasswd` and `token`."""

    def __init__(self, folder: Path, auth: str = "none", *, tls: bool = False, known_only: bool = False) -> None:
        """`known_only`: clients need a certificate, which the registry's own is."""
        self.folder = folder
        self._known_only = known_only
        self._auth = auth
        self.certificate = folder / "certificate.pem"
        self._tls = tls
        self.tokens = TokenServer(folder) if auth == "token" else None
        self.host = ""

    def __enter__(self) -> RegistryServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate.write_text(CERTIFICATE)
        (self.folder / "htpasswd").write_text(_HTPASSWD)
        if self.tokens is not None:
            self.tokens.start()
        config = self.folder / "config.json"  # YAML has JSON in it.
        config.write_text(json.dumps(self._config()))
        self._log = (self.folder / "log").open("wb")
        self._process = subprocess.Popen(
            ["docker-registry", "serve", config],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"},
        )
        deadline = time.monotonic() + 30
        while not (found := re.search(rb"listening on (?:\S*?)127\.0\.0\.1:(\d+)", self._said())):
            assert self._process.poll() is None and time.monotonic() < deadline, self._said().decode()
            time.sleep(0.02)
        self.host = f"127.0.0.1:{found[1].decode()}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if self.tokens is not None:
            self.tokens.stop()
        self._log.close()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def asked(self, *methods: str) -> list[Asked]:
        """All requests so far, in their order; of some methods."""
        lines = re.findall(rb'"([A-Z]+) (\S+) HTTP/1\.[01]" (\d+) (\d+) ', self._said())
        all_of_them = [Asked(method.decode(), path.decode(), int(status), int(size)) for method, path, status, size in lines]
        return [one for one in all_of_them if not methods or one.method in methods]

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        algorithm, _, digits = digest.partition(":")
        return self.folder / "data" / "docker/registry/v2/blobs" / algorithm / digits[:2] / digits / "data"

    def _said(self) -> bytes:
        return (self.folder / "log").read_bytes()

    def _config(self) -> dict[str, object]:
        http: dict[str, object] = {"addr": "127.0.0.1:0", "secret": "s"}
        if self._tls:
            known = {"clientcas": [str(self.certificate)]} if self._known_only else {}
            http["tls"] = {"certificate": str(self.certificate), "key": str(self.certificate), **known}
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"accesslog": {"disabled": False}, "level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}, "delete": {"enabled": True}},
            "http": http,
        }
        if self._auth == "htpasswd":
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(self.folder / "htpasswd")}}
        if self.tokens is not None:
            config["auth"] = {
                "token": {
                    "realm": self.tokens.realm,
                    "service": "tests",
                    "issuer": "tests",
                    "rootcertbundle": str(self.certificate),
                }
            }
        return config


class TokenServer:
    """Gives a token to USER for all that is asked, and to everybody else for pulling what begins with `public/`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[dict[str, list[str]]] = []
        """The parameters of each request."""
        self.identity = "an-identity-token"
        """What stands for USER as a refresh token."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                given = self.headers.get("Authorization", "")
                known = given == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                outer.answer(self, query, known, refused=bool(given) and not known)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                known = form.get("refresh_token") == [outer.identity]
                outer.answer(self, form, known, refused=not known)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self._http.server_address[1]}/token"

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: BaseHTTPRequestHandler, asked: dict[str, list[str]], known: bool, *, refused: bool) -> None:
        self.asked.append(asked)
        scopes = [scope for text in asked.get("scope", []) for scope in text.split(" ")]
        body = json.dumps({"token": self._token(scopes, known)}).encode() if not refused else b"{}"
        request.send_response(401 if refused else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _token(self, scopes: list[str], known: bool) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if known else ["pull"] if name.startswith("public/") else []
            access.append({"type": kind, "name": name, "actions": allowed})
        certificate = "".join(CERTIFICATE.partition("-----BEGIN CERTIFICATE-----")[2].split("-----END")[0].split())
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": [certificate]}
        claims = {"iss": "tests", "sub": USER, "aud": "tests", "exp": now + 300, "nbf": now - 60, "iat": now, "jti": "1"}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, {**claims, "access": access}))
        return f"{signed}.{_base64(self._signature(signed.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        key = self._folder / "certificate.pem"
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=data, capture_output=True, check=True).stdout
        # A sequence of two integers, of which JSON Web Tokens have the bytes alone (RFC 7518, section 3.4).
        numbers, at = b"", 2
        for _ in range(2):
            length = der[at + 1]
            numbers += int.from_bytes(der[at + 2 : at + 2 + length], "big").to_bytes(32, "big")
            at += 2 + length
        return numbers


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
