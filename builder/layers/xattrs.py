"""Extended attributes: which of them a layer carries (SPEC section 5), and reading them.

Kept are `security.capability` and `user.*`. overlayfs' own (`user.overlay.*`, `trusted.overlay.*`; kernel
Documentation/filesystems/overlayfs.rst) describe a folder's form and are never content, nor are our own (`user.pybuild.*`).
What a security module or a file system of the host puts on every file belongs to the host: it cannot be removed, and naming it
for each file would say nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os

from builder.layers.ownerform import noted
from builder.values import NamedTuple

OPAQUE = "user.overlay.opaque"
"""Set to `y` on a folder that hides what lower layers hold in it (overlay with the `userxattr` option)."""

_CAPABILITY = b"security.capability"
ACLS = ("system.posix_acl_default", "system.posix_acl_access")

_NOTES = b"user.pybuild."
# Since Linux 6.7 overlayfs stores a container's own `user.overlay.x` as `user.overlay.overlay.x`.
_ESCAPED = b"user.overlay.overlay."
_HOST = (
    b"security.selinux", b"security.SMACK64", b"security.ima", b"security.evm", b"security.apparmor", b"system.nfs4", b"btrfs.",
)  # fmt: skip
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)


class Xattrs(NamedTuple):
    """The attributes of one file, sorted by what becomes of them. Names in full."""

    kept: tuple[tuple[bytes, bytes], ...] = ()
    """What the layer carries, sorted by name."""
    overlay: tuple[bytes, ...] = ()
    """overlayfs' own."""
    foreign: tuple[bytes, ...] = ()
    """What a layer does not carry: ACLs, `trusted.*` and others."""
    opaque: bool = False
    notes: tuple[tuple[bytes, bytes], ...] = ()
    """What a folder of ours says of a file and the kernel cannot: names `user.pybuild.*`."""


NONE = Xattrs()


def is_kept(name: bytes) -> bool:
    """Whether a layer carries the attribute."""
    return name == _CAPABILITY or (name.startswith(b"user.") and not name.startswith((b"user.overlay.", _NOTES)))


def child(folder: int, name: bytes) -> bytes:
    """A path to `name` in the open folder, for the calls on attributes, which take no folder descriptor.

    The link in /proc leads to the folder itself, whatever its path is now (proc(5)); the caller must not follow the last name.
    """
    return b"/proc/self/fd/%d/%b" % (folder, name)


def read(target: int | bytes) -> Xattrs:
    """The attributes of an open file, or of a path whose last name is not followed. OSErrors propagate.

    A file system without attributes has none.
    """
    try:
        # A descriptor must come without `follow_symlinks`.
        names = os.listxattr(target) if isinstance(target, int) else os.listxattr(target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return NONE
        raise
    return _sorted(target, [os.fsencode(name) for name in names]) if names else NONE


def _sorted(target: int | bytes, names: list[bytes]) -> Xattrs:
    kept, overlay, foreign, notes = [], [], [], []
    opaque = False
    for name in names:
        if is_kept(name):
            kept.append((name, get(target, name)))
        elif name.startswith(_NOTES):
            notes.append((name, get(target, name)))
        elif name.startswith(_ESCAPED):
            foreign.append(name)
        elif name.startswith((b"user.overlay.", b"trusted.overlay.")):
            overlay.append(name)
            opaque = opaque or (name.endswith(b".overlay.opaque") and get(target, name) == b"y")
        elif not name.startswith(_HOST):
            foreign.append(name)
    return Xattrs(tuple(sorted(kept)), tuple(overlay), tuple(foreign), opaque, tuple(notes))


def get(target: int | bytes, name: bytes) -> bytes:
    """One attribute's value. OSErrors propagate."""
    value = os.getxattr(target, name) if isinstance(target, int) else os.getxattr(target, name, follow_symlinks=False)
    return _seen_by_root(value) if name == _CAPABILITY and noted() and os.geteuid() != 0 else value


def put(target: int | bytes, name: bytes, value: bytes) -> None:
    """Set one attribute. OSErrors propagate."""
    if name == _CAPABILITY and noted() and os.geteuid() != 0:
        value = _given_by_root(value)
    if isinstance(target, int):
        os.setxattr(target, name, value)
    else:
        os.setxattr(target, name, value, follow_symlinks=False)


# A builder whose user namespace has a single user keeps its own number there, and root's is in the sandbox's, one further down.
# To the kernel capabilities are those that root of the sandbox gave: revision 3, which names him (struct vfs_ns_cap_data).


def _seen_by_root(value: bytes) -> bytes:
    if len(value) != 24 or value[3] != 3 or int.from_bytes(value[20:], "little") != os.geteuid():
        return value
    return value[:3] + b"\2" + value[4:20]


def _given_by_root(value: bytes) -> bytes:
    if len(value) != 20 or value[3] != 2:
        return value
    return value[:3] + b"\3" + value[4:] + os.geteuid().to_bytes(4, "little")


def drop(target: int | bytes, name: bytes) -> None:
    """Remove one attribute. OSErrors propagate."""
    if isinstance(target, int):
        os.removexattr(target, name)
    else:
        os.removexattr(target, name, follow_symlinks=False)


def drop_acls(folder: int) -> None:
    """Remove the ACLs of an open folder, so that what is made in it gets the modes that it is given (acl(5))."""
    for name in ACLS:
        with contextlib.suppress(OSError):
            # Absent, or not known to the file system: both mean that there is no such ACL.
            os.removexattr(folder, name)
