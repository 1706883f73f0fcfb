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

    from builder.plan.giturl import GitRemote

_LAYOUT = "oci-layout://"
_IMAGE = "docker-image://"
_GITHUB = "github.com/"
_KINDS = f"a directory, a git or http(s) URL, {_LAYOUT}PATH or {_IMAGE}NAME"


class ContextSpec(NamedTuple):
    """A context; the main one has no name. `tag` (may be empty) and `digest` choose an image in an ``oci-layout``."""

    name: str
    kind: Literal["directory", "stdin", "git", "url", "oci-layout", "docker-image"]
    path: str
    """As given, without the scheme of layouts and images."""
    tag: str = ""
    digest: Digest | None = None
    git: GitRemote | None = None


def parse_build_context(text: str) -> ContextSpec:
    """``name=VALUE``, where VALUE is a directory, ``oci-layout://PATH[:TAG][@DIGEST]``, ``docker-image://NAME``, the URL of a
    git repository, or an http(s) one of an archive. Raises UsageError."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UsageError(f"'{text}' is not a build context", hint="it looks like --build-context NAME=DIR")
    if value.startswith(_LAYOUT):
        return _layout(name, value.removeprefix(_LAYOUT), text)
    if value.startswith(_IMAGE):
        return _image(name, value.removeprefix(_IMAGE), text)
    if value.startswith("target:"):
        raise UsageError(
            f"the build context '{text}' names a target of a bake file, and there is none",
            hint="a stage of this Dockerfile needs no build context: FROM STAGE, or --from=STAGE",
        )
    return _remote(name, value, f"the build context '{text}'") or ContextSpec(name, "directory", value)


def parse_context(text: str, *, is_folder: bool = False) -> ContextSpec:
    """The CONTEXT argument: a directory, ``-``, the URL of a git repository or an http(s) one. `is_folder`: there is a folder
    of that name, which comes before all but ``-`` (as with buildx). Raises UsageError."""
    if not text:
        raise UsageError("the context is empty", hint="give a directory, as in 'pybuild .'")
    if text == "-":
        return ContextSpec("", "stdin", text)
    remote = None if is_folder else _remote("", text, f"the context '{text}'")
    return remote or ContextSpec("", "directory", text)


def parse_hosts(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``--add-host`` values as (name, address), in order: ``name:ip``, ``name=ip``, IPv6 with or without brackets.

    Several may share one value, with commas between. Raises UsageError.
    """
    return tuple(_host(part) for text in texts for part in text.split(","))


def parse_platforms(texts: Sequence[str], machine: str) -> tuple[Platform, ...]:
    """The platforms to build for, each once: several values, and several in one with commas between. `machine` is what uname(2)
    calls this one, whose platform is `local`, and the only one where none is given. Raises UsageError."""
    own = Platform.of_machine(machine)
    found = []
    for text in ",".join(texts).split(",") if texts else ["local"]:
        try:
            found.append(own if text.strip() == "local" else Platform.parse(text.strip()))
        except BuildError as error:
            raise UsageError(error.message, hint=error.hint) from None
    return tuple(dict.fromkeys(found))


def parse_platform(texts: Sequence[str], machine: str) -> Platform:
    """The same, for what is done for one platform alone."""
    found = parse_platforms(texts, machine)
    if len(found) > 1:
        raise UsageError("only one platform can be named here", hint=f"say --platform={found[0]} alone")
    return found[0]


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


def _image(name: str, value: str, text: str) -> ContextSpec:
    if value != "scratch":
        from builder.oci.reference import Reference

        try:
            Reference.parse(value)
        except BuildError as error:
            raise UsageError(f"the build context '{text}': {error.message}", hint=error.hint) from None
    return ContextSpec(name, "docker-image", value)


def _remote(name: str, value: str, shown: str) -> ContextSpec | None:
    """A context that is fetched; None for a path. Raises UsageError for what can be neither."""
    if value.startswith(_GITHUB):
        # As Docker has it since its first days.
        value = f"https://{value}" if _is_git(value) else f"https://{_with_git(value)}"
    elif "://" not in value and "@" not in value:
        return None
    from builder.plan.giturl import check_url, parse_git  # for those who have a URL

    try:
        git = parse_git(value) if not value.startswith(("./", "../")) else None
        if git is not None:
            return ContextSpec(name, "git", value, git=git)
        scheme = value.partition("://")[0] if "://" in value else ""
        if scheme in ("http", "https"):
            check_url(value)
            if "#" in value:
                raise UsageError(
                    "only a git repository has branches and folders after a '#'",
                    hint="leave it out, or give a URL in .git",
                )
            return ContextSpec(name, "url", value)
    except BuildError as error:
        raise UsageError(f"{shown}: {error.message}", hint=error.hint) from None
    if scheme.isascii() and scheme.replace("-", "").replace("+", "").isalnum():
        hint = "give the path alone" if scheme == "file" else _KINDS
        if scheme == "docker":
            hint += "; an image of a registry is compared with a source by: pybuild verify --context DIR docker://NAME"
        raise UsageError(f"{shown}: there are no contexts by {scheme}://", hint=hint)
    return None


def _is_git(url: str) -> bool:
    return url.partition("#")[0].partition("?")[0].endswith(".git")


def _with_git(url: str) -> str:
    """The address that ends in what says git; the server takes it with and without."""
    for end in ("?", "#"):
        address, mark, rest = url.partition(end)
        if mark:
            return f"{address.rstrip('/')}.git{mark}{rest}"
    return f"{url.rstrip('/')}.git"


def _host(text: str) -> tuple[str, str]:
    cut = text.find("=") if "=" in text else text.find(":")
    name, address = text[:cut].strip(), text[cut + 1 :].strip()
    if cut <= 0 or not name or not address or any(char.isspace() or char in '#"' for char in name):
        raise UsageError(f"'{text}' is not a host", hint="it looks like --add-host NAME:IP")
    if address == "host-gateway":
        raise UsageError(f"'{text}': commands have no way to the host", hint="with --network=host its name is localhost")
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
