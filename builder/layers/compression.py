"""Compressed forms of a layer (SPEC section 5); reading what others compressed is handed on from `decompression`.

Compressed bytes are a rendering: the same for any number of threads, but only for one version of the compressor, which is
therefore part of the form's name. Nothing is replaced by another encoder in silence.
"""

from __future__ import annotations

import os

from builder.errors import BuildError
from builder.layers.decompression import decompress, is_tar, sniff
from builder.layers.forms import ISAL_VERSION, ZSTANDARD_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import TracebackType
    from typing import Protocol

    class Stream(Protocol):
        """A form of what comes in pieces: `add` each, then `end`; `close` in any case."""

        def add(self, data: bytes) -> None: ...

        def end(self) -> None: ...

        def close(self) -> None: ...


__all__ = [
    "BLOCK",
    "GzipStream",
    "ZstdStream",
    "decompress",
    "gzip_file",
    "is_tar",
    "sniff",
    "zstd_file",
]

BLOCK = 1 << 20
"""Both forms are made of blocks of this size: isal's bytes depend on how much it is fed at once."""

_GZIP_LEVEL = 2  # Level 3 gives other bytes on other CPUs; 0 to 2 do not.
# RFC 1952: magic, deflate, no flags, time 0, no extra flags, unknown system.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_ZSTD_JOB = 4 * BLOCK


def gzip_file(path: str, write: Callable[[bytes], object], *, threads: int = 1) -> None:
    """Write the file at `path` as one gzip member of form 1; its bytes do not depend on `threads`.

    Each block of 1 MiB is a raw deflate stream of its own, all but the last ended by a full flush. Raises BuildError when
    isal is not the pinned version or the file changed while it was read.
    """
    from functools import partial  # for those who compress

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        with GzipStream(write, threads=threads) as stream:
            at = 0
            # Read by the threads that compress, and not handed over.
            while size - at > BLOCK:
                stream.submit(partial(os.pread, descriptor, BLOCK, at), BLOCK, last=False)
                at += BLOCK
            stream.submit(partial(os.pread, descriptor, BLOCK, at), size - at, last=True)
    except ShortBlock:
        raise BuildError(f"'{path}' changed while it was read", hint="build again when nothing else writes to it") from None
    finally:
        os.close(descriptor)


class ShortBlock(Exception):
    """A block has not the size that it should have."""


class GzipStream:
    """The same form of what comes in pieces: ``with GzipStream(write, threads=2) as gzip: gzip.add(data)``.

    `write` is called by the thread that adds, in order. Leaving the block ends the member (`end`) and the threads (`close`); by
    an exception, it ends the threads alone.
    """

    def __init__(self, write: Callable[[bytes], object], *, threads: int = 1) -> None:
        from collections import deque  # for those who compress

        from isal import isal_zlib

        _require("isal", ISAL_VERSION)
        self._isal = isal_zlib
        self._write = write
        self._threads = max(1, threads)
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[tuple[bytes, int, int]]] = deque()
        self._parts: list[memoryview] = []
        self._pending = 0
        self._checksum = 0
        self._size = 0
        self._ended = False
        write(_GZIP_HEADER)

    def __enter__(self) -> GzipStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.end()
        finally:
            self.close()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, data: bytes) -> None:
        """Append. What `write` raises propagates."""
        view = memoryview(data)
        while view:
            # The last block is another one, so that it is known only at the end.
            if self._pending == BLOCK:
                self._submit_parts(BLOCK, last=False)
                self._parts, self._pending = [], 0
            part = view[: BLOCK - self._pending]
            self._parts.append(part)
            self._pending += len(part)
            view = view[len(part) :]

    def end(self) -> None:
        """All was added: write what is left."""
        if not self._ended:
            self._submit_parts(self._pending, last=True)
        while self._waiting:
            self._take(*self._waiting.popleft().result())
        self._write(self._checksum.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))

    def _submit_parts(self, size: int, *, last: bool) -> None:
        parts = self._parts
        self.submit(lambda: b"".join(parts), size, last=last)

    def submit(self, read: Callable[[], bytes], size: int, *, last: bool) -> None:
        """Append a block of `size` bytes, 1 MiB for all but the last, that a thread reads. What `read` gives must have that
        size: else ShortBlock is raised, here or at the next one."""

        def compress() -> tuple[bytes, int, int]:
            data = read()
            if len(data) != size:
                raise ShortBlock
            deflate = self._isal.compressobj(_GZIP_LEVEL, self._isal.DEFLATED, -15, self._isal.DEF_MEM_LEVEL)
            end = self._isal.Z_FINISH if last else self._isal.Z_FULL_FLUSH
            return deflate.compress(data) + deflate.flush(end), self._isal.crc32(data), size

        self._ended = last
        if self._threads == 1 or (last and self._pool is None):
            self._take(*compress())
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._threads)
        try:
            self._waiting.append(self._pool.submit(compress))
        except RuntimeError:
            # No thread more is to be had: those that are there end what they have, and all else is done here.
            self._threads = 1
            while self._waiting:
                self._take(*self._waiting.popleft().result())
            self._take(*compress())
            return
        # A few results ahead, and no more: memory is bounded.
        while len(self._waiting) > 2 * self._threads or (self._waiting and self._waiting[0].done()):
            self._take(*self._waiting.popleft().result())

    def _take(self, compressed: bytes, part: int, length: int) -> None:
        self._write(compressed)
        self._checksum = self._isal.crc32_combine(self._checksum, part, length)
        self._size += length


def zstd_file(path: str, write: Callable[[bytes], object], *, level: int = 3, threads: int = 1) -> None:
    """Write the file at `path` as one zstd frame with its size and a checksum; its bytes do not depend on `threads`.

    Raises BuildError when zstandard is not the pinned version or the file changed while it was read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        stream = ZstdStream(write, size=size, level=level, threads=threads)
        seen = 0
        while data := os.pread(descriptor, BLOCK, seen):
            seen += len(data)
            stream.add(data)
        stream.end()
    except ShortBlock:
        raise BuildError(f"'{path}' changed while it was read", hint="build again when nothing else writes to it") from None
    finally:
        os.close(descriptor)


class ZstdStream:
    """The same form of what comes in pieces, as a `GzipStream`: its size must be known, since the frame begins with it.

    `write` is called by the thread that adds, in order. ShortBlock is raised for more or fewer bytes than `size`, BuildError
    where not one thread is to be had: without any its bytes would be others.
    """

    def __init__(self, write: Callable[[bytes], object], *, size: int, level: int = 3, threads: int = 1) -> None:
        import zstandard

        _require("zstandard", ZSTANDARD_VERSION)
        self._error = zstandard.ZstdError

        def compressor(threads: int) -> zstandard.ZstdCompressionObj:
            parameters = zstandard.ZstdCompressionParameters.from_level(
                level, threads=threads, job_size=_ZSTD_JOB, write_content_size=True, write_checksum=True
            )
            return zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=size)

        # threads=0 takes another code path with other bytes, so it is never less than one.
        self._new = compressor
        self._threads = max(1, threads)
        self._compressor: zstandard.ZstdCompressionObj | None = compressor(self._threads)
        self._write = write
        self._size = self._left = size

    def add(self, data: bytes) -> None:
        """Append. What `write` raises propagates."""
        is_first = self._left == self._size
        self._left -= len(data)
        if self._left < 0:
            raise ShortBlock
        assert self._compressor is not None, "it was closed"
        try:
            out = self._compressor.compress(data)
        except self._error as error:
            # Its threads are made with the first piece.
            if not is_first or self._threads == 1:
                raise _no_thread(error) from error
            self._threads, self._left = 1, self._size
            self._compressor = self._new(1)
            self.add(data)
            return
        if out:
            self._write(out)

    def end(self) -> None:
        """All was added: write what is left."""
        if self._left:
            raise ShortBlock
        assert self._compressor is not None, "it was closed"
        try:
            out = self._compressor.flush()
        except self._error as error:
            raise _no_thread(error) from error
        self._write(out)

    def close(self) -> None:
        """End the threads."""
        # They, and tens of megabytes, go with it.
        self._compressor = None


def _no_thread(error: Exception) -> BuildError:
    return BuildError(
        f"zstd cannot compress: {error}",
        hint="it needs a thread and 30 MB: raise the limit of processes (ulimit -u) or of memory, or ask for compression=gzip",
    )


def _require(package: str, version: str) -> None:
    module = __import__(package)
    if module.__version__ != version:
        raise BuildError(
            f"{package} {module.__version__} is installed, but layers are made with {version}",
            hint=f"install it: pip install {package}=={version}",
        )
