"""Parser directives: `# syntax=`, `# escape=`, `# check=` at the top of a Dockerfile (Dockerfile reference, "Parser
directives"; SPEC section 2)."""

from __future__ import annotations

import re

from builder.dockerfile.ast import Directives
from builder.dockerfile.space import SPACE
from builder.errors import DockerfileError, Span, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.errors import SourceFile

_DIRECTIVE = re.compile(rf"#[{SPACE}]*([a-zA-Z][a-zA-Z0-9]*)[{SPACE}]*=[{SPACE}]*([^{SPACE}].*)", re.DOTALL)
_NAMES = ("syntax", "escape", "check")
_FRONTENDS = ("dockerfile", "dockerfile-upstream")
_ESCAPES = ("\\", "`")


def read(lines: Iterable[str], source: SourceFile) -> Directives:
    """The directives of a text, from its lines. What looks like one after the first line that is neither directive nor
    comment is a comment. Raises DockerfileError for a directive that is repeated or wrong."""
    values: dict[str, str] = {}
    for number, line in enumerate(header(lines), 1):
        found = named(line)
        if found is None:
            continue
        name, value = found
        span = _span(number, line)
        if name in values:
            raise DockerfileError(f"the directive '{name}' stands here twice", span, hint="leave one of them", source=source)
        _check(name, value, span, source)
        values[name] = value
    return Directives(values.get("syntax"), values.get("escape", "\\"), values.get("check"))


def header(lines: Iterable[str]) -> Iterator[str]:
    """The lines in which directives may stand: those before the first that is neither directive nor comment."""
    for line in lines:
        if not line.strip(SPACE).startswith("#"):
            return
        yield line


def named(line: str) -> tuple[str, str] | None:
    """The name, in lower case, and the value of the directive that a comment line has the form of."""
    match = _DIRECTIVE.fullmatch(line.strip(SPACE))
    return (match[1].lower(), match[2]) if match is not None and match[1].lower() in _NAMES else None


def place(name: str, lines: Iterable[str]) -> Span | None:
    """Where the directive stands; None when the text has none of that name."""
    for number, line in enumerate(header(lines), 1):
        if (found := named(line)) is not None and found[0] == name:
            return _span(number, line)
    return None


def _span(number: int, line: str) -> Span:
    column = line.index("#") + 1
    return Span(number, column, number, column + len(line.strip(SPACE)))


def _check(name: str, value: str, span: Span, source: SourceFile) -> None:
    if name == "escape" and value not in _ESCAPES:
        message = f"the escape character is \\ or `, not '{value[:20]}'"
        raise DockerfileError(message, span, hint="write # escape=`", source=source)
    if name == "syntax":
        _check_frontend(value, span, source)


def _check_frontend(value: str, span: Span, source: SourceFile) -> None:
    """Any version of the Dockerfile frontend, from any registry, means the language that is built in."""
    image = re.split(f"[{SPACE}]", value, maxsplit=1)[0]
    path = image.split("@")[0].split("/")
    path[-1] = path[-1].split(":")[0]
    if len(path) >= 2 and path[-2] == "docker" and path[-1] in _FRONTENDS:
        return
    raise DockerfileError(
        f"the syntax '{image[:80]}' is not the Dockerfile frontend, and no other is supported",
        span,
        hint=did_you_mean("/".join(path), ["docker/dockerfile"]) or "remove the line, or write # syntax=docker/dockerfile:1",
        source=source,
    )
