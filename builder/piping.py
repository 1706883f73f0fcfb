"""Pipes between a command and the caller's terminal, where the command is to have no terminal of its own.

A descriptor of a terminal is open for reading and writing, whichever number it has: who got it as its output could read
what the user types to others, and change how the terminal behaves. So a terminal stays here, and bytes are carried; files and
pipes are handed on as they are. Does not keep apart what goes to standard output and to standard error where both are one
terminal: the order is kept instead.
"""

from __future__ import annotations

import os
import select
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_PIECE = 1 << 16


class Pipes:
    """``with Pipes(interactive) as streams``: descriptors for the command's three streams. At the end of the block all that was
    written has been carried; the command must have ended by then. With `interactive` standard input is the caller's."""

    def __init__(self, interactive: bool) -> None:
        self._interactive = interactive
        self._given: list[int] = []
        self._carriers: list[threading.Thread] = []
        self._end = -1

    def __enter__(self) -> tuple[int, int, int]:
        read = self._input() if self._interactive and os.isatty(0) else 0
        out = self._output(1) if os.isatty(1) else 1
        same = out != 1 and os.isatty(2) and os.path.sameopenfile(1, 2)
        error = out if same else self._output(2) if os.isatty(2) else 2
        return read, out, error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for fd in self._given:
            os.close(fd)
        if self._end >= 0:
            os.close(self._end)
        for carrier in self._carriers:
            carrier.join()

    def _output(self, to: int) -> int:
        end, given = os.pipe()
        self._given.append(given)
        self._carry(end, to, -1)
        return given

    def _input(self) -> int:
        given, end = os.pipe()
        self._given.append(given)
        over, self._end = os.pipe()
        self._carry(0, end, over)
        return given

    def _carry(self, source: int, to: int, over: int) -> None:
        carrier = threading.Thread(target=_carried, args=(source, to, over), daemon=True)
        carrier.start()
        self._carriers.append(carrier)


def _carried(source: int, to: int, over: int) -> None:
    """All that comes, until it ends, nobody takes it, or `over` is closed; then the pipe's end is, too."""
    try:
        while True:
            if over >= 0 and over in select.select([source, over], [], [])[0]:
                # What was typed since is the next reader's.
                return
            data = os.read(source, _PIECE)
            if not data:
                return
            while data:
                data = data[os.write(to, data) :]
    except OSError:
        # The terminal is gone, or nobody reads the pipe any more (EIO, EPIPE): who writes into the other end learns of it.
        return
    finally:
        os.close(source if source > 2 else to)
        if over >= 0:
            os.close(over)
