"""A foreign archive, in the order of its members, as the canonical list of what it does to what lies below. Pure.

Foreign layers omit parents, name a path twice, write through symlinks of lower layers and of their own, mark folders
opaque, and hard-link files of lower layers. The rules are those of Docker's and containerd's unpackers: an entry
removes what has its path unless both are folders; a whiteout takes effect at once, on what the same layer brought too;
parents are resolved inside the root, a link at the end of a path is replaced. Two differences, both on purpose: an opaque
mark spares all that its own layer brought, wherever it stands (OCI image-spec layer.md, "Opaque Whiteout"); a hard link to a
file of a lower layer becomes a copy.
"""

from __future__ import annotations

from builder.errors import BuildError
from builder.layers.draft import Draft, Node, join
from builder.layers.entry import Entry, Item
from builder.layers.names import show
from builder.values import NamedTuple, new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.layers.entry import Source
    from builder.layers.index import Tree


class Settled(NamedTuple):
    items: list[Item]
    """Unique and in canonical order. A file whose source is None repeats the lower file that its `link` names: see `fill`."""
    uses_below: bool
    """The items, or their folder form, depend on what lies below."""


def settle(items: Iterable[Item], below: Tree, *, prefix: bytes = b"", root_entry: bool | None = None) -> Settled:
    """What the archive's `items`, in its order, do to `below` when they are unpacked into the folder `prefix`: see `unpack`.

    `root_entry` is by default True for the prefix b"" alone: a layer means `/` by it.
    """
    draft = Draft(below)
    unpack(items, draft, prefix, root_entry=not prefix if root_entry is None else root_entry)
    return Settled(draft.result(), draft.uses_below)


def unpack(
    items: Iterable[Item], draft: Draft, prefix: bytes = b"", *, root_entry: bool = True, follow_folders: bool = False
) -> None:
    """Draft what the archive's `items`, in its order, do in the folder `prefix`.

    `prefix` is canonical (no symlink in it); links in the archive's paths are resolved inside of it, as in a chroot there.
    `root_entry` says whether the archive's own root entry counts: a layer means `/` by it, ADD of an archive does not.
    With `follow_folders` a folder of the archive whose name is a link is the folder that the link leads to, as BuildKit has it
    for ADD; otherwise it takes the link's place. Whiteouts of what is not below, or what the layer replaces, are left out.
    `opaque` items stay for folders other than the root, whose lower names are whiteouts each.

    Raises BuildError for an entry inside something that is no folder, a hard link to nothing or to a folder, a device
    0:0 and more than `MAX_LINKS` symlinks in one path.
    """
    for item in items:
        entry = item.entry
        if entry.path == b"" and entry.kind == "dir":
            if root_entry:
                draft.make_folders(prefix)
                draft.put(prefix, Node(entry._replace(path=prefix), None))
        elif entry.kind == "opaque":
            draft.mark_opaque(draft.folder(entry.path, prefix))
        elif entry.path == b"":
            raise BuildError(f"the archive's root is a {entry.kind}, not a folder")
        else:
            _apply(draft, item, _place(draft, entry, prefix, follow_folders), prefix)


def fill(items: Iterable[Item], lower_source: Callable[[bytes], Source]) -> list[Item]:
    """The items with every source in place: `lower_source` gives the content of a lower layer's path."""
    return [
        Item(item.entry._replace(link=b""), lower_source(item.entry.link))
        if item.entry.kind == "file" and item.source is None and item.entry.link
        else item
        for item in items
    ]


def _place(draft: Draft, entry: Entry, prefix: bytes, follow_folders: bool) -> bytes:
    """The path that the archive's name means; the folders to it are there afterwards."""
    folder, _, last = entry.path.rpartition(b"/")
    if follow_folders and entry.kind == "dir":
        path = draft.resolve(entry.path, prefix)
        if path != prefix:
            draft.make_folders(path.rpartition(b"/")[0])
        return path
    return join(draft.folder(folder, prefix), last)


def _apply(draft: Draft, item: Item, path: bytes, prefix: bytes) -> None:
    entry = item.entry
    if entry.kind == "hardlink":
        draft.remove(path)
        draft.put(path, _linked(draft, entry, path, prefix))
        return
    if entry.kind == "char" and entry.rdev == (0, 0):
        raise BuildError(f"'{show(entry.path)}' is the device 0:0, which means a deleted file and cannot be in a layer")
    # There may be many, most of them where their names say: no second entry, and no second path, for each.
    if path == entry.path:
        path = entry.path
    else:
        entry = new(Entry, (path, *entry[1:]))
    draft.put(path, Node(entry, item.source))


def _linked(draft: Draft, link: Entry, path: bytes, prefix: bytes) -> Node:
    """The node that a hard link of the archive at `path` shares, with the link's metadata, as link(2) and chmod(2) would leave
    it. What was at `path` is gone by then."""
    folder, _, last = link.link.rpartition(b"/")
    target = join(draft.resolve(folder, prefix), last)
    replaced = any(f.startswith(path + b"/") for f in (target + b"/", join(prefix, link.link) + b"/"))
    node = None if replaced else draft.node(target)
    if node is None or node.entry is None or node.entry.kind == "dir":
        raise BuildError(f"'{show(link.path)}' is a hard link to '{show(link.link)}', which is no file there")
    if node.entry.kind != "file":
        # Nothing can tell two names of one symlink or device from two of them.
        return Node(node.entry, None)
    node.entry = node.entry._replace(
        mode=link.mode, uid=link.uid, gid=link.gid, mtime=link.mtime, xattrs=link.xattrs or node.entry.xattrs
    )
    return node
