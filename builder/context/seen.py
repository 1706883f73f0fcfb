"""What stat(2) said of the files of a context, folder by folder and packed: a context may have hundreds of thousands, and what
a build knows of each is some 150 bytes here, a fifth of what objects of their own would take."""

from __future__ import annotations

from _struct import Struct  # of which `struct` is the public name: a module more at start
from _struct import error as StructError  # type: ignore[attr-defined]  # typeshed knows it in `struct` alone
from bisect import bisect_left

from builder.values import NamedTuple, new

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    Row = tuple[int, int, int, int, int, int]
    """Mode, device, inode, size in bytes, mtime and ctime in nanoseconds."""


class Seen(NamedTuple):
    """A `Row`, by the names of an `os.stat_result`."""

    st_mode: int
    st_dev: int
    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


_ROW = Struct("=IQQqqq")
_NO_ROW = bytes(_ROW.size)


def row_of(info: os.stat_result) -> Row:
    return info.st_mode, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def packed(info: os.stat_result) -> bytes | Seen:
    """A row as a `Folder` keeps it; a `Seen` where the time is one after the year 2262, which it has no room for."""
    row = row_of(info)
    try:
        return _ROW.pack(*row)
    except StructError:
        return Seen(*row)


class Folder:
    """What is in one folder of a context, as it was listed, and what became known of it since; `place` is that of a name."""

    __slots__ = ("_digests", "_odd", "_rows", "held", "is_recalled", "known", "names", "unsteady", "vouched")

    def __init__(self, names: list[bytes], rows: Sequence[bytes | Seen]) -> None:
        """The names are sorted; of each its row."""
        self.names = names
        self._odd = {place: row for place, row in enumerate(rows) if isinstance(row, Seen)}
        self._rows = b"".join([_NO_ROW if isinstance(row, Seen) else row for row in rows])
        self._digests = bytearray()
        # A byte for each name: several threads set them.
        self.known = bytearray(len(names))
        """The digest is there."""
        self.held = bytearray(len(names))
        """The file held still since it was opened."""
        self.unsteady = bytearray(len(names))
        """It did not, when somebody opened it: who had it first may have read what was there before."""
        self.vouched = bytearray(len(names))
        """The digest is of a content that no change can have left without a trace."""
        self.is_recalled = False

    def place(self, name: bytes) -> int:
        """-1 for a name that is not there."""
        names = self.names
        place = bisect_left(names, name)
        return place if place < len(names) and names[place] == name else -1

    def seen(self, place: int) -> Seen:
        if self._odd and place in self._odd:
            return self._odd[place]
        return new(Seen, _ROW.unpack_from(self._rows, place * _ROW.size))

    def all(self) -> Iterator[Row]:
        """The fields of a `Seen` for each name, in order."""
        if self._odd:
            return iter([self.seen(place) for place in range(len(self.names))])
        return _ROW.iter_unpack(self._rows)

    def digest(self, place: int) -> str:
        """sha256 of the content, in hex; empty where it is not known."""
        return self._digests[place * 32 : place * 32 + 32].hex() if self.known[place] else ""

    def learn(self, place: int, digest: str) -> None:
        """Once for a name, and by one thread at a time."""
        if not self._digests:
            self._digests = bytearray(32 * len(self.names))
        self._digests[place * 32 : place * 32 + 32] = bytes.fromhex(digest)
        self.known[place] = 1
