"""The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`. Pure.

A pattern is POSIX's pattern matching notation without bracket expressions (Dockerfile reference, "Environment
replacement"): `*` any characters, `?` one character, `\\` before `*`, `?`, `\\`, `}` and `/` takes them literally. BuildKit
makes regular expressions of them, so a wildcard never matches a line end; a backtracking one would take exponential time
on a hostile pattern. Here a pattern is pieces of fixed length between stars, and each piece is looked for once a line.
"""

from __future__ import annotations

import re

from builder.dockerfile.words import MAX_LENGTH, TOO_LARGE
from builder.errors import DockerfileError
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WORK = 1 << 28
"""Longest value times longest pattern, in characters squared, that is tried: a second or two of work at the very worst."""


class _Piece(NamedTuple):
    """What stands between two stars: literal characters, None for a `?`."""

    chars: tuple[str | None, ...]
    literal: str | None
    """The characters, None where a `?` is among them."""
    regex: re.Pattern[str]


class Pattern(NamedTuple):
    """`pieces` with a star between each two: one piece has no star, an empty first piece is a leading star."""

    pieces: tuple[_Piece, ...]
    length: int

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises DockerfileError, without a span, for a `\\` before anything but what it may escape."""
        return cls._of(_split(_tokens(text)), len(text))

    @classmethod
    def _of(cls, pieces: list[list[str | None]], length: int) -> Pattern:
        return cls(tuple(_piece(chars) for chars in pieces), length)

    def reversed(self) -> Pattern:
        """The pattern that matches a reversed text."""
        return self._of([list(piece.chars[::-1]) for piece in self.pieces[::-1]], self.length)


def trim_prefix(value: str, pattern: Pattern, *, longest: bool) -> str:
    """`${v#p}` or `${v##p}`. Raises DockerfileError, without a span, for more than MAX_WORK."""
    _check_work(value, pattern)
    end = _match_at(pattern, value, 0, longest=longest)
    return value if end is None else value[end:]


def trim_suffix(value: str, pattern: Pattern, *, longest: bool) -> str:
    """`${v%p}` or `${v%%p}`. Raises DockerfileError, without a span, for more than MAX_WORK."""
    return trim_prefix(value[::-1], pattern.reversed(), longest=longest)[::-1]


def replace_first(value: str, pattern: Pattern, replacement: str) -> str:
    """`${v/p/r}`: the leftmost match, as long as it can be. Raises DockerfileError, without a span, for more than
    MAX_WORK."""
    _check_work(value, pattern)
    found = _search(pattern, value, 0)
    return value if found is None else value[: found[0]] + replacement + value[found[1] :]


def replace_all(value: str, pattern: Pattern, replacement: str) -> str:
    """`${v//p/r}`. Raises DockerfileError, without a span, for more than MAX_WORK or MAX_LENGTH."""
    _check_work(value, pattern)
    literal = pattern.pieces[0].literal
    if literal and len(pattern.pieces) == 1:
        # Mostly so, and a value may hold millions.
        text = _go_template(replacement, literal)
        _check_size(len(value) + value.count(literal) * (len(text) - len(literal)))
        return value.replace(literal, text)
    out: list[str] = []
    size = done = 0
    for start, end in _matches(pattern, value):
        text = _go_template(replacement, value[start:end])
        size += start - done + len(text)
        _check_size(size)
        out += [value[done:start], text]
        done = end
    return "".join(out) + value[done:]


def _check_work(value: str, pattern: Pattern) -> None:
    if len(value) * pattern.length > MAX_WORK:
        raise DockerfileError(
            f"a pattern of {pattern.length} characters is too long for a value of {len(value)}",
            hint="shorten the pattern, or do this in a RUN",
        )


def _check_size(size: int) -> None:
    if size > MAX_LENGTH:
        raise DockerfileError(f"the word expands to more than {MAX_LENGTH} characters", hint=TOO_LARGE)


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Characters of the pattern, and whether each is a wildcard."""
    chars = iter(text)
    for char in chars:
        if char != "\\":
            yield char, char in "*?"
            continue
        escaped = next(chars, "")
        if escaped not in ("*", "?", "\\", "}", "/"):
            raise DockerfileError(
                f"the pattern '{text}' has a bad escape '\\{escaped}'",
                hint="in a pattern, \\ stands before *, ?, \\, } or / alone",
            )
        yield escaped, False


def _split(tokens: Iterator[tuple[str, bool]]) -> list[list[str | None]]:
    pieces: list[list[str | None]] = [[]]
    for char, wildcard in tokens:
        if not wildcard:
            pieces[-1].append(char)
        elif char == "?":
            pieces[-1].append(None)
        elif len(pieces) == 1 or pieces[-1]:
            pieces.append([])
    return pieces


def _piece(chars: list[str | None]) -> _Piece:
    literal = None if None in chars else "".join(c for c in chars if c is not None)
    return _Piece(tuple(chars), literal, re.compile("".join("." if c is None else re.escape(c) for c in chars)))


def _line_end(value: str, at: int) -> int:
    end = value.find("\n", at)
    return len(value) if end < 0 else end


def _match_at(pattern: Pattern, value: str, at: int, *, longest: bool) -> int | None:
    """Where the match that begins at `at` ends.

    All stars but the last may take as little as they can: what a later place of a piece leaves to the next star, an
    earlier place leaves too, since no star leaves its line.
    """
    first, *rest = pattern.pieces
    head = first.regex.match(value, at)
    if head is None:
        return None
    end = head.end()
    for number, piece in enumerate(rest, 1):
        place = _last_place if longest and number == len(rest) else _first_place
        start = place(piece, value, end)
        if start is None:
            return None
        end = start + len(piece.chars)
    return end


def _first_place(piece: _Piece, value: str, at: int) -> int | None:
    """The first place of `piece` from `at` to the end of the line."""
    found = piece.regex.search(value, at, _line_end(value, at) + len(piece.chars))
    return found.start() if found else None


def _last_place(piece: _Piece, value: str, at: int) -> int | None:
    """The last place of `piece` from `at` to the end of the line."""
    end = _line_end(value, at)
    if piece.literal is not None:
        start = value.rfind(piece.literal, at, end + len(piece.literal))
        return start if start >= 0 else None
    for start in range(end, at - 1, -1):
        if piece.regex.match(value, start):
            return start
    return None


def _search(pattern: Pattern, value: str, at: int) -> tuple[int, int] | None:
    """The leftmost match from `at` on."""
    first = pattern.pieces[0]
    while head := first.regex.search(value, at):
        end = _match_at(pattern, value, head.start(), longest=True)
        if end is not None:
            return head.start(), end
        # The rest does not follow on this line, so it follows no later place of the first piece that ends here either.
        at = max(head.start() + 1, _line_end(value, head.end()) + 1 - len(first.chars))
        if at > len(value):
            break
    return None


def _matches(pattern: Pattern, value: str) -> Iterator[tuple[int, int]]:
    """All matches, left to right, without an empty one right behind another (Go's regexp.ReplaceAllString)."""
    at, last = 0, -1
    while at <= len(value) and (found := _search(pattern, value, at)):
        end = found[1]
        if end > last:
            yield found
        last = end
        at = max(end, at + 1)


_TEMPLATE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<name>\w+)|\{(?P<braced>\w+)\})")


def _go_template(replacement: str, matched: str) -> str:
    """BuildKit hands the replacement of `//` to Go's regexp.ReplaceAllString, which reads `$0` and `$name` in it once
    more: the match itself, and groups, of which there are none. (That of a single `/` is taken as it is.)"""
    if "$" not in replacement:
        return replacement

    def value(reference: re.Match[str]) -> str:
        if reference["dollar"]:
            return "$"
        name = reference["name"] or reference["braced"]
        return matched if name == "0" else ""

    return _TEMPLATE.sub(value, replacement)
