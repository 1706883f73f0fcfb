"""A process that waits for an answer, seen from outside of its sandbox: its memory, its folders, its limits.

Its numbers are those of the supervisor's own pid namespace. Between a look at /proc/PID and its use the process may die and
another one take the number: whoever answers asks the kernel whether the question still stands (SECCOMP_IOCTL_NOTIF_ID_VALID)
after the last look and before it does anything.

Paths are resolved as that process would, and never beyond its root: by openat2 with RESOLVE_IN_ROOT, or beneath a folder that
it has open.

Part of the fork server's program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from builder.sandbox import kernel

_PAGE = 4096
_PATH_MAX = 4096
_FIRST_LOOK = 256
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_RLIMIT_LOCKS = 10
_UNLIMITED = (1 << 64) - 1
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10
_AT_FDCWD = -100
_MOST_TRIES = 1000


class Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Memory:
    """Reads from and writes to the memory of others."""

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(_PATH_MAX)
        self._address = ctypes.addressof(self._buffer)
        self._here = Piece(self._address, 0)
        self._there = (Piece * 2)()
        libc = ctypes.CDLL(None, use_errno=True)
        self._read, self._write = libc.process_vm_readv, libc.process_vm_writev
        for function in (self._read, self._write):
            function.restype = ctypes.c_ssize_t
            function.argtypes = (
                *(ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong),
            )

    def read(self, pid: int, address: int, size: int) -> bytes:
        """`size` bytes, 4096 at most; EFAULT where they are not all there."""
        if self._some(pid, address, size) < size:
            raise OSError(errno.EFAULT, "")
        return self._buffer.raw[:size]

    def path(self, pid: int, address: int) -> bytes:
        """A path as system calls take it: ENAMETOOLONG where it has no end."""
        # A look must not go beyond the page: the next one may not be there.
        room = _PAGE - address % _PAGE
        size = self._some(pid, address, min(room, _FIRST_LOOK))
        text = ctypes.string_at(self._address, size)
        end = text.find(b"\0")
        if end >= 0:
            return text[:end]
        while len(text) < _PATH_MAX:
            at = address + len(text)
            size = self._some(pid, at, min(_PAGE - at % _PAGE, _PATH_MAX - len(text)))
            more = ctypes.string_at(self._address, size)
            end = more.find(b"\0")
            if end >= 0:
                return text + more[:end]
            text += more
        raise OSError(errno.ENAMETOOLONG, "")

    def _some(self, pid: int, address: int, size: int) -> int:
        self._here.length = size
        self._there[0].base, self._there[0].length = address, size
        done: int = self._read(pid, ctypes.addressof(self._here), 1, ctypes.addressof(self._there), 1, 0)
        if done <= 0:
            raise OSError(ctypes.get_errno() if done < 0 else errno.EFAULT, "")
        return done

    def write(self, pid: int, address: int, data: bytes) -> None:
        for start in range(0, len(data), _PATH_MAX):
            self._write_some(pid, address + start, data[start : start + _PATH_MAX])

    def _write_some(self, pid: int, address: int, data: bytes) -> None:
        ctypes.memmove(self._address, data, len(data))
        self._here.length = len(data)
        self._there[0].base, self._there[0].length = address, len(data)
        done: int = self._write(pid, ctypes.addressof(self._here), 1, ctypes.addressof(self._there), 1, 0)
        if done != len(data):
            raise OSError(ctypes.get_errno() if done < 0 else errno.EFAULT, "")


def root_of(pid: int) -> int:
    return os.open(b"/proc/%d/root" % pid, _FOLDER)


def open_path(pid: int, folder: int, path: bytes, flags: int) -> int:
    """The descriptor of what the process means by `path` and the folder descriptor `folder`; `flags` as of open(2).

    Of the magic links of /proc those that lead to the process's own are followed (`/proc/self/fd/N`, `/proc/self/cwd`); others
    are EXDEV or ELOOP.
    """
    if path.startswith(_OWN):
        own = own_descriptor(pid, path)
        if own is not None:
            return os.open(own, flags)
        folder, path = _own_place(pid, folder, path)
    if path.startswith(b"/"):
        root = root_of(pid)
        try:
            return _resolve(root, path, flags, _RESOLVE_IN_ROOT)
        finally:
            os.close(root)
    base = open_folder(pid, folder)
    try:
        try:
            return _resolve(base, path, flags, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        return open_path(pid, folder, _absolute(pid, base, path), flags)
    finally:
        os.close(base)


def _resolve(folder: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2), which does not trust a `..` (EAGAIN) when anything on the whole machine was renamed or mounted meanwhile: the
    calls that it stands for know no such error. Whoever renames without end gets it all the same."""
    for _ in range(_MOST_TRIES):
        try:
            return kernel.openat2(folder, path, flags, 0, resolve)
        except BlockingIOError:
            continue
    return kernel.openat2(folder, path, flags, 0, resolve)


def is_magic(folder: int, name: bytes) -> bool:
    """Whether `name` in the open folder is a link of /proc that leads where no path does."""
    try:
        os.close(_resolve(folder, name, os.O_PATH | os.O_CLOEXEC, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS))
    except OSError as error:
        # So says openat2(2) also of links that go round, which nobody can open.
        return error.errno == errno.ELOOP
    return False


def open_folder(pid: int, folder: int) -> int:
    """The folder that a relative path starts from."""
    return os.open(b"/proc/%d/cwd" % pid if folder == _AT_FDCWD else b"/proc/%d/fd/%d" % (pid, folder), _FOLDER)


def split(path: bytes) -> tuple[bytes, bytes]:
    """The folder's path and the last name; slashes at the end count for nothing. An empty folder is the one that `path` starts
    from. EEXIST where there is no last name."""
    folder, _, name = path.rstrip(b"/").rpartition(b"/")
    if name in (b"", b".", b".."):
        raise OSError(errno.EEXIST, "")
    return (folder or b"/") if path.startswith(b"/") else (folder or b"."), name


def _absolute(pid: int, base: int, path: bytes) -> bytes:
    """What a path that climbs out of its folder means from the process's root on."""
    start = os.readlink(b"/proc/self/fd/%d" % base)
    root = os.readlink(b"/proc/%d/root" % pid)
    if root != b"/":
        # A folder outside of the root that the process changed to: it stays there, which RESOLVE_IN_ROOT cannot say.
        if start != root and not start.startswith(root + b"/"):
            raise OSError(errno.EXDEV, "")
        start = start[len(root) :]
    if start.endswith(b" (deleted)") and not _is_at(pid, base, start):
        raise OSError(errno.ENOENT, "")
    return (start or b"/") + b"/" + path


def _is_at(pid: int, base: int, start: bytes) -> bool:
    """Whether the open folder is what the path means: somebody may have called it so."""
    try:
        root = root_of(pid)
        try:
            there = _resolve(root, start, _FOLDER, _RESOLVE_IN_ROOT)
        finally:
            os.close(root)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(there), os.fstat(base))
    finally:
        os.close(there)


_OWN = (b"/proc/self/", b"/proc/thread-self/", b"/dev/fd/", b"/dev/std")
_STREAMS = {b"/dev/stdin": b"0", b"/dev/stdout": b"1", b"/dev/stderr": b"2"}


def own_descriptor(pid: int, path: bytes) -> bytes | None:
    """Where this process finds what the path means by `/proc/self/fd/N`, `/dev/stdout` and the like; None for other paths."""
    number = _STREAMS.get(path)
    if number is None and path.startswith((b"/proc/self/fd/", b"/dev/fd/")):
        number = path.rpartition(b"fd/")[2]
    if number is None or not number.isdigit():
        return None
    return b"/proc/%d/fd/%s" % (pid, number)


def _own_place(pid: int, folder: int, path: bytes) -> tuple[int, bytes]:
    """What a path by way of `/proc/self` starts from, and the rest of it."""
    for name in (b"/proc/self/", b"/proc/thread-self/", b"/dev/"):
        if path.startswith(name):
            kind, _, rest = path[len(name) :].partition(b"/")
            number, _, below = rest.partition(b"/")
            if kind == b"fd" and number.isdigit():
                return int(number), below or b"."
            if name == b"/dev/":
                break
            if kind == b"cwd":
                return _AT_FDCWD, rest or b"."
            if kind == b"root":
                return folder, b"/" + rest
            # By the number that the process has in its own pid namespace.
            return folder, b"/proc/%s/%s" % (_status(pid, b"NSpid:").split()[-1], path[len(name) :])
    return folder, path


def mark(libc: ctypes.CDLL, pid: int) -> int:
    """The number that `set_mark` gave the process or one of its forebears; 0 when nobody did."""
    value = (ctypes.c_uint64 * 2)()
    if libc.prlimit(pid, _RLIMIT_LOCKS, None, value) < 0:
        raise OSError(ctypes.get_errno(), "")
    return 0 if value[0] == _UNLIMITED else value[0]


def set_mark(libc: ctypes.CDLL, pid: int, number: int) -> None:
    value = (ctypes.c_uint64 * 2)(number or _UNLIMITED, _UNLIMITED)
    if libc.prlimit(pid, _RLIMIT_LOCKS, value, None) < 0:
        raise OSError(ctypes.get_errno(), "")


def umask(pid: int) -> int:
    return int(_status(pid, b"Umask:"), 8)


def forbids_new_privileges(pid: int) -> bool:
    return _status(pid, b"NoNewPrivs:") == b"1"


def has_capability(pid: int, number: int) -> bool:
    """Whether it is in effect, by the kernel's own account."""
    return bool(int(_status(pid, b"CapEff:"), 16) >> number & 1)


def file_ids(pid: int) -> tuple[int, int]:
    """The kernel's own: file system user and group."""
    return int(_status(pid, b"Uid:").split()[3]), int(_status(pid, b"Gid:").split()[3])


def _status(pid: int, field: bytes) -> bytes:
    with open(b"/proc/%d/status" % pid, "rb") as file:
        for line in file:
            if line.startswith(field):
                return line[len(field) :].strip()
    raise OSError(errno.EINVAL, "")


def words(data: bytes) -> tuple[int, ...]:
    """32-bit numbers, as uid_t and gid_t are."""
    return tuple(memoryview(data).cast("I"))


def packed(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)
