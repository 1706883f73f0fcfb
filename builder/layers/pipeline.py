"""Handing pieces of a stream from the thread that makes them to one that hashes, writes and compresses them."""

from __future__ import annotations

from _queue import SimpleQueue
from _thread import start_new_thread
from threading import Lock, Semaphore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_INLINE = 4 << 20
"""Bytes that are worth no thread."""
_AHEAD = 8
"""Pieces that wait at most: memory is bounded by their size."""
_TICK = 0.2
"""Seconds. A signal that comes between Python's last look for one and the system call that waits does not end that call."""


class Pipeline:
    """``with Pipeline(do) as pipeline: pipeline.put(data)``: `do` is called with each piece, in order; the first ones at once,
    those after 4 MiB on a thread of the pipeline's own. Leaving the block waits for the last one; by an exception, for the one
    that `do` is at. What `do` raises is raised by `put` or at the end of the block. For one thread that puts."""

    def __init__(self, do: Callable[[bytes], object]) -> None:
        self._do = do
        self._done = 0
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._places = Semaphore(_AHEAD)
        self._ended: Lock | None = None
        """Held while the thread runs."""
        self._abandoned = False
        self._error: BaseException | None = None

    def __enter__(self) -> Pipeline:
        return self

    def put(self, data: bytes) -> None:
        if self._ended is None:
            if self._done < _INLINE:
                self._done += len(data)
                self._do(data)
                return
            self._ended = Lock()
            self._ended.acquire()
            # No Thread object: its end runs callbacks of weak references, and Python drops a Ctrl-C that comes in one of those.
            start_new_thread(self._work, ())
        while not self._places.acquire(timeout=_TICK):
            continue
        if self._error is not None:
            raise self._error
        self._queue.put(data)

    def _work(self) -> None:
        assert self._ended is not None
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
            self._ended.release()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._ended is None:
            return
        self._abandoned = kind is not None
        self._queue.put(None)
        while not self._ended.acquire(timeout=_TICK):
            continue
        self._ended.release()
        if self._error is not None and kind is None:
            raise self._error
