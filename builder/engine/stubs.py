"""Stub layers: small lower folders with the mount points that an image lacks, each made once a build.

Most commands of a build lack the same ones, and to make three files and five folders for each took a tenth of what it costs to
start one.
"""

from __future__ import annotations

import os

from builder.layers import owners
from builder.layers.folder import times
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.layers.entry import Entry


class Stub(NamedTuple):
    """What is to be in one; nothing where the image lacks nothing."""

    folders: tuple[tuple[bytes, Entry | None], ...] = ()
    """Each with what the image has there, whose metadata it gets; what is above it comes before it."""
    files: tuple[bytes, ...] = ()
    """Empty ones."""
    root: Entry | None = None
    """The image's own: the stub's is `/` as long as the upper's is not set."""

    @property
    def is_empty(self) -> bool:
        return not (self.folders or self.files)


class Stubs:
    """Those of one build. What is made here is only ever read."""

    def __init__(self, new_path: Callable[[], str]) -> None:
        """`new_path` names a place on the store's file system that is cleared when the store is closed."""
        self._new_path = new_path
        self._made: dict[Stub, str] = {}

    def folder(self, stub: Stub) -> str:
        known = self._made.get(stub)
        if known is None:
            known = self._new_path()
            _make(stub, known)
            self._made[stub] = known
        return known


def _make(stub: Stub, folder: str) -> None:
    root = os.fsencode(folder)
    os.mkdir(root, 0o755)
    for path, _ in stub.folders:
        os.mkdir(os.path.join(root, path), 0o755)
    for path in stub.files:
        where = os.path.join(root, path)
        os.close(os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        os.chmod(where, 0o644)
    # Last of all, and what is inside first, since each new name moves a time.
    for path, entry in reversed(((b"", stub.root), *stub.folders)):
        _dress(os.path.join(root, path) if path else root, entry)


def _dress(folder: bytes, entry: Entry | None) -> None:
    owners.give_path(os.fsdecode(folder), entry.uid if entry else 0, entry.gid if entry else 0)
    os.chmod(folder, entry.mode if entry else 0o755)
    if entry is not None:
        for name, value in entry.xattrs:
            os.setxattr(folder, name, value)
        os.utime(folder, ns=times(entry))
