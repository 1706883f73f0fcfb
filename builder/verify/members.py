"""The members of archives, as far as comparing them needs it: zip, tar, ar. Pure; any bytes end in members or in None."""

from __future__ import annotations

import struct

from builder.layers.tarfields import Bad, nanoseconds
from builder.layers.tarmembers import Archive as Headers
from builder.layers.tarmembers import walk
from builder.values import NamedTuple
from builder.verify.unpack import inflated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Form = Literal["zip", "jar", "tar", "ar"]

MOST = 50_000
"""Members of one archive."""
_ZIP_END = b"PK\x05\x06"
_ZIP_ENTRY = b"PK\x01\x02"
_ZIP_MEMBER = b"PK\x03\x04"
_AR = b"!<arch>\n"
_STORED, _DEFLATED = 0, 8


class Member(NamedTuple):
    name: bytes
    time: tuple[object, ...]
    """As the archive has it: it differs where the times do."""
    owner: tuple[int, ...]
    attributes: tuple[object, ...]
    """All else that it says of the file."""
    packing: int
    """0 where the content lies as it is, else how it is compressed; -1 for what cannot be read."""
    at: int
    packed: int
    """Where it lies, and its bytes there."""


class Members(NamedTuple):
    form: Form
    members: tuple[Member, ...]

    def content(self, data: bytes, member: Member, limit: int) -> bytes | None:
        """None where it cannot be had, or is larger than `limit`."""
        raw = data[member.at : member.at + member.packed]
        if len(raw) < member.packed or member.packing not in (_STORED, _DEFLATED):
            return None
        if member.packing == _DEFLATED:
            return inflated(raw, limit)
        return raw if len(raw) <= limit else None


def members_of(data: bytes, name: bytes = b"") -> Members | None:
    """None for what is no archive, is damaged, or has too many members."""
    try:
        if data.startswith((_ZIP_MEMBER, _ZIP_END)):
            return _zip(data, name)
        if data.startswith(_AR):
            return Members("ar", tuple(_ar(data)))
        if len(data) >= 1024 and data[257:262] == b"ustar":
            return Members("tar", tuple(_tar(data)))
    except (Bad, ValueError, struct.error, IndexError, OverflowError):
        return None
    return None


def _zip(data: bytes, name: bytes) -> Members | None:
    """By the central directory (APPNOTE.TXT 4.3): without zip64, which archives of this size do not need."""
    end = data.rfind(_ZIP_END, max(0, len(data) - 22 - 65535))
    if end < 0:
        return None
    count, size, at = struct.unpack_from("<HII", data, end + 10)
    if count > MOST or at + size > end:
        return None
    # Programs in front of an archive shift what it says of itself.
    shift = end - size - at
    found = []
    at += shift
    for _ in range(count):
        if data[at : at + 4] != _ZIP_ENTRY:
            return None
        made, need, flags, packing, time, date, _crc, packed, full = struct.unpack_from("<HHHHHHIII", data, at + 4)
        long_name, extra, comment, _disk, inner, outer, local = struct.unpack_from("<HHHHHII", data, at + 28)
        start = at + 46
        member = data[start : start + long_name]
        fields = data[start + long_name : start + long_name + extra]
        note = data[start + long_name + extra : start + long_name + extra + comment]
        at = start + long_name + extra + comment
        if data[local + shift : local + shift + 4] != _ZIP_MEMBER:
            return None
        near_name, near_extra = struct.unpack_from("<HH", data, local + shift + 26)
        begin = local + shift + 30 + near_name + near_extra
        near = data[begin - near_extra : begin]
        times, others = _extra(fields)
        near_times, near_others = _extra(near)
        # Encrypted ones are not looked into.
        how = -1 if flags & 1 else packing
        said = (made, need, flags, inner, outer, others, near_others, note)
        found.append(Member(member, (date, time, times, near_times), (), (*said, full if how < 0 else 0), how, begin, packed))
    is_jar = name.endswith((b".jar", b".war", b".ear")) or any(one.name == b"META-INF/MANIFEST.MF" for one in found)
    return Members("jar" if is_jar else "zip", tuple(found))


def _extra(fields: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The fields that are times (extended timestamp 0x5455, NTFS 0x000a, old Unix 0x5855), and the others."""
    times: list[bytes] = []
    others: list[bytes] = []
    at = 0
    while at + 4 <= len(fields):
        kind, size = struct.unpack_from("<HH", fields, at)
        (times if kind in (0x5455, 0x000A, 0x5855) else others).append(fields[at : at + 4 + size])
        at += 4 + size
    return tuple(times), tuple(others)


def _ar(data: bytes) -> list[Member]:
    """Common and GNU form (ar(5)): long names in the member `//`, numbers in decimal, the mode in octal."""
    found: list[Member] = []
    names, at = b"", len(_AR)
    while at < len(data):
        header = data[at : at + 60]
        if len(header) < 60 or header[58:60] != b"`\n" or len(found) == MOST:
            raise ValueError("no header of ar")
        name, size = header[:16].rstrip(), int(header[48:58])
        start = at + 60
        if size < 0 or start + size > len(data):
            raise ValueError("a member is cut short")
        if name == b"//":
            names = data[start : start + size]
        elif name[:1] == b"/" and name[1:].isdigit():
            name = names[int(name[1:]) :].partition(b"/\n")[0]
        time, uid, gid = (int(header[i:j].strip() or b"0") for i, j in ((16, 28), (28, 34), (34, 40)))
        mode = int(header[40:48].strip() or b"0", 8)
        found.append(Member(name, (time,), (uid, gid), (mode,), _STORED, start, size))
        at = start + size + size % 2
    return found


class _Held(Headers):
    """An archive that is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = len(data)
        self.at = 0

    def read_at(self, at: int, size: int) -> bytes:
        return self._data[at : at + max(0, size)]


def _tar(data: bytes) -> list[Member]:
    found: list[Member] = []
    for member in walk(_Held(data), lambda _: None):
        if len(found) == MOST or member.pieces is not None:
            raise ValueError("too many members, or a sparse one")
        header, records = member.header, member.records
        whole = nanoseconds(records[b"mtime"]) if records.get(b"mtime") else header.mtime * 10**9
        times = (b"mtime", b"atime", b"ctime")
        others = tuple(sorted((key, value) for key, value in records.items() if key not in times))
        said = (header.mode, header.kind, header.link, header.rdev, others)
        found.append(
            Member(
                header.name,
                (whole, *(records.get(key) for key in times[1:])),
                (header.uid, header.gid),
                said,
                _STORED,
                member.offset,
                member.size,
            )
        )
    return found
