"""The merged file system of a stack of layers, in memory. Pure.

What a container would see, as entries: whiteouts have taken effect, hard links name a path that still has their content.
"""

from __future__ import annotations

from builder.layers.codec import dump_index, load_index
from builder.layers.entry import Entry
from builder.layers.names import show
from builder.layers.order import link_to
from builder.layers.resolve import MAX_LINKS, resolve
from builder.layers.rows import Rows, entries_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MAX_LINKS", "Tree", "View", "dump_index", "entries_of", "load_index"]

ROOT = Entry(b"", "dir", 0o755)


class Tree:
    """A merged tree: path to entry, and which layer each came from. Mutable until the last `apply`.

    The first large layer stays in its rows (`builder.layers.rows`); what is not of it, or not any more, lies over them.
    """

    def __init__(self) -> None:
        self._rows: Rows | None = None
        self._rows_layer = 0
        # None: the rows have it, and it is not there any more.
        self._entries: dict[bytes, Entry | None] = {b"": ROOT}
        # Of what is not of the first layer, which most is.
        self._layers: dict[bytes, int] = {b"": -1}
        # The paths right below each folder that has any: not names, which would be further objects. Those of rows are not here.
        self._inside: dict[bytes, set[bytes]] = {}
        # The hard links of each path that owns content.
        self._links: dict[bytes, set[bytes]] = {}

    def apply(self, entries: Iterable[Entry], layer: int) -> None:
        """Put the canonical entries of one layer on top.

        Whiteouts and opaque marks remove what lower layers hold, wherever they stand. An entry that is no folder removes
        what was below its path. Parents that a layer leaves out and nothing below has become folders of root, mode 0755.
        Raises ValueError where entries are not canonical: a parent that is no folder, a hard link to no earlier entry.
        """
        if self._rows is None and isinstance(entries, Rows) and self._can_lay(entries):
            self._lay(entries, layer)
            return
        added = []
        for entry in entries:
            if entry.kind == "whiteout":
                if entry.path:
                    self._remove(entry.path)
            elif entry.kind == "opaque":
                self._clear(entry.path)
            else:
                added.append(entry)
        for entry in added:
            self._put(entry, layer)

    def lookup(self, path: bytes) -> Entry | None:
        """The entry at exactly this path; no link is followed. The root is always a folder."""
        known = self._entries.get(path)
        if known is None and self._rows is not None and path not in self._entries:
            place = self._rows.find(path)
            return self._rows[place] if place >= 0 else None
        return known

    def layer_of(self, path: bytes) -> int:
        """The layer that the entry came from; -1 for a root that no layer set. Raises KeyError for a path that is not there."""
        number = self._layers.get(path, 0)
        if not number and self._entries.get(path) is None:
            if path in self._entries or self._rows is None or self._rows.find(path) < 0:
                raise KeyError(path)
            return self._rows_layer
        return number

    def children(self, path: bytes) -> list[bytes]:
        """Sorted names in the folder; empty for anything else."""
        start = len(path) + 1 if path else 0
        inside = self._inside.get(path, set())
        if self._rows is not None:
            known = self._entries
            inside = inside | {one for one in self._rows.children(path) if one not in known or known[one] is not None}
        return [below[start:] for below in sorted(inside)]

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        """The canonical path that `path` leads to, as a process whose root is this tree would find it.

        Links, absolute or not, stay inside; `..` stops at the root. What is not there counts as a plain name. With
        `follow_last=False` a link at the end is not followed. Raises BuildError after more than `MAX_LINKS` links.
        """
        return resolve(path, self.lookup, follow_last=follow_last)

    def walk(self, path: bytes) -> Iterator[Entry]:
        """The entry at `path` and all below it, in canonical order. Raises KeyError for a path that is not there."""
        view = self.view(path)
        return (entry for entry, _ in view)

    def view(self, path: bytes) -> View:
        """The same, as it is now, whatever is applied later; each with its layer."""
        if self.lookup(path) is None:
            raise KeyError(path)
        if self._rows is None:
            found = [path]
            # The list grows while it is walked: folders add what they hold.
            for folder in found:
                found += self._inside.get(folder, ())
            return self._view(sorted(found), -1, range(0))
        below = self._rows.below(path)
        return self._view(sorted(self._over(self._rows, path, below)), self._rows.find(path), below)

    def _over(self, rows: Rows, path: bytes, below: range) -> Iterable[bytes]:
        """Paths at the one and below it, of which more is to be said than what the rows `below` it say."""
        known = self._entries
        if len(below) >= len(known):
            return [one for one in known if _is_at(one, path)]
        found = {path} & known.keys()
        folders = [path, *map(rows.path, below)]
        # The list grows while it is walked: folders add what they hold beside their rows.
        for folder in folders:
            if folder in known:
                found.add(folder)
            inside = self._inside.get(folder)
            if inside:
                folders += inside - found
                found |= inside
        return found

    def _view(self, over: list[bytes], top: int, below: range) -> View:
        entries = [entry for one in over if (entry := self._entries[one]) is not None]
        layers = [self._layers.get(entry.path, 0) for entry in entries]
        rows = self._rows
        hidden = frozenset(one for one in over if rows is not None and rows.find(one) >= 0)
        return View(entries, layers, rows, self._rows_layer, top, below, hidden)

    def _can_lay(self, rows: Rows) -> bool:
        return rows.is_plain and all(
            (parent := self.lookup(path)) is not None and parent.kind == "dir" for path in rows.outside
        )

    def _lay(self, rows: Rows, layer: int) -> None:
        # What is there already changes as it does for any layer, and lies over.
        for path in sorted(self._entries):
            place = rows.find(path)
            if place >= 0:
                self._put(rows[place], layer)
        self._rows, self._rows_layer = rows, layer

    def _put(self, entry: Entry, layer: int) -> None:
        path, kind = entry.path, entry.kind
        if not path:
            if kind != "dir":
                raise ValueError("the root of a layer is a folder")
        else:
            known = self.lookup(path)
            if known is None:
                self._place(path, layer)
            elif known.kind != "dir" or kind != "dir":
                self._disown(path, known)
                if known.kind == "dir":
                    self._clear(path)
        if kind == "hardlink":
            entry = self._joined(entry)
        self._entries[path] = entry
        self._set_layer(path, layer)

    def _set_layer(self, path: bytes, layer: int) -> None:
        if layer:
            self._layers[path] = layer
        else:
            self._layers.pop(path, None)

    def _place(self, path: bytes, layer: int) -> None:
        """Make the name known to its folder, and missing folders with it."""
        folder = path.rpartition(b"/")[0]
        parent = self.lookup(folder)
        if parent is None:
            self._place(folder, layer)
            self._entries[folder] = ROOT._replace(path=folder)
            self._set_layer(folder, layer)
        elif parent.kind != "dir":
            raise ValueError(f"'{show(folder)}' is no folder but holds '{show(path)}'")
        self._inside.setdefault(folder, set()).add(path)

    def _joined(self, entry: Entry) -> Entry:
        """The hard link, naming the path that owns the content."""
        owner = self.lookup(entry.link)
        if owner is not None and owner.kind == "hardlink":
            owner = self.lookup(owner.link)
        if owner is None or owner.kind == "dir" or owner.path == entry.path:
            raise ValueError(f"hard link '{show(entry.path)}' names no file")
        self._links.setdefault(owner.path, set()).add(entry.path)
        return entry if owner.path == entry.link else entry._replace(link=owner.path)

    def _remove(self, path: bytes) -> None:
        entry = self.lookup(path)
        if entry is None:
            return
        self._clear(path)
        self._disown(path, entry)
        folder = path.rpartition(b"/")[0]
        if folder in self._inside:
            self._inside[folder].discard(path)
        self._drop(path)

    def _drop(self, path: bytes) -> None:
        if self._rows is not None and self._rows.find(path) >= 0:
            self._entries[path] = None
        else:
            del self._entries[path]
        self._layers.pop(path, None)

    def _clear(self, path: bytes) -> None:
        """Remove all below `path`."""
        rows = self._rows
        if rows is None or not (places := rows.below(path)):
            gone = list(self._inside.pop(path, ()))
            # The list grows while it is walked: folders add what they hold.
            for below in gone:
                gone += self._inside.pop(below, ())
        else:
            known = self._entries
            gone = [one for one in self._over(rows, path, places) if one != path and known[one] is not None]
            gone += [one for one in map(rows.path, places) if one not in known]
            for below in (path, *gone):
                self._inside.pop(below, None)
        for below in gone:
            entry = self.lookup(below)
            assert entry is not None
            self._drop(below)
            self._disown(below, entry)

    def _disown(self, path: bytes, entry: Entry) -> None:
        """The path no longer has this content: the first of the other hard links to it owns it now."""
        if entry.kind == "hardlink":
            self._links[entry.link].discard(path)
            return
        links = self._links.pop(path, None)
        if not links:
            return
        first = min(links)
        links.discard(first)
        owner = entry._replace(path=first)
        self._entries[first] = owner
        for other in links:
            self._entries[other] = link_to(owner, other)
        if links:
            self._links[first] = links


class View:
    """What is at a path of a merged tree and below it, in canonical order, each with the number of its layer: as it was when it
    was asked for. What is in rows is made when it comes."""

    def __init__(
        self,
        entries: list[Entry],
        layers: list[int],
        rows: Rows | None,
        rows_layer: int,
        top: int,
        below: range,
        hidden: frozenset[bytes],
    ) -> None:
        """The entries are sorted, and so are the rows `top` (-1 for none) and `below`, of which those of the paths `hidden` do
        not count."""
        self._entries = entries
        self._layers = layers
        self._rows = rows
        self._rows_layer = rows_layer
        self._top = top
        self._below = below
        self._hidden = hidden

    @classmethod
    def of(cls, entries: list[Entry]) -> View:
        """What is no merged tree's."""
        return cls(entries, [0] * len(entries), None, 0, -1, range(0), frozenset())

    @property
    def has_links(self) -> bool:
        """Whether hard links are among them."""
        return any(entry.kind == "hardlink" for entry in self._entries)

    @property
    def longest(self) -> int:
        """No path has more bytes."""
        over = max((len(entry.path) for entry in self._entries), default=0)
        return max(over, self._rows.longest(self._places())) if self._rows is not None else over

    def files(self) -> Iterator[tuple[Entry, int]]:
        """One of each layer that has any."""
        seen: set[int] = set()
        for entry, layer in zip(self._entries, self._layers):
            if entry.kind == "file" and layer not in seen:
                seen.add(layer)
                yield entry, layer
        rows = self._rows
        if rows is not None and self._rows_layer not in seen:
            place = next((one for one in self._places() if rows.is_file(one) and rows.path(one) not in self._hidden), -1)
            if place >= 0:
                yield rows[place], self._rows_layer

    def _places(self) -> Iterator[int]:
        if self._top >= 0:
            yield self._top
        yield from self._below

    def __len__(self) -> int:
        return len(self._entries) + len(self._below) + (self._top >= 0) - len(self._hidden)

    def __iter__(self) -> Iterator[tuple[Entry, int]]:
        over = zip(self._entries, self._layers)
        if self._rows is None:
            return over
        return self._merged(over, self._rows)

    def _merged(self, over: Iterator[tuple[Entry, int]], rows: Rows) -> Iterator[tuple[Entry, int]]:
        hidden, layer = self._hidden, self._rows_layer
        waiting = next(over, None)
        for place in self._places():
            path = rows.path(place)
            if path in hidden:
                continue
            while waiting is not None and waiting[0].path < path:
                yield waiting
                waiting = next(over, None)
            yield rows[place], layer
        if waiting is not None:
            yield waiting
            yield from over


def _is_at(path: bytes, top: bytes) -> bool:
    """Whether the path is `top`, or in it."""
    return not top or path == top or path.startswith(top + b"/")
