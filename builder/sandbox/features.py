"""Which of the kernel's newer calls this machine has: asked once, when the fork server starts. Never guessed.

Part of the fork server's program.
"""

from __future__ import annotations

import os

from builder.sandbox import kernel

_EINVAL = 22
# (name, system call, arguments that make it fail wherever it exists). Those of the mount interface come as one: they are
# replaced together.
_CALLS: tuple[tuple[str, int, tuple[int | bytes | None, ...]], ...] = (
    ("clone3", 435, (None, 0)),
    ("close_range", 436, (1, 0, 0)),
    ("openat2", 437, (-1, b"", None, 0)),
    ("mount_setattr", 442, (-1, b"", 0, None, 0)),
    ("mount-api", 428, (-1, b"", -1)),
    ("mount-api", 429, (-1, b"", -1, b"", -1)),
    ("mount-api", 430, (None, 0)),
    ("mount-api", 431, (-1, 0, None, None, 0)),
    ("mount-api", 432, (-1, 0, 0)),
)


def missing() -> tuple[str, ...]:
    """The names of what is missing, sorted: clone3, close_range, openat2, mount_setattr, mount-api, overlay-lowerdir+,
    landlock-scope, session-keyring, mqueue."""
    names = {name for name, number, arguments in _CALLS if not kernel.exists(number, *arguments)}
    if "mount-api" not in names and not _takes(b"tmpfs", b"mode", b"0755"):
        names.add("mount-api")
    if "mount-api" in names or not _takes(b"overlay", b"lowerdir+", b"/"):
        # Linux 6.7; before, fsconfig takes all lower folders in 255 bytes together.
        names.add("overlay-lowerdir+")
    if kernel.landlock_abi() < 6:
        names.add("landlock-scope")
    if not kernel.has_keyrings():
        names.add("session-keyring")
    if not _has_mqueue():
        names.add("mqueue")
    return tuple(sorted(names))


def _takes(kind: bytes, key: bytes, value: bytes) -> bool:
    try:
        context = kernel.fsopen(kind)
    except OSError:
        # No such file system, or no right to it: the mount itself will say so.
        return False
    try:
        # A file system that does not know the new calls yet, as overlay before Linux 6.5, takes any option, and refuses it at
        # the mount.
        return _accepts(context, key, value) and not _accepts(context, b"no-such-option", b"x")
    finally:
        os.close(context)


def _accepts(context: int, key: bytes, value: bytes) -> bool:
    try:
        kernel.fsconfig_string(context, key, value)
    except OSError as error:
        if error.errno != _EINVAL:
            raise
        return False
    return True


def _has_mqueue() -> bool:
    with open("/proc/filesystems", "rb") as file:
        return b"\tmqueue\n" in file.read()
