"""Compressed contents opened in bounds: gzip (RFC 1952), xz, bzip2. Pure."""

from __future__ import annotations

import zlib

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Decoder(Protocol):
        def decompress(self, data: bytes, max_length: int, /) -> bytes: ...
        @property
        def eof(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...


_EXTRA, _NAME, _COMMENT, _CHECK = 4, 8, 16, 2


class Opened(NamedTuple):
    form: str
    time: int
    """Of a gzip header; 0 for none."""
    header: bytes
    """What else a gzip header says: flags, system, name and comment."""
    content: bytes


def opened(data: bytes, limit: int) -> Opened | None:
    """The content of a compressed file of at most `limit` bytes inside; None for what is none, damaged or larger."""
    if data.startswith(b"\x1f\x8b\x08") and len(data) >= 18:
        return _gzip(data, limit)
    if data.startswith(b"\xfd7zXZ\0"):
        import lzma

        return _whole("xz", lzma.LZMADecompressor(memlimit=1 << 28), data, limit, lzma.LZMAError)
    if data.startswith(b"BZh"):
        import bz2

        return _whole("bzip2", bz2.BZ2Decompressor(), data, limit, OSError)
    return None


def inflated(data: bytes, limit: int) -> bytes | None:
    """A raw deflate stream, as zip has it; None where it is damaged, cut short or larger than `limit`."""
    decoder = zlib.decompressobj(-15)
    try:
        content = decoder.decompress(data, limit + 1)
    except zlib.error:
        return None
    return content if decoder.eof and len(content) <= limit else None


def _gzip(data: bytes, limit: int) -> Opened | None:
    flags, time = data[3], int.from_bytes(data[4:8], "little")
    at = 10
    if flags & _EXTRA:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            end = data.find(b"\0", at)
            if end < 0:
                return None
            at = end + 1
    if flags & _CHECK:
        at += 2
    parts: list[bytes] = []
    rest, left = data, limit
    # Several members may follow one another.
    while rest:
        if not rest.startswith(b"\x1f\x8b"):
            return None
        decoder = zlib.decompressobj(31)
        try:
            parts.append(decoder.decompress(rest, left + 1))
        except zlib.error:
            return None
        left -= len(parts[-1])
        if not decoder.eof or left < 0:
            return None
        # Zeros may fill the last block of a tape.
        rest = decoder.unused_data.lstrip(b"\0")
        if len(parts) == _MEMBERS and rest:
            return None
    return Opened("gzip", time, data[3:4] + data[8:at], b"".join(parts))


_MEMBERS = 10_000


def _whole(form: str, decoder: Decoder, data: bytes, limit: int, damaged: type[Exception]) -> Opened | None:
    try:
        content = decoder.decompress(data, limit + 1)
    except (damaged, EOFError, ValueError, MemoryError):
        return None
    # Whatever else follows a first stream is compared as bytes.
    is_over = decoder.eof and not decoder.unused_data
    return Opened(form, 0, b"", content) if is_over and len(content) <= limit else None
