"""URLs of git repositories: which texts are one, and what of the repository they mean. Pure.

BuildKit decides (moby/buildkit, `dfgitutil.ParseGitRef`, `gitutil.ParseURL`): git is `git://`, `ssh://`, `user@host:path`, and
`http(s)://` whose path ends in `.git`.
"""

from __future__ import annotations

import re

from builder.errors import DockerfileError, did_you_mean
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.errors import Span

_SCHEME = re.compile(r"([a-zA-Z0-9]+)://")
_SCP = re.compile(r"([a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:)([^?#\n]*)(?:\?([^#\n]*))?(?:#([^\n]*))?")
_GIT_SCHEMES = ("http", "https", "ssh", "git")
_QUERY = ("ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules")
_SWITCHES = {
    **dict.fromkeys(("", "1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
# git-check-ref-format(1), and no `-` at the start.
_NOT_A_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|\Z)|[./]\Z|\A[-/.]")
_COMMIT = re.compile(r"[0-9a-fA-F]{1,64}")


class GitRemote(NamedTuple):
    """A git repository and what of it is meant, as a URL says it. Empty and None: not said."""

    url: str
    """What git is given: without query and fragment."""
    ref: str = ""
    """A branch, a tag, a full name as `refs/tags/v1`, or a commit."""
    subdir: str = ""
    """Canonical, without a slash at either end."""
    checksum: str = ""
    """The first digits of the commit, in lower case."""
    keep_git_dir: bool | None = None
    submodules: bool | None = None


def parse_git(text: str) -> GitRemote | None:
    """The git repository that `text` names, None where it names none. Raises DockerfileError, without a span, for a URL that
    is git's and wrong."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        found = _SCP.fullmatch(text)
        if found is None:
            return None
        if text.startswith("-") or "@-" in found[1]:
            raise DockerfileError(
                f"'{text}' is no git repository: user and host do not begin with '-'", hint="for a file, write ./ before it"
            )
        return _git(found[1] + found[2], found[3] or "", found[4] or "")
    name = scheme[1].lower()
    if name not in _GIT_SCHEMES:
        return None
    from urllib.parse import unquote  # for those who have a URL

    rest, _, fragment = text.partition("#")
    rest, _, query = rest.partition("?")
    url = name + rest[len(name) :]
    if name in ("http", "https") and not unquote("/" + url.partition("://")[2].partition("/")[2]).endswith(".git"):
        return None
    check_url(url)
    return _git(url, query, unquote(fragment))


def _git(url: str, query: str, fragment: str) -> GitRemote:
    ref, _, subdir = fragment.partition(":")
    values = _query(query)
    for name, prefix in (("ref", ""), ("tag", "refs/tags/"), ("branch", "refs/heads/")):
        said = values.get(name, "")
        if said:
            ref = _agreed(name, ref, prefix + said.removeprefix(prefix))
    subdir = _agreed("subdir", subdir, values.get("subdir", ""))
    checksum = values.get("checksum") or values.get("commit") or ""
    if checksum:
        checksum = commit(checksum, None)
    ref = ref or checksum
    if ref and _NOT_A_REF.search(ref):
        raise DockerfileError(f"'{ref}' is no name of a branch or tag, and no commit", hint="write #REF or #REF:FOLDER")
    keep, modules = (_switch(name, values.get(name)) for name in ("keep-git-dir", "submodules"))
    return GitRemote(url, ref, _folder(subdir), checksum, keep, modules)


def _query(query: str) -> dict[str, str]:
    if not query:
        return {}
    from urllib.parse import parse_qsl

    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _QUERY:
            raise DockerfileError(
                f"unexpected query '{name}' in the URL of a git repository",
                hint=did_you_mean(name, _QUERY) or f"there are {', '.join(_QUERY)}",
            )
        if name in found:
            raise DockerfileError(f"the query '{name}' has multiple values", hint="leave one of them")
        if not value and name not in ("keep-git-dir", "submodules"):
            raise DockerfileError(f"the query '{name}' has no value", hint=f"write {name}=VALUE, or leave it out")
        found[name] = value
    return found


def _agreed(name: str, before: str, value: str) -> str:
    if before and value and before != value:
        raise DockerfileError(f"the URL says two things: {name} '{value}' and '{before}'", hint="leave one of them")
    return before or value


def _switch(name: str, value: str | None) -> bool | None:
    if value is None:
        return None
    if value not in _SWITCHES:
        raise DockerfileError(
            f"the query '{name}' is true or false, not '{value[:40]}'", hint=f"write {name}=true or {name}=false"
        )
    return _SWITCHES[value]


def is_true(text: str) -> bool:
    """As Go's strconv.ParseBool has it; what is neither true nor false is not true."""
    return bool(text) and _SWITCHES.get(text, False)


def _folder(subdir: str) -> str:
    parts: list[str] = []
    for part in subdir.split("/"):
        if part == "..":
            if not parts:
                raise DockerfileError(f"the folder '{subdir}' leads out of the git repository", hint="leave the '..' out")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def commit(text: str, span: Span | None) -> str:
    if not _COMMIT.fullmatch(text):
        raise DockerfileError(
            f"invalid checksum '{text[:80]}' for a git repository", span, hint="it is a commit, or its first hexadecimal digits"
        )
    return text.lower()


def check_url(url: str) -> None:
    """Raises DockerfileError for what nobody can fetch."""
    why = _wrong_with(url)
    if why:
        raise DockerfileError(f"'{url}' is no URL: {why}", hint="write it as https://HOST/PATH, with blanks as %20")


def _wrong_with(url: str) -> str:
    from urllib.parse import urlsplit

    if re.search(r"[\x00-\x20\x7f]", url):
        return "it has a blank or a control character"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return str(error).lower()
    if not host:
        return "it names no host"
    if host.startswith("-") or (parts.username or "").startswith("-"):
        return "user and host do not begin with '-'"
    return ""
