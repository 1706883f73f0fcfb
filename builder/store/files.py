"""Making folders and files that depend neither on the umask nor on default ACLs."""

from __future__ import annotations

import errno
import os


def make_folder(path: str) -> None:
    """Make the folder `path` with mode 0700; it may exist. What is made in it inherits no default ACL."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    os.chmod(path, 0o700)
    drop_default_acl(path)


def drop_default_acl(path: str) -> None:
    """Remove the default ACL of a folder, which would give entries below it rights that nobody asked for (acl(5))."""
    try:
        os.removexattr(path, "system.posix_acl_default")
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise


def move_folder(source: str, target: str) -> None:
    """Rename a folder into another parent on the same file system, whatever its mode, which stays."""
    try:
        os.rename(source, target)
    except PermissionError:
        # rename(2) of a folder writes its `..`: whoever is not root needs the right to write into the folder itself.
        mode = os.lstat(source).st_mode & 0o7777
        os.chmod(source, mode | 0o200)
        os.rename(source, target)
        os.chmod(target, mode)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; write(2) may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_file(path: str) -> bytes:
    """The whole content of a regular file; the last component is not followed when it is a link, and a pipe is empty."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 20):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks)


def write_file(path: str, data: bytes, *, sync: bool) -> None:
    """Make the new file `path` (mode 0600) with `data`, on the disk when `sync`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(path: str) -> None:
    """Put the names in a folder on the disk: a rename is not durable before that (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
