"""The entries of a large layer by number and by path, each made when it is asked for: an object for each takes four times as
much. Pure."""

from __future__ import annotations

import struct
import sys
from array import array

from builder.layers.codec import KINDS, damaged, index_sections, load_index
from builder.layers.entry import Entry
from builder.values import new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANY = 4096
"""Entries from which on it is worth it: to find one of them takes some 5 us."""
_LEAST = 64
"""Bytes of an entry in an index, or fewer."""
_RANK = 256
"""Digests are counted so many at once."""
_FILE, _FOLDER = b"fd"
_PLAIN = frozenset(b"fdlpcb")
_DEVICE = struct.Struct("<QII")


class Rows:
    """A sequence, for several threads. Paths are found where the entries are in canonical order, each path once, and none is
    a whiteout, an opaque mark or a hard link (`is_plain`)."""

    def __init__(self, data: bytes) -> None:
        """`data` is what `dump_index` gave. Raises StoreError where it is damaged."""
        count, sections = index_sections(data)
        paths, kinds, modes, uids, gids, sizes, sums, marks, links, times, rdevs, xattrs = sections
        self._count = count
        self._paths = data[slice(*paths)]
        self._kinds = data[slice(*kinds)]
        self._modes = _numbers("H", data[slice(*modes)])
        self._uids = _numbers("I", data[slice(*uids)])
        self._gids = _numbers("I", data[slice(*gids)])
        self._sizes = _numbers("Q", data[slice(*sizes)])
        self._times = _numbers("q", data[slice(*times)])
        self._sums, self._marks = data[slice(*sums)], data[slice(*marks)]
        columns = (self._kinds, self._modes, self._uids, self._gids, self._sizes, self._times, self._marks)
        if any(len(column) != count for column in columns):
            raise damaged("the columns differ in length")
        self._starts = _starts(self._paths, count)
        """Of each path, and one past the NUL after the last one."""
        self._ranks = array("Q", [0])
        for at in range(0, count, _RANK):
            self._ranks.append(self._ranks[-1] + self._marks.count(1, at, at + _RANK))
        if len(self._sums) != 32 * self._ranks[-1]:
            raise damaged("the digests do not fit")
        self._links = _sparse(data[slice(*links)], count)
        self._rdevs, self._xattrs = _devices(data[slice(*rdevs)]), _attributes(data[slice(*xattrs)])
        self._last = -1
        """Where the last one was found: it is asked for again, or the next one, mostly."""
        self.outside: frozenset[bytes] = frozenset()
        """Folders that hold some of them and are not among them; without the root."""
        self.is_plain = self._is_plain()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(self._count))

    def __getitem__(self, place: int) -> Entry:
        digest = ""
        if self._marks[place]:
            block = place // _RANK
            start = 32 * (self._ranks[block] + self._marks.count(1, block * _RANK, place))
            digest = self._sums[start : start + 32].hex()
        starts = self._starts
        return new(
            Entry,
            (
                self._paths[starts[place] : starts[place + 1] - 1],
                KINDS[self._kinds[place]],
                self._modes[place],
                self._uids[place],
                self._gids[place],
                self._sizes[place],
                digest,
                self._links.get(place, b""),
                self._rdevs.get(place, (0, 0)),
                self._xattrs.get(place, ()),
                self._times[place],
            ),
        )

    def path(self, place: int) -> bytes:
        return self._paths[self._starts[place] : self._starts[place + 1] - 1]

    def is_file(self, place: int) -> bool:
        return self._kinds[place] == _FILE

    def devices(self) -> Iterator[Entry]:
        """Those that are device nodes."""
        if b"c" not in self._kinds and b"b" not in self._kinds:
            return iter(())
        return (self[place] for place, kind in enumerate(self._kinds) if kind in b"cb")

    def find(self, path: bytes) -> int:
        """-1 for a path that is not there."""
        last = self._last
        if last >= 0 and self.path(last) == path:
            return last
        place = last + 1
        if place < self._count and self.path(place) == path:
            self._last = place
            return place
        place = self.first(path)
        if place == self._count or self.path(place) != path:
            return -1
        self._last = place
        return place

    def first(self, path: bytes) -> int:
        """The place of the first path that is not smaller."""
        paths, starts = self._paths, self._starts
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if paths[starts[middle] : starts[middle + 1] - 1] < path:
                low = middle + 1
            else:
                high = middle
        return low

    def below(self, path: bytes) -> range:
        """The places of all in the folder, and in those in it."""
        if not path:
            # The root itself is the first, if it is there.
            return range(1 if self._count and not self.path(0) else 0, self._count)
        return range(self.first(path + b"/"), self.first(path + b"0"))

    def children(self, path: bytes) -> Iterator[bytes]:
        """The paths right below the folder, in order."""
        start = len(path) + 1 if path else 0
        inside = self.below(path)
        place, end = inside.start, inside.stop
        while place < end:
            found = self.path(place)
            slash = found.find(b"/", start)
            if slash < 0:
                yield found
                place += 1
            else:
                # What a folder holds is in one piece, which the folder itself stands before, somewhere.
                place = self.first(found[:slash] + b"0")

    def longest(self, places: Iterable[int]) -> int:
        """Bytes of a path, at most."""
        starts = self._starts
        return max((starts[place + 1] - starts[place] - 1 for place in places), default=0)

    def _is_plain(self) -> bool:
        if not frozenset(self._kinds) <= _PLAIN:
            return False
        last = b""
        folders = {b""}
        parents: set[bytes] = set()
        for place in range(self._count):
            path = self.path(place)
            if place and path <= last:
                return False
            parents.add(path.rpartition(b"/")[0])
            if self._kinds[place] == _FOLDER:
                folders.add(path)
            last = path
        self.outside = frozenset(parents - folders)
        # A file that holds something is no folder.
        return not any(self._is_other(above) for path in self.outside for above in _ways(path))

    def _is_other(self, path: bytes) -> bool:
        """Whether the path is there, and no folder."""
        place = self.find(path)
        return place >= 0 and self._kinds[place] != _FOLDER


if TYPE_CHECKING:
    Entries = list[Entry] | Rows
    """Of a layer."""


def entries_of(data: bytes) -> Entries:
    """As `load_index`; of a large layer, where that is plain, as rows."""
    if len(data) < MANY * _LEAST:
        return load_index(data)
    found = Rows(data)
    return found if found.is_plain else load_index(data)


def _ways(path: bytes) -> Iterator[bytes]:
    """The path, and all above it but the root."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _numbers(letter: str, data: bytes) -> array[int]:
    numbers = array(letter)
    if len(data) % numbers.itemsize:
        raise damaged("the columns differ in length")
    numbers.frombytes(data)
    if sys.byteorder != "little":
        numbers.byteswap()
    return numbers


def _starts(paths: bytes, count: int) -> array[int]:
    starts = array("Q" if len(paths) >> 31 else "I", [0])
    at = 0
    for _ in range(count - 1):
        at = paths.find(0, at) + 1
        if not at:
            raise damaged("the columns differ in length")
        starts.append(at)
    if paths.find(0, at) >= 0 or (paths and not count):
        raise damaged("the columns differ in length")
    starts.append(len(paths) + 1)
    return starts


def _sparse(names: bytes, count: int) -> dict[int, bytes]:
    """By their numbers those of the names, parted by NULs, that are not empty."""
    if names.count(0) != max(0, count - 1):
        raise damaged("the columns differ in length")
    return {number: name for number, name in enumerate(names.split(b"\0")) if name}


def _devices(data: bytes) -> dict[int, tuple[int, int]]:
    if len(data) % _DEVICE.size:
        raise damaged("a device is cut short")
    return {row: (major, minor) for row, major, minor in _DEVICE.iter_unpack(data)}


def _attributes(data: bytes) -> dict[int, tuple[tuple[bytes, bytes], ...]]:
    found: dict[int, tuple[tuple[bytes, bytes], ...]] = {}
    at, end = 0, len(data)
    while at < end:
        if at + _DEVICE.size > end:
            raise damaged("an extended attribute is cut short")
        row, name, value = _DEVICE.unpack_from(data, at)
        at += _DEVICE.size
        if at + name + value > end:
            raise damaged("an extended attribute is cut short")
        found[row] = (*found.get(row, ()), (data[at : at + name], data[at + name : at + name + value]))
        at += name + value
    return found
