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
_REGISTRY = "a registry is a host or an address, with or without a port: registry.example, registry.example:5000, [::1]:5000"
_EMPTY = "no part may be empty: look for '//' and for a '/' at its end; a variable in it may have no value"


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
        if not head and rest.startswith("["):
            if _is_domain(rest):
                raise _invalid(text, "it names a registry and no image", f"write {rest}/name:tag")
            raise _invalid(text, f"'{rest}' is not a registry's name", _domain_hint(text, rest))
        if colon and not tag:
            raise _invalid(text, "its tag is empty", "write name:tag; a variable in it may have no value")
        if colon and not _is_tag(tag):
            raise _invalid(text, f"'{tag}' is not a tag", "a tag has letters, digits, '_', '.' and '-', at most 128")
        domain, path = _split_domain(name)
        if not path:
            raise _invalid(text, "it has no name", "a reference looks like name:tag or registry.example/name:tag")
        if not _is_domain(domain):
            raise _invalid(text, f"'{domain}' is not a registry's name", _domain_hint(text, domain))
        for component in path.split("/"):
            if not component:
                raise _invalid(text, "'' is not a name", _EMPTY)
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
            # Nobody sees what Docker Hub's names begin with.
            whole = f"{domain}/{path}"
            hint = None if whole == name else f"with {whole.removesuffix(name)} it has {len(whole)}"
            raise _invalid(text, f"its name is longer than {_MAX_NAME} characters", hint)
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
        return not name and _is_address(host[1:])
    return all(_is_label(label) for label in name.split("."))


def _is_address(text: str) -> bool:
    """IPv6 in hexadecimal groups; Docker's grammar has no zone and no dotted end."""
    halves = text.split("::")
    groups = [group for half in halves if half for group in half.split(":")]
    if not all(0 < len(group) <= 4 and _has_only(group, _HEX) for group in groups):
        return False
    return len(groups) == 8 if len(halves) == 1 else len(halves) == 2 and len(groups) < 8


def _domain_hint(text: str, domain: str) -> str:
    if text.startswith(f"{domain}//"):
        return f"leave '{domain}//' out"
    address, bracket, _ = domain.partition("]")
    if domain.startswith("[") and bracket and not _is_address(address[1:]):
        zone = "%" + address.partition("%")[2]
        if zone != "%":
            return f"no zone can stand in it: leave '{zone}' out"
        return f"'{address}]' is no IPv6 address: it is written in hexadecimal digits and colons"
    if domain.count(":") > 1 and "[" not in domain:
        return "an IPv6 address stands in brackets: [::1]:5000/name"
    return _REGISTRY


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
