"""A foreign layer, in the order of its archive, as the canonical list of what it does to what lies below. Pure.

Foreign layers omit parents, name a path twice, write through symlinks of lower layers and of their own, mark folders
opaque, and hard-link files of lower layers. The rules are those of Docker's and containerd's unpackers: an entry
removes what has its path unless both are folders; a whiteout takes effect at once, on what the same layer brought too;
parents are resolved inside the root, a link at the end of a path is replaced. Two differences, both on purpose: an opaque mark spares
all that its own layer brought, wherever it stands (OCI image-spec layer.md, "Opaque Whiteout"); a hard link to a file of a
lower layer becomes a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from builder.errors import BuildError
from builder.layers.entry import Entry, Item, Source
from builder.layers.folder import default_folder
from builder.layers.index import MAX_LINKS, Tree
from builder.layers.names import show
from builder.layers.order import link_to, sort_items
from builder.values import NamedTuple


class Settled(NamedTuple):
    items: list[Item]
    """Unique and in canonical order. A file whose source is None repeats the lower file that its `link` names: see `fill`."""
    uses_below: bool
    """The items, or their folder form, depend on what lies below."""


def settle(items: Iterable[Item], below: Tree, *, prefix: bytes = b"", root_entry: bool | None = None) -> Settled:
    """What the archive's `items`, in its order, do to `below` when they are unpacked into the folder `prefix`.

    `prefix` is canonical (no symlink in it); links in the archive's paths are resolved inside of it, as in a chroot there. The
    archive's own root entry counts where `root_entry` says so, by default for the prefix b"" alone: a layer means `/` by it, ADD of
    an archive does not and passes False. Whiteouts of what is not below, or what the layer replaces, are left out. `opaque`
    items stay for folders other than the root, whose lower names are whiteouts each.

    Raises BuildError for an entry inside something that is no folder, a hard link to nothing or to a folder, a device
    0:0 and more than `MAX_LINKS` symlinks in one path.
    """
    layer = _Layer(below, prefix)
    for item in items:
        entry = item.entry
        if entry.path == b"" and entry.kind == "dir":
            if root_entry if root_entry is not None else not prefix:
                layer.make_folders(prefix)
                layer.put(prefix, _Node(entry._replace(path=prefix), None))
        elif entry.kind == "opaque":
            layer.mark_opaque(entry.path)
        elif entry.path == b"":
            raise BuildError(f"the archive's root is a {entry.kind}, not a folder")
        else:
            _apply(layer, item)
    return Settled(layer.result(), layer.uses_below)


def fill(items: Iterable[Item], lower_source: Callable[[bytes], Source]) -> list[Item]:
    """The items with every source in place: `lower_source` gives the content of a lower layer's path."""
    return [
        Item(item.entry._replace(link=b""), lower_source(item.entry.link))
        if item.entry.kind == "file" and item.source is None and item.entry.link
        else item
        for item in items
    ]


class _Node:
    """What the layer has at one or, for hard links, several paths. `entry` is None where it only marks a lower folder opaque."""

    __slots__ = ("entry", "opaque", "source")

    def __init__(self, entry: Entry | None, source: Source | None, opaque: Literal["", "mark", "swap"] = "") -> None:
        self.entry = entry
        self.source = source
        # `mark`: by the layer's own marks; `swap`: a folder took the place of a file that took the place of what is below.
        self.opaque = opaque


def _apply(layer: _Layer, item: Item) -> None:
    entry = item.entry
    path = layer.place(entry.path)
    if entry.kind == "hardlink":
        layer.remove(path)
        layer.put(path, layer.linked(entry))
        return
    if entry.kind == "char" and entry.rdev == (0, 0):
        raise BuildError(f"'{show(entry.path)}' is the device 0:0, which means a deleted file and cannot be in a layer")
    layer.put(path, _Node(entry._replace(path=path), item.source))


class _Layer:
    """The layer so far, on top of `below`. Paths are whole and canonical where it does not say otherwise."""

    def __init__(self, below: Tree, prefix: bytes) -> None:
        self._below = below
        self._prefix = prefix
        self._nodes: dict[bytes, _Node] = {}
        # Names below each folder, that of paths without a node too, to find all that lies below a path.
        self._names: dict[bytes, set[bytes]] = {}
        # Where the folders of the archive's names are; until a link or a folder changes.
        self._resolved: dict[bytes, bytes] = {}
        self.uses_below = False

    def place(self, name: bytes) -> bytes:
        """The path that the archive's `name` means; the folders to it are there afterwards."""
        folder, _, last = name.rpartition(b"/")
        where = self._folder(folder)
        return where + b"/" + last if where else last

    def mark_opaque(self, name: bytes) -> None:
        path = self._folder(name)
        node = self._nodes.get(path)
        if node is None:
            node = self._nodes[path] = _Node(None, None)
            self._remember(path)
        node.opaque = "mark"
        self._resolved.clear()

    def put(self, path: bytes, node: _Node) -> None:
        """Let the path be `node`, and nothing else of what was there but the inside of a folder that stays one."""
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
            gone += [_join(there, name) for name in self._names.pop(there, ())]
            if self._nodes.pop(there, None) is not None:
                self._resolved.clear()
        if gone[1:] or self._below.lookup(path) is not None:
            self._resolved.clear()

    def linked(self, link: Entry) -> _Node:
        """The node that a hard link of the archive shares, with the link's metadata, as link(2) and chmod(2) would leave it."""
        folder, _, last = link.link.rpartition(b"/")
        target = _join(self._resolve(folder), last)
        node = self._nodes.get(target)
        if node is None or node.entry is None:
            known = None if self._hidden(target) else self._below.lookup(target)
            if known is not None and known.kind != "dir":
                self.uses_below = True
                node = _lower(known, target)
        if node is None or node.entry is None or node.entry.kind in ("whiteout", "dir"):
            raise BuildError(f"'{show(link.path)}' is a hard link to '{show(link.link)}', which is no file of the image")
        if node.entry.kind != "file":
            # Nothing can tell two names of one symlink or device from two of them.
            return _Node(node.entry, None)
        node.entry = node.entry._replace(
            mode=link.mode, uid=link.uid, gid=link.gid, mtime=link.mtime, xattrs=link.xattrs or node.entry.xattrs
        )
        return node

    def make_folders(self, path: bytes) -> None:
        """Let every folder on the way to `path`, itself included, be there."""
        if not path:
            return
        entry = self._lookup(path)
        if entry is None:
            self.make_folders(path.rpartition(b"/")[0])
            self.uses_below = True
            self.put(path, _Node(default_folder(path), None))
        elif entry.kind != "dir":
            raise BuildError(f"'{show(path)}' is no folder, but the archive puts something into it")
        else:
            self._note_parents(path)

    def result(self) -> list[Item]:
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
                    items += [Item(Entry(hidden, "whiteout")) for hidden in self._inside(path)]
            if entry is None:
                continue
            if entry.kind == "whiteout":
                if not self._hidden(path):
                    # Where the base has no such folder, overlayfs would list the whiteout as a broken name.
                    self.uses_below = self.uses_below or b"/" in path or self._below.lookup(path) is None
                    if self._below.lookup(path) is not None:
                        items.append(Item(Entry(path, "whiteout")))
                continue
            owner = owners.setdefault(id(node), entry._replace(path=path))
            items.append(Item(owner, node.source) if owner.path == path else Item(link_to(owner, path)))
        return sort_items(_once(items))

    def _folder(self, name: bytes) -> bytes:
        path = self._resolved.get(name)
        if path is None:
            path = self._resolve(name)
            self.make_folders(path)
            self._resolved[name] = path
        return path

    def _resolve(self, name: bytes) -> bytes:
        """The path of a folder that the archive names, links followed inside the prefix."""
        left = name.split(b"/")
        left.reverse()
        at: list[bytes] = []
        links = 0
        while left:
            part = left.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del at[-1:]
                continue
            at.append(part)
            entry = self._lookup(_join(self._prefix, b"/".join(at)))
            if entry is None or entry.kind != "symlink":
                continue
            links += 1
            if links > MAX_LINKS:
                raise BuildError(f"'{show(name)}' leads through too many symbolic links")
            if _join(self._prefix, b"/".join(at)) not in self._nodes:
                self.uses_below = True
            if entry.link.startswith(b"/"):
                at.clear()
            else:
                at.pop()
            left.extend(reversed(entry.link.split(b"/")))
        return _join(self._prefix, b"/".join(at))

    def _lookup(self, path: bytes) -> Entry | None:
        node = self._nodes.get(path)
        if node is not None and node.entry is not None:
            return None if node.entry.kind == "whiteout" else node.entry
        return None if self._hidden(path) else self._below.lookup(path)

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

    def _inside(self, path: bytes) -> list[bytes]:
        """All that `below` has in the folder and the layer has not."""
        out = []
        folders = [path]
        for folder in folders:
            for name in self._below.children(folder):
                inner = _join(folder, name)
                node = self._nodes.get(inner)
                if node is None or node.entry is None or node.entry.kind == "whiteout":
                    out.append(inner)
                elif node.entry.kind == "dir":
                    folders.append(inner)
        return out

    def _remember(self, path: bytes) -> None:
        while path:
            folder, _, name = path.rpartition(b"/")
            names = self._names.setdefault(folder, set())
            if name in names:
                return
            names.add(name)
            path = folder


def _lower(known: Entry, path: bytes) -> _Node:
    """A copy of a lower layer's entry."""
    if known.kind in ("file", "hardlink"):
        return _Node(known._replace(kind="file", link=path), None)
    return _Node(known, None)


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


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name
