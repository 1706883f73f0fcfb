"""Putting the content of an item into an open file of the host: checked, with its holes, in the kernel where it can be."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os

from builder.layers.entry import FileSource, RangeSource, SparseSource
from builder.layers.pipeline import Pipeline
from builder.layers.source import CHUNK, changed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.cancellation import Cancellation
    from builder.layers.entry import Entry, Item
    from builder.layers.readahead import Read
    from builder.layers.source import Sources

SMALL = 64 * 1024
"""Up to this size one read and one write are faster than asking for holes."""

_AT_ONCE = 64 << 20
"""Bytes that the kernel moves in one call, which nothing ends."""

_FICLONE = 0x40049409
"""ioctl_ficlonerange(2)."""

# Between file systems (EXDEV, EINVAL) or for files that cannot (EOPNOTSUPP, ENOSYS, ENOTTY, and EPERM or ETXTBSY for
# immutable or swap files; copy_file_range(2), ioctl_ficlonerange(2)) the next way is tried, and after a signal: Python does
# not call these again (EINTR).
_NOT_THERE = (
    errno.EXDEV,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.ENOTTY,
    errno.EPERM,
    errno.ETXTBSY,
    errno.EINTR,
)


def write_content(sources: Sources, item: Item, to: int) -> None:
    """Write the item's content to the empty file `to`, which is open for reading as well, and has its size afterwards.

    Where the file system can, a large file shares its blocks with the one that it is a copy of. A digest is always that of what
    lies in `to`, which nobody else changes: the file that is copied may be another one a moment later.

    Raises BuildError when the content has not the entry's size, or not its digest where that is known. OSErrors propagate.
    """
    entry, source = item
    if source is None:
        if entry.size:
            raise ValueError(f"an item of {entry.size} bytes has no source")
        return
    check = _Check(item)
    if isinstance(source, SparseSource):
        os.ftruncate(to, source.size)
        for start, offset, length in source.pieces:
            check.skip_to(start)
            for chunk in sources.chunks(RangeSource(source.file, offset, length)):
                _write_at(to, chunk, check.at)
                check.take(chunk)
        check.skip_to(source.size)
    elif isinstance(source, FileSource) and entry.size > SMALL:
        descriptor = sources.open(source)
        try:
            _copy_file(descriptor, to, check, sources.stop)
        finally:
            os.close(descriptor)
    elif entry.size <= SMALL:
        data = sources.small(source, entry.size)
        check.take(data)
        if len(data) == entry.size:
            _write_at(to, data, 0)
    else:
        with check.beside():
            for chunk in sources.chunks(source):
                check.take(chunk, most=entry.size)
                _write_at(to, chunk, check.at - len(chunk))
    check.finish()


def write_read(entry: Entry, read: Read, to: int) -> None:
    """The same of a file that was read already."""
    if read.length != entry.size or (entry.digest and entry.digest != read.digest):
        raise changed(entry.path)
    _write_at(to, read.member, 0)


class _Check:
    """How far the content has come, and its digest when there is one to compare with."""

    def __init__(self, item: Item) -> None:
        self._entry = item.entry
        self._hash = hashlib.sha256() if item.entry.digest else None
        self._update: Callable[[bytes], object] | None = self._hash.update if self._hash is not None else None
        self.at = 0

    @property
    def hashes(self) -> bool:
        return self._hash is not None

    def beside(self) -> Pipeline:
        """What is taken inside this context is hashed on a thread of its own, where it is much."""
        pipeline = Pipeline(self._hash.update if self._hash is not None else bytes)
        self._update = pipeline.put if self._hash is not None else None
        return pipeline

    @property
    def size(self) -> int:
        return self._entry.size

    def take(self, chunk: bytes, *, most: int | None = None) -> None:
        self.at += len(chunk)
        if most is not None and self.at > most:
            raise changed(self._entry.path)
        if self._update is not None:
            self._update(chunk)

    def skip_to(self, offset: int) -> None:
        """What lies before `offset` is a hole: zeros."""
        if self._update is not None:
            for at in range(self.at, offset, CHUNK):
                self._update(bytes(min(CHUNK, offset - at)))
        self.at = max(self.at, offset)

    def moved(self, length: int) -> None:
        """So many bytes went by the kernel; only where nothing is hashed."""
        self.at += length

    def finish(self) -> None:
        if self.at != self._entry.size or (self._hash is not None and self._hash.hexdigest() != self._entry.digest):
            raise changed(self._entry.path)


def _copy_file(source: int, to: int, check: _Check, stop: Cancellation) -> None:
    status = os.fstat(source)
    if status.st_size != check.size:
        check.moved(status.st_size)
        check.finish()
    has_all = _cloned(source, to)
    if has_all and not check.hashes:
        check.moved(os.fstat(to).st_size)
        return
    os.ftruncate(to, check.size)
    pieces: Iterable[tuple[int, int]] = [(0, check.size)]
    if status.st_blocks * 512 < check.size:
        pieces = _data(to if has_all else source, check.size)
    with check.beside():
        for start, end in pieces:
            check.skip_to(start)
            while check.at < end:
                stop.check()
                if not (_look(to, end, check) if has_all else _move(source, to, end, check)):
                    # Shorter than fstat said a moment ago.
                    return
        check.skip_to(check.size)


def _data(source: int, size: int) -> Iterator[tuple[int, int]]:
    """The pieces between holes, as (start, end); the whole file where the file system knows no holes (lseek(2))."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno != errno.EINVAL:
                raise
            yield end, size
            return
        end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        yield start, end


def _move(source: int, to: int, end: int, check: _Check) -> int:
    """Move bytes at the place that `check` has come to, up to `end`; returns how many, 0 at the end of the source, which is
    known by reading alone: some file systems' files seem empty to the kernel (copy_file_range(2), BUGS)."""
    at, left = check.at, end - check.at
    moved = _in_kernel(source, to, at, min(left, CHUNK) if check.hashes else left)
    if moved:
        if check.hashes:
            return _look(to, at + moved, check)
        check.moved(moved)
        return moved
    chunk = os.pread(source, min(CHUNK, left), at)
    _write_at(to, chunk, at)
    check.take(chunk)
    return len(chunk)


def _look(to: int, end: int, check: _Check) -> int:
    """Hash what lies in the copy."""
    chunk = os.pread(to, min(CHUNK, end - check.at), check.at)
    check.take(chunk)
    return len(chunk)


def _cloned(source: int, to: int) -> bool:
    """Whether the empty file shares all blocks of the other one now: btrfs, xfs and others can."""
    try:
        fcntl.ioctl(to, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return False
    return True


def _in_kernel(source: int, to: int, at: int, length: int) -> int | None:
    """By copy_file_range, else by sendfile; None where the kernel can do neither."""
    try:
        return os.copy_file_range(source, to, min(length, _AT_ONCE), at, at)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    try:
        os.lseek(to, at, os.SEEK_SET)
        return os.sendfile(to, source, at, min(length, _AT_ONCE))
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    return None


def _write_at(to: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(to, view, at)
        view = view[written:]
        at += written
