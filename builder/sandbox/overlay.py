"""The overlay of a sandbox's root, in two ways: by the mount calls of Linux 6.7, and by mount(2).

Part of the fork server's program.
"""

from __future__ import annotations

import os

from builder.sandbox import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# A hostile layer must not redirect, and the upper must stand alone: both may be on by the kernel's default. With
# `userxattr` the kernel takes redirect_dir=nofollow by itself and refuses to be told (fs/overlayfs/params.c).
_OPTIONS = ((b"metacopy", b"off"), (b"index", b"off"))
_FLAGS = (b"userxattr", b"volatile")


def detached(lowers: tuple[bytes, ...], upper: bytes, work: bytes, attributes: int) -> int:
    """The root as a mount that is attached nowhere; `lowers` has the topmost first, 500 different ones at most."""
    context = kernel.fsopen(b"overlay")
    try:
        # Each folder is named "." from within: fsconfig takes 255 bytes, and mountinfo shows what it was told.
        for _ in _enter_each(lowers):
            kernel.fsconfig_string(context, b"lowerdir+", b".")
        for key, path in ((b"upperdir", upper), (b"workdir", work)):
            os.chdir(path)
            kernel.fsconfig_string(context, key, b".")
        for key, value in _OPTIONS:
            kernel.fsconfig_string(context, key, value)
        for key in _FLAGS:
            kernel.fsconfig_flag(context, key)
        kernel.fsconfig_string(context, b"source", b"overlay")
        return kernel.fsmount(context, attributes)
    except OSError as error:
        log = _kernel_log(context)
        raise OSError(error.errno, error.strerror, error.filename or log or None) from error
    finally:
        os.close(context)


def mount_at(target: bytes, lowers: tuple[bytes, ...], upper: bytes, work: bytes, attributes: int) -> None:
    """The same at the folder `target`. mount(2) takes one page of options: numbers of descriptors make room for 500."""
    names = [b"%d" % _open(b".") for _ in _enter_each(lowers)]
    options = [b"lowerdir=" + b":".join(names), b"upperdir=%d" % _open(upper), b"workdir=%d" % _open(work)]
    options += [key + b"=" + value for key, value in _OPTIONS]
    options += _FLAGS
    os.chdir("/proc/self/fd")
    kernel.mount(b"overlay", target, b"overlay", attributes, b",".join(options))


def _open(path: bytes) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _enter_each(folders: tuple[bytes, ...]) -> Iterator[None]:
    """Makes each folder the current one in turn, but none for a second time: the kernel says ELOOP to that.

    What lies deeper adds nothing to what lies above, so the first is the one that counts.
    """
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        os.chdir(folder)
        status = os.stat(".")
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield


def _kernel_log(context: int) -> str:
    """What the kernel has to say about a failure on a file system context, empty for nothing (ENODATA)."""
    try:
        return os.read(context, 4096).decode(errors="replace").strip()
    except OSError:
        return ""
