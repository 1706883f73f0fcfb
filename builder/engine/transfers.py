"""Several blobs on their way at once, to or from a registry, on threads that end with the one that waits for them."""

from __future__ import annotations

import threading
from collections import deque

from builder.events import Transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from builder.cancellation import Cancellation
    from builder.events import Emit
    from builder.oci.digest import Descriptor, Digest

    Work = Callable[[Descriptor, Callable[[int], object]], object]

TOGETHER = 4
# No wait is longer: a Ctrl-C that comes just before it begins is not lost. It is also how often progress is told.
_POLL = 0.2
# A thread that is still connecting cannot be ended; it ends with the process.
_PATIENCE = 1.0


class Transfers:
    """``with Transfers(...) as transfers: transfers.wait(digest)``: does `work` for each descriptor, in their order and a few
    at once. `work` is told where to report bytes, and obeys `stop`, which is cancelled when the block ends early."""

    def __init__(self, what: str, descriptors: Iterable[Descriptor], work: Work, stop: Cancellation, emit: Emit) -> None:
        self._what = what
        self._waiting = deque(descriptors)
        self._total = sum(descriptor.size for descriptor in self._waiting)
        self._work = work
        self._stop = stop
        self._emit = emit
        self._changed = threading.Condition()
        self._left = {descriptor.digest for descriptor in self._waiting}
        self._moved = 0
        self._told = -1
        self._failed: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(min(TOGETHER, len(self._waiting)))]

    def __enter__(self) -> Transfers:
        self._tell(0)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            return
        self._stop.cancel()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def wait(self, digest: Digest) -> None:
        """Until this one is through. Raises what went wrong with any."""
        self._until(lambda: digest not in self._left)

    def finish(self) -> None:
        """Until all are through. Raises as `wait`."""
        self._until(lambda: not self._left)
        if self._told < self._total:
            self._tell(self._total)

    def _until(self, over: Callable[[], bool]) -> None:
        while True:
            with self._changed:
                if self._failed is not None:
                    raise self._failed
                if over():
                    return
                self._changed.wait(_POLL)
                moved = min(self._moved, self._total)
            # At its end it is told once.
            if self._told < moved < self._total:
                self._tell(moved)

    def _tell(self, moved: int) -> None:
        self._told = moved
        self._emit(Transfer(self._what, moved, self._total))

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or self._failed is not None or self._stop.cancelled:
                    return
                descriptor = self._waiting.popleft()
            try:
                self._work(descriptor, self._count)
            except BaseException as error:  # noqa: BLE001  it is raised where somebody waits
                with self._changed:
                    self._failed = self._failed or error
                    self._changed.notify_all()
                return
            with self._changed:
                self._left.discard(descriptor.digest)
                self._changed.notify_all()

    def _count(self, size: int) -> None:
        with self._changed:
            self._moved += size
