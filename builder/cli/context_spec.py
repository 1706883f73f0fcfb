"""What a build reads and whom it knows: CONTEXT, ``--build-context``, ``--add-host``, ``--platform``. Pure."""

from __future__ import annotations

from builder.errors import BuildError, UsageError
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

_LAYOUT = "oci-layout://"


class ContextSpec(NamedTuple):
    """A named context. `tag` (may be empty) and `digest` choose an image in an ``oci-layout``."""

    name: str
    kind: Literal["directory", "oci-layout"]
    path: str
    tag: str = ""
    digest: Digest | None = None


def parse_build_context(text: str) -> ContextSpec:
    """``name=DIR`` or ``name=oci-layout://PATH[:TAG][@DIGEST]``. Raises UsageError; other kinds are refused by name."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UsageError(f"'{text}' is not a build context", hint="it looks like --build-context NAME=DIR")
    if value.startswith(_LAYOUT):
        return _layout(name, value.removeprefix(_LAYOUT), text)
    if foreign := _foreign(value):
        raise UsageError(f"the build context '{text}': {foreign} is not built yet", hint=f"a directory, or {_LAYOUT}PATH")
    return ContextSpec(name, "directory", value)


def parse_context(text: str) -> str:
    """The CONTEXT argument: the path of a directory. Raises UsageError; other kinds are refused by name."""
    if not text:
        raise UsageError("the context is empty", hint="give a directory, as in 'pybuild .'")
    if foreign := "a context on stdin" if text == "-" else _foreign(text):
        raise UsageError(f"the context '{text}': {foreign} is not built yet", hint="give a directory, as in 'pybuild .'")
    return text


def parse_hosts(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``--add-host`` values as (name, address), in order: ``name:ip``, ``name=ip``, IPv6 with or without brackets.

    Several may share one value, with commas between. Raises UsageError.
    """
    return tuple(_host(part) for text in texts for part in text.split(","))


def parse_platform(texts: Sequence[str], machine: str) -> Platform:
    """The platform to build for; `machine` is what uname(2) calls this one. Raises UsageError for any other."""
    own = Platform.of_machine(machine)
    for text in ",".join(texts).split(",") if texts else ():
        try:
            wanted = Platform.parse(text)
        except BuildError as error:
            raise UsageError(error.message, hint=error.hint) from None
        if wanted != own:
            raise UsageError(f"building for {wanted} on {own} is not built yet", hint=f"leave --platform out, or say {own}")
    return own


def _layout(name: str, value: str, text: str) -> ContextSpec:
    rest, at, digest_text = value.rpartition("@")
    digest = None
    if at and ":" in digest_text and "/" not in digest_text:
        try:
            digest = Digest.parse(digest_text)
        except BuildError as error:
            raise UsageError(f"the build context '{text}': {error.message}", hint=error.hint) from None
        value = rest
    path, colon, tag = value.rpartition(":")
    if not colon or "/" in tag:
        path, tag = value, ""
    if not path:
        raise UsageError(f"the build context '{text}' has no path", hint=f"it looks like NAME={_LAYOUT}PATH:TAG")
    return ContextSpec(name, "oci-layout", path, tag, digest)


def _foreign(value: str) -> str:
    """What kind of remote context `value` names; empty for a path."""
    scheme, separator, _ = value.partition("://")
    if separator and scheme.isascii() and scheme.replace("-", "").replace("+", "").isalnum():
        return "a git context" if scheme in ("git", "ssh") or _is_git(value) else f"a context by {scheme}://"
    if value.startswith("git@") and ":" in value:
        return "a git context"
    if value.startswith("target:"):
        return "a context by target:"
    return ""


def _is_git(url: str) -> bool:
    return url.partition("#")[0].rstrip("/").endswith(".git")


def _host(text: str) -> tuple[str, str]:
    cut = text.find("=") if "=" in text else text.find(":")
    name, address = text[:cut].strip(), text[cut + 1 :].strip()
    if cut <= 0 or not name or not address or any(char.isspace() or char in '#"' for char in name):
        raise UsageError(f"'{text}' is not a host", hint="it looks like --add-host NAME:IP")
    if address == "host-gateway":
        raise UsageError(f"'{text}': host-gateway is not built yet", hint="RUN steps use the host's network: say 127.0.0.1")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not _is_address(address):
        raise UsageError(f"'{address}' in '{text}' is not an IP address", hint="it looks like --add-host NAME:IP")
    return name, address


def _is_address(text: str) -> bool:
    import socket  # only for those who add hosts

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False
