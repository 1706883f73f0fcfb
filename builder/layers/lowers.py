"""The folders of the layers below a step, to tell what it left as it was."""

from __future__ import annotations

import os

from builder.errors import StoreError
from builder.layers.beneath import Beneath
from builder.layers.names import show
from builder.layers.source import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from builder.layers.entry import Entry
    from builder.layers.index import Tree

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Lowers:
    """`folders[n]` holds what `below` has from layer n. A context manager; folders are opened when they are asked for.

    Methods raise StoreError where a folder has not what `below` says.
    """

    def __init__(self, folders: Sequence[str], below: Tree) -> None:
        self._folders = folders
        self._below = below
        self._open: dict[int, Beneath] = {}

    def __enter__(self) -> Lowers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for beneath in self._open.values():
            beneath.close()
        self._open.clear()

    def inode(self, path: bytes) -> tuple[int, int] | None:
        """Device and inode number of what the base has there; None when it has nothing."""
        if self._below.lookup(path) is None:
            return None
        status = self._status(path)
        return status.st_dev, status.st_ino

    def same(self, upper: Beneath, entry: Entry) -> bool:
        """Whether the upper folder's `entry`, which is no folder, is what the base has at its path, time included.

        What only its time sets apart was touched, and is a change.
        """
        known = self._below.lookup(entry.path)
        if known is None or not _same_metadata(entry, known):
            return False
        if self._status(entry.path).st_mtime_ns != entry.mtime:
            return False
        return entry.kind != "file" or entry.size == 0 or self._same_content(upper, entry.path)

    def _same_content(self, upper: Beneath, path: bytes) -> bool:
        # Equal sizes and times prove nothing: cp -p and touch -r make them.
        ours = _open(upper, path)
        try:
            theirs = _open(self._beneath(path), path)
            try:
                while True:
                    chunk = os.read(ours, CHUNK)
                    if chunk != os.read(theirs, CHUNK):
                        return False
                    if not chunk:
                        return True
            finally:
                os.close(theirs)
        finally:
            os.close(ours)

    def _status(self, path: bytes) -> os.stat_result:
        try:
            parent, name = self._beneath(path).parent(path)
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _damaged(path) from error

    def _beneath(self, path: bytes) -> Beneath:
        layer = self._below.layer_of(path)
        if layer < 0:
            raise _damaged(path)
        beneath = self._open.get(layer)
        if beneath is None:
            beneath = self._open[layer] = Beneath(self._folders[layer])
        return beneath


def _same_metadata(entry: Entry, known: Entry) -> bool:
    kind = "file" if known.kind == "hardlink" else known.kind
    return (
        entry.kind == kind
        # A symlink's mode means nothing (symlink(7)), and archives disagree on it.
        and (entry.mode == known.mode or kind == "symlink")
        and (entry.uid, entry.gid, entry.size, entry.link if kind == "symlink" else b"", entry.rdev, entry.xattrs)
        == (known.uid, known.gid, known.size, known.link if kind == "symlink" else b"", known.rdev, known.xattrs)
    )


def _open(beneath: Beneath, path: bytes) -> int:
    parent, name = beneath.parent(path)
    try:
        return os.open(name, _READ, dir_fd=parent)
    except FileNotFoundError as error:
        raise _damaged(path) from error


def _damaged(path: bytes) -> StoreError:
    return StoreError(
        f"the store's folder of a layer has no '{show(path)}', which its index names",
        hint="remove the image that it belongs to and build it again",
    )
