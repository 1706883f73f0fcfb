"""The one queue and its one consumer, which writes what a reader makes of the events."""

from __future__ import annotations

import os
import time
from _queue import Empty, SimpleQueue  # `queue` would import threading and heapq: 3 ms that a cached build does not have
from _thread import allocate_lock, start_new_thread

from builder.events import Debug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from typing import Literal

    from builder.events import Event

    Mode = Literal["auto", "tty", "plain", "json", "quiet"]

_BACKLOG = 512
"""Events that may wait; a step that prints faster than the terminal takes it is slowed down beyond that."""
_BUFFER = 64 * 1024


if TYPE_CHECKING:
    from typing import Protocol

    class Reader(Protocol):
        """Turns events into text. All calls come from one thread."""

        def handle(self, event: Event, now: float) -> None: ...

        def tick(self, now: float) -> float | None: ...

        def close(self, now: float) -> None: ...

    Item = tuple[Event, float] | LockType | None
    """An event and when it happened; a milestone to release; the end."""


class _Output:
    """Collects text and writes it to a file descriptor; after a failed write it only remembers the error."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parts: list[str] = []
        self._length = 0
        self.error: OSError | None = None

    def add(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
        if self._length > _BUFFER:
            self.flush()

    def flush(self) -> None:
        # File names in messages may carry surrogates.
        data = memoryview("".join(self._parts).encode(errors="backslashreplace"))
        self._parts.clear()
        self._length = 0
        while data and self.error is None:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # Another program that shares the terminal made it non-blocking.
                import select

                select.select([], [self._fd], [])
            except OSError as error:
                self.error = error


class Reporter:
    """`emit` from any thread; `close` once all work is done. Also a context manager."""

    def __init__(self, reader: Reader, output: _Output, *, clock: Callable[[], float], debug: bool) -> None:
        self._reader = reader
        self._output = output
        self._clock = clock
        self._debug = debug
        self._queue: SimpleQueue[Item] = SimpleQueue()
        self._guard = allocate_lock()
        self._consumed = allocate_lock()
        """Held by the consumer from its start on."""
        self._ended = allocate_lock()
        """Held while the consumer runs."""
        self._state: Literal["new", "running", "closed"] = "new"

    def emit(self, event: Event) -> None:
        """Hands `event` to the consumer, in the order of the calls. Returns at once unless the consumer is far behind.

        Without effect after `close`. `Debug` events count with `debug` alone.
        """
        if isinstance(event, Debug) and not self._debug:
            return
        if self._state != "running" and not self._started():
            return
        self._queue.put((event, self._clock()))
        if self._queue.qsize() > _BACKLOG:
            self._wait_for_consumer()

    def close(self) -> None:
        """Shows everything that was emitted and leaves the terminal clean; raises OSError when it could not be written."""
        with self._guard:
            before, self._state = self._state, "closed"
        if before == "new":
            return
        if before == "running":
            self._queue.put(None)
        with self._ended:
            pass
        error, self._output.error = self._output.error, None
        if error is not None:
            raise error

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> bool:
        with self._guard:
            if self._state == "new":
                # A Ctrl-C may come between any two of these lines, and the next event begins again: the lock may be held by
                # then, and a consumer run, beside which another one ends at once. RuntimeError: no thread is to be had.
                self._ended.acquire(blocking=False)
                start_new_thread(self._consume, ())
                self._state = "running"
            return self._state == "running"

    def _wait_for_consumer(self) -> None:
        """A lock in the queue is a milestone: the consumer releases it when it gets there."""
        milestone = allocate_lock()
        milestone.acquire()
        self._queue.put(milestone)
        # By steps: a consumer that died releases nothing.
        while self._ended.locked() and not milestone.acquire(timeout=1.0):
            pass

    def _consume(self) -> None:
        if not self._consumed.acquire(blocking=False):
            return
        try:
            while (item := self._next()) is not None:
                match item:
                    case (event, at):
                        self._reader.handle(event, at)
                    case milestone:
                        milestone.release()
            self._reader.close(self._clock())
            self._output.flush()
        finally:
            self._ended.release()

    def _next(self) -> Item:
        """The next item; while there is none, what is due is drawn and written."""
        wait = self._reader.tick(self._clock())
        while True:
            try:
                return self._queue.get(block=False)
            except Empty:
                self._output.flush()
            try:
                return self._queue.get(timeout=wait)
            except Empty:
                wait = self._reader.tick(self._clock())


def open_reporter(
    mode: Mode,
    fd: int,
    *,
    color: bool,
    is_tty: bool,
    width: Callable[[], int],
    height: Callable[[], int] | None = None,
    clock: Callable[[], float] = time.monotonic,
    debug: bool = False,
    explain: bool = False,
) -> Reporter:
    """A reporter that writes to `fd` (which it does not close). ``auto`` is tty on a terminal, else plain.

    `width` and `height` (by default of `fd`) give the terminal's present columns and rows, 0 for unknown; they are asked before
    each drawing. `explain` shows a person why steps ran. No thread and no output before the first event.
    """
    output = _Output(fd)
    if mode == "auto":
        mode = "tty" if is_tty else "plain"
    rows = height or (lambda: screen(fd)[1])
    return Reporter(_reader(mode, output.add, color, width, rows, explain), output, clock=clock, debug=debug)


def screen(fd: int) -> tuple[int, int]:
    """The present (columns, rows) of the terminal behind `fd`; (0, 0) where there is none."""
    try:
        return os.get_terminal_size(fd)
    except OSError:
        return (0, 0)


def _reader(
    mode: Literal["tty", "plain", "json", "quiet"],
    write: Callable[[str], None],
    color: bool,
    width: Callable[[], int],
    height: Callable[[], int],
    explain: bool,
) -> Reader:
    # Imported on demand: a build imports the one reader that it uses.
    match mode:
        case "tty":
            from builder.report.tty import Tty

            return Tty(write, width, height, color=color, explain=explain)
        case "plain":
            from builder.report.plain import Plain

            return Plain(write, color=color, explain=explain)
        case "json":
            from builder.report.json import Json

            return Json(write)
        case "quiet":
            from builder.report.quiet import Quiet

            return Quiet(write, color=color)
