"""One canonical tar header (SPEC section 5): POSIX ustar, with PAX records only for values that ustar cannot hold. Pure.

Layout: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header". The choices that POSIX leaves open:

- Numbers are octal, padded with zeros, ended by NUL; the checksum is six digits, NUL, space. User and group names are empty.
- Names are raw bytes, UTF-8 or not: Go's archive/tar, GNU tar, libarchive and Python read them so from ustar fields, while a
  PAX path is text in UTF-8. A name of over 100 bytes is split at the last slash that leaves a prefix of at most 155; only
  when that fails it is a PAX `path`, and then `hdrcharset=BINARY` where it is not UTF-8.
- A PAX header's own name is `PaxHeader`, mode 0644, all its other numbers zero. Records are sorted by keyword. A ustar field
  whose value is in a record holds zero, or the first 100 bytes of a name.
"""

from __future__ import annotations

import zlib

from builder.errors import BuildError
from builder.layers.names import show

BLOCK = 512

FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_MAX7 = 0o7777777
_MAX11 = 0o77777777777
_MAGIC_AND_NAMES = b"ustar\x0000" + bytes(64)
_NO_DEVICE = b"0000000\x000000000\x00"
_END = bytes(12)
# The usual end of a header: no prefix, no device.
_PLAIN_TAIL = _MAGIC_AND_NAMES + _NO_DEVICE + bytes(155) + _END
_PLAIN_TAIL_SUM = sum(_PLAIN_TAIL)
_NO_LINK = bytes(100)


def header(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int,
    link: bytes = b"",
    rdev: tuple[int, int] = (0, 0),
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """All the blocks before the content: the ustar header, after a PAX header where one is needed.

    `name` is the member's name as it stands in the tar (folders end in `/`); `mtime` is in whole seconds; a device number is
    one of Linux, 12 and 20 bits. Raises BuildError for an extended attribute whose name holds `=`: PAX cannot carry it.
    """
    if (
        len(name) > 100
        or len(link) > 100
        or xattrs
        or not (uid <= _MAX7 and gid <= _MAX7 and size <= _MAX11 and 0 <= mtime <= _MAX11)
    ):
        prefix, short = _split(name)
        records = _records(name if short is None else b"", link, uid, gid, size, mtime, xattrs)
        lead = b""
        if records:
            lead = _block(b"PaxHeader", b"x", 0o644, 0, 0, len(records), 0, b"", (0, 0), b"")
            lead += records + bytes(-len(records) % BLOCK)
        return lead + _block(
            name[:100] if short is None else short,
            kind,
            mode,
            uid if uid <= _MAX7 else 0,
            gid if gid <= _MAX7 else 0,
            size if size <= _MAX11 else 0,
            mtime if 0 <= mtime <= _MAX11 else 0,
            link[:100],
            rdev,
            prefix,
        )
    return _block(name, kind, mode, uid, gid, size, mtime, link, rdev, b"")


def is_plain(path: bytes, link: bytes, uid: int, gid: int, size: int, xattrs: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Whether the header of an entry is one block for sure, without asking for it: what most are."""
    # A folder's name has a slash more than its path, that of a whiteout four bytes.
    return len(path) <= 96 and len(link) <= 100 and not xattrs and uid <= _MAX7 and gid <= _MAX7 and size <= _MAX11


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    rdev: tuple[int, int],
    prefix: bytes,
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    middle = kind + link.ljust(100, b"\0") if link else kind + _NO_LINK
    # The sum of all bytes, the checksum field counting as eight spaces. Adler-32's lower half is that sum plus one
    # (mod 65521, more than 255 * 256), 20 times faster than sum().
    total = 256 - 2 + (zlib.adler32(head) & 0xFFFF) + (zlib.adler32(middle) & 0xFFFF)
    if prefix or rdev != (0, 0):
        devices = _MAGIC_AND_NAMES + b"%07o\0%07o\0" % rdev
        tail = devices + prefix.ljust(155, b"\0") + _END
        total += sum(tail)
    else:
        tail = _PLAIN_TAIL
        total += _PLAIN_TAIL_SUM
    return b"%b%06o\0 %b%b" % (head, total, middle, tail)


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """(prefix, name) as ustar holds them; None for the name when it cannot."""
    if len(name) <= 100:
        return b"", name
    # A trailing slash is no place to split: the name part may not be empty.
    slash = name.rfind(b"/", 0, min(156, len(name) - 1))
    if slash <= 0 or len(name) - slash - 1 > 100:
        return b"", None
    return name[:slash], name[slash + 1 :]


def _records(
    path: bytes, link: bytes, uid: int, gid: int, size: int, mtime: int, xattrs: tuple[tuple[bytes, bytes], ...]
) -> bytes:
    values: dict[bytes, bytes] = {}
    for name, value in xattrs:
        if b"=" in name:
            raise BuildError(
                f"extended attribute '{show(name)}' cannot be stored in a layer: its name holds '='",
                hint="remove it with 'setfattr -x'",
            )
        values[b"SCHILY.xattr." + name] = value
    if gid > _MAX7:
        values[b"gid"] = b"%d" % gid
    if len(link) > 100:
        values[b"linkpath"] = link
    if not 0 <= mtime <= _MAX11:
        values[b"mtime"] = b"%d" % mtime
    if path:
        values[b"path"] = path
    if size > _MAX11:
        values[b"size"] = b"%d" % size
    if uid > _MAX7:
        values[b"uid"] = b"%d" % uid
    if not (_is_text(path) and _is_text(values.get(b"linkpath", b""))):
        values[b"hdrcharset"] = b"BINARY"
    return b"".join(_record(keyword, values[keyword]) for keyword in sorted(values))


def _record(keyword: bytes, value: bytes) -> bytes:
    """``length keyword=value\\n``, where the length counts its own digits."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, keyword, value)


def _is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
