"""A layer in the making: what is put on top of a file system, path by path, and what that comes to in the end. Pure.

Copies and archives are both drafted here, so that later ones see what earlier ones left. The rules are link(2)'s and
unlink(2)'s: an entry removes what has its path unless both are folders, and all names of a hard link are one file.
"""

from __future__ import annotations

from builder.errors import BuildError
from builder.layers.entry import Entry, Item, default_folder
from builder.layers.names import MAX_NAME, MAX_PATH, show
from builder.layers.order import link_to, sort_items
from builder.layers.resolve import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from builder.layers.entry import Source
    from builder.layers.index import Tree


class Node:
    """What the layer has at one or, for hard links, several paths. `entry` None: it only marks a lower folder opaque."""

    __slots__ = ("entry", "opaque", "source")

    def __init__(self, entry: Entry | None, source: Source | None, opaque: Literal["", "mark", "swap"] = "") -> None:
        self.entry = entry
        self.source = source
        # `mark`: by the layer's own marks; `swap`: a folder took the place of a file that took the place of what is below.
        self.opaque = opaque


class Draft:
    """The layer so far, on top of `below`. Paths are whole and canonical where it does not say otherwise."""

    def __init__(self, below: Tree) -> None:
        self._below = below
        self._nodes: dict[bytes, Node] = {}
        # The paths right below each folder, those without a node too, to find all that lies below a path.
        self._inside: dict[bytes, set[bytes]] = {}
        # Where the folders of an archive's names are, by the archive's root and the name; until a link or a folder changes.
        self._resolved: dict[tuple[bytes, bytes], bytes] = {}
        self.uses_below = False
        """What was drafted, or its folder form, depends on what lies below."""

    def lookup(self, path: bytes) -> Entry | None:
        """The entry at exactly this path; no link is followed."""
        node = self._nodes.get(path)
        if node is not None and node.entry is not None:
            return None if node.entry.kind == "whiteout" else node.entry
        return None if self._hidden(path) else self._below.lookup(path)

    def node(self, path: bytes) -> Node | None:
        """What the layer itself has at the path, for a hard link to share; of a lower file, a copy. None: no file is there."""
        node = self._nodes.get(path)
        if node is not None and node.entry is not None:
            return None if node.entry.kind == "whiteout" else node
        known = None if self._hidden(path) else self._below.lookup(path)
        if known is None or known.kind == "dir":
            return None
        self.uses_below = True
        return _copied(known, path)

    def resolve(self, name: bytes, root: bytes = b"") -> bytes:
        """The path that `name` leads to from the folder `root`, links followed as in a chroot there."""

        def lookup(path: bytes) -> Entry | None:
            path = join(root, path)
            entry = self.lookup(path)
            if entry is not None and entry.kind == "hardlink":
                entry = self._below.lookup(entry.link)
            if entry is not None and entry.kind == "symlink" and path not in self._nodes:
                self.uses_below = True
            return entry

        return join(root, resolve(name, lookup))

    def folder(self, name: bytes, root: bytes = b"") -> bytes:
        """As `resolve`; and the path is a folder afterwards."""
        path = self._resolved.get((root, name))
        if path is None:
            path = self.resolve(name, root)
            self.make_folders(path)
            self._resolved[root, name] = path
        return path

    def make_folders(self, path: bytes, new: Callable[[bytes], Entry] = default_folder) -> None:
        """Let every folder on the way to `path`, itself included, be there; `new` says what a missing one is."""
        missing = []
        # Not by recursion: a path may have thousands of folders.
        while path and (entry := self.lookup(path)) is None:
            missing.append(path)
            path = path.rpartition(b"/")[0]
        if path and entry is not None and entry.kind != "dir":
            raise BuildError(
                f"'/{show(path)}' is no folder, but something is put into it",
                hint="choose another path, or remove that file first",
            )
        self._note_parents(path)
        for folder in reversed(missing):
            self.uses_below = True
            self.put(folder, Node(new(folder), None))

    def put(self, path: bytes, node: Node) -> None:
        """Let the path be `node`, and nothing else of what was there but the inside of a folder that stays one."""
        if len(path) > MAX_PATH or len(path.rpartition(b"/")[2]) > MAX_NAME:
            raise BuildError(f"'/{show(path[:60])}...' is too long for a file's name", hint="choose a shorter one")
        old = self._nodes.get(path)
        known = old.entry if old is not None else None
        kind = node.entry.kind if node.entry is not None else ""
        if kind != "dir":
            self.remove(path)
        elif old is not None:
            if known is None or known.kind == "dir":
                node.opaque = old.opaque
            else:
                node.opaque = "mark" if known.kind == "whiteout" else "swap"
        self._nodes[path] = node
        self._remember(path)
        if kind in ("dir", "symlink", "whiteout"):
            self._resolved.clear()

    def remove(self, path: bytes) -> None:
        """Forget what the layer has there and below; what is below the layer shows again."""
        gone = [path]
        for there in gone:
            gone += self._inside.pop(there, ())
            if self._nodes.pop(there, None) is not None:
                self._resolved.clear()
        if gone[1:] or self._below.lookup(path) is not None:
            self._resolved.clear()

    def mark_opaque(self, path: bytes) -> None:
        """Hide what `below` holds in the folder."""
        node = self._nodes.get(path)
        if node is None:
            node = self._nodes[path] = Node(None, None)
            self._remember(path)
        node.opaque = "mark"
        self._resolved.clear()

    def result(self) -> list[Item]:
        """Unique and in canonical order. A file whose source is None repeats the lower file that its `link` names."""
        items: list[Item] = []
        owners: dict[int, Entry] = {}
        for path in sorted(self._nodes):
            node = self._nodes[path]
            entry = node.entry
            if node.opaque and not self._hidden(path):
                if node.opaque == "mark" and path:
                    items.append(Item(Entry(path, "opaque")))
                else:
                    self.uses_below = True
                    items += [Item(Entry(hidden, "whiteout")) for hidden in self._lower(path)]
            if entry is None:
                continue
            if entry.kind == "whiteout":
                if not self._hidden(path):
                    # Where the base has no such folder, overlayfs would list the whiteout as a broken name.
                    self.uses_below = self.uses_below or b"/" in path or self._below.lookup(path) is None
                    if self._below.lookup(path) is not None:
                        items.append(Item(Entry(path, "whiteout")))
                continue
            owner = owners.setdefault(id(node), entry if entry.path == path else entry._replace(path=path))
            items.append(Item(owner, node.source) if owner.path == path else Item(link_to(owner, path)))
        return sort_items(_once(items))

    def _hidden(self, path: bytes) -> bool:
        """Whether a folder above hides what `below` has at the path."""
        while path:
            path = path.rpartition(b"/")[0]
            node = self._nodes.get(path)
            if node is not None and (node.opaque or (node.entry is not None and node.entry.kind != "dir")):
                return True
        return False

    def _note_parents(self, path: bytes) -> None:
        """A folder that the layer leaves out comes from below, its metadata too."""
        while path and not self.uses_below:
            node = self._nodes.get(path)
            self.uses_below = node is None or node.entry is None
            path = path.rpartition(b"/")[0]

    def _lower(self, path: bytes) -> list[bytes]:
        """All that `below` has in the folder and the layer has not."""
        out = []
        folders = [path]
        for folder in folders:
            for name in self._below.children(folder):
                inner = join(folder, name)
                node = self._nodes.get(inner)
                if node is None or node.entry is None or node.entry.kind == "whiteout":
                    out.append(inner)
                elif node.entry.kind == "dir":
                    folders.append(inner)
        return out

    def _remember(self, path: bytes) -> None:
        while path:
            folder = path.rpartition(b"/")[0]
            inside = self._inside.setdefault(folder, set())
            if path in inside:
                return
            inside.add(path)
            path = folder


def join(folder: bytes, name: bytes) -> bytes:
    """Both may be the root, b""."""
    return folder + b"/" + name if folder and name else folder or name


def _copied(known: Entry, path: bytes) -> Node:
    """A copy of a lower layer's entry."""
    if known.kind in ("file", "hardlink"):
        return Node(known._replace(kind="file", link=path), None)
    return Node(known, None)


def _once(items: list[Item]) -> list[Item]:
    """A whiteout can follow from two marks."""
    seen: set[bytes] = set()
    out = []
    for item in items:
        if item.entry.kind == "whiteout":
            if item.entry.path in seen:
                continue
            seen.add(item.entry.path)
        out.append(item)
    return out
