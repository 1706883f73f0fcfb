"""The bytes of a layer's index: its entries with content digests and true times. Pure.

Columns, not records: 30,000 entries load in about 50 ms. Format 1, little-endian::

    magic "pybuild-index-1\\n" | sha256 of all that follows | u64 count | sections, each u64 length + bytes

The sections: paths (NUL-separated), kinds (a letter each), modes (u16), uids (u32), gids (u32), sizes (u64), digests
(32 bytes for each entry whose mark is 1), digest marks (a byte each), links (NUL-separated), times (i64, ns), devices
(u64 row, u32 major, u32 minor), xattrs (u64 row, u32 name length, u32 value length, name, value).
"""

from __future__ import annotations

import hashlib
import struct
from itertools import repeat

from builder.errors import StoreError
from builder.layers.entry import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.layers.entry import Kind

_MAGIC = b"pybuild-index-1\n"
_LETTERS: dict[Kind, str] = {
    "file": "f",
    "dir": "d",
    "symlink": "l",
    "hardlink": "h",
    "fifo": "p",
    "char": "c",
    "block": "b",
    "whiteout": "w",
    "opaque": "o",
}
_KINDS: dict[int, Kind] = {ord(letter): kind for kind, letter in _LETTERS.items()}
_SECTIONS = 12
_DEVICE = struct.Struct("<QII")
_FIRST, _LAST = -(1 << 63), (1 << 63) - 1
"""Nanoseconds since 1970."""


def dump_index(entries: Iterable[Entry]) -> bytes:
    """The index's bytes; the same entries give the same bytes. Raises ValueError for what no layer can hold. Times before 1677
    or after 2262 become those: file systems have further ones, and no layer of ours has any."""
    rows = list(entries)
    count = len(rows)
    out = bytearray(len(_MAGIC) + 32)
    out += count.to_bytes(8, "little")
    # One column after the other: there may be many entries, and a build has little room beside them.
    try:
        for section in _sections(rows, count):
            out += len(section).to_bytes(8, "little")
            out += section
    except struct.error as error:
        raise ValueError(f"a number is out of range: {error}") from error
    with memoryview(out) as view:
        out[: len(_MAGIC) + 32] = _MAGIC + hashlib.sha256(view[len(_MAGIC) + 32 :]).digest()
    return bytes(out)


def _sections(rows: list[Entry], count: int) -> Iterator[bytes]:
    yield _joined([row.path for row in rows])
    yield "".join([_LETTERS[row.kind] for row in rows]).encode()
    yield struct.pack(f"<{count}H", *[row.mode for row in rows])
    yield struct.pack(f"<{count}I", *[row.uid for row in rows])
    yield struct.pack(f"<{count}I", *[row.gid for row in rows])
    yield struct.pack(f"<{count}Q", *[row.size for row in rows])
    marks = bytes([bool(row.digest) for row in rows])
    sums = bytes.fromhex("".join([row.digest for row in rows]))
    if len(sums) != 32 * sum(marks):
        raise ValueError("a digest is not 64 hexadecimal digits")
    yield sums
    del sums
    yield marks
    yield _joined([row.link for row in rows])
    yield struct.pack(f"<{count}q", *[min(max(row.mtime, _FIRST), _LAST) for row in rows])
    yield b"".join([_DEVICE.pack(place, *row.rdev) for place, row in enumerate(rows) if row.rdev != (0, 0)])
    pairs = ((place, key, value) for place, row in enumerate(rows) if row.xattrs for key, value in row.xattrs)
    yield b"".join([_DEVICE.pack(place, len(key), len(value)) + key + value for place, key, value in pairs])


def _joined(names: list[bytes]) -> bytes:
    joined = b"\0".join(names)
    if joined.count(b"\0") > max(0, len(names) - 1):
        raise ValueError("a path holds a NUL byte")
    return joined


def load_index(data: bytes) -> list[Entry]:
    """The entries of `dump_index`. Raises StoreError for bytes that are damaged or of another version."""
    if not data.startswith(_MAGIC):
        raise _damaged("it has another format" if data.startswith(b"pybuild-index-") else "it is no index")
    body = data[len(_MAGIC) + 32 :]
    if hashlib.sha256(body).digest() != data[len(_MAGIC) : len(_MAGIC) + 32]:
        raise _damaged("its checksum differs")
    try:
        return _entries(body)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise _damaged(str(error)) from error


def _entries(body: bytes) -> list[Entry]:
    count = int.from_bytes(body[:8], "little")
    sections = []
    at = 8
    for _ in range(_SECTIONS):
        end = at + 8 + int.from_bytes(body[at : at + 8], "little")
        if at + 8 > len(body) or end > len(body):
            raise ValueError("a section is cut short")
        sections.append(body[at + 8 : end])
        at = end
    if at != len(body):
        raise ValueError("bytes follow the last section")
    paths, kinds, modes, uids, gids, sizes, sums, marks, links, mtimes, rdevs, xattrs = sections
    if len(kinds) != count:
        raise ValueError("the columns differ in length")
    return list(
        map(
            Entry,
            _names(paths, count),
            map(_KINDS.__getitem__, kinds),
            struct.unpack(f"<{count}H", modes),
            struct.unpack(f"<{count}I", uids),
            struct.unpack(f"<{count}I", gids),
            struct.unpack(f"<{count}Q", sizes),
            _digests(sums, marks, count),
            _names(links, count),
            _devices(rdevs, count) if rdevs else repeat((0, 0), count),
            _xattrs(xattrs, count) if xattrs else repeat((), count),
            struct.unpack(f"<{count}q", mtimes),
        )
    )


def _names(joined: bytes, count: int) -> list[bytes]:
    names = joined.split(b"\0") if count else []
    if len(names) != count or (not count and joined):
        raise ValueError("the columns differ in length")
    return names


def _digests(sums: bytes, marks: bytes, count: int) -> list[str]:
    if len(marks) != count or len(sums) != 32 * marks.count(1) or marks.count(0) + marks.count(1) != count:
        raise ValueError("the digests do not fit")
    text = sums.hex()
    out = []
    at = 0
    for mark in marks:
        out.append(text[at : at + 64] if mark else "")
        at += 64 * mark
    return out


def _devices(rdevs: bytes, count: int) -> list[tuple[int, int]]:
    out = [(0, 0)] * count
    for row, major, minor in _DEVICE.iter_unpack(rdevs):
        out[row] = (major, minor)
    return out


def _xattrs(xattrs: bytes, count: int) -> list[tuple[tuple[bytes, bytes], ...]]:
    out: list[tuple[tuple[bytes, bytes], ...]] = [()] * count
    at = 0
    while at < len(xattrs):
        row, name, value = _DEVICE.unpack_from(xattrs, at)
        at += _DEVICE.size
        if at + name + value > len(xattrs):
            raise ValueError("an extended attribute is cut short")
        out[row] += ((xattrs[at : at + name], xattrs[at + name : at + name + value]),)
        at += name + value
    return out


def _damaged(why: str) -> StoreError:
    return StoreError(
        f"a layer's index in the store is damaged: {why}", hint="name another store with --root, or remove this one"
    )
