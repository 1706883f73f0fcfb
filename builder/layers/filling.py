"""Files of a layer's folder that a process beside this one writes, out of the tar that has them.

A file takes a dozen system calls, and Python lets one thread at a time prepare any: two threads write a folder as fast as one
(40,000 entries: 1.12 s for 1.13). With a process beside it takes 0.88 of 1.20, 20,000 of them files. Folders, links and all
that is not plain are made here, and so is what the process cannot do, so that errors have one place.
"""

from __future__ import annotations

import os
from collections import deque

from builder.layers.beside import Beside
from builder.layers.entry import RangeSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from builder.layers.entry import Item

WORTH = 400
"""Files that are written here before a process is started: it costs 20 ms of another processor's time."""
LARGEST = 256 << 10
"""Bytes; of a larger file the kernel's part is nearly all."""
_BATCH = 64
"""Files that are asked for at once."""
_AHEAD = 3
"""Batches that wait to be written at most: what comes then is written here, until there is an answer."""
_PATIENCE = 16
"""Files that are written here between two looks at the process."""


class Filling:
    """For one folder. A context manager."""

    def __init__(self, folder: str, hand_on: Callable[[], object] | None = None) -> None:
        """`hand_on`: see `Beside.started`."""
        self._folder = folder
        self._hand_on = hand_on
        self._process: Beside | None = None
        self._is_ready = False
        self._is_of_use = True
        self._count = 0
        self._batch: list[Item] = []
        self._asked: deque[list[Item]] = deque()
        self._failed: list[Item] = []
        self.unsure: list[Item] = []
        """After `left`: those that the process may have begun, and that are to be removed and done here. It was killed."""

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.__exit__(kind, error, trace)

    def wants(self, item: Item) -> bool:
        """Whether this file is one for the process, and that has time for it: then `add` it, once its folder is there."""
        source = item.source
        if type(source) is not RangeSource or item.entry.size > LARGEST or item.entry.xattrs:
            return False
        if self._batch:
            return True
        self._count += 1
        if self._process is None:
            if self._count == WORTH:
                self._process = Beside.started("filling_main.py", self._folder, hand_on=self._hand_on)
            return False
        if self._count % _PATIENCE == 0:
            self._look()
        return self._is_ready and self._is_of_use and len(self._asked) < _AHEAD

    def add(self, item: Item) -> None:
        self._batch.append(item)
        if len(self._batch) == _BATCH:
            self._ask()

    def left(self) -> list[Item]:
        """Waits for the process: what it could not do, and is to be done here."""
        if self._batch:
            self._ask()
        while self._asked:
            self._take()
        return self._failed

    def _look(self) -> None:
        assert self._process is not None
        if not self._is_ready:
            self._is_ready = self._process.is_ready()
        while self._asked and self._process.has_answered():
            self._take()

    def _ask(self) -> None:
        assert self._process is not None
        rows: list[object] = []
        file = ""
        for entry, source in self._batch:
            assert isinstance(source, RangeSource)
            if source.file != file:
                file = source.file
                rows.append([os.fsencode(file)])
            path, _, mode, uid, gid, size, digest, _, _, _, mtime = entry
            rows.append((path, mode, uid, gid, size, digest, mtime, source.offset))
        batch, self._batch = self._batch, []
        if self._process.ask(rows):
            self._asked.append(batch)
        else:
            self._failed += batch
            # Without an answer to wait for there will be no more room later on, and nobody who listens.
            self._is_of_use = self._is_of_use and bool(self._asked)

    def _take(self) -> None:
        assert self._process is not None
        batch = self._asked.popleft()
        answer = self._process.answer()
        if answer is None:
            self.unsure += batch
        else:
            self._failed += [item for item, done in zip(batch, answer) if not done]
        # It lacks what it takes: a right of this user's that programs do not inherit, or a way to the tar.
        self._is_of_use = self._is_of_use and answer is not None and any(answer)
