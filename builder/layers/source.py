"""Reading the content of items: the one way to a file's bytes.

A `FileSource` is opened component by component with O_NOFOLLOW below one descriptor of its root, so that no link of an
image or a context leads anywhere else, on every kernel. openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) would say the same
in one call, but needs ctypes; items come in path order, so the descriptor of the last folder serves nearly all of them
and the walk costs less.
"""

from __future__ import annotations

import errno
import os
import stat

from builder.cancellation import NEVER
from builder.errors import BuildError
from builder.layers.beneath import Beneath
from builder.layers.entry import BytesSource, FileSource, RangeSource, SparseSource
from builder.layers.names import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType
    from typing import NoReturn

    from builder.cancellation import Cancellation
    from builder.layers.entry import Source

CHUNK = 1 << 20
"""The most bytes that are read at once."""

_ZEROS = bytes(CHUNK)
_OPEN_ROOTS = 16
KEPT = 4
"""Folders of a way that stay open, for each root."""
# O_NONBLOCK: a fifo that took the file's place must not hang the build.
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Sources:
    """Open sources of one pass over many items: keeps descriptors of roots and archives until `close`.

    A context manager, for one thread. Methods raise BuildError where a file is not there any more, is no regular file
    or not to be read by this user, and Interrupted between two pieces once `stop` was cancelled; other OSErrors propagate.
    """

    def __init__(
        self, stop: Cancellation = NEVER, opened: Callable[[FileSource, int, os.stat_result], object] | None = None
    ) -> None:
        """`opened` is called with each file, its descriptor and what fstat(2) says of that, before it is read."""
        self.stop = stop
        self._opened = opened
        self._roots: dict[str, _Root] = {}
        self._files: dict[str, int] = {}

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for root in self._roots.values():
            root.close()
        for descriptor in self._files.values():
            os.close(descriptor)
        self._roots.clear()
        self._files.clear()

    def chunks(self, source: Source) -> Iterator[bytes]:
        """The content in pieces of 1 to `CHUNK` bytes. Ranges and sparse sources yield their whole size or raise BuildError."""
        match source:
            case FileSource():
                return self._wanted(self._file_chunks(source))
            case BytesSource(data):
                return (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))
            case RangeSource(file, offset, size):
                return self._wanted(_range_chunks(self._file(file), file, offset, size))
            case SparseSource():
                return self._wanted(_sparse_chunks(self._file(source.file), source))

    def small(self, source: Source, size: int) -> bytes:
        """The whole content where it is expected to be `size` bytes: at most `size` + 1 bytes, for one read(2)."""
        if isinstance(source, FileSource):
            descriptor = self.open(source)
            try:
                return read_up_to(descriptor, size)
            finally:
                os.close(descriptor)
        if isinstance(source, RangeSource) and source.size == size:
            data = os.pread(self._file(source.file), size, source.offset)
            if len(data) == size:
                return data
        parts = []
        left = size + 1
        for chunk in self.chunks(source):
            parts.append(chunk[:left])
            left -= len(chunk)
            if left <= 0:
                break
        return b"".join(parts)

    def open(self, source: FileSource) -> int:
        """A new descriptor of the regular file; the caller closes it."""
        root = self._roots.get(source.root)
        if root is None:
            if len(self._roots) >= _OPEN_ROOTS:
                self._roots.pop(next(iter(self._roots))).close()
            root = self._roots[source.root] = _Root(source.root)
        descriptor, info = root.open(source.path)
        if self._opened is not None:
            try:
                self._opened(source, descriptor, info)
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor

    def _file_chunks(self, source: FileSource) -> Iterator[bytes]:
        descriptor = self.open(source)
        try:
            while chunk := os.read(descriptor, CHUNK):
                yield chunk
        finally:
            os.close(descriptor)

    def _wanted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.stop.check()
            yield chunk

    def _file(self, file: str) -> int:
        descriptor = self._files.get(file)
        if descriptor is None:
            if len(self._files) >= _OPEN_ROOTS:
                os.close(self._files.pop(next(iter(self._files))))
            descriptor = self._files[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        return descriptor


class SourcesPool:
    """Open sources for several threads: `with pool.borrowed() as sources`. Closed with the pool, once nobody has any."""

    def __init__(self) -> None:
        # Appending to a list and popping from it are atomic.
        self._free: list[Sources] = []

    def borrowed(self) -> _Borrowed:
        return _Borrowed(self._free)

    def close(self) -> None:
        while self._free:
            self._free.pop().close()


class _Borrowed:
    def __init__(self, free: list[Sources]) -> None:
        self._free = free
        self._sources: Sources | None = None

    def __enter__(self) -> Sources:
        try:
            self._sources = self._free.pop()
        except IndexError:
            self._sources = Sources()
        return self._sources

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._sources is not None:
            self._free.append(self._sources)


def open_source(source: Source) -> Generator[bytes, None, None]:
    """The content of one source in pieces of at most `CHUNK` bytes; closing the generator closes the file.

    For many items use one `Sources`. Raises BuildError as `Sources` does.
    """
    with Sources() as sources:
        yield from sources.chunks(source)


class _Root:
    """A folder of the host, and the descriptor of the folder below it that was used last."""

    def __init__(self, root: str) -> None:
        self._folders = Beneath(root, readable=False, kept=KEPT)
        self._folder = self._folders.root
        self._at = b""

    def close(self) -> None:
        self._folders.close()

    def open(self, path: bytes) -> tuple[int, os.stat_result]:
        folder, _, name = path.rpartition(b"/")
        _check(name)
        try:
            if folder != self._at:
                # Where that fails, none is known any more.
                self._at = b"/"
                self._folder = self._folders.folder(folder)
                self._at = folder
            descriptor = os.open(name, OPEN, dir_fd=self._folder)
        except OSError as error:
            _explain(error, path)
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            os.close(descriptor)
            raise changed(path)
        return descriptor, info


class ContentChanged(BuildError):
    """The content of the file `name` is not what was seen before."""

    name = ""


def changed(path: bytes) -> ContentChanged:
    """The error for content that is not what was seen before."""
    name = show(path)
    error = ContentChanged(f"'{name}' changed while it was read", hint="build again when nothing else writes to it")
    error.name = name
    return error


def _check(name: bytes) -> None:
    if name in (b"", b".", b".."):
        raise ValueError("a source's path is not canonical")


def _explain(error: OSError, path: bytes) -> NoReturn:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO):
        raise changed(path) from error
    if error.errno in (errno.EACCES, errno.EPERM):
        raise BuildError(
            f"'{show(path)}' cannot be read: permission denied",
            hint="make it readable for this user; what a build does not need .dockerignore can leave out",
        ) from error
    raise error


def read_up_to(descriptor: int, size: int) -> bytes:
    """The content of a file that is expected to have `size` bytes: at most one more."""
    data = os.read(descriptor, size + 1)
    if len(data) >= size:
        return data
    # Shorter than expected: network file systems may cut a read short, so only an empty read is the end.
    while more := os.read(descriptor, size + 1 - len(data)):
        data += more
        if len(data) > size:
            break
    return data


def _range_chunks(descriptor: int, file: str, offset: int, size: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end:
        chunk = os.pread(descriptor, min(CHUNK, end - offset), offset)
        if not chunk:
            raise ContentChanged(f"'{file}' is shorter than it was", hint="build again when nothing else writes to it")
        yield chunk
        offset += len(chunk)


def _sparse_chunks(descriptor: int, source: SparseSource) -> Iterator[bytes]:
    at = 0
    for start, offset, length in (*source.pieces, (source.size, 0, 0)):
        while at < start:
            gap = min(CHUNK, start - at)
            yield _ZEROS if gap == CHUNK else _ZEROS[:gap]
            at += gap
        yield from _range_chunks(descriptor, source.file, offset, length)
        at += length
