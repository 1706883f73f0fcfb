"""Removing a tree that an image or a killed build left: any depth, any modes, no link followed."""

from __future__ import annotations

import os

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str) -> None:
    """Remove `path`, a folder or anything else, with all below; nothing happens when it is not there.

    Only `path`'s parent is trusted. Two descriptors are open at a time, however deep the tree: a folder that lies deeper
    is first moved to the top. Raises OSError where the kernel refuses (a mount point, an immutable file).
    """
    try:
        top = _open(path, None)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int) -> None:
    prefix = os.urandom(8).hex().encode()
    moved = 0
    waiting = _unlink_files(top)
    while waiting:
        name = waiting.pop()
        folder = _open(name, top)
        try:
            for child in _unlink_files(folder):
                moved += 1
                waiting.append(b"%s-%d" % (prefix, moved))
                _hoist(child, folder, waiting[-1], top)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=top)


def _unlink_files(folder: int) -> list[bytes]:
    """Unlink all that is not a folder; the names of the folders."""
    folders = []
    # scandir gives text for a descriptor; names may be any bytes.
    with os.scandir(folder) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if is_folder:
            folders.append(name)
        else:
            os.unlink(name, dir_fd=folder)
    return folders


def _hoist(name: bytes, folder: int, new_name: bytes, top: int) -> None:
    if os.geteuid() != 0:
        # rename(2) of a folder into another parent needs the right to write into the folder itself.
        os.close(_open(name, folder))
    os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=top)


def _open(name: str | bytes, folder: int | None) -> int:
    """Open a folder for reading and removal, giving its owner the rights where a mode like 000 withholds them."""
    try:
        found = os.open(name, _OPEN_FOLDER, dir_fd=folder)
    except PermissionError:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            # fchmod refuses an O_PATH descriptor; its name in /proc leads to that very folder.
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        finally:
            os.close(handle)
        found = os.open(name, _OPEN_FOLDER, dir_fd=folder)
    if os.geteuid() != 0:
        os.fchmod(found, 0o700)
    return found
