"""Small files read and hashed by a process beside this one, while the tar of those before is made.

To open, look at, read, hash and close a file of a few KB is a dozen calls, and Python lets one thread at a time prepare any:
half of what a COPY of many small files costs. What the process cannot do is done again here, so that errors have one place;
where there is no process to be had, all of it is.
"""

from __future__ import annotations

import os
import struct
from collections import deque

from builder.errors import BuildError
from builder.layers.beside import HEAD, Beside
from builder.layers.entry import FileSource
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from builder.layers.entry import Item

WORTH = 400
"""Files that are read here before a process is started: it costs 30 ms, of another processor's time."""
LARGEST = 128 << 10
"""Bytes; a larger file is read here, where it needs not be sent."""
_BATCH_FILES, _BATCH = 128, 640 << 10
"""What is asked for at once, in files and bytes. The answer fits into a pipe, so that the other can go on meanwhile."""
_AHEAD = 2
"""Batches that are asked for and not yet needed."""
_PATIENCE = 16
"""Files that are read here between two looks at whether the process has started."""

ROW = struct.Struct("<BQqqii32s")
"""Of each file what became of it, inode, ctime in ns, size, bytes read, bytes of its member, and the sha256 of its content."""
FAILED, STEADY, WRITTEN = range(3)
"""What became of it: it was read, and nobody has it open for writing, or somebody may have."""


class Read(NamedTuple):
    """What was read of a file, and what fstat(2) said before."""

    inode: int
    ctime: int
    """Nanoseconds."""
    size: int
    may_be_written: bool
    """Somebody may have it open for writing; True where nobody was asked to look."""
    length: int
    """Bytes of its content that there were, one more than expected at most."""
    member: bytes
    """Header, content and padding, or the content alone, where that has the expected length."""
    digest: str
    """sha256 of the content, in hex."""


def members(items: Iterable[Item], *, mtime: int | None, leases: bool) -> Generator[tuple[Item, Read | None], None, None]:
    """The items in order, each with what was read of it, None where that is left to the caller. `mtime` is what members get
    (`write_layer`). `leases`: it is to be known who may be writing to a file. Close it or come to its end: a process may run.
    """
    return _ahead(iter(items), _How(mtime, LARGEST, ["leases"] if leases else []))


def contents(items: Iterable[Item], largest: int) -> Generator[tuple[Item, Read | None], None, None]:
    """The same with the contents of files, of at most `largest` bytes each, in place of the members of a tar."""
    return _ahead(iter(items), _How(0, largest, ["bare"]))


class _How(NamedTuple):
    mtime: int | None
    largest: int
    words: list[str]
    """What the process is told."""


def _ahead(left: Iterator[Item], how: _How) -> Generator[tuple[Item, Read | None], None, None]:
    count = 0
    for item in left:
        yield item, None
        count += type(item.source) is FileSource
        if count >= WORTH:
            break
    else:
        return
    process = Beside.started("readahead_main.py", *how.words)
    if process is None:
        for item in left:
            yield item, None
        return
    with process:
        for count, item in enumerate(left):
            yield item, None
            if count % _PATIENCE == 0 and process.is_ready():
                break
        yield from _Reading(process, how).read(left)


class _Reading:
    """Files that a running `readahead_main.py` reads."""

    def __init__(self, process: Beside, how: _How) -> None:
        self._process = process
        self._how = how

    def read(self, items: Iterator[Item]) -> Iterator[tuple[Item, Read | None]]:
        waiting: deque[tuple[list[Item], list[int], bool]] = deque()
        """Batches: their items, which of them were asked for, and whether it was this process that was asked."""
        is_over = False
        while not is_over or waiting:
            while not is_over and len(waiting) <= _AHEAD:
                batch, places = _batch(items, self._how.largest)
                is_over = not batch
                if batch:
                    waiting.append((batch, places, bool(places) and self._ask([batch[place] for place in places])))
            if waiting:
                batch, places, asked = waiting.popleft()
                found: list[Read | None] = [None] * len(batch)
                if asked:
                    for place, read in zip(places, self._answer()):
                        found[place] = read
                yield from zip(batch, found)

    def _ask(self, items: list[Item]) -> bool:
        rows: list[object] = []
        last: tuple[str, bytes] | None = None
        mtime = self._how.mtime
        for entry, source in items:
            assert isinstance(source, FileSource)
            root, (folder, _, name) = source.root, source.path.rpartition(b"/")
            if last != (root, folder):
                rows += ([os.fsencode(root)], folder)
                last = root, folder
            path, _, mode, uid, gid, size, _, _, _, _, time = entry
            rows.append((name, path, mode, uid, gid, size, time // 10**9 if mtime is None else mtime))
        return self._process.ask(rows)

    def _answer(self) -> Iterator[Read | None]:
        """Of each file that was asked for; nothing where the process was killed."""
        answer = self._process.answer()
        if answer is None or len(answer) < HEAD.size:
            return
        (count,) = HEAD.unpack_from(answer)
        at = HEAD.size + count * ROW.size
        rows = list(ROW.iter_unpack(answer[HEAD.size : at]))
        if at + sum(row[5] for row in rows) != len(answer):
            raise BuildError("the process that reads ahead answers in another way than it should", hint="report this as a bug")
        for became, inode, ctime, size, length, whole, digest in rows:
            if became == FAILED:
                yield None
                continue
            member = answer[at : at + whole]
            at += whole
            yield Read(inode, ctime, size, became == WRITTEN, length, member, digest.hex())


def _batch(items: Iterator[Item], largest: int) -> tuple[list[Item], list[int]]:
    """The next ones, and the places of those among them that are to be read by the other."""
    batch: list[Item] = []
    places: list[int] = []
    size = 0
    for item in items:
        entry = item.entry
        if type(item.source) is FileSource and entry.size <= largest and not entry.xattrs:
            places.append(len(batch))
            size += entry.size
        batch.append(item)
        if len(batch) >= _BATCH_FILES or size >= _BATCH:
            break
    return batch, places
