"""An LALR parser with a contextual lexer, run by tables: they say what may follow, and what a piece of text is. Pure.

The tables are lark's, made of the grammar (`builder.dockerfile.grammar`). To run them takes the few lines below, and to import
lark, which makes them, 70 ms: a quarter of a small build.
"""

from __future__ import annotations

import re

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

END = "$END"
"""The terminal that stands for the end of the text, as lark names it."""


class Tables(NamedTuple):
    terminals: tuple[tuple[str, str], ...]
    """Name and regular expression, in the order in which they are tried."""
    ignored: frozenset[str]
    """Terminals that may stand anywhere, and mean nothing."""
    rules: tuple[tuple[str, int], ...]
    """What each rule makes, and of how many symbols."""
    states: tuple[Mapping[str, int], ...]
    """For each symbol that may follow: the next state, or below zero the rule that ends before it, `-1 - rule`."""
    start: int
    end: int


class SyntaxMismatch(Exception):
    """The text is not what the grammar says; `offset` is where reading stopped."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class Parser:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lexers: dict[int, re.Pattern[str]] = {}

    def parse(self, text: str) -> list[tuple[str, int, int]]:
        """(terminal, start, end) of all that the text is made of, but for what is ignored. Raises SyntaxMismatch."""
        tables = self._tables
        stack = [tables.start]
        found: list[tuple[str, int, int]] = []
        at = 0
        while at < len(text):
            piece = self._lexer(stack[-1]).match(text, at)
            # None of them matches nothing.
            if piece is None or piece.lastgroup is None:
                raise SyntaxMismatch(at)
            kind, start, at = piece.lastgroup, at, piece.end()
            if kind in tables.ignored:
                continue
            self._reduce(stack, kind)
            stack.append(tables.states[stack[-1]][kind])
            found.append((kind, start, at))
        try:
            self._reduce(stack, END)
        except KeyError:
            raise SyntaxMismatch(len(text)) from None
        assert stack[-1] == tables.end
        return found

    def _reduce(self, stack: list[int], kind: str) -> None:
        """Apply the rules that end before the terminal. Raises KeyError where it cannot follow."""
        states, rules = self._tables.states, self._tables.rules
        while stack[-1] != self._tables.end and (action := states[stack[-1]][kind]) < 0:
            made, length = rules[-1 - action]
            if length:
                del stack[-length:]
            stack.append(states[stack[-1]][made])

    def _lexer(self, state: int) -> re.Pattern[str]:
        """Of what may follow in this state, and nothing else: so the same text is another terminal elsewhere."""
        found = self._lexers.get(state)
        if found is None:
            tables = self._tables
            may = tables.states[state]
            wanted = (f"(?P<{name}>{regex})" for name, regex in tables.terminals if name in may or name in tables.ignored)
            found = self._lexers[state] = re.compile("|".join(wanted))
        return found
