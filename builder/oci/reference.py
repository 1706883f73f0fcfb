"""Image references as Docker normalises them (github.com/distribution/reference). Pure."""

from __future__ import annotations

from builder.errors import BuildError, UsageError
from builder.oci.digest import Digest
from builder.values import NamedTuple

_DIGITS = "0123456789"
_LOWER = _DIGITS + "abcdefghijklmnopqrstuvwxyz"
_LETTERS = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEX = _DIGITS + "abcdefABCDEF"
_MAX_NAME = 255
_MAX_TAG = 128


class Reference(NamedTuple):
    """`domain/path[:tag][@digest]`; the tag is `latest` where neither tag nor digest was given."""

    domain: str
    path: str
    tag: str
    digest: Digest | None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises UsageError that says which part is wrong."""
        rest, at, digest_text = text.partition("@")
        digest = _digest(text, digest_text) if at else None
        head, slash, tail = rest.rpartition("/")
        last, colon, tag = tail.partition(":")
        name = head + slash + last
        if len(text) == 64 and not text.strip(_DIGITS + "abcdef"):
            raise _invalid(text, "64 hexadecimal digits are an image's id", f"write 'docker.io/library/{text}' for a name")
        if name == "sha256" and colon:
            # Docker keeps the name for ids, too: no registry is asked for one that the store lacks.
            raise _invalid(text, "it is an image's id", "pybuild images lists the ids that there are")
        if colon and not tag:
            raise _invalid(text, "its tag is empty", "write name:tag; a variable in it may have no value")
        if colon and not _is_tag(tag):
            raise _invalid(text, f"'{tag}' is not a tag", "a tag has letters, digits, '_', '.' and '-', at most 128")
        domain, path = _split_domain(name)
        if not path:
            raise _invalid(text, "it has no name", "a reference looks like name:tag or registry.example/name:tag")
        if not _is_domain(domain):
            hint = f"leave '{domain}//' out" if text.startswith(f"{domain}//") else None
            raise _invalid(text, f"'{domain}' is not a registry's name", hint)
        for component in path.split("/"):
            if not _is_component(component):
                lower = (
                    f"write '{name.lower()}{text[len(name) :]}'" if all(map(_is_component, path.lower().split("/"))) else None
                )
                raise _invalid(
                    text,
                    f"'{component}' is not a name",
                    lower or "a name has lower-case letters and digits, joined by '.', '_', '__' or '-'",
                )
        if len(f"{domain}/{path}") > _MAX_NAME:
            raise _invalid(text, f"its name is longer than {_MAX_NAME} characters", None)
        return cls(domain, path, tag if colon else ("" if digest else "latest"), digest)

    @property
    def name(self) -> str:
        """Domain and path: what a registry calls the repository."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def identity(self) -> str:
        """What an image is called in a store: a digest says all, whatever tag stands before it."""
        return f"{self.name}@{self.digest}" if self.digest else str(self)

    @property
    def familiar(self) -> str:
        """What a person writes: without `docker.io/library/`."""
        text = str(self)
        for prefix in ("docker.io/library/", "docker.io/"):
            short = text.removeprefix(prefix)
            # Docker Hub's `library/a/b` and `a.b/c` are others' names when they are cut.
            if short != text and "/".join(_split_domain(short)) == "/".join(_split_domain(text)):
                return short
        return text


# The grammar of github.com/distribution/reference by hand: `re` costs a cached build more than all the rest here.


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= _MAX_TAG and text[0] in _LETTERS + "_" and _has_only(text, _LETTERS + "_.-")


def _is_domain(text: str) -> bool:
    """`host[:port]` or `[address][:port]`."""
    host, bracket, rest = text.partition("]") if text.startswith("[") else ("", "", text)
    name, colon, port = rest.partition(":")
    if colon and not (port and _has_only(port, _DIGITS)):
        return False
    if bracket:
        return not name and len(host) > 1 and _has_only(host[1:], _HEX + ":")
    return all(_is_label(label) for label in name.split("."))


def _is_label(text: str) -> bool:
    return bool(text) and _has_only(text, _LETTERS + "-") and text[0] != "-" != text[-1]


def _is_component(text: str) -> bool:
    """Runs of lower-case letters and digits with one of `.`, `_`, `__` or any number of `-` between two of them."""
    between = ""
    for char in text:
        if char not in _LOWER:
            between += char
        elif between and between not in (".", "_", "__") and between.strip("-"):
            return False
        else:
            between = ""
    return text[:1] in _LOWER and not between and bool(text)


def _has_only(text: str, allowed: str) -> bool:
    return all(char in allowed for char in text)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    # Docker's rule: the first component is a registry when it could not be a user's name on Docker Hub.
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain, path = first, rest
    else:
        domain, path = "docker.io", name
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and path and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _digest(text: str, digest: str) -> Digest:
    try:
        return Digest.parse(digest)
    except BuildError as error:
        raise _invalid(text, error.message, error.hint) from None


def _invalid(text: str, reason: str, hint: str | None) -> UsageError:
    return UsageError(f"'{text}' is not an image reference: {reason}", hint=hint)
