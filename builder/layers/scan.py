"""A folder of the host as items of a layer.

Promises: no link is followed, whatever else happens to the folder meanwhile; what cannot be carried is reported or an
error, never dropped in silence. Does not protect against a file whose content changes later: whoever reads the content
compares it with the entry.
"""

from __future__ import annotations

from builder.layers.beneath import Beneath
from builder.layers.entry import Entry, FileSource, Item
from builder.layers.names import show
from builder.layers.order import link_to, sort_items
from builder.layers.walk import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from builder.layers.walk import Found


def scan(
    root: str,
    *,
    owners: Literal["keep", "root", "ours"],
    overlay: bool = False,
    warn: Callable[[str], None] | None = None,
    known: Callable[[bytes], Entry | None] = lambda path: None,
) -> list[Item]:
    """All that the folder `root` holds, in canonical order, files with `FileSource(root, path)` and without digests.

    `owners="root"` makes everything 0:0, `ours` reads the owners of a folder of the store (`owners`). With `overlay` the folder
    is in overlayfs' own form and its whiteouts and opaque folders become entries of those kinds. The root itself is an item
    only when it is not 0755 0:0 without attributes. Hard links are found; the first path in order owns the content. Sockets and
    the attributes that a layer does not carry are left out and told to `warn`. Raises BuildError for what vanishes meanwhile,
    may not be read, or has a name that begins with `.wh.`. `known` is `walk`'s.
    """
    entries = []
    opaque = []
    inodes: dict[bytes, tuple[int, int]] = {}
    with Beneath(root) as beneath:
        for found in walk(beneath, overlay=overlay, ours=overlay or owners == "ours", known=known):
            if warn is not None:
                report(found, warn)
            entry = found.entry
            if entry is None:
                continue
            if overlay and found.xattrs.opaque:
                opaque.append(Item(Entry(entry.path, "opaque")))
            if owners == "root" and (entry.uid or entry.gid):
                entry = entry._replace(uid=0, gid=0)
            if entry.path or (entry.mode, entry.uid, entry.gid, entry.xattrs) != (0o755, 0, 0, ()):
                entries.append(entry)
                if found.inode != (0, 0):
                    inodes[entry.path] = found.inode
    items = [Item(entry, FileSource(root, entry.path) if entry.kind == "file" else None) for entry in entries]
    return sort_linked(items + opaque, inodes)


def report(found: Found, warn: Callable[[str], None]) -> None:
    """Tell what a layer does not carry of one file."""
    if found.entry is None:
        warn(f"'{show(found.path)}' is a socket and is left out")
    else:
        for name in found.xattrs.foreign:
            warn(f"the extended attribute {show(name)} of '{show(found.path)}' is left out")


def sort_linked(items: list[Item], inodes: dict[bytes, tuple[int, int]]) -> list[Item]:
    """The items in canonical order, where those files that share an inode (by path) name the first of them."""
    ordered = sort_items(items)
    owners: dict[tuple[int, int], Entry] = {}
    if inodes:
        for at, item in enumerate(ordered):
            entry = item.entry
            inode = inodes.get(entry.path)
            if inode is not None and entry.kind == "file":
                owner = owners.setdefault(inode, entry)
                if owner is not entry:
                    ordered[at] = Item(link_to(owner, entry.path))
    return ordered
