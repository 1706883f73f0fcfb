"""One at a time: a step that two builds, or two stages of one, would do at once is done by one of them."""

from __future__ import annotations

import os
import time

from builder.events import StepLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from builder.cancellation import Cancellation
    from builder.events import Emit
    from builder.plan.keys import Key
    from builder.store.store import Store

_PATIENCE = 1.0
"""Seconds of waiting before the step's log says for whom."""


class Turn:
    """``with Turn(...) as turn``: nobody else is at this key inside the block. `turn.waited`: somebody was before."""

    def __init__(self, store: Store, key: Key, name: str, emit: Emit, number: int, stop: Cancellation) -> None:
        self._lock = store.lock(key.hex, f"process {os.getpid()}, {name}")
        self._emit = emit
        self._number = number
        self._stop = stop
        self._begun = 0.0
        self._told = False
        self.waited = False

    def __enter__(self) -> Turn:
        self._begun = time.monotonic()
        self._lock.acquire(self._waiting)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()

    def _waiting(self, holder: str) -> None:
        self._stop.check()
        self.waited = True
        if not self._told and time.monotonic() - self._begun > _PATIENCE:
            self._told = True
            text = f"waiting for another build that does the same{f': {holder}' if holder else ''}\n"
            self._emit(StepLog(self._number, text.encode("utf-8", "backslashreplace")))
