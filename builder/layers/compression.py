"""Compressed forms of a layer (SPEC section 5); reading what others compressed is handed on from `decompression`.

Compressed bytes are a rendering: the same for any number of threads, but only for one version of the compressor, which is
therefore part of the form's name. Nothing is replaced by another encoder in silence.
"""

from __future__ import annotations

import os

from builder.errors import BuildError
from builder.layers.decompression import decompress, is_tar, sniff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

__all__ = [
    "BLOCK",
    "GZIP_FORM",
    "VERSIONS",
    "ZSTD_FORM",
    "decompress",
    "gzip_file",
    "is_tar",
    "sniff",
    "zstd_file",
]

ISAL_VERSION = "1.9.1"
ZSTANDARD_VERSION = "0.25.0"
GZIP_FORM = f"gzip-1/isal-{ISAL_VERSION}"
"""Form 1 of gzip with the encoder that made it, as the store names the rendering."""
ZSTD_FORM = f"zstd-1/zstandard-{ZSTANDARD_VERSION}"
VERSIONS = f"isal {ISAL_VERSION}, zstandard {ZSTANDARD_VERSION}"
"""The pinned compressors, for people."""

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
    from isal import isal_zlib

    _require("isal", ISAL_VERSION)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        count = max(1, -(-size // BLOCK))

        def compress(number: int) -> tuple[bytes, int, int]:
            data = os.pread(descriptor, BLOCK, number * BLOCK)
            if len(data) != min(BLOCK, size - number * BLOCK):
                raise BuildError(f"'{path}' changed while it was read", hint="build again when nothing else writes to it")
            deflate = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, -15, isal_zlib.DEF_MEM_LEVEL)
            end = isal_zlib.Z_FINISH if number == count - 1 else isal_zlib.Z_FULL_FLUSH
            return deflate.compress(data) + deflate.flush(end), isal_zlib.crc32(data), len(data)

        write(_GZIP_HEADER)
        checksum = 0
        for compressed, part, length in _in_order(compress, count, threads):
            write(compressed)
            checksum = isal_zlib.crc32_combine(checksum, part, length)
        write(checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"))
    finally:
        os.close(descriptor)


def zstd_file(path: str, write: Callable[[bytes], object], *, level: int = 3, threads: int = 1) -> None:
    """Write the file at `path` as one zstd frame with its size and a checksum; its bytes do not depend on `threads`.

    Raises BuildError when zstandard is not the pinned version or the file changed while it was read.
    """
    import zstandard

    _require("zstandard", ZSTANDARD_VERSION)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        # threads=0 takes another code path with other bytes, so it is never less than one.
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, threads=max(1, threads), job_size=_ZSTD_JOB, write_content_size=True, write_checksum=True
        )
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=size)
        seen = 0
        while data := os.pread(descriptor, BLOCK, seen):
            seen += len(data)
            if seen > size:
                break
            if out := compressor.compress(data):
                write(out)
        if seen != size:
            raise BuildError(f"'{path}' changed while it was read", hint="build again when nothing else writes to it")
        write(compressor.flush())
    finally:
        os.close(descriptor)


def _require(package: str, version: str) -> None:
    module = __import__(package)
    if module.__version__ != version:
        raise BuildError(
            f"{package} {module.__version__} is installed, but layers are made with {version}",
            hint=f"install it: pip install {package}=={version}",
        )


def _in_order(work: Callable[[int], tuple[bytes, int, int]], count: int, threads: int) -> Iterator[tuple[bytes, int, int]]:
    """`work` of 0 to `count` - 1, in order, on up to `threads` threads that run a few results ahead, no more."""
    threads = min(threads, count)
    if threads <= 1:
        yield from map(work, range(count))
        return
    from collections import deque
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[tuple[bytes, int, int]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for number in range(count):
            waiting.append(pool.submit(work, number))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
