"""Walking a foreign tar file from header to header: each member with the extensions that belong to it.

The file is read by offset and content is never read here. Global PAX headers are handed over as records of their own, not
applied: Go's archive/tar, and with it Docker, containerd and umoci, does not apply them either.
"""

from __future__ import annotations

import os

from builder.layers.tarfields import (
    BLOCK,
    MAX_PIECES,
    Bad,
    comma_map,
    decimal,
    number,
    old_gnu_extension,
    old_gnu_map,
    parse_header,
    parse_records,
    pieces,
    text,
)
from builder.values import NamedTuple, new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.layers.tarfields import (
        Header,
    )

MAX_EXTENSION = 1 << 20
"""The most bytes of one PAX header or GNU long name."""

_FILES = (b"0", b"\0", b"7", b"S")
_RENAMING = frozenset((b"path", b"linkpath", b"uid", b"gid", b"size"))
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")


class Member(NamedTuple):
    """A header with what PAX records and GNU long names say in its place."""

    header: Header
    records: dict[bytes, bytes]
    size: int
    """Bytes of content: of a sparse file all of them, holes counted."""
    offset: int
    """Where the content starts in the archive."""
    pieces: tuple[tuple[int, int, int], ...] | None
    """A sparse file's, as in `SparseSource`; None for others."""


def members(descriptor: int, on_global: Callable[[list[tuple[bytes, bytes]]], None]) -> Iterator[Member]:
    """The members of the archive in their order. Raises Bad for what is damaged, cut short or beyond a limit.

    An archive ends with two zero blocks, or with the file (as Go and GNU tar take it); what follows zero blocks is not read.
    """
    yield from walk(Archive(descriptor), on_global)


def walk(archive: Archive, on_global: Callable[[list[tuple[bytes, bytes]]], None]) -> Iterator[Member]:
    """The same of an archive that may still be coming."""
    records: dict[bytes, bytes] | None = None
    sparse: list[int] = []
    long: dict[bytes, bytes] = {}
    while (block := archive.header_block()) is not None:
        header = parse_header(block)
        kind = header.kind
        if kind == b"x":
            records, sparse = _merge(parse_records(archive.extension(header.size)))
        elif kind == b"g":
            on_global(parse_records(archive.extension(header.size)))
        elif kind in (b"L", b"K"):
            long[kind] = text(archive.extension(header.size))
        else:
            yield _member(archive, block, _renamed(header, records or {}, long), records or {}, sparse)
            records, sparse, long = None, [], {}
    if records is not None or long:
        raise Bad("it ends after an extended header")


class Archive:
    """The file and how far it was read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = os.fstat(descriptor).st_size
        self.at = 0

    def reach(self, end: int) -> int:
        """How far the file goes, but no more than `end`; one that is still coming is waited for."""
        return min(end, self._end)

    def read_at(self, at: int, size: int) -> bytes:
        self.reach(at + size)
        return os.pread(self._descriptor, size, at)

    def block(self) -> bytes:
        data = self.read_at(self.at, BLOCK)
        if len(data) < BLOCK:
            raise Bad("it ends too early")
        self.at += BLOCK
        return data

    def header_block(self) -> bytes | None:
        """The next header; None at the end of the archive."""
        if self.reach(self.at + 1) == self.at:
            return None
        block = self.block()
        if any(block):
            return block
        if self.reach(self.at + 1) > self.at and any(self.block()):
            raise Bad("a single zero block stands in its middle")
        return None

    def skip(self, size: int) -> None:
        """Pass over content and its padding, which the last member may lack: umoci leaves it out, Go does not miss it."""
        end = self.at + size
        if size < 0 or self.reach(end) < end:
            raise Bad("a negative size" if size < 0 else "it ends too early")
        self.at = self.reach(end + -size % BLOCK)

    def extension(self, size: int) -> bytes:
        if not 0 <= size <= MAX_EXTENSION:
            raise Bad("an extended header is too big")
        start = self.at
        self.skip(size)
        return self.read_at(start, size)


def _merge(pairs: list[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], list[int]]:
    """The records, the last of a keyword counting, and the map of PAX sparse format 0.0, whose keywords repeat."""
    numbers: list[int] = []
    for keyword, value in pairs:
        if keyword in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if (len(numbers) % 2 == 0) != (keyword == b"GNU.sparse.offset"):
                raise Bad("a sparse file's map is malformed")
            numbers.append(decimal(value))
    return dict(pairs), numbers


def _renamed(header: Header, records: dict[bytes, bytes], long: dict[bytes, bytes]) -> Header:
    """The header with the names and numbers that extensions give; an empty record counts as none (POSIX)."""
    if not long and _RENAMING.isdisjoint(records):
        return header
    name = long.get(b"L") or records.get(b"path") or header.name
    link = long.get(b"K") or records.get(b"linkpath") or header.link
    uid, gid, size = (
        decimal(records[keyword]) if records.get(keyword) else value
        for keyword, value in ((b"uid", header.uid), (b"gid", header.gid), (b"size", header.size))
    )
    return header._replace(name=name, link=link, uid=uid, gid=gid, size=size)


def _member(archive: Archive, block: bytes, header: Header, records: dict[bytes, bytes], sparse: list[int]) -> Member:
    kind = header.kind
    if kind not in _FILES and kind not in _WITHOUT_DATA:
        raise Bad(f"entries of type {kind!r} are not supported"[:80])
    if kind == b"S":
        return _old_gnu_sparse(archive, block, header, records)
    if any(keyword.startswith(b"GNU.sparse.") for keyword in records):
        found = _pax_sparse(archive, header, records, sparse)
        if found is not None:
            return found
    # As in Go: whatever size these state, no data follows them.
    size = 0 if kind in _WITHOUT_DATA else header.size
    start = archive.at
    archive.skip(size)
    return new(Member, (header, records, size, start, None))


def _old_gnu_sparse(archive: Archive, block: bytes, header: Header, records: dict[bytes, bytes]) -> Member:
    if header.form != "gnu":
        raise Bad("a sparse file has no GNU header")
    numbers, more = old_gnu_map(block)
    while more:
        found, more = old_gnu_extension(archive.block())
        numbers += found
        if len(numbers) > 2 * MAX_PIECES:
            raise Bad("a sparse file has too many pieces")
    size = number(block[483:495])
    start = archive.at
    archive.skip(header.size)
    return Member(header, records, size, start, pieces(numbers, size, header.size, start))


def _pax_sparse(archive: Archive, header: Header, records: dict[bytes, bytes], sparse: list[int]) -> Member | None:
    """GNU's sparse formats 0.0, 0.1 and 1.0 in PAX records; None where the records are of another version."""
    version = (records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b""))
    table = records.get(b"GNU.sparse.map", b"")
    in_data = version == (b"1", b"0")
    # 0.0 and 0.1 did not always carry a version.
    if not in_data and version not in ((b"0", b"0"), (b"0", b"1")) and (version != (b"", b"") or not (table or sparse)):
        return None
    if header.kind in _WITHOUT_DATA:
        raise Bad("something that is no file is sparse")
    real = records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize")
    size = decimal(real) if real else header.size
    header = header._replace(name=records.get(b"GNU.sparse.name") or header.name)
    start = archive.at
    archive.skip(header.size)
    if in_data:
        numbers, data = _map_in_data(archive, start, start + header.size)
    else:
        numbers, data = sparse or comma_map(table), start
    return Member(header, records, size, data, pieces(numbers, size, start + header.size - data, data))


def _map_in_data(archive: Archive, start: int, end: int) -> tuple[list[int], int]:
    """Format 1.0: decimal lines at the start of the content (count, then offset and length of each), padded to a block."""
    numbers: list[int] = []
    tail = b""
    at = used = start
    while True:
        chunk = archive.read_at(at, min(4096, end - at))
        if not chunk:
            raise Bad("a sparse file's map is cut short")
        at += len(chunk)
        *lines, tail = (tail + chunk).split(b"\n")
        for line in lines:
            numbers.append(decimal(line))
            used += len(line) + 1
            if not 0 <= numbers[0] <= MAX_PIECES:
                raise Bad("a sparse file has too many pieces")
            if len(numbers) == 1 + 2 * numbers[0]:
                return numbers[1:], used + -(used - start) % BLOCK
        if len(tail) > 20:
            raise Bad("a sparse file's map is malformed")
