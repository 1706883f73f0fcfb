"""The end of work that nobody wants any more: told by one thread, obeyed by those that do it. No I/O of its own."""

from __future__ import annotations

from _thread import allocate_lock  # `threading` costs 1 ms at start

from builder.errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_SIGINT = 2


class Cancellation:
    """Whether work is still wanted. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._endings: dict[Ending, None] = {}
        self.cancelled = False

    def cancel(self) -> None:
        """End what can be ended at once; all else ends at its next `check`. Calling it again does nothing."""
        with self._lock:
            self.cancelled = True
            endings, self._endings = list(self._endings), {}
            for ending in endings:
                ending.act()

    def check(self) -> None:
        """Raises Interrupted once the work was cancelled."""
        if self.cancelled:
            raise Interrupted(_SIGINT)

    def ending(self, act: Callable[[], object]) -> Ending:
        """``with cancellation.ending(process.kill): process.wait()``: `act` is called, from another thread and at most once,
        when the work is cancelled inside the block; it must not raise. Raises Interrupted where it was cancelled before."""
        return Ending(self, act)

    def _begin(self, ending: Ending) -> None:
        with self._lock:
            self.check()
            self._endings[ending] = None

    def _end(self, ending: Ending) -> None:
        # The lock also says that no `act` is under way when the block has ended.
        with self._lock:
            self._endings.pop(ending, None)


class Ending:
    """The context manager behind `Cancellation.ending`."""

    def __init__(self, cancellation: Cancellation, act: Callable[[], object]) -> None:
        self._cancellation = cancellation
        self.act = act

    def __enter__(self) -> None:
        self._cancellation._begin(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cancellation._end(self)


NEVER = Cancellation()
"""For work that nobody cancels."""
