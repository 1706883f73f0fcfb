"""What the calls of xattr(7) are answered where owners are attributes: notes are not shown, and nobody writes one himself.

The supervisor sets and removes all attributes by itself, and lets the kernel do none of it: another thread of the process could
change the name after it was read. So it says, too, what the kernel would ask of the process and cannot ask of the supervisor.

Part of the fork server's program.
"""

from __future__ import annotations

import errno
import os

from builder.sandbox import tasks
from builder.sandbox.ownernotes import HIDDEN, is_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sandbox.identities import Ids
    from builder.sandbox.ownernotes import Notes
    from builder.sandbox.supervisor import Supervisor
    from builder.sandbox.tasks import Memory

_AT_FDCWD = -100
_KIND = 0o170000
_PLAIN = (0o100000, 0o040000)
_CAPABILITY = b"security.capability"
_LISTS = (b"system.posix_acl_access", b"system.posix_acl_default")
# ACL_USER and ACL_GROUP.
_NAMED = (0x02, 0x08)
# linux/limits.h
_MOST_NAME, _MOST_VALUE = 255, 65536
_PIECE = 4096
# linux/capability.h
_DAC_OVERRIDE, _SYS_ADMIN, _SETFCAP = 1, 21, 31


class Attributes:
    """Handlers. `opened` gives a descriptor for a process, folder, path and flags; `pinned` one for what a process has open."""

    def __init__(
        self,
        supervisor: Supervisor,
        memory: Memory,
        notes: Notes,
        ids: Callable[[int], Ids],
        opened: Callable[[int, int, bytes, int], int],
        pinned: Callable[[int, int], int],
    ) -> None:
        self._supervisor = supervisor
        self._memory = memory
        self._notes = notes
        self._ids = ids
        self._opened = opened
        self._pinned = pinned

    def list(self, pid: int, arguments: tuple[int, ...], flags: int) -> int | None:
        try:
            descriptor = self._opened(pid, _AT_FDCWD, self._memory.path(pid, arguments[0]), flags)
        except OSError:
            return None
        return self._listed(pid, descriptor, arguments[1], arguments[2])

    def list_of_open(self, pid: int, arguments: tuple[int, ...]) -> int | None:
        try:
            descriptor = self._pinned(pid, arguments[0])
        except OSError:
            return None
        return self._listed(pid, descriptor, arguments[1], arguments[2])

    def _listed(self, pid: int, descriptor: int, place: int, size: int) -> int | None:
        """Notes are not listed: a program that copies attributes would copy owners with them."""
        try:
            link = b"/proc/self/fd/%d" % descriptor
            if self._notes.get(link) is None:
                return None
            hidden = HIDDEN if _is_plain(descriptor) else (_CAPABILITY,)
            names = [os.fsencode(name) for name in os.listxattr(link)]
        finally:
            os.close(descriptor)
        data = b"".join(name + b"\0" for name in names if name not in hidden)
        if size:
            if size < len(data):
                raise OSError(errno.ERANGE, "")
            self._supervisor.check()
            self._memory.write(pid, place, data)
        return len(data)

    def set(self, pid: int, arguments: tuple[int, ...], flags: int) -> int:
        name, value, how = self._wanted(pid, arguments)
        descriptor = self._opened(pid, _AT_FDCWD, self._memory.path(pid, arguments[0]), flags)
        return self._put(pid, descriptor, name, value, how)

    def set_of_open(self, pid: int, arguments: tuple[int, ...]) -> int:
        name, value, how = self._wanted(pid, arguments)
        return self._put(pid, self._pinned(pid, arguments[0]), name, value, how)

    def remove(self, pid: int, arguments: tuple[int, ...], flags: int) -> int:
        name = self._name(pid, arguments[1])
        return self._drop(pid, self._opened(pid, _AT_FDCWD, self._memory.path(pid, arguments[0]), flags), name)

    def remove_of_open(self, pid: int, arguments: tuple[int, ...]) -> int:
        name = self._name(pid, arguments[1])
        return self._drop(pid, self._pinned(pid, arguments[0]), name)

    def _wanted(self, pid: int, arguments: tuple[int, ...]) -> tuple[bytes, bytes, int]:
        """Name, value and flags (XATTR_CREATE, XATTR_REPLACE), checked in the kernel's order."""
        how = arguments[4] & 0xFFFFFFFF
        if how & ~(os.XATTR_CREATE | os.XATTR_REPLACE):
            raise OSError(errno.EINVAL, "")
        name = self._name(pid, arguments[1])
        size = arguments[3]
        if size > _MOST_VALUE:
            raise OSError(errno.E2BIG, "")
        places = range(arguments[2], arguments[2] + size, _PIECE)
        value = b"".join(self._memory.read(pid, at, min(_PIECE, arguments[2] + size - at)) for at in places)
        return name, value, how

    def _name(self, pid: int, address: int) -> bytes:
        try:
            name = self._memory.path(pid, address)
        except OSError as error:
            raise OSError(errno.ERANGE if error.errno == errno.ENAMETOOLONG else error.errno or errno.EFAULT, "") from error
        if not 0 < len(name) <= _MOST_NAME:
            raise OSError(errno.ERANGE, "")
        return name

    def _put(self, pid: int, descriptor: int, name: bytes, value: bytes, how: int) -> int:
        try:
            self._permit(pid, descriptor, name)
            if name in HIDDEN or (name == _CAPABILITY and (is_mark(value) or not _is_plain(descriptor))):
                raise OSError(errno.EPERM, "")
            self._supervisor.check()
            if name in _LISTS:
                value = _without_named(value)
            os.setxattr(b"/proc/self/fd/%d" % descriptor, name, value, how)
        finally:
            os.close(descriptor)
        return 0

    def _drop(self, pid: int, descriptor: int, name: bytes) -> int:
        """A note is not there for whoever asks, as in the lists of attributes."""
        try:
            self._permit(pid, descriptor, name)
            if name in HIDDEN or (name == _CAPABILITY and not _is_plain(descriptor)):
                raise OSError(errno.ENODATA, "")
            self._supervisor.check()
            os.removexattr(b"/proc/self/fd/%d" % descriptor, name)
        finally:
            os.close(descriptor)
        return 0

    def _permit(self, pid: int, descriptor: int, name: bytes) -> None:
        """What the supervisor may and the process may not, being root without some capabilities: capabilities(7), xattr(7)."""
        if name == _CAPABILITY:
            needed, error = _SETFCAP, errno.EPERM
        elif name.startswith(b"security."):
            needed, error = _SYS_ADMIN, errno.EPERM
        elif name.startswith(b"user.") and not os.stat(descriptor).st_mode & 0o200:
            needed, error = _DAC_OVERRIDE, errno.EACCES
        else:
            return
        if not (self._ids(pid).privileged and tasks.has_capability(pid, needed)):
            raise OSError(error, "")


def _without_named(value: bytes) -> bytes:
    """An access control list without the users and groups that it names, which the kernel does not know here. What is left has
    the same effect on the mode; no layer has such lists (acl(5), linux/posix_acl_xattr.h)."""
    if len(value) < 4 or (len(value) - 4) % 8:
        return value
    rows = [value[at : at + 8] for at in range(4, len(value), 8)]
    return value[:4] + b"".join(row for row in rows if int.from_bytes(row[:2], "little") not in _NAMED)


def _is_plain(descriptor: int) -> bool:
    return os.stat(descriptor).st_mode & _KIND in _PLAIN
