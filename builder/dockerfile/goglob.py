"""Go's `filepath.Match`, which the wildcards of COPY and ADD follow (Dockerfile reference, "COPY", "Wildcards"). Pure.

`*` any characters but `/`, `?` one of them, `[a-z]` and `[^a-z]` one character of a class (a `/` too, as in Go), `\\` takes
the next character literally. There is no `**`. A bad pattern is an error whatever the name is.

Names are str, with surrogate escapes where the bytes are not UTF-8; such a byte counts as one character. One known
difference: Go's `*` may end inside a character of several bytes, so that its `*??` matches a lone `é`. Here it does not.
"""

from __future__ import annotations

from builder.errors import DockerfileError, Span
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re


class Class(NamedTuple):
    """`[...]`: the ranges of characters, both ends included."""

    negated: bool
    ranges: tuple[tuple[str, str], ...]

    def has(self, char: str) -> bool:
        if "\ud800" <= char <= "\udfff":
            char = "\ufffd"
        return any(low <= char <= high for low, high in self.ranges) != self.negated

    def regex(self) -> str:
        """A regular expression for one character. A range that runs backwards holds nothing, which Go takes."""
        import re

        ranges = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in self.ranges if low <= high)
        if any(low <= "\ufffd" <= high for low, high in self.ranges):
            # What is not UTF-8 is U+FFFD to Go.
            ranges += "\udc80-\udcff"
        if not ranges:
            return "(?s:.)" if self.negated else "(?!)"
        return f"[{'^' if self.negated else ''}{ranges}]"


class Wildcard(NamedTuple):
    """`*` or `?`."""

    char: str


Token = str | Class | Wildcard
"""A str is one literal character."""


_compiled: dict[str, re.Pattern[str]] = {}
_MAX_COMPILED = 512


def match(pattern: str, name: str) -> bool:
    """Whether the whole of `name` matches.

    Raises DockerfileError for a bad pattern, with a span relative to it.
    """
    if pattern not in _compiled:
        if len(_compiled) > _MAX_COMPILED:
            _compiled.clear()
        _compiled[pattern] = _compile(pattern)
    return _compiled[pattern].fullmatch(name) is not None


def has_meta(pattern: str) -> bool:
    """Whether the pattern is more than a name (Go's hasMeta: an escape counts too)."""
    return any(char in pattern for char in "*?[\\")


def tokens(pattern: str) -> list[Token]:
    """The pattern's parts. Raises DockerfileError, with a span relative to it, where Go has ErrBadPattern."""
    out: list[Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            part, at = _class(pattern, at)
            out.append(part)
            continue
        if char == "\\":
            at += 1
            if at == len(pattern):
                raise _bad(pattern, at - 1, "a lone \\ at its end", "write \\\\ for a backslash")
            out.append(pattern[at])
        else:
            out.append(Wildcard(char) if char in "*?" else char)
        at += 1
    return out


def _class(pattern: str, start: int) -> tuple[Class, int]:
    """The class that begins at `start`, and where it ends."""
    at = start + 1
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while not ranges or not pattern.startswith("]", at):
        low, at = _class_char(pattern, at, start)
        high = low
        if pattern.startswith("-", at):
            high, at = _class_char(pattern, at + 1, start)
        ranges.append((low, high))
    return Class(negated, tuple(ranges)), at + 1


def _class_char(pattern: str, at: int, start: int) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if char and char in "-]":
        raise _bad(pattern, at, f"a '{char}' out of place in a [...]", f"write \\{char} for the character itself")
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
    if not char:
        raise _bad(pattern, start, "a '[' without its ']'", "write \\[ or [[] for the character itself")
    if "\ud800" <= char <= "\udfff":
        raise _bad(pattern, at, "a byte that is not UTF-8 in a [...]", "use ? for it")
    return char, at + 1


def _bad(pattern: str, at: int, what: str, hint: str) -> DockerfileError:
    return DockerfileError(f"the pattern '{pattern}' has {what}", Span(1, at + 1, 1, at + 2), hint=hint)


def _compile(pattern: str) -> re.Pattern[str]:
    """Between stars, each piece takes the first place where it fits and never another (Go does the same): atomic groups,
    so that no pattern takes more than its length times the name's."""
    import re

    pieces: list[list[str]] = [[]]
    for token in tokens(pattern):
        if token == Wildcard("*"):
            pieces.append([])
        else:
            pieces[-1].append(_one(token))
    first, *rest = ["".join(piece) for piece in pieces]
    if not rest:
        return re.compile(first)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>[^/]*?{piece})" for piece in middle if piece) + f"[^/]*{last}")


def _one(token: Token) -> str:
    match token:
        case Class():
            return token.regex()
        case Wildcard():
            return "[^/]"
        case _:
            import re

            return re.escape(token)
