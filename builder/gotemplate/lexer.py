"""A template cut into texts and actions, and actions into tokens (Go's text/template, "Text and spaces", "Arguments"). Pure."""

from __future__ import annotations

import re

from builder.errors import UsageError
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = " \t\r\n"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
_TOKEN = re.compile(
    r"""(?x)
    (?P<space>[ \t\r\n]+)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    | (?P<char>'(?:[^'\\\n]|\\[^\n]+?)')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+
        |[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)(?![\w.]))
    | (?P<field>\.[^\W\d]\w*)
    | (?P<variable>\$\w*)
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>:=|[=|(),.])
    """
)


class Token(NamedTuple):
    """`kind` is one of the groups' names; a string's text is what it stands for."""

    kind: str
    text: str
    at: int


class Piece(NamedTuple):
    """A text, or the tokens of an action."""

    text: str
    tokens: tuple[Token, ...] | None
    at: int


def wrong(source: str, at: int, what: str, hint: str | None = None) -> UsageError:
    """What is wrong, and where: by its column, and its line where there are several."""
    line = source.count("\n", 0, at) + 1
    column = at - (source.rfind("\n", 0, at) + 1) + 1
    where = f"column {column}" if "\n" not in source else f"line {line}, column {column}"
    return UsageError(f"the template is wrong at {where}: {what}", hint=hint)


def pieces(source: str) -> Iterator[Piece]:
    """The template's texts and actions, comments left out and what is to be trimmed cut. Raises UsageError."""
    at = 0
    trims = False
    while at < len(source):
        start = source.find("{{", at)
        end = len(source) if start < 0 else start
        text = source[at:end].lstrip(_SPACE) if trims else source[at:end]
        trimmed = start >= 0 and source.startswith("{{-", start) and source[start + 3 : start + 4] in [*_SPACE]
        text = text.rstrip(_SPACE) if trimmed else text
        if text:
            yield Piece(text, None, at)
        if start < 0:
            return
        inner = start + (3 if trimmed else 2)
        comment = _comment(source, inner)
        tokens, close = ((), comment) if comment else _tokens(source, inner, start)
        trims = source.startswith("-}}", close)
        at = close + (3 if trims else 2)
        if not comment:
            yield Piece("", tokens, start)


def _comment(source: str, at: int) -> int:
    """Where the comment that begins here closes its action; 0 for none."""
    begin = len(source) - len(source[at:].lstrip(_SPACE))
    if not source.startswith("/*", begin):
        return 0
    end = source.find("*/", begin)
    if end < 0:
        raise wrong(source, begin, "the comment is not closed")
    close = len(source) - len(source[end + 2 :].lstrip(_SPACE))
    if not source.startswith(("}}", "-}}"), close):
        raise wrong(source, end + 2, "a comment ends before its action does", "an action is a comment as a whole or not at all")
    return close


def _tokens(source: str, at: int, start: int) -> tuple[tuple[Token, ...], int]:
    found: list[Token] = []
    while True:
        if at >= len(source):
            raise wrong(source, start, "the action is not closed", "it ends with }}")
        if source.startswith("}}", at) or (source.startswith("-}}", at) and source[at - 1] in _SPACE):
            return tuple(found), at
        match = _TOKEN.match(source, at)
        if match is None:
            raise wrong(source, at, f"unexpected {source[at]!r}", _unclosed(source[at]))
        kind = str(match.lastgroup)
        if kind != "space":
            text = match[0]
            if kind in ("string", "char"):
                text = text[1:-1] if text[0] == "`" else _unquoted(source, at, text[1:-1])
            found.append(Token(kind, text, at))
        else:
            found.append(Token(kind, "", at))
        at = match.end()


def _unclosed(char: str) -> str | None:
    return "the text in quotes is not closed" if char in "\"'`" else None


def _unquoted(source: str, at: int, text: str) -> str:
    def stands_for(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in _ESCAPES:
            return _ESCAPES[code[0]]
        try:
            return chr(int(code[1:], 16) if code[0] in "xuU" else int(code, 8))
        except (ValueError, OverflowError):
            raise wrong(source, at, f"'\\{code}' is no escape") from None

    return re.sub(r"\\(x..|u.{4}|U.{8}|[0-7]{3}|.)", stands_for, text)
