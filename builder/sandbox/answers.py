"""What each system call is answered: identities, owners, what stat(2) shows, programs that change who runs.

Part of the fork server's program.
"""

from __future__ import annotations

import ctypes
import errno
import os

from builder.sandbox import identities, tasks
from builder.sandbox.attributes import Attributes
from builder.sandbox.creation import Creation
from builder.sandbox.ownernotes import ROOT, Notes
from builder.sandbox.supervisor import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sandbox.identities import Ids
    from builder.sandbox.ownernotes import Note
    from builder.sandbox.supervisor import Handler, Supervisor
    from builder.sandbox.wire import Job

_AT_FDCWD = -100
_NOFOLLOW = 0x100
_EMPTY_PATH = 0x1000
_KEEP = 0xFFFFFFFF
_STRANGER = "stranger"
_CHANGES_IDS = 1 << 6 | 1 << 7
_MOST_GROUPS = 65536
_PATH = os.O_PATH | os.O_CLOEXEC
_KIND = 0o170000
# Offsets of mode, uid, gid and device number in struct stat (arch/*/include/uapi/asm/stat.h), and its size.
_STAT = {"x86_64": (24, 28, 32, 40, 144), "aarch64": (16, 24, 28, 32, 128)}
_STATX_SIZE = 256


class Answers:
    """The handlers of one command's supervisor."""

    def __init__(self, supervisor: Supervisor, job: Job) -> None:
        self._supervisor = supervisor
        self._calls = job.calls
        self._numbers = {name: number for number, name in job.calls}
        self._libc = libc()
        self._memory = tasks.Memory()
        self._notes = Notes()
        self._known = identities.Known()
        self._layout = _STAT[os.uname().machine]
        self._room = ctypes.create_string_buffer(_STATX_SIZE)
        self._creation = Creation(supervisor, self._memory, self._notes, self._ids)
        self._attributes = Attributes(supervisor, self._memory, self._notes, self._ids, self._open, _pin)

    def handlers(self) -> dict[int, Handler]:
        makes = self._creation
        attributes = self._attributes
        table: dict[str, Handler] = {
            "chown": lambda pid, a: self._chown(pid, _AT_FDCWD, a[0], a[1], a[2], 0),
            "lchown": lambda pid, a: self._chown(pid, _AT_FDCWD, a[0], a[1], a[2], _NOFOLLOW),
            "fchown": lambda pid, a: self._fchown(pid, a[0], a[1], a[2]),
            "fchownat": lambda pid, a: self._chown(pid, _int(a[0]), a[1], a[2], a[3], a[4]),
            "stat": lambda pid, a: self._stat(pid, _AT_FDCWD, a[0], a[1], 0),
            "lstat": lambda pid, a: self._stat(pid, _AT_FDCWD, a[0], a[1], _NOFOLLOW),
            "fstat": lambda pid, a: self._fstat(pid, a[0], a[1]),
            "newfstatat": lambda pid, a: self._stat(pid, _int(a[0]), a[1], a[2], a[3]),
            "statx": lambda pid, a: self._statx(pid, _int(a[0]), a[1], a[2], a[3], a[4]),
            "listxattr": lambda pid, a: attributes.list(pid, a, 0),
            "llistxattr": lambda pid, a: attributes.list(pid, a, _NOFOLLOW),
            "flistxattr": attributes.list_of_open,
            "setxattr": lambda pid, a: attributes.set(pid, a, 0),
            "lsetxattr": lambda pid, a: attributes.set(pid, a, _NOFOLLOW),
            "fsetxattr": attributes.set_of_open,
            "removexattr": lambda pid, a: attributes.remove(pid, a, 0),
            "lremovexattr": lambda pid, a: attributes.remove(pid, a, _NOFOLLOW),
            "fremovexattr": attributes.remove_of_open,
            "open": lambda pid, a: makes.open(pid, _AT_FDCWD, a[0], a[1], a[2]),
            "creat": lambda pid, a: makes.open(pid, _AT_FDCWD, a[0], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, a[1]),
            "openat": lambda pid, a: makes.open(pid, _int(a[0]), a[1], a[2], a[3]),
            "openat2": makes.openat2,
            "mkdir": lambda pid, a: makes.mkdir(pid, _AT_FDCWD, a[0], a[1]),
            "mkdirat": lambda pid, a: makes.mkdir(pid, _int(a[0]), a[1], a[2]),
            "symlink": lambda pid, a: makes.symlink(pid, a[0], _AT_FDCWD, a[1]),
            "symlinkat": lambda pid, a: makes.symlink(pid, a[0], _int(a[1]), a[2]),
            "mknod": lambda pid, a: makes.mknod(pid, _AT_FDCWD, a[0], a[1], a[2]),
            "mknodat": lambda pid, a: makes.mknod(pid, _int(a[0]), a[1], a[2], a[3]),
            "device": lambda pid, a: makes.device(pid, _AT_FDCWD, a[0], a[1], a[2]),
            "deviceat": lambda pid, a: makes.device(pid, _int(a[0]), a[1], a[2], a[3]),
            "execve": lambda pid, a: self._execute(pid, _AT_FDCWD, a[0], 0),
            "execveat": lambda pid, a: self._execute(pid, _int(a[0]), a[1], a[4]),
            "keepcaps": self._keep_capabilities,
            "capset": self._set_capabilities,
            # The limit that holds who a process is: pam_limits(8) sets all limits that there are.
            "setrlimit": lambda pid, a: 0,
            "getrlimit": lambda pid, a: self._put_limit(pid, a[1]),
            "prlimit64": lambda pid, a: self._put_limit(pid, a[3]),
            "getuid": lambda pid, a: self._ids(pid).users[0],
            "geteuid": lambda pid, a: self._ids(pid).users[1],
            "getgid": lambda pid, a: self._ids(pid).groups[0],
            "getegid": lambda pid, a: self._ids(pid).groups[1],
            "getresuid": lambda pid, a: self._put_three(pid, a, self._ids(pid).users),
            "getresgid": lambda pid, a: self._put_three(pid, a, self._ids(pid).groups),
            "getgroups": self._get_groups,
            "setgroups": self._set_groups,
            "setfsuid": self._set_file_user,
            "setfsgid": self._set_file_group,
        }
        for name, rule in (
            ("set{}id", identities.set_one),
            ("setre{}id", identities.set_two),
            ("setres{}id", identities.set_three),
        ):
            table[name.format("u")] = self._setter(rule, users=True)
            table[name.format("g")] = self._setter(rule, users=False)
        for _, name in self._calls:
            if name.startswith(_STRANGER):
                table[name] = self._of_strangers(tuple(map(int, name.removeprefix(_STRANGER))))
        return {number: table[name] for number, name in self._calls}

    def _of_strangers(self, places: tuple[int, ...]) -> Handler:
        """For calls with ids at these places, of which one is none here: the kernel says so, and the builder hears of it."""

        def tell(_: int, arguments: tuple[int, ...]) -> None:
            ids = [arguments[place] & 0xFFFFFFFF for place in places]
            self._supervisor.tell(b"stranger:%d" % max(id for id in ids if id != _KEEP))

        return tell

    # Identities

    def _ids(self, pid: int) -> Ids:
        return self._known[tasks.mark(self._libc, pid)]

    def _become(self, pid: int, ids: Ids) -> None:
        self._supervisor.check()
        tasks.set_mark(self._libc, pid, self._known.number(ids))
        if ids.users[1] != 0:
            self._supervisor.tell(b"switched:%d" % ids.users[1])

    def _setter(self, rule: Callable[..., tuple[int, int, int, int]], *, users: bool) -> Handler:
        count = rule.__code__.co_argcount - 1

        def answer(pid: int, arguments: tuple[int, ...]) -> int:
            ids = self._ids(pid)
            wanted = [argument & 0xFFFFFFFF for argument in arguments[:count]]
            old = ids.users if users else ids.groups
            new = rule(old, *wanted, privileged=ids.privileged)
            if new != old:
                self._become(pid, ids.with_users(new) if users else ids.with_groups(new))
            return 0

        return answer

    def _set_file_user(self, pid: int, arguments: tuple[int, ...]) -> int:
        ids = self._ids(pid)
        new = identities.set_files(ids.users, arguments[0] & 0xFFFFFFFF, privileged=ids.privileged)
        if new != ids.users:
            self._become(pid, ids.with_users(new))
        return ids.users[3]

    def _set_file_group(self, pid: int, arguments: tuple[int, ...]) -> int:
        ids = self._ids(pid)
        new = identities.set_files(ids.groups, arguments[0] & 0xFFFFFFFF, privileged=ids.privileged)
        if new != ids.groups:
            self._become(pid, ids.with_groups(new))
        return ids.groups[3]

    def _put_three(self, pid: int, places: tuple[int, ...], numbers: tuple[int, ...]) -> int:
        self._supervisor.check()
        for place, number in zip(places[:3], numbers):
            self._memory.write(pid, place, tasks.packed(number))
        return 0

    def _get_groups(self, pid: int, arguments: tuple[int, ...]) -> int:
        extra = self._ids(pid).extra
        size = _int(arguments[0])
        if size:
            if size < len(extra):
                raise OSError(errno.EINVAL, "")
            self._supervisor.check()
            self._memory.write(pid, arguments[1], tasks.packed(*extra))
        return len(extra)

    def _set_groups(self, pid: int, arguments: tuple[int, ...]) -> int:
        count = arguments[0] & 0xFFFFFFFF
        ids = self._ids(pid).with_extra(())
        if count > _MOST_GROUPS:
            raise OSError(errno.EINVAL, "")
        data = b""
        while len(data) < 4 * count:
            data += self._memory.read(pid, arguments[1] + len(data), min(4 * count - len(data), 4096))
        # The kernel sorts them.
        self._become(pid, ids.with_extra(tuple(sorted(tasks.words(data)))))
        return 0

    def _keep_capabilities(self, pid: int, arguments: tuple[int, ...]) -> None:
        ids = self._ids(pid)
        if ids.keeps != bool(arguments[1]):
            self._become(pid, ids.with_keeps(bool(arguments[1])))

    def _set_capabilities(self, pid: int, arguments: tuple[int, ...]) -> None:
        """The kernel does it; whether CAP_SETUID and CAP_SETGID are among the effective ones matters to who kept them."""
        ids = self._ids(pid)
        if ids.kept:
            effective = tasks.words(self._memory.read(pid, arguments[1], 4))[0]
            if ids.able != bool(effective & _CHANGES_IDS):
                self._become(pid, ids.with_able(not ids.able))

    def _put_limit(self, pid: int, place: int) -> int:
        if place:
            self._supervisor.check()
            self._memory.write(pid, place, b"\xff" * 16)
        return 0

    def _execute(self, pid: int, folder: int, address: int, flags: int) -> None:
        """What an exec changes is noted before it happens: it may still fail, for want of memory say, and then the process
        believes to be what it asked to become."""
        ids = self._ids(pid)
        try:
            program = self._open(pid, folder, self._memory.path(pid, address), flags)
        except OSError:
            # The kernel has its own words for what is wrong.
            return
        try:
            link = b"/proc/self/fd/%d" % program
            mode = os.stat(program).st_mode
            if mode & _KIND != 0o100000:
                return
            with open(link, "rb", buffering=0) as file:
                head = file.read(5)
            if head[:4] == b"\x7fELF" and head[4:] == b"\x01":
                self._supervisor.tell(b"32-bit")
                raise OSError(errno.EPERM, "")
            owner = group = None
            if mode & 0o6000 and head[:2] != b"#!" and not tasks.forbids_new_privileges(pid):
                note = self._notes.get(link) or ROOT
                owner = note[0] if mode & 0o4000 else None
                group = note[1] if mode & 0o2010 == 0o2010 else None
        finally:
            os.close(program)
        new = ids.executing(owner, group)
        if new is not ids:
            self._become(pid, new)

    # Owners

    def _open(self, pid: int, folder: int, path: bytes, flags: int) -> int:
        if not path and flags & _EMPTY_PATH:
            return os.open(b"/proc/%d/cwd" % pid if folder == _AT_FDCWD else b"/proc/%d/fd/%d" % (pid, folder), _PATH)
        return tasks.open_path(pid, folder, path, _PATH | (os.O_NOFOLLOW if flags & _NOFOLLOW else 0))

    def _chown(self, pid: int, folder: int, address: int, uid: int, gid: int, flags: int) -> int:
        return self._own(pid, self._open(pid, folder, self._memory.path(pid, address), flags), uid, gid)

    def _fchown(self, pid: int, descriptor: int, uid: int, gid: int) -> int:
        return self._own(pid, _pin(pid, descriptor), uid, gid)

    def _own(self, pid: int, descriptor: int, uid: int, gid: int) -> int:
        """Changes the owner of what `descriptor` has, which is closed."""
        try:
            link = b"/proc/self/fd/%d" % descriptor
            ids = self._ids(pid)
            old = self._notes.get(link) or ROOT
            uid, gid = uid & 0xFFFFFFFF, gid & 0xFFFFFFFF
            new: Note = (old[0] if uid == _KEEP else uid, old[1] if gid == _KEEP else gid, old[2], old[3])
            if not ids.privileged and not _may_own(ids, old, new, changes_group=gid != _KEEP):
                raise OSError(errno.EPERM, "")
            self._supervisor.check()
            # The kernel does what it does at any chown: copies the file up, clears set-id bits and capabilities, moves the
            # time, or refuses (read-only, immutable). A note in a capability goes, too, and is written again.
            os.chown(link, -1 if uid == _KEEP else 0, -1 if gid == _KEEP else 0)
            self._notes.put(link, os.stat(descriptor).st_mode, new[0], new[1])
        finally:
            os.close(descriptor)
        return 0

    # What stat shows

    def _stat(self, pid: int, folder: int, address: int, place: int, flags: int) -> int | None:
        """Whatever goes wrong here goes wrong for the kernel, too, and it has the right error."""
        try:
            # Since Linux 6.11 no path is as good as an empty one.
            path = self._memory.path(pid, address) if address else b""
            descriptor = self._open(pid, folder, path, flags)
        except OSError:
            return None
        return self._show(pid, descriptor, place)

    def _fstat(self, pid: int, descriptor: int, place: int) -> int | None:
        try:
            if self._shown(b"/proc/%d/fd/%d" % (pid, _int(descriptor))) is None:
                return None
            pinned = _pin(pid, descriptor)
        except OSError:
            return None
        return self._show(pid, pinned, place)

    def _shown(self, path: bytes) -> Note | None:
        """Whose the file is, None where the kernel says it right. What is the host's root's (a device, a file of /proc) is
        nobody's in a user namespace without him, and root's in every other sandbox."""
        note = self._notes.get(path)
        if note is None:
            status = os.stat(path)
            if status.st_uid or status.st_gid:
                return ROOT
        return note

    def _show(self, pid: int, descriptor: int, place: int) -> int | None:
        try:
            note = self._shown(b"/proc/self/fd/%d" % descriptor)
            if note is None:
                return None
            self._ask_kernel("newfstatat", descriptor, ctypes.addressof(self._room), _EMPTY_PATH)
        finally:
            os.close(descriptor)
        mode_at, uid_at, gid_at, device_at, size = self._layout
        data = bytearray(self._room.raw[:size])
        data[uid_at : uid_at + 4] = tasks.packed(note[0])
        data[gid_at : gid_at + 4] = tasks.packed(note[1])
        if note[2]:
            mode = int.from_bytes(data[mode_at : mode_at + 4], "little")
            data[mode_at : mode_at + 4] = tasks.packed(mode & ~_KIND | note[2])
            data[device_at : device_at + 8] = note[3].to_bytes(8, "little")
        self._supervisor.check()
        self._memory.write(pid, place, bytes(data))
        return 0

    def _statx(self, pid: int, folder: int, address: int, flags: int, mask: int, place: int) -> int | None:
        try:
            # Since Linux 6.11 no path is as good as an empty one.
            path = self._memory.path(pid, address) if address else b""
            descriptor = self._open(pid, folder, path, flags)
        except OSError:
            return None
        try:
            note = self._shown(b"/proc/self/fd/%d" % descriptor)
            if note is None:
                return None
            sync = flags & ~_NOFOLLOW & 0xFFFFFFFF | _EMPTY_PATH
            self._ask_kernel("statx", descriptor, sync, mask & 0xFFFFFFFF, ctypes.addressof(self._room))
        finally:
            os.close(descriptor)
        data = bytearray(self._room.raw)
        data[20:28] = tasks.packed(note[0], note[1])
        if note[2]:
            mode = int.from_bytes(data[28:30], "little") & ~_KIND | note[2]
            data[28:30] = mode.to_bytes(2, "little")
            data[128:136] = tasks.packed(os.major(note[3]), os.minor(note[3]))
        self._supervisor.check()
        self._memory.write(pid, place, bytes(data))
        return 0

    def _ask_kernel(self, name: str, descriptor: int, *rest: int) -> None:
        arguments = (self._numbers[name], descriptor)
        if self._libc.syscall(*map(ctypes.c_long, arguments), b"", *map(ctypes.c_long, rest)) < 0:
            raise OSError(ctypes.get_errno(), "")


def _pin(pid: int, descriptor: int) -> int:
    """What the process has open, whatever it closes meanwhile; EBADF where it has nothing open."""
    try:
        return os.open(b"/proc/%d/fd/%d" % (pid, _int(descriptor)), _PATH)
    except FileNotFoundError as error:
        raise OSError(errno.EBADF, "") from error


def _may_own(ids: Ids, old: Note, new: Note, *, changes_group: bool) -> bool:
    """chown(2) of a process without CAP_CHOWN."""
    if new[0] != old[0] or (not ids.owns(old[0]) and (changes_group or new != old)):
        return False
    return new[1] == old[1] or ids.in_group(new[1])


def _int(value: int) -> int:
    """A C int, of which the kernel passes on the lower half."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
