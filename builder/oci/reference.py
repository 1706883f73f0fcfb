"""Image references as Docker normalises them (github.com/distribution/reference). Pure."""

from __future__ import annotations

import re

from builder.errors import UsageError
from builder.oci.digest import Digest
from builder.values import NamedTuple

_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_DOMAIN = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*"
    r"|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MAX_NAME = 255


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
        digest = Digest.parse(digest_text) if at else None
        head, slash, tail = rest.rpartition("/")
        last, colon, tag = tail.partition(":")
        name = head + slash + last
        if colon and not _TAG.fullmatch(tag):
            raise _invalid(text, f"'{tag}' is not a tag", "a tag has letters, digits, '_', '.' and '-', at most 128")
        domain, path = _split_domain(name)
        if not path:
            raise _invalid(text, "it has no name", "a reference looks like name:tag or registry.example/name:tag")
        if not _DOMAIN.fullmatch(domain):
            raise _invalid(text, f"'{domain}' is not a registry's name", None)
        for component in path.split("/"):
            if not _COMPONENT.fullmatch(component):
                lower = f"write '{path.lower()}'" if component != component.lower() else None
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
    def familiar(self) -> str:
        """What a person writes: without `docker.io/library/`."""
        text = str(self)
        for prefix in ("docker.io/library/", "docker.io/"):
            if text.startswith(prefix):
                return text[len(prefix) :]
        return text


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


def _invalid(text: str, reason: str, hint: str | None) -> UsageError:
    return UsageError(f"'{text}' is not an image reference: {reason}", hint=hint)
