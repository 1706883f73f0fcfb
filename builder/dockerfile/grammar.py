"""The grammar file, and the parser of its language.

lark makes the parser's tables of the grammar; they lie beside it, ready made (`make grammar`), so that no build has to import
lark: that costs 70 ms. Where they are not this grammar's, they are made anew.
"""

from __future__ import annotations

import os
from functools import cache

from builder import canonical
from builder.dockerfile.lalr import Parser, SyntaxMismatch, Tables
from builder.hashing import sha256

__all__ = ["FORMAT", "SyntaxMismatch", "generated", "tables_path", "tokens"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
_SWAP = {ord("\\"): "`", ord("`"): "\\"}


def path() -> str:
    """The grammar file: `builder/grammar/` in an installed wheel, `grammar/` beside the package in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "grammar", "dockerfile.lark")
    return inside if os.path.exists(inside) else os.path.join(os.path.dirname(package), "grammar", "dockerfile.lark")


def tables_path() -> str:
    return os.path.splitext(path())[0] + ".tables.json"


def tokens(text: str, escape: str) -> list[tuple[str, int, int]]:
    """(terminal, start, end) of the flags and arguments of one instruction, in order. `text` is not stripped of anything
    and `escape` is its escape character. Raises SyntaxMismatch."""
    # The grammar knows one escape character. Swapping the two keeps every offset; the caller cuts words from its text.
    found = _parser().parse(text if escape == "\\" else text.translate(_SWAP))
    # As in lark, what is named so is for the grammar alone.
    return [token for token in found if not token[0].startswith("_")]


def generated() -> str:
    """The text of the tables' file for the grammar as it is. Needs lark."""
    from lark import Lark

    text = _grammar()
    lark: Any = Lark(text, parser="lalr", lexer="contextual", maybe_placeholders=False, propagate_positions=False)
    table, lexer = lark.parser.parser._parse_table, lark.parser.lexer
    # Everything in the order of the names of things: lark's own numbers depend on the order of sets.
    rules = sorted({rule for state in table.states.values() for _, rule in state.values() if hasattr(rule, "origin")}, key=str)
    places = _numbered(table, rules)
    states: list[dict[str, int]] = [{} for _ in places]
    for state, actions in table.states.items():
        for symbol, (_, target) in actions.items():
            states[places[state]][symbol] = -1 - rules.index(target) if hasattr(target, "origin") else places[target]
    every = lexer.root_lexer
    made = {
        "format": FORMAT,
        "grammar": sha256(text.encode()).hexdigest(),
        "terminals": [[terminal.name, terminal.pattern.to_regexp()] for terminal in every.terminals],
        "ignored": sorted(every.ignore_types),
        "rules": [[rule.origin.name, len(rule.expansion)] for rule in rules],
        "start": places[table.start_states["start"]],
        "end": places[table.end_states["start"]],
        "states": states,
    }
    return "{\n" + ",\n".join(f"{canonical.dumps(key)}:{_lines(value)}" for key, value in made.items()) + "\n}\n"


def _numbered(table: Any, rules: list[Any]) -> dict[Any, int]:
    """States by the order in which they are reached, symbols sorted."""
    places = {table.start_states["start"]: 0}
    for state in (waiting := [table.start_states["start"]]):
        for _, (_, target) in sorted(table.states[state].items()):
            if not hasattr(target, "origin") and target not in places:
                places[target] = len(places)
                waiting.append(target)
    return places


def _lines(value: object) -> str:
    """A line for each of many, so that a change of the grammar can be read."""
    if not isinstance(value, list):
        return canonical.dumps(value)
    return "[\n" + ",\n".join(map(canonical.dumps, value)) + "\n]"


@cache
def _parser() -> Parser:
    return Parser(_tables())


def _tables() -> Tables:
    try:
        with open(tables_path(), encoding="utf-8") as file:
            read: Any = canonical.loads(file.read())
    except FileNotFoundError:
        read = {}
    # Those of another grammar are no harm, and no use.
    if read.get("format") != FORMAT or read["grammar"] != sha256(_grammar().encode()).hexdigest():
        read = canonical.loads(generated())
    return Tables(
        tuple((name, regex) for name, regex in read["terminals"]),
        frozenset(read["ignored"]),
        tuple((origin, length) for origin, length in read["rules"]),
        tuple(read["states"]),
        read["start"],
        read["end"],
    )


@cache
def _grammar() -> str:
    with open(path(), encoding="utf-8") as file:
        return file.read()
