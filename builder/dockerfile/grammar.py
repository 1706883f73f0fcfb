"""The grammar file and the one lark parser of the process. lark is imported when the first Dockerfile is parsed: that costs
70 ms, which a build with a cached syntax tree does not pay. Half of it is the making of the parser's tables, which are the same
each time: who can keep them hands them in (`restore`)."""

from __future__ import annotations

import hashlib
import marshal
import os
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lark import Lark

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


def version() -> str:
    """What the parser's tables depend on, as hex: the grammar, lark, and the form in which they are kept."""
    # importlib.metadata, which would say lark's version, takes 40 ms.
    import lark

    return hashlib.sha256(f"1\0{_grammar()}\0{lark.__version__}\0{marshal.version}".encode()).hexdigest()


def restore(tables: bytes) -> bool:
    """Make the process' parser of what `tables` gave under the same `version`; False, and nothing is done, where it is damaged.
    It is trusted as the program is: it must come from a place that nobody else writes to."""
    digest, data = tables[:_DIGEST], tables[_DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        return False
    from lark import Lark, UnexpectedInput

    # As the parsers do that lark generates as programs of their own (lark.tools.standalone).
    load: Callable[..., Lark] = Lark._load_from_dict
    _made["parser"] = load(*marshal.loads(data)).parse, UnexpectedInput
    return True


def tables() -> bytes:
    """The tables of the process' parser, which is made where there is none."""
    from lark.grammar import Rule
    from lark.lexer import TerminalDef

    data = marshal.dumps(_lark().memo_serialize([TerminalDef, Rule]))
    return hashlib.sha256(data).digest() + data


_DIGEST = 32
_made: dict[str, tuple[Callable[[str], Any], type[Any]]] = {}


def _parser() -> tuple[Callable[[str], Any], type[Any]]:
    """The parser's function and the exception that it raises for a text that does not fit."""
    if "parser" not in _made:
        from lark import UnexpectedInput

        _made["parser"] = _lark().parse, UnexpectedInput
    return _made["parser"]


@cache
def _lark() -> Lark:
    from lark import Lark

    return Lark(_grammar(), parser="lalr", lexer="contextual", maybe_placeholders=False, propagate_positions=False)


@cache
def _grammar() -> str:
    with open(path(), encoding="utf-8") as file:
        return file.read()
