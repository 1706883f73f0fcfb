"""Who owns a file, and which device it stands for, where the kernel cannot be told: notes at the file itself.

A note goes where its file goes: renamed, linked, copied up by the overlay, gone when it is unlinked. No table of inodes could
say as much. Files and folders carry whose they are as `user.pybuild.owner`, a text `UID:GID`. Symlinks, fifos and sockets can
have no attribute of a user's; but root of a user namespace may give any of them `security.capability`, which means nothing
there and has room for 16 bytes (struct vfs_cap_data, linux/capability.h): uid, gid, and a mark that says what they are.

A device is an empty file with `user.pybuild.device`, a text `c MAJOR:MINOR` or `b MAJOR:MINOR`. It is no socket, which nobody
could open either: where owners are real, chown(2) is the kernel's own, and takes `security.capability` from whatever it is at.

No note: root's. `builder.layers.owners` reads and writes the same; a test holds the two together.

Part of the fork server's program.
"""

from __future__ import annotations

import errno
import os
import struct

OWNER = "user.pybuild.owner"
DEVICE = "user.pybuild.device"
HIDDEN = (OWNER.encode(), DEVICE.encode())
_CAPABILITY = "security.capability"
_REVISION_2 = 0x02000000
_NODE = struct.Struct("<IIIQ")
_MARK = 0x726E776F64627970
_KINDS = {0o020000: b"c", 0o060000: b"b"}
_NONE = (errno.ENODATA, errno.EOPNOTSUPP)

Note = tuple[int, int, int, int]
"""uid, gid, S_IFCHR or S_IFBLK or 0, device number as st_rdev."""
ROOT: Note = (0, 0, 0, 0)


class Notes:
    """Notes by paths that lead to one file and no further (`/proc/self/fd/N`). For file systems without attributes of users, a
    tmpfs of an older kernel say, it remembers owners itself: those are gone when the command ends, and so is the note."""

    def __init__(self) -> None:
        self._others: dict[tuple[int, int], tuple[int, int]] = {}

    def get(self, path: bytes) -> Note | None:
        """None where nothing is noted."""
        owner: tuple[int, int] | None = None
        device = (0, 0)
        try:
            # One question for most files: they have no attributes at all.
            names = os.listxattr(path)
            if OWNER in names:
                owner = _parse_owner(os.getxattr(path, OWNER))
            elif _CAPABILITY in names:
                owner = _parse_node(os.getxattr(path, _CAPABILITY))
            if DEVICE in names:
                device = _parse_device(os.getxattr(path, DEVICE))
                owner = owner or (0, 0)
        except OSError as error:
            if error.errno not in _NONE:
                raise
        if self._others and owner is None:
            owner = self._others.get(_inode(path))
        return (*owner, *device) if owner else None

    def put(self, path: bytes, mode: int, uid: int, gid: int) -> None:
        """Note whose it is; `mode` is the file's own st_mode. OSErrors propagate."""
        simple = mode & 0o170000 in (0o100000, 0o040000)
        try:
            if uid == gid == 0:
                _drop(path, OWNER if simple else _CAPABILITY)
            elif simple:
                os.setxattr(path, OWNER, b"%d:%d" % (uid, gid))
            else:
                os.setxattr(path, _CAPABILITY, _NODE.pack(_REVISION_2, uid, gid, _MARK))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._others[_inode(path)] = uid, gid


def device_note(kind: int, device: int) -> bytes:
    """What is noted of an empty file that stands for a device: `kind` is S_IFCHR or S_IFBLK, `device` as st_rdev."""
    return b"%s %d:%d" % (_KINDS[kind], os.major(device), os.minor(device))


def is_mark(value: bytes) -> bool:
    """Whether a value of `security.capability` is a note."""
    return _parse_node(value) is not None


def note_where_possible(descriptor: int, uid: int, gid: int) -> None:
    """Where the file system has no such attributes (tmpfs before Linux 6.6) it stays root's, which refuses nobody anything."""
    try:
        os.setxattr(descriptor, OWNER, b"%d:%d" % (uid, gid))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def _drop(path: bytes, name: str) -> None:
    try:
        os.removexattr(path, name)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def _parse_owner(value: bytes) -> tuple[int, int] | None:
    """None for what says nothing."""
    uid, _, gid = value.partition(b":")
    if not (uid.isdigit() and gid.isdigit() and len(value) < 22):
        return None
    return int(uid) & 0xFFFFFFFF, int(gid) & 0xFFFFFFFF


def _parse_node(value: bytes) -> tuple[int, int] | None:
    if len(value) != _NODE.size:
        return None
    revision, uid, gid, mark = _NODE.unpack(value)
    return (uid, gid) if (revision, mark) == (_REVISION_2, _MARK) else None


def _parse_device(value: bytes) -> tuple[int, int]:
    kind, _, numbers = value.partition(b" ")
    major, _, minor = numbers.partition(b":")
    if kind not in _KINDS.values() or not (major.isdigit() and minor.isdigit() and len(value) < 24):
        return 0, 0
    mode = next(mode for mode, letter in _KINDS.items() if letter == kind)
    return mode, os.makedev(int(major) & 0xFFF, int(minor) & 0xFFFFF)


def _inode(path: bytes) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
