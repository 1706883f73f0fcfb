"""The grammar file and the one lark parser of the process. lark is imported when the first Dockerfile is parsed: that costs
70 ms, which a build with a cached syntax tree does not pay."""

from __future__ import annotations

import os
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SWAP = {ord("\\"): "`", ord("`"): "\\"}


class SyntaxMismatch(Exception):
    """The text is not what the grammar says; `offset` is where reading stopped."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def path() -> str:
    """The grammar file: `builder/grammar/` in an installed wheel, `grammar/` beside the package in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "grammar", "dockerfile.lark")
    return inside if os.path.exists(inside) else os.path.join(os.path.dirname(package), "grammar", "dockerfile.lark")


def tokens(text: str, escape: str) -> list[tuple[str, int, int]]:
    """(terminal, start, end) of the flags and arguments of one instruction, in order. `text` is not stripped of anything
    and `escape` is its escape character. Raises SyntaxMismatch."""
    parse, mismatch = _parser()
    # The grammar knows one escape character. Swapping the two keeps every offset; the caller cuts words from its text.
    try:
        found = parse(text if escape == "\\" else text.translate(_SWAP)).children[0].children
    except mismatch as error:
        at_end = getattr(error, "token", None) == ""
        raise SyntaxMismatch(len(text) if at_end else error.pos_in_stream) from None
    return [(token.type, token.start_pos, token.end_pos) for token in found]


@cache
def _parser() -> tuple[Callable[[str], Any], type[Any]]:
    """The parser's function and the exception that it raises for a text that does not fit."""
    from lark import Lark, UnexpectedInput

    with open(path(), encoding="utf-8") as file:
        grammar = file.read()
    parser = Lark(grammar, parser="lalr", lexer="contextual", maybe_placeholders=False, propagate_positions=False)
    return parser.parse, UnexpectedInput
