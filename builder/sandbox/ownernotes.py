"""Who owns a file, and which device it stands for, where the kernel cannot be told: a note at the file itself.

A note goes where its file goes: renamed, linked, copied up by the overlay, gone when it is unlinked. No table of inodes could
say as much. Files and folders carry it as `user.pybuild.owner`, a text `UID:GID`. Symlinks, fifos and sockets can have no
attribute of a user's; but root of a user namespace may give any of them `security.capability`, which means nothing there and
has room for 16 bytes (struct vfs_cap_data, linux/capability.h): uid, gid, device number, and a mark that says what they are. A
device is a socket with such a note: it cannot be opened, written to or read, which is what `nodev` says of a device.

No note: root's. `builder.layers.owners` reads and writes the same; a test holds the two together.

Part of the fork server's program.
"""

from __future__ import annotations

import errno
import os
import struct

NAME = "user.pybuild.owner"
HIDDEN = NAME.encode()
_CAPABILITY = "security.capability"
_REVISION_2 = 0x02000000
_MARK = 0x70796200
_NODE = struct.Struct("<IIIII")
_KINDS = (0, 0o020000, 0o060000)
_NONE = (errno.ENODATA, errno.EOPNOTSUPP)

Note = tuple[int, int, int, int]
"""uid, gid, S_IFCHR or S_IFBLK or 0, device number as st_rdev."""
ROOT: Note = (0, 0, 0, 0)


class Notes:
    """Notes by paths that lead to one file and no further (`/proc/self/fd/N`). For file systems without attributes of users, a
    tmpfs of an older kernel say, it remembers them itself: those are gone when the command ends, and so is the note."""

    def __init__(self) -> None:
        self._others: dict[tuple[int, int], Note] = {}

    def get(self, path: bytes) -> Note | None:
        """None where nothing is noted."""
        found = None
        try:
            # One question for most files: they have no attributes at all.
            names = os.listxattr(path)
            if NAME in names:
                found = _parse_owner(os.getxattr(path, NAME))
            elif _CAPABILITY in names:
                found = _parse_node(os.getxattr(path, _CAPABILITY))
        except OSError as error:
            if error.errno not in _NONE:
                raise
        if self._others and found is None:
            found = self._others.get(_inode(path))
        return found

    def put(self, path: bytes, mode: int, note: Note) -> None:
        """`mode` is the file's own st_mode. OSErrors propagate."""
        simple = mode & 0o170000 in (0o100000, 0o040000)
        try:
            if note == ROOT:
                _drop(path, NAME if simple else _CAPABILITY)
            elif simple:
                os.setxattr(path, NAME, b"%d:%d" % note[:2])
            else:
                os.setxattr(path, _CAPABILITY, _node(note))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._others[_inode(path)] = note


def note_where_possible(descriptor: int, uid: int, gid: int) -> None:
    """Where the file system has no such attributes (tmpfs before Linux 6.6) it stays root's, which refuses nobody anything."""
    try:
        os.setxattr(descriptor, NAME, b"%d:%d" % (uid, gid))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def _drop(path: bytes, name: str) -> None:
    try:
        os.removexattr(path, name)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def _parse_owner(value: bytes) -> Note | None:
    uid, _, gid = value.partition(b":")
    # A command may write what it likes there: it says whose its own files are, as with chown.
    if not (uid.isdigit() and gid.isdigit() and len(value) < 22):
        return None
    return int(uid) & 0xFFFFFFFF, int(gid) & 0xFFFFFFFF, 0, 0


def _parse_node(value: bytes) -> Note | None:
    if len(value) != _NODE.size:
        return None
    revision, uid, gid, device, mark = _NODE.unpack(value)
    if revision != _REVISION_2 or mark & ~3 != _MARK or mark & 3 == 3:
        return None
    return uid, gid, _KINDS[mark & 3], device


def _node(note: Note) -> bytes:
    uid, gid, kind, device = note
    return _NODE.pack(_REVISION_2, uid, gid, device, _MARK | _KINDS.index(kind))


def _inode(path: bytes) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
