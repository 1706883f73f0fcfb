"""A terminal for tests that knows exactly the control sequences that a reader may send, and fails at any other.

It keeps logical lines (it reflows when it gets narrower, as today's terminals do) and the lines that scrolled off.
"""

from __future__ import annotations

import re
import unicodedata

_TOKEN = re.compile(r"\x1b\[(\d*)([AJm])|(\r)|(\n)|([^\x00-\x1f\x7f-\x9f]+)", re.DOTALL)


class Terminal:
    def __init__(self, width: int = 40, height: int = 24) -> None:
        self.width = width
        self.height = height
        self.lines = [""]
        """Everything that was printed and not erased; the cursor is at the end of the last one, or at `_up`."""
        self._erase_from: int | None = None

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            assert match, f"the terminal was sent {text[at : at + 20]!r}"
            number, command, carriage, newline, plain = match.groups()
            if command == "A":
                self._up(int(number or "1"))
            elif command == "J":
                assert number == "" and self._erase_from is not None
                self.lines[self._erase_from :] = [""]
                self._erase_from = None
            elif newline:
                self.lines.append("")
            elif carriage:
                assert self.lines[-1] == "" or text[match.end() : match.end() + 1] == "\n", "overwrites a line"
            elif plain:
                assert self._erase_from is None, "writes over lines without erasing them"
                self.lines[-1] += plain
            at = match.end()

    def _up(self, rows: int) -> None:
        assert self.lines[-1] == "", "moves up from the middle of a line"
        assert rows < self.height, f"moves {rows} rows up on a screen of {self.height}"
        index = len(self.lines) - 1
        while rows > 0:
            index -= 1
            rows -= self.rows(self.lines[index])
        assert rows == 0, "moves into the middle of a wrapped line"
        self._erase_from = index

    def rows(self, line: str) -> int:
        return max(1, -(-self.columns(line) // self.width))

    @staticmethod
    def columns(line: str) -> int:
        return sum(
            0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
            for c in line
        )
