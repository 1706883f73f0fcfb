"""Reading what others compressed: gzip, bzip2, xz and zstd, told apart by content and never by name.

The input is hostile: memory stays bounded whatever it claims, `limit` bounds the output, and damage of any kind is a
BuildError that names the file. Members, streams and frames may be concatenated. After the last one gzip may be padded with
zeros (as gzip(1) takes it) and xz with zeros in fours (its specification); anything else there is an error, as for
BuildKit's decompressors.
"""

from __future__ import annotations

import os

from builder.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    Compression = Literal["gzip", "bzip2", "xz", "zstd", ""]

_IN = 64 * 1024
_OUT = 1 << 20
_XZ_MEMORY = 512 << 20
# What the zstd tool takes without being told: windows of 2**27 bytes.
_ZSTD_WINDOW = 1 << 27

_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


def sniff(head: bytes) -> Compression:
    """How a file is compressed, by its first 6 bytes; empty when it is not, or not by anything known here."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return "zstd" if _is_skippable(head) else ""


def is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes are a tar header with a right checksum. An archive without entries is none."""
    if len(head) < 512 or not any(head[:512]):
        return False
    text = head[148:156].strip(b" \0")
    if not text or text.strip(b"01234567"):
        return False
    rest = head[:148] + b" " * 8 + head[156:512]
    return int(text, 8) in (sum(rest), sum(rest) - 256 * sum(byte > 127 for byte in rest))


def decompress(
    source_path: str, write: Callable[[bytes], object], *, limit: int | None = None, name: str | None = None
) -> None:
    """Write what the file holds once decompressed; a file that is not compressed is copied.

    Raises BuildError where the input is damaged or cut short, needs more memory than a decompressor may have, or holds more
    than `limit` bytes; errors call the file `name`. What was written until then stays written.
    """
    shown = name if name is not None else source_path
    descriptor = os.open(source_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        written = 0
        for chunk in decompressed(descriptor, shown):
            written += len(chunk)
            if limit is not None and written > limit:
                raise too_much(shown, limit)
            write(chunk)
    finally:
        os.close(descriptor)


def decompressed(descriptor: int, shown: str, told: Callable[[int], object] = lambda _: None) -> Iterator[bytes]:
    """The content of an open file or pipe, in pieces, as `decompress` writes it; `told` hears of the bytes that were read."""
    reader = _Reader(descriptor, told)
    head = reader.peek(6)  # Not by pread(2): what is imported may be a pipe.
    try:
        yield from _DECODERS[sniff(head)](reader)
    except _Damaged as error:
        raise BuildError(f"'{shown}' is damaged: {error}", hint="fetch or make it again") from error


def too_much(shown: str, limit: int) -> BuildError:
    return BuildError(f"'{shown}' unpacks to more than {limit} bytes", hint="it may be damaged, or made to fill the disk")


class _Damaged(Exception):
    """The input is not what its format says; the text says how."""


class _Reader:
    """The input, in pieces, with what a decoder handed back coming first."""

    def __init__(self, descriptor: int, told: Callable[[int], object]) -> None:
        self._descriptor = descriptor
        self._told = told
        self._back = b""

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        if self._back:
            data, self._back = self._back, b""
            return data
        return self._more()

    def _more(self) -> bytes:
        data = os.read(self._descriptor, _IN)
        self._told(len(data))
        return data

    def unread(self, data: bytes) -> None:
        self._back = data + self._back

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end; they stay to be read."""
        while len(self._back) < size:
            more = self._more()
            if not more:
                break
            self._back += more
        return self._back[:size]

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        data = self.peek(size)
        if len(data) < size:
            raise _Damaged("it ends too early")
        self._back = self._back[size:]
        return data

    def skip_zeros(self) -> int:
        """Skip zeros; how many there were."""
        count = 0
        while data := self.read():
            rest = data.lstrip(b"\0")
            count += len(data) - len(rest)
            if rest:
                self.unread(rest)
                break
        return count


def _plain(reader: _Reader) -> Iterator[bytes]:
    while data := reader.read():
        yield data


def _gzip(reader: _Reader) -> Iterator[bytes]:
    # The stubs of isal call its exception class an instance.
    from typing import cast

    from isal import isal_zlib

    damage = cast("type[Exception]", isal_zlib.error)

    while True:
        member = isal_zlib.decompressobj(31)
        data = reader.read()
        while not member.eof:
            try:
                out = member.decompress(data, _OUT)
            except damage as error:
                raise _Damaged(_words(error)) from error
            if out:
                yield out
            data = member.unconsumed_tail
            if not data and len(out) < _OUT and not member.eof:
                data = _more(reader)
        reader.unread(member.unused_data)
        if reader.peek(1) == b"\0":
            reader.skip_zeros()
            if reader.peek(1):
                raise _Damaged("something follows its padding")
        if not reader.peek(1):
            return
        if reader.peek(3) != b"\x1f\x8b\x08":
            raise _Damaged("something that is not gzip follows its end")


def _bzip2(reader: _Reader) -> Iterator[bytes]:
    import bz2

    while True:
        stream = bz2.BZ2Decompressor()
        while not stream.eof:
            data = _more(reader) if stream.needs_input else b""
            try:
                out = stream.decompress(data, _OUT)
            except (OSError, ValueError) as error:
                raise _Damaged(_words(error)) from error
            if out:
                yield out
        reader.unread(stream.unused_data)
        if not reader.peek(1):
            return
        if reader.peek(3) != b"BZh":
            raise _Damaged("something that is not bzip2 follows its end")


def _xz(reader: _Reader) -> Iterator[bytes]:
    import lzma

    while True:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        while not stream.eof:
            data = _more(reader) if stream.needs_input else b""
            try:
                out = stream.decompress(data, _OUT)
            except lzma.LZMAError as error:
                raise _Damaged(_words(error)) from error
            if out:
                yield out
        reader.unread(stream.unused_data)
        if reader.skip_zeros() % 4:
            raise _Damaged("its padding is no multiple of four bytes")
        if not reader.peek(1):
            return
        if reader.peek(6) != b"\xfd7zXZ\0":
            raise _Damaged("something that is not xz follows its end")


def _zstd(reader: _Reader) -> Iterator[bytes]:
    """Frames are fed block by block: no block holds more than 128 KiB, while 64 KiB of input may hold 2 GiB."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    while reader.peek(1):
        if _is_skippable(reader.peek(4)):
            reader.take(4)
            left = int.from_bytes(reader.take(4), "little")
            while left:
                left -= len(reader.take(min(left, _IN)))
            continue
        frame = decompressor.decompressobj()
        for part in _zstd_parts(reader):
            try:
                out = frame.decompress(part)
            except zstandard.ZstdError as error:
                raise _Damaged(_words(error)) from error
            if out:
                yield out
        if not frame.eof:
            raise _Damaged("a frame does not end where it says")


def _zstd_parts(reader: _Reader) -> Iterator[bytes]:
    """One frame: header, each block, checksum (RFC 8878, section 3.1.1)."""
    head = reader.peek(5)
    if head[:4] != b"\x28\xb5\x2f\xfd":
        raise _Damaged("something that is not zstd follows its end")
    if len(head) < 5:
        raise _Damaged("it ends too early")
    flags = head[4]
    single = flags >> 5 & 1
    size_bytes = (single, 2, 4, 8)[flags >> 6]
    yield reader.take(5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + size_bytes)
    last = 0
    while not last:
        head = reader.peek(3)
        value = int.from_bytes(head, "little")
        last, kind, size = value & 1, value >> 1 & 3, value >> 3
        yield reader.take(3 + (1 if kind == 1 else size))
    if flags & 4:
        yield reader.take(4)


_DECODERS: dict[Compression, Callable[[_Reader], Iterator[bytes]]] = {
    "": _plain,
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "zstd": _zstd,
}


def _more(reader: _Reader) -> bytes:
    data = reader.read()
    if not data:
        raise _Damaged("it ends too early")
    return data


def _words(error: Exception) -> str:
    """A library's message, in the middle of a sentence."""
    text = str(error).strip().rstrip(".") or type(error).__name__
    return text[:1].lower() + text[1:]


def _is_skippable(head: bytes) -> bool:
    return len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18"
