"""Text to logical lines whose every character knows its line and column (DESIGN, "One pass", 1).

A logical line is one instruction: continuations are joined, comments and empty lines between them are gone, white space
at both ends is cut. The bodies of its heredocs come beside it. The behaviour is that of BuildKit's parser
(moby/buildkit, frontend/dockerfile/parser/parser.go), except that a plain comment does not end the directives (SPEC
section 2).
"""

from __future__ import annotations

import re
from bisect import bisect_right

from builder.dockerfile import directives, heredoc
from builder.dockerfile.space import SPACE
from builder.dockerfile.text import check_text, split_lines
from builder.errors import DockerfileError, Span
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.dockerfile.ast import Directives
    from builder.errors import SourceFile

MAX_INSTRUCTIONS = 50_000
"""Instructions of a Dockerfile; more are refused (some 50 microseconds are needed for each)."""

_MAY_HOLD_HEREDOCS = re.compile(r"(?:ONBUILD[\t\v\f\r ]+)?(?:RUN|COPY|ADD)(?![^\t\v\f\r ])", re.IGNORECASE | re.ASCII)


class Body(NamedTuple):
    """A heredoc of a logical line: its mark, its text as it stands in the file, every line with its end, and the number of
    the first of these lines."""

    mark: heredoc.Mark
    text: str
    line: int


class LogicalLine(NamedTuple):
    """One instruction. `starts[n]` is the offset in `text` of its n-th piece, which stands in the file at `places[n]`
    (line and column, from 1). The first start may be negative: white space was cut."""

    text: str
    starts: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    bodies: tuple[Body, ...] = ()

    def span(self, start: int, end: int) -> Span:
        """Where `text[start:end]` stands in the file."""
        if len(self.starts) == 1:
            line, column = self.places[0]
            column -= self.starts[0]
            return Span(line, column + start, line, column + (end if end > start else start + 1))
        line, column = self._place(start)
        if end <= start:
            return Span(line, column, line, column + 1)
        end_line, end_column = self._place(end - 1)
        return Span(line, column, end_line, end_column + 1)

    def _place(self, offset: int) -> tuple[int, int]:
        piece = bisect_right(self.starts, offset) - 1
        line, column = self.places[piece]
        return line, column + offset - self.starts[piece]


def read(source: SourceFile) -> tuple[Directives, list[LogicalLine]]:
    """The directives and the logical lines of a text. Raises DockerfileError with span and source."""
    check_text(source)
    # One element a line without its "\n": columns of "\r" stay true, and SourceFile.line() counts alike.
    lines = split_lines(source)
    header = directives.read(lines, source)
    found: list[LogicalLine] = []
    index = 0
    while index < len(lines):
        start = lines[index].strip(SPACE)
        if not start or start[0] == "#":
            index += 1
            continue
        line, index = _join(lines, index, header.escape)
        if "<<" in line.text and _MAY_HOLD_HEREDOCS.match(line.text):
            line, index = _take_bodies(line, lines, index, source)
        if line.text:
            found.append(line)
        if len(found) > MAX_INSTRUCTIONS:
            raise DockerfileError(
                f"the Dockerfile has more than {MAX_INSTRUCTIONS} instructions",
                line.span(0, len(line.text)),
                hint="join commands, or build in several Dockerfiles",
                source=source,
            )
    return header, found


def _join(lines: list[str], index: int, escape: str) -> tuple[LogicalLine, int]:
    """The logical line that begins at `lines[index]`, and the index of the line after it."""
    pieces: list[str] = []
    starts: list[int] = []
    places: list[tuple[int, int]] = []
    length = 0
    for number, piece, column in _pieces(lines, index, escape):
        index = number  # lines count from 1: this is the index of the next one
        if piece:
            pieces.append(piece)
            starts.append(length)
            places.append((number, column))
            length += len(piece)
    joined = "".join(pieces)
    text = joined.lstrip(SPACE)
    cut = len(joined) - len(text)
    if not pieces:
        starts, places = [0], [(index, 1)]
    return LogicalLine(text.rstrip(SPACE), tuple(s - cut for s in starts), tuple(places)), index


def _pieces(lines: list[str], index: int, escape: str) -> Iterator[tuple[int, str, int]]:
    """(line number, text, its first column) of each line that belongs to one instruction; the text is empty for what is
    left out. The last one gives the line where the instruction ends."""
    first = True
    while index < len(lines):
        raw = lines[index].rstrip("\r")
        index += 1
        begin = raw.lstrip(SPACE)
        text = begin if first else raw
        column = 1 + len(raw) - len(text)
        first = False
        if not begin or begin[0] == "#":
            yield index, "", 1
            continue
        bare = text.rstrip(" \t")
        # An escape character before the last one makes it a character like others, also when it is escaped itself:
        # BuildKit's pattern cannot look further back.
        continues = bare.endswith(escape) and bare[-2:-1] != escape
        yield index, bare[:-1] if continues else text, column
        if not continues:
            return


def _take_bodies(line: LogicalLine, lines: list[str], index: int, source: SourceFile) -> tuple[LogicalLine, int]:
    """The line with the bodies of its heredocs, in the order of their marks, and the index of the line after them."""
    bodies: list[Body] = []
    for mark in heredoc.marks(line.text):
        start = index
        while index < len(lines) and not mark.ends_at(lines[index].rstrip("\r")):
            index += 1
        if index == len(lines):
            raise DockerfileError(
                f"the heredoc '{mark.name}' has no end",
                line.span(mark.start, mark.end),
                hint=f"end it with a line that holds {mark.name} and nothing else, not even a space",
                source=source,
            )
        bodies.append(Body(mark, "".join(text + "\n" for text in lines[start:index]), start + 1))
        index += 1
    return line._replace(bodies=tuple(bodies)), index
