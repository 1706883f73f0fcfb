"""The merged file system of a stack of layers, in memory. Pure.

What a container would see, as entries: whiteouts have taken effect, hard links name a path that still has their content.
"""

from __future__ import annotations

from builder.layers.codec import dump_index, load_index
from builder.layers.entry import Entry
from builder.layers.names import show
from builder.layers.order import link_to
from builder.layers.resolve import MAX_LINKS, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MAX_LINKS", "Tree", "dump_index", "load_index"]

ROOT = Entry(b"", "dir", 0o755)


class Tree:
    """A merged tree: path to entry, and which layer each came from. Mutable until the last `apply`."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {b"": ROOT}
        # Of what is not of the first layer, which most is.
        self._layers: dict[bytes, int] = {b"": -1}
        # The paths right below each folder that has any: not names, which would be further objects.
        self._inside: dict[bytes, set[bytes]] = {}
        # The hard links of each path that owns content.
        self._links: dict[bytes, set[bytes]] = {}

    def apply(self, entries: Iterable[Entry], layer: int) -> None:
        """Put the canonical entries of one layer on top.

        Whiteouts and opaque marks remove what lower layers hold, wherever they stand. An entry that is no folder removes
        what was below its path. Parents that a layer leaves out and nothing below has become folders of root, mode 0755.
        Raises ValueError where entries are not canonical: a parent that is no folder, a hard link to no earlier entry.
        """
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
        return self._entries.get(path)

    def layer_of(self, path: bytes) -> int:
        """The layer that the entry came from; -1 for a root that no layer set. Raises KeyError for a path that is not there."""
        number = self._layers.get(path, 0)
        if not number and path not in self._entries:
            raise KeyError(path)
        return number

    def children(self, path: bytes) -> list[bytes]:
        """Sorted names in the folder; empty for anything else."""
        start = len(path) + 1 if path else 0
        return [below[start:] for below in sorted(self._inside.get(path, ()))]

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        """The canonical path that `path` leads to, as a process whose root is this tree would find it.

        Links, absolute or not, stay inside; `..` stops at the root. What is not there counts as a plain name. With
        `follow_last=False` a link at the end is not followed. Raises BuildError after more than `MAX_LINKS` links.
        """
        return resolve(path, self._entries.get, follow_last=follow_last)

    def walk(self, path: bytes) -> Iterator[Entry]:
        """The entry at `path` and all below it, in canonical order. Raises KeyError for a path that is not there."""
        if path not in self._entries:
            raise KeyError(path)
        found = [path]
        # The list grows while it is walked: folders add what they hold.
        for folder in found:
            found += self._inside.get(folder, ())
        found.sort()
        return map(self._entries.__getitem__, found)

    def _put(self, entry: Entry, layer: int) -> None:
        path, kind = entry.path, entry.kind
        if not path:
            if kind != "dir":
                raise ValueError("the root of a layer is a folder")
        else:
            known = self._entries.get(path)
            if known is None:
                self._place(path, layer)
            elif known.kind != "dir" or kind != "dir":
                self._disown(path, known)
                if path in self._inside and kind != "dir":
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
        parent = self._entries.get(folder)
        if parent is None:
            self._place(folder, layer)
            self._entries[folder] = ROOT._replace(path=folder)
            self._set_layer(folder, layer)
        elif parent.kind != "dir":
            raise ValueError(f"'{show(folder)}' is no folder but holds '{show(path)}'")
        self._inside.setdefault(folder, set()).add(path)

    def _joined(self, entry: Entry) -> Entry:
        """The hard link, naming the path that owns the content."""
        owner = self._entries.get(entry.link)
        if owner is not None and owner.kind == "hardlink":
            owner = self._entries[owner.link]
        if owner is None or owner.kind == "dir" or owner.path == entry.path:
            raise ValueError(f"hard link '{show(entry.path)}' names no file")
        self._links.setdefault(owner.path, set()).add(entry.path)
        return entry if owner.path == entry.link else entry._replace(link=owner.path)

    def _remove(self, path: bytes) -> None:
        entry = self._entries.get(path)
        if entry is None:
            return
        self._clear(path)
        self._disown(path, entry)
        self._inside[path.rpartition(b"/")[0]].discard(path)
        del self._entries[path]
        self._layers.pop(path, None)

    def _clear(self, path: bytes) -> None:
        """Remove all below `path`."""
        gone = list(self._inside.pop(path, ()))
        # The list grows while it is walked: folders add what they hold.
        for below in gone:
            gone += self._inside.pop(below, ())
        for below in gone:
            self._disown(below, self._entries.pop(below))
            self._layers.pop(below, None)

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
