"""One engine behind a unix socket: the few requests that handing an image over takes."""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.parse

from builder.errors import RegistryError
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_ANSWER = 60.0
"""Seconds of silence after a request that is a question."""
_UNPACKING = 1800.0
"""The same while the engine unpacks layers, which it says nothing of."""
_LIMIT = 16 << 20
_LONGEST = 500


class Engine(NamedTuple):
    """What an engine says of itself."""

    name: str
    """As `Docker 20.10.24` or `Podman 4.3.1`."""
    keeps_layers: bool
    """Whether it is a Docker that finds layers by their chain IDs and reads of an archive only those that it lacks: not one
    whose images lie in containerd, and not podman."""


class Refused(RegistryError):
    """The engine answered, and not as it was asked."""


class DockerClient:
    """Requests to the engine at `path`. Raises RegistryError for what keeps it from answering, Refused for its refusals."""

    def __init__(self, path: str) -> None:
        self.path = path

    def engine(self) -> Engine:
        version, info = self._object("/version"), self._object("/info")
        parts = version.get("Components") or []
        podman = any(isinstance(part, dict) and "podman" in str(part.get("Name", "")).lower() for part in parts)
        status = info.get("DriverStatus") or []
        containerd = any("containerd" in str(value) for pair in status if isinstance(pair, list) for value in pair)
        name = f"{'Podman' if podman else 'Docker'} {str(version.get('Version', ''))[:60]}".rstrip()
        return Engine(name, not podman and not containerd and bool(info.get("Driver")))

    def images(self) -> list[str]:
        """The ids of all images, the newest first."""
        listed = self._json("GET", "/images/json?all=1")
        found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        found.sort(key=_created, reverse=True)
        return [str(one["Id"]) for one in found if isinstance(one.get("Id"), str)]

    def layers(self, id: str) -> list[str] | None:
        """The diff IDs of an image; None where there is none."""
        try:
            image = self._object(f"/images/{urllib.parse.quote(id)}/json")
        except Refused:
            return None
        root = image.get("RootFS")
        layers = root.get("Layers") if isinstance(root, dict) else None
        return [str(layer) for layer in layers] if isinstance(layers, list) else []

    def tag(self, id: str, repository: str, tag: str) -> None:
        query = urllib.parse.urlencode({"repo": repository, "tag": tag})
        self._request("POST", f"/images/{urllib.parse.quote(id)}/tag?{query}")

    def load(self, archive: Callable[[Callable[[bytes], object]], None]) -> Sequence[str]:
        """Hand over an archive, which `archive` writes; the lines that the engine says."""
        connection = _Connection(self.path, _UNPACKING)
        try:
            connection.putrequest("POST", "/images/load?quiet=1")
            connection.putheader("Content-Type", "application/x-tar")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()

            def write(data: bytes) -> None:
                if data:
                    connection.send(b"%x\r\n%b\r\n" % (len(data), data))

            try:
                archive(write)
                connection.send(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # It has said why, or the answer will be missing.
            return self._said(_answer(connection, self.path))
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from error
        finally:
            connection.close()

    def _said(self, data: bytes) -> list[str]:
        """The lines of a stream of JSON objects. Raises Refused for an error among them: the status was sent before."""
        lines = []
        for text in data.decode("utf-8", "replace").splitlines():
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and found.get("error"):
                raise Refused(f"the engine at {self.path} does not take the image: {_short(found['error'])}")
            if isinstance(found, dict) and isinstance(found.get("stream"), str):
                lines.append(found["stream"].strip())
        return lines

    def _object(self, target: str) -> dict[str, Any]:
        found = self._json("GET", target)
        return found if isinstance(found, dict) else {}

    def _json(self, method: str, target: str) -> Any:
        data = self._request(method, target)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise Refused(f"{self.path} is no Docker engine: its answer is no JSON", hint="check DOCKER_HOST") from None

    def _request(self, method: str, target: str) -> bytes:
        connection = _Connection(self.path, _ANSWER)
        try:
            connection.request(method, target, headers={"Content-Length": "0"} if method == "POST" else {})
            return _answer(connection, self.path)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from error
        finally:
            connection.close()

    def _failed(self, error: OSError | http.client.HTTPException) -> RegistryError:
        if isinstance(error, PermissionError):
            return RegistryError(
                f"the Docker engine at {self.path} is not this user's to use",
                hint="be in the group docker, or name another engine by DOCKER_HOST",
            )
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            return RegistryError(
                f"no Docker engine answers at {self.path}", hint="start it, name another by DOCKER_HOST, or leave --load out"
            )
        text = str(error) or type(error).__name__
        return RegistryError(f"the Docker engine at {self.path} broke off: {_short(text)}", hint="see its log")


class _Connection(http.client.HTTPConnection):
    """HTTP to a socket of the file system, however long its path: an address holds 107 bytes."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        folder, name = os.path.split(os.path.abspath(self._path))
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{directory}/{name}")
        finally:
            os.close(directory)


def _created(image: dict[str, Any]) -> int:
    created = image.get("Created")
    return created if isinstance(created, int) else 0


def _answer(connection: _Connection, path: str) -> bytes:
    """The body. Raises Refused for a status that is no success, with what the engine says of it."""
    response = connection.getresponse()
    data = response.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise Refused(f"the engine at {path} answers without end", hint="check DOCKER_HOST: is it a Docker engine?")
    if not 200 <= response.status < 300:
        try:
            message = json.loads(data)["message"]
        except (ValueError, RecursionError, KeyError, TypeError):
            message = response.reason
        raise Refused(f"the engine at {path} refuses: {_short(message)}")
    return data


def _short(text: object) -> str:
    """What an engine says, fit for a line of a message."""
    plain = " ".join(str(text).split())
    return "".join(char if char.isprintable() else "?" for char in plain)[:_LONGEST]
