"""A step's output, cut into lines. Pure.

A carriage return goes back to the start of the line, as on a terminal: what was written before it is replaced by what
follows it. So a progress bar leaves its last state, and ``\\r\\n`` is a line end.
"""

from __future__ import annotations

LONGEST = 16 * 1024
"""Bytes that are held without a line end; more is cut into several lines, so that a hostile log costs no memory."""


class LineCutter:
    """Bytes in, cut anywhere; whole lines out, without their ends."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *whole, rest = (self._held + data).split(b"\n")
        lines = [piece for line in whole for piece in _chopped(last_state(line))]
        *long, self._held = _chopped(_reduced(rest))
        return lines + long

    def partial(self) -> bytes:
        """The line that has no end yet, as it stands."""
        return last_state(self._held)

    def flush(self) -> list[bytes]:
        """What is left at the end of the step: nothing, or one line without an end."""
        rest, self._held = self._held, b""
        return [last_state(rest)] if rest else []


def last_state(line: bytes) -> bytes:
    """What stands on the line after its carriage returns: the last piece that is not empty."""
    if b"\r" not in line:
        return line
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def incomplete(data: bytes) -> int:
    """How many bytes (0 to 3) at the end of `data` begin a UTF-8 character that the next bytes may complete."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        need = 2 if 0xC2 <= byte < 0xE0 else 3 if 0xE0 <= byte < 0xF0 else 4 if 0xF0 <= byte < 0xF5 else 1
        return back if need > back else 0
    return 0


def _chopped(line: bytes) -> list[bytes]:
    """`line` in pieces of at most `LONGEST`, cut between characters; at least one piece."""
    pieces = []
    while len(line) > LONGEST:
        end = LONGEST - incomplete(line[:LONGEST])
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]


def _reduced(line: bytes) -> bytes:
    """An unfinished line without what its carriage returns replaced.

    One CR at the end stays: it is the first half of a line end, or it replaces the line by what comes next.
    """
    state = last_state(line)
    return state + b"\r" if state and line.endswith(b"\r") else state
