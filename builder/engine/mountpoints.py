"""Mount points that leave no trace: where the sandbox mounts, and the stub layer that holds what the image lacks for it.

A mount point that the image does not have would end up in the upper directory, with new times on its parents. A small lower
layer between the image and the upper holds it instead, with copies of the folders above it, since the topmost folder of
an overlay gives its metadata.
"""

from __future__ import annotations

import os

from builder.errors import BuildError
from builder.layers.names import show
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.layers.index import Tree

FOLDERS = (b"dev", b"proc", b"sys")


class MountPoints(NamedTuple):
    stub: str
    """The folder of the stub layer; an empty text when the image has all that is needed."""
    files: tuple[tuple[str, str], ...]
    """For each file asked for: its name and the absolute path in the image that it has without links."""


def prepare(tree: Tree, folder: str, files: tuple[bytes, ...]) -> MountPoints:
    """Make the stub in the new folder `folder`, which is removed where no stub is needed. `files` are paths as programs know
    them (`etc/hosts`).

    Raises BuildError where the image has something of another kind at a mount point.
    """
    for path in FOLDERS:
        entry = tree.lookup(path)
        if entry is not None and entry.kind != "dir":
            raise BuildError(f"the image's '/{show(path)}' is no folder, so nothing can be mounted there")
        if entry is None:
            _folder(tree, folder, path)
    found = []
    for path in files:
        real = tree.resolve(path)
        entry = tree.lookup(real)
        if entry is not None and entry.kind not in ("file", "hardlink"):
            raise BuildError(f"the image's '/{show(path)}' is no file, so nothing can be mounted there")
        if entry is None:
            _folder(tree, folder, real.rpartition(b"/")[0])
            _file(os.path.join(os.fsencode(folder), real))
        found.append((os.fsdecode(path), "/" + os.fsdecode(real)))
    if not os.listdir(folder):
        os.rmdir(folder)
        return MountPoints("", tuple(found))
    _root(tree, folder)
    return MountPoints(folder, tuple(found))


def _folder(tree: Tree, stub: str, path: bytes) -> None:
    parts = path.split(b"/") if path else []
    for end in range(1, len(parts) + 1):
        at = b"/".join(parts[:end])
        entry = tree.lookup(at)
        if entry is not None and entry.kind != "dir":
            raise BuildError(f"the image's '/{show(at)}' is no folder, so nothing can be mounted below it")
        where = os.path.join(os.fsencode(stub), at)
        if os.path.lexists(where):
            continue
        os.mkdir(where, 0o755)
        os.chown(where, entry.uid if entry else 0, entry.gid if entry else 0)
        os.chmod(where, entry.mode if entry else 0o755)
        if entry is not None:
            for name, value in entry.xattrs:
                os.setxattr(where, name, value)


def _file(where: bytes) -> None:
    os.close(os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    os.chmod(where, 0o644)


def _root(tree: Tree, stub: str) -> None:
    """The stub's root is `/` as long as the upper's is not set: give it the image's metadata."""
    entry = tree.lookup(b"")
    if entry is not None:
        os.chown(stub, entry.uid, entry.gid)
        os.chmod(stub, entry.mode)
