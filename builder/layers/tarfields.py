"""Decoding the fields of a foreign tar header, PAX records and sparse maps. Pure.

Forms: V7, POSIX ustar, GNU (`tar.h` of GNU tar), PAX, star. Where forms are ambiguous the reading is that of Go's archive/tar,
since Docker, containerd and umoci will read the same layer with it.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

from builder.values import NamedTuple, new

BLOCK = 512
MAX_PIECES = 1 << 20
"""The most pieces of data in one sparse file."""

MAX_SPARSE = 1 << 40
"""The most bytes that a sparse file may claim: hashing more would take for ever."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Form = Literal["v7", "ustar", "gnu", "star"]


class Bad(Exception):
    """The archive is damaged or beyond a limit; the text says how, in the middle of a sentence."""


class Header(NamedTuple):
    """One 512-byte header as it stands, before PAX records and GNU long names."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    """Seconds."""
    kind: bytes
    """The type flag, one byte."""
    link: bytes
    rdev: tuple[int, int]
    form: Form


def parse_header(block: bytes) -> Header:
    """Decode a block whose bytes are not all zero. Raises Bad."""
    stored = number(block[148:156])
    # The checksum field counts as eight spaces. Adler-32's lower half is the sum plus one, mod 65521 and so exact for 256
    # bytes; sum() takes 20 times as long.
    unsigned = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2 - sum(block[148:156]) + 256
    if stored != unsigned and stored != unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        # Some old tars summed signed characters, hence the second sum.
        raise Bad("a header's checksum is wrong")
    form = _form(block)
    name = text(block[:100])
    if form != "v7":
        prefix = _prefix(block, form)
        if prefix:
            name = prefix + b"/" + name
    kind = block[156:157]
    devices = kind in (b"3", b"4") and form != "v7"
    return new(
        Header,
        (
            name,
            _usual(block[100:108]) & 0o7777,
            _usual(block[108:116]),
            _usual(block[116:124]),
            number(block[124:136]),
            number(block[136:148]),
            kind,
            text(block[157:257]),
            (number(block[329:337]), number(block[337:345])) if devices else (0, 0),
            form,
        ),
    )


def text(field: bytes) -> bytes:
    """The bytes up to the first NUL."""
    return field.partition(b"\0")[0]


def number(field: bytes) -> int:
    """Octal digits amid spaces and NULs, or base 256 when the first bit is set (GNU and star). Raises Bad."""
    digits = field[:-1]
    if digits.isdigit() and field[-1] in b"\0 ":
        # As most writers have it.
        try:
            return int(digits, 8)
        except ValueError as error:
            raise Bad("a number is not octal") from error
    if field[0] & 0x80:
        # Two's complement over all bits but the first.
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if not -(1 << 63) <= value < 1 << 63:
            raise Bad("a number is too big")
        return value
    digits = text(field.strip(b" \0"))
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise Bad("a number is not octal")
    return int(digits, 8)


_usual = lru_cache(maxsize=1 << 10)(number)
"""For modes and owners, of which an archive has few."""


def _form(block: bytes) -> Form:
    magic = block[257:263]
    if magic == b"ustar\0":
        return "star" if block[508:512] == b"tar\0" else "ustar"
    return "gnu" if block[257:265] == b"ustar  \0" else "v7"


def _prefix(block: bytes, form: Form) -> bytes:
    if form == "ustar":
        return text(block[345:500])
    if form == "star":
        return text(block[345:476])
    # GNU keeps times here and has no prefix; but Go before 1.9 wrote one under GNU's magic, and such layers are about.
    try:
        number(block[345:357])
        number(block[357:369])
    except Bad:
        prefix = text(block[345:500])
        return prefix if prefix.isascii() else b""
    return b""


def parse_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The ``length keyword=value\\n`` records of a PAX header, in their order. Raises Bad."""
    out = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > at else b""
        if not digits.isdigit():
            raise Bad("a PAX record has no length")
        end = at + int(digits)
        equals = data.find(b"=", space + 1, end - 1)
        if end > len(data) or equals <= space + 1 or data[end - 1 : end] != b"\n":
            raise Bad("a PAX record is malformed")
        out.append((data[space + 1 : equals], data[equals + 1 : end - 1]))
        at = end
    return out


def decimal(value: bytes) -> int:
    """A PAX record's whole number. Raises Bad."""
    digits = value[1:] if value.startswith(b"-") else value
    if not digits.isdigit() or len(digits) > 19:
        raise Bad("a PAX record's number is malformed")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """A PAX time, ``[-]seconds[.fraction]``, in nanoseconds; finer digits are cut off. Raises Bad."""
    whole, _, fraction = value.partition(b".")
    if fraction and not fraction.isdigit():
        raise Bad("a PAX record's time is malformed")
    part = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    seconds = decimal(whole)
    return seconds * 10**9 + (-part if whole.startswith(b"-") else part)


def old_gnu_map(block: bytes) -> tuple[list[int], bool]:
    """The sparse numbers (offset, length, ...) in a GNU `S` header, and whether extension blocks follow."""
    return _gnu_numbers(block, 386, 4), block[482] != 0


def old_gnu_extension(block: bytes) -> tuple[list[int], bool]:
    """The same of an extension block."""
    return _gnu_numbers(block, 0, 21), block[504] != 0


def _gnu_numbers(block: bytes, start: int, count: int) -> list[int]:
    out: list[int] = []
    for at in range(start, start + 24 * count, 24):
        # An unused slot ends the list.
        if not block[at]:
            break
        out += (number(block[at : at + 12]), number(block[at + 12 : at + 24]))
    return out


def comma_map(value: bytes) -> list[int]:
    """The numbers of `GNU.sparse.map` (PAX sparse format 0.1)."""
    parts = value.split(b",") if value else []
    if len(parts) > 2 * MAX_PIECES:
        raise Bad("a sparse file has too many pieces")
    return [decimal(part) for part in parts]


def pieces(numbers: list[int], size: int, stored: int, start: int) -> tuple[tuple[int, int, int], ...]:
    """The pieces of a `SparseSource` of `size` bytes whose data, `stored` bytes, begins at `start` in the archive.

    Raises Bad where pieces overlap, leave the file, or do not add up to what is stored.
    """
    if len(numbers) % 2 or not 0 <= size <= MAX_SPARSE:
        raise Bad("a sparse file's map is malformed")
    out = []
    end = 0
    data = start
    for offset, length in zip(numbers[::2], numbers[1::2]):
        if offset < end or length < 0 or offset + length > size:
            raise Bad("a sparse file's map is malformed")
        end = offset + length
        if length:
            out.append((offset, data, length))
        data += length
    if data - start != stored:
        raise Bad("a sparse file's data does not fit its map")
    return tuple(out)
