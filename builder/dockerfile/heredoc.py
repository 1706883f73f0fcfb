"""Heredoc marks on an instruction's line: `<<EOF`, `<<-EOF`, `<<"EOF"`, `3<<EOF`, `<< EOF`.

The line is split as BuildKit's shell lexer splits it (moby/buildkit, frontend/dockerfile/shell/lex.go), always with `\\`
as the escape character: a word that is `<<` and a name, after digits at most, is a mark; `a<<b`, `<<<b` and quoted ones
are not. A line on which quotes or `${` are not closed, or with a substitution that the lexer does not know, has no marks.
"""

from __future__ import annotations

import re

from builder.dockerfile.space import SPACE
from builder.values import NamedTuple

_MARK = re.compile(r"[0-9]*<<(-?+)[\t\n\f\r ]*+([^<]*)", re.DOTALL)
_BARE_PIECE = re.compile(
    rf"""(?P<space>[{SPACE}]+)
    |(?P<plain>[^{SPACE}'"\\$<]+ | \\. | \\\Z | <<[\t\r ]* | < | '[^']*')
    |(?P<open>" | \$\{{(?:[^\W\d]\w*|\d+|[@*#?$!-])(?:(?P<whole>\}})|:?[-+?\#%]|/))
    |(?P<dollar>\$(?!\{{))""",
    re.DOTALL | re.VERBOSE,
)
_NAME_PIECE = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^'"\\])""", re.DOTALL)
_INNER = re.compile(r"""\\.|\$\{|["}']""", re.DOTALL)


class Mark(NamedTuple):
    """`text[start:end]` of the line announces a heredoc that ends at a line that is `name`."""

    start: int
    end: int
    name: str
    expand: bool
    strip_tabs: bool

    def ends_at(self, line: str) -> bool:
        """Whether `line`, without its end, is the heredoc's last."""
        return (line.lstrip("\t") if self.strip_tabs else line) == self.name


def marks(text: str) -> tuple[Mark, ...]:
    """The heredoc marks of a logical line, in order."""
    spans = _words(text)
    return tuple(mark for start, end in spans or () if (mark := _mark(text, start, end)))


def lone(text: str) -> bool:
    """Whether the line is one heredoc mark and nothing else: then its body is a script and no input of a command."""
    found = marks(text)
    return len(found) == 1 and (found[0].start, found[0].end) == (0, len(text))


def _mark(text: str, start: int, end: int) -> Mark | None:
    match = _MARK.fullmatch(text, start, end)
    if match is None:
        return None
    name, quoted = _unquote(match[2])
    return Mark(start, end, name, not quoted, match[1] == "-") if name else None


def _unquote(word: str) -> tuple[str, bool]:
    """A heredoc's name without quotes and escapes, and whether it had quotes. Variables are not expanded in it."""
    quoted = False
    out: list[str] = []
    for single, double, escaped, plain in _NAME_PIECE.findall(word):
        out.append(single or re.sub(r'\\(["$\\])', r"\1", double) or escaped or plain)
        quoted = quoted or not (escaped or plain)
    return "".join(out), quoted


def _words(text: str) -> list[tuple[int, int]] | None:
    """(start, end) of each word; None when the line cannot be split."""
    found: list[tuple[int, int]] = []
    start = -1
    position = 0
    while position < len(text):
        match = _BARE_PIECE.match(text, position)
        if match is None:
            return None
        end = match.end()
        if match["space"]:
            if start >= 0:
                found.append((start, position))
                start = -1
        else:
            start = position if start < 0 else start
            if match["open"] and not match["whole"]:
                closed = _closing(text, end, '"' if match["open"] == '"' else "}")
                if closed is None:
                    return None
                end = closed
        position = end
    if start >= 0:
        found.append((start, len(text)))
    return found


def _closing(text: str, position: int, closer: str) -> int | None:
    """Where the `"` or `}` that closes what was opened ends; None when it is missing. Nests without recursion."""
    stack = [closer]
    while match := _INNER.search(text, position):
        token, position = match[0], match.end()
        if token == stack[-1]:
            stack.pop()
            if not stack:
                return position
        elif token == "${":
            stack.append("}")
        elif token == '"':
            stack.append('"')
        elif token == "'" and stack[-1] == "}":
            # Inside `"` a single quote is a character like others.
            position = text.find("'", position) + 1
            if position == 0:
                return None
    return None
