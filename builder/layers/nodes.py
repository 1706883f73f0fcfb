"""Device nodes in the folder form of a layer, where the kernel lets nobody make them: in a user namespace, or in a container.

What stands for one is a socket: it can be neither opened nor read nor written, which is what `nodev` says of a device in a
sandbox. Which device it is says its `security.capability`, which means nothing on a socket, has room for it, goes along when
the file is moved or copied up, and can be set by root of the namespace alone, so that no other user of an image makes
devices in this way.
"""

from __future__ import annotations

import os
import stat
import struct

from builder.layers import xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.layers.entry import Entry, Kind

ATTRIBUTE = b"security.capability"
# struct vfs_cap_data of linux/capability.h: what a program's capabilities would be holds owner, device number and kind.
_NOTE = struct.Struct("<IIIII")
_REVISION_2 = 0x02000000
_MARK = 0x70796200
_KINDS = ("", "char", "block")


def make(entry: Entry, device: int, parent: int, name: bytes) -> None:
    """Make the node of the device entry in the open folder `parent`, without its metadata. OSErrors propagate."""
    mode = (stat.S_IFCHR if entry.kind == "char" else stat.S_IFBLK) | 0o600
    try:
        os.mknod(name, mode, device, dir_fd=parent)
    except PermissionError:
        os.mknod(name, stat.S_IFSOCK | 0o600, dir_fd=parent)


def note(entry: Entry, device: int, parent: int, name: bytes) -> None:
    """Say what a socket that `make` made stands for: after the owner was set, since chown(2) drops the attribute."""
    if stat.S_ISSOCK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        value = _NOTE.pack(_REVISION_2, entry.uid, entry.gid, device, _MARK | _KINDS.index(entry.kind))
        xattrs.put(xattrs.child(parent, name), ATTRIBUTE, value)


def stands_for(attributes: xattrs.Xattrs) -> tuple[Kind, tuple[int, int]] | None:
    """Kind and device of what a socket with these attributes stands for; None for a mere socket."""
    value = dict(attributes.kept).get(ATTRIBUTE, b"")
    if len(value) != _NOTE.size:
        return None
    revision, _, _, device, mark = _NOTE.unpack(value)
    if revision != _REVISION_2 or mark & ~3 != _MARK or mark & 3 not in (1, 2):
        return None
    return "char" if mark & 3 == 1 else "block", (os.major(device), os.minor(device))
