"""Handing pieces of a stream from the thread that makes them to one that hashes, writes and compresses them."""

from __future__ import annotations

import sys
from _queue import SimpleQueue
from _thread import allocate_lock, start_new_thread  # `threading` costs 1 ms at start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from threading import Semaphore
    from types import TracebackType

_INLINE = 4 << 20
"""Bytes that are worth no thread."""
_AHEAD = 8
"""Pieces that wait at most: memory is bounded by their size."""
_TICK = 0.2
"""Seconds. A signal that comes between Python's last look for one and the system call that waits does not end that call."""


class Pipeline:
    """``with Pipeline(do) as pipeline: pipeline.put(data)``: `do` is called with each piece, in order; the first ones at once,
    those after 4 MiB on a thread of the pipeline's own, where one is to be had. Leaving the block waits for the last one; by an
    exception, or Ctrl-C meanwhile, for the one that `do` is at, so that what `do` writes to may be closed. What `do` raises is
    raised by `put` or at the end of the block. For one thread that puts."""

    def __init__(self, do: Callable[[bytes], object]) -> None:
        self._do = do
        self._inline = _INLINE
        """Bytes to come that are worth no thread."""
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._places: Semaphore | None = None
        """There once the thread is."""
        self._ended: LockType | None = None
        """Held while the thread runs."""
        self._is_over = False
        self._abandoned = False
        self._error: BaseException | None = None

    def __enter__(self) -> Pipeline:
        return self

    def put(self, data: bytes) -> None:
        if self._ended is None and (self._inline > 0 or not self._start()):
            self._inline -= len(data)
            self._do(data)
            return
        assert self._places is not None
        while not self._places.acquire(timeout=_TICK):
            continue
        if self._error is not None:
            raise self._error
        self._queue.put(data)

    def _start(self) -> bool:
        from threading import Semaphore  # for those who have much

        self._places = Semaphore(_AHEAD)
        ended = allocate_lock()
        ended.acquire()
        try:
            # No Thread object: its end runs callbacks of weak references, and Python drops a Ctrl-C that comes in one of those.
            start_new_thread(self._work, (ended,))
        except RuntimeError:
            # There is no memory, or no process, for one more.
            self._inline = sys.maxsize
            return False
        # Not before: who leaves the block waits for a thread that is there.
        self._ended = ended
        return True

    def _work(self, ended: LockType) -> None:
        assert self._places is not None
        try:
            while (data := self._queue.get()) is not None:
                # After an error, or the end of who puts, pieces are taken and dropped: who waits for a place gets one.
                if self._error is None and not self._abandoned:
                    try:
                        self._do(data)
                    except BaseException as error:  # noqa: BLE001  it is raised in the thread that puts
                        self._error = error
                self._places.release()
        finally:
            self._is_over = True
            ended.release()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._ended is None:
            return
        self._abandoned = kind is not None
        pressed: KeyboardInterrupt | None = None
        self._queue.put(None)
        # Not what `acquire` says decides: Ctrl-C may come just after it.
        while not self._is_over:
            try:
                self._ended.acquire(timeout=_TICK)
            except KeyboardInterrupt as interrupt:
                self._abandoned, pressed = True, interrupt
        if kind is None and (failure := pressed or self._error) is not None:
            raise failure
