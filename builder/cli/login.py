"""`pybuild login | logout [REGISTRY]`: credentials, tried at the registry and kept where Docker keeps them."""

from __future__ import annotations

import os
import sys

from builder.cli.registries import login_file, registry_access
from builder.errors import UsageError
from builder.oci.reference import Reference
from builder.registry import authfiles
from builder.registry.access import Credentials
from builder.registry.client import Client
from builder.registry.hosts import DOCKER_HUB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed

_LONGEST = 1 << 16
"""Bytes of a password; tokens of clouds have some thousand."""


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    domain = _domain(parsed.positionals[0] if parsed.positionals else "")
    file = parsed.text("authfile") or login_file(environment)
    path = environment.path or os.defpath
    if parsed.command == "logout":
        held = authfiles.erase(file, domain, path)
        print(f"logged out of {domain}" if held else f"there was no login to {domain} in '{file}'", file=sys.stderr)
        return 0
    credentials = _asked(parsed, domain)
    # A damaged file is to be known before the password goes anywhere.
    authfiles.read(file)
    with Client(registry_access(parsed, environment)) as client:
        client.check(domain, credentials)
    kept = authfiles.store(file, domain, credentials, path)
    print(f"logged in to {domain}; the password is in {kept}", file=sys.stderr)
    return 0


def _domain(text: str) -> str:
    """A registry's name, also as a URL; Docker Hub where there is none. Raises UsageError."""
    name = text.removeprefix("https://").removeprefix("http://").rstrip("/")
    name = name.removesuffix("/v1").removesuffix("/v2")
    if name in ("", DOCKER_HUB, "index.docker.io", "registry-1.docker.io"):
        return DOCKER_HUB
    try:
        found = Reference.parse(f"{name}/a")
    except UsageError:
        found = None
    if "/" in name or found is None or found.domain != name:
        raise UsageError(f"'{text}' is not a registry's name", hint="it looks like registry.example or registry.example:5000")
    return found.domain


def _asked(parsed: Parsed, domain: str) -> Credentials:
    """User and password by the flags, from stdin, or asked for on a terminal. Raises UsageError."""
    user, password = parsed.text("username") or "", parsed.text("password") or ""
    if parsed.flag("password-stdin"):
        if password:
            raise UsageError("--password and --password-stdin exclude each other", hint="leave --password out")
        if not user:
            raise UsageError("--password-stdin needs --username", hint="add -u USER")
        password = sys.stdin.buffer.read(_LONGEST).decode("utf-8", "replace").rstrip("\r\n")
    elif not (user and password):
        if not (os.isatty(0) and os.isatty(2)):
            raise UsageError(
                "there is no terminal to ask for the password on", hint="pybuild login -u USER --password-stdin < FILE"
            )
        user, password = _typed(user, password, domain)
    if not (user and password):
        raise UsageError("user and password must not be empty")
    if ":" in user:
        raise UsageError("a user's name has no ':'", hint="it would end there (RFC 7617)")
    return Credentials(user, password)


def _typed(user: str, password: str, domain: str) -> tuple[str, str]:
    import getpass

    if not user:
        sys.stderr.write(f"user at {domain}: ")
        sys.stderr.flush()
        user = sys.stdin.readline().strip()
    return user, password or getpass.getpass("password: ", sys.stderr)
