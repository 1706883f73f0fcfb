"""How much of the disk each thing in the store takes: allocated blocks, folders included, a file with several names once.

The sum over all is what ``du -s --block-size=1`` says of the store's folder (du(1)), as long as nobody changes it meanwhile;
lost+found does not count, which a file system that is the store's alone has of its own.
"""

from __future__ import annotations

import os
import stat

from builder.store.inventory import Thing
from builder.store.layout import FOREIGN
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Seen = set[tuple[int, int]]

_BLOCK = 512
"""What st_blocks counts in, whatever the file system's blocks are (inode(7))."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHELVES = ("blobs/sha256", "blobs/sha512", "index", "snapshots", "mounts", "failed", "tmp", "locks")
"""Folders whose every entry is a thing, or a part of one; all else is the store's own."""
_LEFT = {
    "tmp": "temporary files of a process",
    "locks": "a lock",
    "blobs/sha256": "what a killed process left",
}


class Sized(NamedTuple):
    thing: Thing
    size: int
    """Bytes on the disk."""


def measure(root: str, things: Sequence[Thing], known: Mapping[str, int] | None = None) -> list[Sized]:
    """Every thing with its size, and behind them what else lies in the store. `known` are sizes of snapshots by id, which are
    then not looked at again."""
    known = known or {}
    owners = {path: number for number, thing in enumerate(things) for path in thing.paths()}
    sizes = [0] * len(things)
    others: list[Sized] = []
    seen: Seen = set()
    own = 0
    folders = [""]
    while folders:
        folder = folders.pop()
        place = os.path.join(root, folder)
        own += _blocks(os.lstat(place), seen)
        for name in sorted(os.listdir(place)):
            if not folder and name in FOREIGN:
                continue
            path = f"{folder}/{name}" if folder else name
            if path in _SHELVES or path == "blobs":
                folders.append(path)
                continue
            size = known.get(name) if folder == "snapshots" else None
            if size is None:
                size = tree_size(os.path.join(root, path), seen)
            if path in owners:
                sizes[owners[path]] += size
            elif folder in _SHELVES:
                left = _LEFT.get(folder, "what a killed process left")
                others.append(Sized(Thing("temporary", path, left, folder=path, in_use=folder in ("tmp", "locks")), size))
            else:
                own += size
    store = Thing("store", "store", "the database, the history of builds, the store's own folders", in_use=True)
    return [*map(Sized, things, sizes), *others, Sized(store, own)]


def tree_size(path: str, seen: Seen) -> int:
    """Bytes of a file, or of a folder with all below. What vanishes meanwhile does not count. `seen` holds the files with
    several names that were counted.

    One descriptor is open at a time, however deep the tree: the way up is `..`.
    """
    try:
        info = os.lstat(path)
        total = _blocks(info, seen)
        if not stat.S_ISDIR(info.st_mode):
            return total
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        return 0
    try:
        size, names = _inside(fd, seen)
        total += size
        levels = [names]
        while levels:
            if levels[-1]:
                try:
                    child = os.open(levels[-1].pop(), _OPEN, dir_fd=fd)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                size, names = _inside(child, seen)
                total += size
                levels.append(names)
            else:
                levels.pop()
                if not levels:
                    break
                child = os.open("..", _OPEN, dir_fd=fd)
            os.close(fd)
            fd = child
    finally:
        os.close(fd)
    return total


def _inside(fd: int, seen: Seen) -> tuple[int, list[bytes]]:
    """Bytes of what the folder holds, without what its folders hold; and the names of those."""
    total = 0
    folders = []
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            total += _blocks(info, seen)
            if stat.S_ISDIR(info.st_mode):
                folders.append(os.fsencode(entry.name))
    return total, folders


def _blocks(info: os.stat_result, seen: Seen) -> int:
    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
        name = (info.st_dev, info.st_ino)
        if name in seen:
            return 0
        seen.add(name)
    return info.st_blocks * _BLOCK
