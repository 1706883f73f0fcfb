"""Whose the files of the store's folders are, on every machine.

Mostly that is the kernel's business. A builder in a user namespace with a single user can give nothing to anybody else: there
owners are notes at the files, and the files the builder's own. Files and folders carry `user.pybuild.owner`, a text `UID:GID`;
what can have no attribute of a user's (symlinks, fifos) carries `security.capability`, which means nothing there and has room
for 16 bytes (struct vfs_cap_data, linux/capability.h). No note: root's. `builder.sandbox.ownernotes` is the other side, which
notes what commands do.

A folder made in one form says nothing in another; snapshots know theirs (`ownerform`).
"""

from __future__ import annotations

import errno
import os

from builder.errors import SandboxError
from builder.layers import nodes, xattrs
from builder.layers.ownerform import noted, outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

OWNER = b"user.pybuild.owner"
_CAPABILITY = b"security.capability"
_REVISION_2 = 0x02000000
_MARK = 0x726E776F64627970
MORE_IDS = "give this user more of them in /etc/subuid and /etc/subgid, or take --isolation=single-uid, which has all"


def give(descriptor: int, uid: int, gid: int) -> None:
    """An open file or folder to its owner. OSErrors propagate; raises SandboxError for an owner that there is not."""
    if not noted():
        with _possible(uid, gid):
            os.fchown(descriptor, uid, gid)
    elif uid or gid:
        os.setxattr(descriptor, OWNER, b"%d:%d" % (uid, gid))
    else:
        _take_back(descriptor)


def give_name(folder: int, name: bytes, uid: int, gid: int) -> None:
    """What is called `name` in the open folder, no link being followed. Before its mode is set, and its other attributes: a
    change of owner clears some. Raises as `give`."""
    if not noted():
        with _possible(uid, gid):
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        return
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    target = xattrs.child(folder, name)
    if mode & 0o170000 in (0o100000, 0o040000):
        if uid or gid:
            xattrs.put(target, OWNER, b"%d:%d" % (uid, gid))
    elif uid or gid:
        note = (_REVISION_2, uid, gid, _MARK & 0xFFFFFFFF, _MARK >> 32)
        xattrs.put(target, _CAPABILITY, b"".join(number.to_bytes(4, "little") for number in note))


def give_path(path: str, uid: int, gid: int) -> None:
    """A file or folder of the builder's own making, by its path; a link is followed."""
    if noted():
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            give(descriptor, uid, gid)
        finally:
            os.close(descriptor)
    else:
        with _possible(uid, gid):
            os.chown(path, uid, gid)


def give_like(folder: str, other: str) -> None:
    """The folder `other` to the owner of `folder`, both of the store."""
    status = os.lstat(folder)
    uid, gid, _ = read("dir", status.st_uid, status.st_gid, xattrs.read(os.fsencode(folder)))
    give_path(other, uid, gid)


def read(kind: str | None, uid: int, gid: int, attributes: xattrs.Xattrs) -> tuple[int, int, xattrs.Xattrs]:
    """Whose a file of a folder of ours is, the kernel having said `uid` and `gid`, and its attributes without the note."""
    if not noted():
        # A command's own, with which it would mean something elsewhere.
        stray = tuple(name for name, _ in attributes.notes if name != nodes.ATTRIBUTE)
        return uid, gid, attributes._replace(foreign=(*attributes.foreign, *stray)) if stray else attributes
    if kind in ("file", "dir"):
        return *(_parse(dict(attributes.notes).get(OWNER, b"")) or (0, 0)), attributes
    kept = tuple(pair for pair in attributes.kept if pair[0] != _CAPABILITY)
    return *(_parse_node(dict(attributes.kept).get(_CAPABILITY, b"")) or (0, 0)), attributes._replace(kept=kept)


class _possible:
    """What the kernel refuses inside for want of an id is told as that."""

    def __init__(self, uid: int, gid: int) -> None:
        self._ids = uid, gid

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            require(*self._ids)


def require(uid: int, gid: int) -> None:
    """Raises SandboxError for an owner that nothing can have in this user namespace."""
    if told := outside(uid, gid):
        raise SandboxError(told, hint=MORE_IDS)


def _parse(value: bytes) -> tuple[int, int] | None:
    uid, _, gid = value.partition(b":")
    if not (uid.isdigit() and gid.isdigit() and len(value) < 22):
        return None
    return int(uid) & 0xFFFFFFFF, int(gid) & 0xFFFFFFFF


def _parse_node(value: bytes) -> tuple[int, int] | None:
    words = [int.from_bytes(value[at : at + 4], "little") for at in range(0, len(value), 4)]
    if len(value) != 20 or words[0] != _REVISION_2 or words[3] | words[4] << 32 != _MARK:
        return None
    return words[1], words[2]


def _take_back(descriptor: int) -> None:
    try:
        os.removexattr(descriptor, OWNER)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
