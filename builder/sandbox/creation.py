"""Whose a new file is: the one's who made it, in a folder with the set-group-id bit the folder's group.

What root makes in an ordinary folder needs no note, and the kernel makes it. Everything else is made here, with the process's
umask, and handed over.

Part of the fork server's program.
"""

from __future__ import annotations

import errno
import os
import stat

from builder.sandbox import tasks
from builder.sandbox.ownernotes import DEVICE, device_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sandbox.identities import Ids
    from builder.sandbox.ownernotes import Notes
    from builder.sandbox.supervisor import Supervisor
    from builder.sandbox.tasks import Memory

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_TMPFILE = 0o20000000
_MOST_LINKS = 40
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


class Creation:
    """The handlers that make names. None lets the kernel do it."""

    def __init__(self, supervisor: Supervisor, memory: Memory, notes: Notes, ids: Callable[[int], Ids]) -> None:
        self._supervisor = supervisor
        self._memory = memory
        self._notes = notes
        self._ids = ids

    def open(self, pid: int, folder: int, address: int, flags: int, mode: int) -> int | None:
        flags &= 0xFFFFFFFF
        if flags & os.O_PATH:
            return None
        path = self._memory.path(pid, address)
        for _ in range(_MOST_LINKS):
            if tasks.own_descriptor(pid, path) is not None:
                # It is open already: nothing is made.
                return None
            found = self._open_once(pid, folder, path, flags, mode & 0o7777)
            if found is None:
                return None
            path = found
        raise OSError(errno.ELOOP, "")

    def _open_once(self, pid: int, folder: int, path: bytes, flags: int, mode: int) -> bytes | None:
        """None for what the kernel shall open; else the path that a link at `path` leads to, which is not there yet."""
        unnamed = flags & _TMPFILE
        try:
            # The kernel has its own words for a slash at the end.
            where, name = (path, b"") if unnamed else tasks.split(path) if not path.endswith(b"/") else (b"", b"")
            parent = self._parent(pid, folder, where) if where else -1
        except OSError as error:
            if error.errno != errno.EEXIST:
                self._lost(pid, error)
            return None
        if parent < 0:
            return None
        try:
            owner = self._owner(pid, parent)
            if owner == (0, 0):
                # Where a link leads to, it may be another's.
                return None if flags & (os.O_EXCL | os.O_NOFOLLOW | _TMPFILE) else self._beyond(parent, where, name)
            os.umask(tasks.umask(pid))
            self._supervisor.check()
            try:
                # New, hence a plain file: this open waits for nobody.
                made = b"/proc/self/fd/%d" % parent if unnamed else name
                exclusive = 0 if unnamed else os.O_EXCL | os.O_NOFOLLOW
                descriptor = os.open(made, flags | exclusive | os.O_CLOEXEC, mode, dir_fd=None if unnamed else parent)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                return None if flags & os.O_NOFOLLOW else self._beyond(parent, where, name)
            try:
                self._notes.put(b"/proc/self/fd/%d" % descriptor, stat.S_IFREG, *owner)
                self._supervisor.give(descriptor, close_on_exec=bool(flags & os.O_CLOEXEC))
            finally:
                os.close(descriptor)
        finally:
            os.close(parent)
        return None

    def _beyond(self, parent: int, where: bytes, name: bytes) -> bytes | None:
        if tasks.is_magic(parent, name):
            # It leads to what somebody has open, whatever its text says: nothing is made.
            return None
        try:
            target = os.readlink(name, dir_fd=parent)
        except OSError:
            # No link: it is there, and opening it makes nothing.
            return None
        return target if target.startswith(b"/") else where + b"/" + target

    def openat2(self, pid: int, arguments: tuple[int, ...]) -> int | None:
        """What it makes is made by openat(2), which all who use it fall back to."""
        flags = int.from_bytes(self._memory.read(pid, arguments[2], 8), "little")
        if flags & (os.O_CREAT | _TMPFILE) and not flags & os.O_PATH:
            raise OSError(errno.ENOSYS, "")
        return None

    def mkdir(self, pid: int, folder: int, address: int, mode: int) -> int | None:
        return self._make(
            pid, folder, self._memory.path(pid, address), lambda parent, name: os.mkdir(name, mode & 0o1777, dir_fd=parent)
        )

    def symlink(self, pid: int, target: int, folder: int, address: int) -> int | None:
        leads_to = self._memory.path(pid, target)
        path = self._memory.path(pid, address)
        if not leads_to or path.endswith(b"/"):
            return None
        return self._make(pid, folder, path, lambda parent, name: os.symlink(leads_to, name, dir_fd=parent))

    def mknod(self, pid: int, folder: int, address: int, mode: int, device: int) -> int | None:
        mode &= 0xFFFF
        kind = stat.S_IFMT(mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, *_DEVICES):
            return None
        path = self._memory.path(pid, address)
        if path.endswith(b"/"):
            return None
        stands_for = b""
        if kind in _DEVICES and _is_device(mode, device):
            if not self._ids(pid).privileged:
                raise OSError(errno.EPERM, "")
            stands_for = device_note(kind, device & 0xFFFFFFFF)
            self._supervisor.tell_device(stands_for)
            mode = mode & 0o7777 | stat.S_IFREG
        return self._make(pid, folder, path, lambda parent, name: os.mknod(name, mode, 0, dir_fd=parent), stands_for)

    def device(self, pid: int, folder: int, address: int, mode: int, device: int) -> int | None:
        """A device where all owners are real: the file is the caller's, and only what it stands for is noted."""
        if not _is_device(mode, device):
            return None
        path = self._memory.path(pid, address)
        if path.endswith(b"/"):
            return None
        where, name = tasks.split(path)
        parent = self._parent(pid, folder, where)
        try:
            uid, gid = tasks.file_ids(pid)
            if uid != 0:
                raise OSError(errno.EPERM, "")
            stands_for = device_note(stat.S_IFMT(mode & 0xFFFF), device & 0xFFFFFFFF)
            self._supervisor.tell_device(stands_for)
            os.umask(tasks.umask(pid))
            self._supervisor.check()
            os.mknod(name, mode & 0o7777 | stat.S_IFREG, 0, dir_fd=parent)
            made = os.open(name, _PATH, dir_fd=parent)
            try:
                link = b"/proc/self/fd/%d" % made
                # The supervisor may be another user of the same namespace.
                os.chown(link, uid, -1 if os.stat(parent).st_mode & stat.S_ISGID else gid)
                os.setxattr(link, DEVICE, stands_for)
            finally:
                os.close(made)
        finally:
            os.close(parent)
        return 0

    def _make(self, pid: int, folder: int, path: bytes, make: Callable[[int, bytes], None], device: bytes = b"") -> int | None:
        try:
            where, name = tasks.split(path)
            parent = self._parent(pid, folder, where)
        except OSError as error:
            if error.errno != errno.EEXIST:
                self._lost(pid, error)
            return None
        try:
            owner = self._owner(pid, parent)
            if owner == (0, 0) and not device:
                return None
            os.umask(tasks.umask(pid))
            self._supervisor.check()
            make(parent, name)
            made = os.open(name, _PATH, dir_fd=parent)
            try:
                link = b"/proc/self/fd/%d" % made
                if owner != (0, 0):
                    self._notes.put(link, os.stat(made).st_mode, *owner)
                if device:
                    os.setxattr(link, DEVICE, device)
            finally:
                os.close(made)
        finally:
            os.close(parent)
        return 0

    def _parent(self, pid: int, folder: int, where: bytes) -> int:
        if where == b".":
            return tasks.open_folder(pid, folder)
        return tasks.open_path(pid, folder, where, _FOLDER)

    def _owner(self, pid: int, parent: int) -> tuple[int, int]:
        """Whose a new file in the folder is."""
        ids = self._ids(pid)
        uid, gid = ids.users[3], ids.groups[3]
        if os.stat(parent).st_mode & stat.S_ISGID:
            known = self._notes.get(b"/proc/self/fd/%d" % parent)
            gid = known[1] if known else 0
        return uid, gid

    def _lost(self, pid: int, error: OSError) -> None:
        """The kernel goes where the supervisor cannot, through a magic link of /proc: what is made there is noted nowhere."""
        ids = self._ids(pid)
        if error.errno in (errno.EXDEV, errno.ELOOP) and (ids.users[3] or ids.groups[3]):
            self._supervisor.tell(b"unresolved")


def _is_device(mode: int, device: int) -> bool:
    """All but the character device 0:0, which anybody may make: overlayfs' whiteout."""
    return device & 0xFFFFFFFF != 0 or stat.S_IFMT(mode & 0xFFFF) == stat.S_IFBLK
