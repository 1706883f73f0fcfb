"""What a folder of the host holds, as it is: the one reader behind `scan` and `diff`."""

from __future__ import annotations

import os
import stat

from builder.errors import BuildError
from builder.layers import nodes, owners, xattrs
from builder.layers.beneath import explain
from builder.layers.entry import Entry
from builder.layers.names import show
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.layers.beneath import Beneath
    from builder.layers.entry import Kind
    from builder.layers.xattrs import Xattrs

_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


class Found(NamedTuple):
    """One name in a folder. `entry` is None for a socket, which no layer can carry."""

    path: bytes
    entry: Entry | None
    xattrs: Xattrs
    inode: tuple[int, int]
    """Device and inode number of a file that has several names; (0, 0) for all others."""


_ALONE = (0, 0)


def walk(
    beneath: Beneath,
    *,
    overlay: bool,
    ours: bool | None = None,
    known: Callable[[bytes], Entry | None] = lambda path: None,
    made: nodes.Made | None = None,
) -> Iterator[Found]:
    """All that is below the root, the root first, folders before what they hold, in no other order.

    With `overlay` the folder is in overlayfs' own form: a char device 0:0 is a whiteout. Owners are noted in it where the store
    notes them (`owners`); so they are where it is merely `ours`. `known` says what was at a path before, `made` which devices
    were made since (`nodes`). Hard links are not resolved: each name is a file with its `inode`. Raises BuildError for what
    vanished meanwhile or may not be read, and for names that begin with `.wh.`: a layer cannot carry them (OCI image-spec
    layer.md, "Whiteouts").
    """
    ours = overlay if ours is None else ours
    root = beneath.root
    yield _found(b"", os.fstat(root), xattrs.read(root), b"", known, made, overlay=overlay, ours=ours)
    folders = [b""]
    while folders:
        folder = folders.pop()
        try:
            descriptor = beneath.folder(folder)
            with os.scandir(descriptor) as names:
                inside = [(os.fsencode(name.name), name) for name in names]
        except OSError as error:
            explain(error, folder)
        prefix = folder + b"/" if folder else b""
        for name, seen in inside:
            path = prefix + name
            try:
                status = seen.stat(follow_symlinks=False)
                target = os.readlink(name, dir_fd=descriptor) if stat.S_ISLNK(status.st_mode) else b""
                found = _found(
                    path, status, xattrs.read(xattrs.child(descriptor, name)), target, known, made, overlay=overlay, ours=ours
                )
            except OSError as error:
                explain(error, path)
            if name.startswith(b".wh."):
                raise BuildError(
                    f"'{show(path)}' cannot be in a layer: names that begin with '.wh.' mean deleted files there",
                    hint="give it another name",
                )
            if found.entry is not None and found.entry.kind == "dir":
                folders.append(path)
            yield found


def _found(
    path: bytes,
    status: os.stat_result,
    attributes: Xattrs,
    target: bytes,
    known: Callable[[bytes], Entry | None],
    made: nodes.Made | None,
    *,
    overlay: bool,
    ours: bool,
) -> Found:
    mode, uid, gid = status.st_mode, status.st_uid, status.st_gid
    kind = _KINDS.get(stat.S_IFMT(mode))
    if ours:
        uid, gid, attributes = owners.read(kind, uid, gid, attributes)
    elif attributes.notes:
        attributes = attributes._replace(foreign=(*attributes.foreign, *(name for name, _ in attributes.notes)), notes=())
    if kind is None:
        return Found(path, None, attributes, _ALONE)
    device = (0, 0)
    if attributes.notes:
        node = nodes.stands_for(attributes, uid, known(path), made) if kind == "file" else None
        if node is not None:
            kind, device = node
        else:
            attributes = nodes.without_note(attributes)
    elif kind == "char" or kind == "block":
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        if overlay and kind == "char" and device == (0, 0):
            return Found(path, Entry(path, "whiteout"), attributes, _ALONE)
    entry = Entry(
        path,
        kind,
        stat.S_IMODE(mode),
        uid,
        gid,
        status.st_size if kind == "file" else 0,
        "",
        target,
        device,
        attributes.kept,
        status.st_mtime_ns,
    )
    # Only regular files are hard links in a layer: nothing can tell two symlinks or devices from one with two names.
    return Found(path, entry, attributes, (status.st_dev, status.st_ino) if kind == "file" and status.st_nlink > 1 else _ALONE)
