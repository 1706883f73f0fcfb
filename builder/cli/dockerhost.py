"""Where the Docker engine of this machine is: DOCKER_HOST, else the context that DOCKER_CONTEXT or Docker's own config names,
else its usual socket, as the docker command finds it (docs.docker.com/engine/manage-resources/contexts)."""

from __future__ import annotations

import hashlib
import json
import os
import stat

from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from builder.cli.environment import Environment

DEFAULT = "/var/run/docker.sock"
_LIMIT = 1 << 20


def engine_socket(environment: Environment) -> str:
    """The path of its socket; empty where nobody named one and the usual one is not there. Raises UsageError where the one that
    is named is not there, and for engines that are not reached by a socket."""
    if environment.docker_host:
        return _socket(environment.docker_host, "DOCKER_HOST")
    name, where = _context(environment)
    if name in ("", "default"):
        return DEFAULT if _is_socket(DEFAULT) else ""
    return _socket(_host(name, where, environment), f"the Docker context '{name}'")


def _context(environment: Environment) -> tuple[str, str]:
    if environment.docker_context:
        return environment.docker_context, "DOCKER_CONTEXT"
    folder = _folder(environment)
    path = f"{folder}/config.json"
    if not folder or not os.path.isfile(path):
        return "", ""
    name = _json(path).get("currentContext")
    return (name if isinstance(name, str) else ""), path


def _host(name: str, where: str, environment: Environment) -> str:
    meta = f"{_folder(environment)}/contexts/meta/{hashlib.sha256(name.encode()).hexdigest()}/meta.json"
    if not os.path.isfile(meta):
        raise UsageError(f"there is no Docker context '{name}', which {where} names", hint="see: docker context ls")
    endpoints = _json(meta).get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = docker.get("Host") if isinstance(docker, dict) else None
    if not isinstance(host, str):
        raise UsageError(f"the Docker context '{name}' names no engine ({meta})", hint="see: docker context inspect")
    return host


def _socket(host: str, where: str) -> str:
    scheme, colon, path = host.partition("://")
    if not colon or scheme != "unix" or not path.startswith("/"):
        raise UsageError(
            f"{where} is '{host}', and images are handed to engines on this machine alone",
            hint="a socket looks like unix:///var/run/docker.sock; for others: pybuild save IMAGE | docker load",
        )
    if not _is_socket(path):
        raise UsageError(f"there is no Docker engine at {path}, which {where} names", hint="start it, or leave --load out")
    return path


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _folder(environment: Environment) -> str:
    return environment.docker_config or (f"{environment.home}/.docker" if environment.home else "")


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_LIMIT))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"'{path}' cannot be read: {error}", hint="mend or remove it") from error
    return found if isinstance(found, dict) else {}
