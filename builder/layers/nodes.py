"""Device nodes in the folder form of a layer, where the kernel lets nobody make them: in a user namespace, or in a container.

What stands for one is an empty file with the attribute `user.pybuild.device`, a text `c MAJOR:MINOR` or `b MAJOR:MINOR`, which
goes along when the file is moved, linked or copied up, and stays when its owner changes. (No socket with a note in
`security.capability`, although nobody could open it: chown(2) takes that from whatever it is at.) A user may write such a note
where it may write to a file: it counts at root's files, for devices that root made, and where the device was before.
`builder.sandbox.ownernotes` makes the same for mknod(2) of a command.
"""

from __future__ import annotations

import os
import stat

from builder.layers import xattrs
from builder.layers.ownerform import noted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.layers.entry import Entry, Kind
    from builder.layers.index import Tree

    Made = Callable[[bytes], bool]
    """Whether root made such a device, by what its note says. A user may write a note at each file that it may write to."""

ATTRIBUTE = b"user.pybuild.device"
_KINDS: dict[bytes, Kind] = {b"c": "char", b"b": "block"}


def make(entry: Entry, device: int, parent: int, name: bytes) -> None:
    """Make the node of the device entry in the open folder `parent`, or what stands for it, without its other metadata.
    OSErrors propagate."""
    mode = (stat.S_IFCHR if entry.kind == "char" else stat.S_IFBLK) | 0o600
    try:
        os.mknod(name, mode, device, dir_fd=parent)
    except PermissionError:
        os.mknod(name, stat.S_IFREG | 0o600, dir_fd=parent)
        xattrs.put(xattrs.child(parent, name), ATTRIBUTE, note(entry))


def without_note(attributes: xattrs.Xattrs) -> xattrs.Xattrs:
    """The attributes of what stands for nothing: a note says nothing there, and is none of ours."""
    if not any(name == ATTRIBUTE for name, _ in attributes.notes):
        return attributes
    notes = tuple(note for note in attributes.notes if note[0] != ATTRIBUTE)
    return attributes._replace(foreign=(*attributes.foreign, ATTRIBUTE), notes=notes)


def made_by(devices: frozenset[bytes], below: Tree) -> Made:
    """Those that a command made (as the supervisor tells it), and those that were there before it."""
    before: list[frozenset[bytes]] = []

    def made(value: bytes) -> bool:
        if value not in devices and not before:
            entries = (entry for entry in below.walk(b"") if entry.kind in ("char", "block"))
            before.append(frozenset(note(entry) for entry in entries))
        return value in devices or value in before[0]

    return made


def note(entry: Entry) -> bytes:
    return b"%s %d:%d" % (entry.kind[:1].encode(), *entry.rdev)


def stands_for(
    attributes: xattrs.Xattrs, uid: int, known: Entry | None, made: Made | None
) -> tuple[Kind, tuple[int, int]] | None:
    """Kind and device of what a file with these attributes, which belongs to `uid`, stands for; None for a mere file. `known`
    is what was there before."""
    value = dict(attributes.notes).get(ATTRIBUTE)
    if value is None:
        return None
    kind, _, numbers = value.partition(b" ")
    major, _, minor = numbers.partition(b":")
    if kind not in _KINDS or not (major.isdigit() and minor.isdigit() and len(value) < 24):
        return None
    node = _KINDS[kind], (int(major) & 0xFFF, int(minor) & 0xFFFFF)
    # Where owners are notes, too, whoever ran as another user could have noted himself as root.
    trusted = (uid == 0 or noted()) and (made is None or made(value))
    return node if trusted or (known is not None and (known.kind, known.rdev) == node) else None
