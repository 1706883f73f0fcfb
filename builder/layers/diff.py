"""What a step changed: from the upper folder of its finished overlay mount to the items of its layer.

The upper folder says more and less than a layer does: files that were opened for writing lie in it unchanged, folders
that were made again hide what they do not hold, sockets cannot be shipped. It is normalised in place, so that the folder
and the items say the same and the folder can become a lower one by a rename.

Promises: no name of the upper folder is followed, and the times of its folders stay. Does not protect against a process
that still writes to it: the step is over.
"""

from __future__ import annotations

import os
import stat

from builder.errors import StoreError
from builder.layers import nodes, xattrs
from builder.layers.beneath import Beneath
from builder.layers.entry import Entry, FileSource, Item
from builder.layers.lowers import Lowers
from builder.layers.names import show
from builder.layers.scan import report, sort_linked
from builder.layers.walk import walk
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.layers.index import Tree
    from builder.layers.walk import Found


class Committed(NamedTuple):
    """The items of a step's layer in canonical order; files have `FileSource(upper, path)` and no digest."""

    items: list[Item]
    implied_parents: bool
    """The folder is right on top of this base alone, as `folder.materialise` says it."""


def commit_upper(
    upper: str,
    folders: Sequence[str],
    below: Tree,
    *,
    warn: Callable[[str], None],
    devices: frozenset[bytes] = frozenset(),
) -> Committed:
    """Normalise the upper folder of a finished step in place and return what the step did to `below`.

    `folders[n]` is the folder of the tree's layer n (0 = bottom): files that are unchanged are told from touched ones by the
    true times there. Deletions are explicit: no opaque folders stay. `warn` hears of sockets and of extended attributes that a
    layer does not carry; `devices` are those that the step made where files stand for them (`nodes`). Raises BuildError for a
    name that begins with `.wh.`, StoreError when a folder is not what `below` says. OSErrors propagate; the upper folder is of
    no use then.
    """
    with Beneath(upper) as beneath, Lowers(folders, below) as lowers:
        seen: dict[bytes, Found] = {}
        for found in walk(beneath, overlay=True, known=below.lookup, made=nodes.made_by(devices, below)):
            report(found, warn)
            seen[found.path] = found
        changes = _compare(beneath, seen, lowers, below)
        _normalise(beneath, seen, changes)
    items = [Item(Entry(path, "whiteout")) for path in changes.whiteouts]
    for path in changes.kept:
        entry = seen[path].entry
        if entry is not None:
            items.append(Item(entry, FileSource(upper, path) if entry.kind == "file" else None))
    inodes = {path: seen[path].inode for path in changes.kept if seen[path].inode != (0, 0)}
    return Committed(sort_linked(items, inodes), changes.tied)


class _Changes(NamedTuple):
    kept: set[bytes]
    """What is an item, but for whiteouts."""
    whiteouts: set[bytes]
    made: set[bytes]
    """Whiteouts that the upper folder has not yet."""
    gone: set[bytes]
    """Names to remove from the upper folder that are no folders."""
    empty: list[bytes]
    """Folders to remove, deepest first."""
    tied: bool


def _compare(beneath: Beneath, seen: dict[bytes, Found], lowers: Lowers, below: Tree) -> _Changes:
    folders = [path for path, found in seen.items() if found.entry is not None and found.entry.kind == "dir"]
    made = _hidden(folders, seen, below)
    whiteouts = set(made)
    kept, gone = set(), set()
    candidates = []
    for path, found in seen.items():
        entry = found.entry
        if entry is None:
            gone.add(path)
            # The socket took the place of what is below: that is deleted.
            if below.lookup(path) is not None:
                whiteouts.add(path)
                made.add(path)
        elif entry.kind == "whiteout":
            if below.lookup(path) is not None:
                whiteouts.add(path)
            else:
                gone.add(path)
        elif entry.kind == "dir":
            if not _same_folder(entry, below.lookup(path)):
                kept.add(path)
        else:
            candidates.append(found)
    changed = _changed_files(beneath, candidates, lowers)
    kept |= changed
    gone.update(found.path for found in candidates if found.path not in changed)
    empty, implied = _unchanged_folders(folders, kept, whiteouts)
    return _Changes(kept, whiteouts, made, gone, empty, implied or any(b"/" in path for path in whiteouts))


def _hidden(folders: list[bytes], seen: dict[bytes, Found], below: Tree) -> set[bytes]:
    """What the base has in folders that hide it: opaque ones, and all folders inside those.

    Each name is its own deletion in the layer. `folders` has parents first.
    """
    out: set[bytes] = set()
    merged: dict[bytes, bool] = {}
    for path in folders:
        known = below.lookup(path)
        if known is None or known.kind != "dir":
            merged[path] = False
            continue
        parent = path.rpartition(b"/")[0]
        merged[path] = not seen[path].xattrs.opaque and (not path or merged[parent])
        if not merged[path]:
            prefix = path + b"/" if path else b""
            out.update(prefix + name for name in below.children(path) if prefix + name not in seen)
    return out


def _same_folder(entry: Entry, known: Entry | None) -> bool:
    """A folder whose time alone differs is unchanged: every new name in it moves that."""
    return (
        known is not None
        and known.kind == "dir"
        and (entry.mode, entry.uid, entry.gid, entry.xattrs) == (known.mode, known.uid, known.gid, known.xattrs)
    )


def _changed_files(beneath: Beneath, candidates: list[Found], lowers: Lowers) -> set[bytes]:
    """Those that are not what the base has at the same path.

    Names of one inode are changed together, unless each is unchanged and the base links them too: a link that the step
    made is a change of both its names.
    """
    changed = set()
    groups: dict[tuple[int, int], list[Found]] = {}
    for found in candidates:
        if found.inode != (0, 0):
            groups.setdefault(found.inode, []).append(found)
        elif not lowers.same(beneath, _entry(found)):
            changed.add(found.path)
    for group in groups.values():
        linked = len(group) == 1 or len({lowers.inode(found.path) for found in group}) == 1
        if not linked or not all(lowers.same(beneath, _entry(found)) for found in group):
            changed.update(found.path for found in group)
    return changed


def _entry(found: Found) -> Entry:
    if found.entry is None:
        raise StoreError(f"'{show(found.path)}' has no entry")
    return found.entry


def _unchanged_folders(folders: list[bytes], kept: set[bytes], whiteouts: set[bytes]) -> tuple[list[bytes], bool]:
    """The unchanged folders that hold no change, deepest first; and whether others stay as mere parents of changes."""
    needed = set()
    for path in (*kept, *whiteouts):
        while path:
            path = path.rpartition(b"/")[0]
            if path in needed:
                break
            needed.add(path)
    unchanged = [path for path in folders if path and path not in kept]
    empty = [path for path in unchanged if path not in needed]
    empty.sort(reverse=True)
    return empty, len(empty) < len(unchanged)


def _normalise(beneath: Beneath, seen: dict[bytes, Found], changes: _Changes) -> None:
    """Make the upper folder say what the items say, and give the folders that this touches their times back."""
    touched = set()
    for path in sorted(changes.gone):
        parent, name = beneath.parent(path)
        os.unlink(name, dir_fd=parent)
        touched.add(path.rpartition(b"/")[0])
    for path in changes.empty:
        parent, name = beneath.parent(path)
        os.rmdir(name, dir_fd=parent)
        touched.add(path.rpartition(b"/")[0])
    for path in sorted(changes.made):
        parent, name = beneath.parent(path)
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        touched.add(path.rpartition(b"/")[0])
    removed = changes.gone.union(changes.empty)
    stripped: set[tuple[int, int]] = set()
    for path, found in seen.items():
        # All names of a hard link have the same attributes.
        if path not in removed and (found.xattrs.overlay or found.xattrs.foreign) and found.inode not in stripped:
            _strip(beneath, found)
            if found.inode != (0, 0):
                stripped.add(found.inode)
    for path in touched.difference(changes.empty):
        time = _entry(seen[path]).mtime
        os.utime(beneath.folder(path), ns=(time, time))


def _strip(beneath: Beneath, found: Found) -> None:
    if found.path:
        parent, name = beneath.parent(found.path)
        target: int | bytes = xattrs.child(parent, name)
    else:
        target = beneath.root
    for attribute in (*found.xattrs.overlay, *found.xattrs.foreign):
        xattrs.drop(target, attribute)
