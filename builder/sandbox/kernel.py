"""The system calls that Python does not have, by ctypes. Each raises OSError as `os` does.

Part of the fork server's program: nothing of `builder` but its neighbours, nothing of the standard library but `os` and
`ctypes`. Numbers from 424 on are the same on every architecture (Linux, scripts/syscall.tbl); the older calls that libc
has no function for are in `_OLD`.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys

# PyDLL keeps the GIL: a raw clone3 through CDLL would leave the child without it, and hang there.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)

# clone, keyctl, rt_sigaction, seccomp
_OLD = {"x86_64": (56, 250, 13, 317), "aarch64": (220, 219, 134, 277), "riscv64": (220, 219, 134, 277)}

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_CLONE_PIDFD = 0x00001000
_SIGCHLD = 17
SIGKILL = 9
_SIGSTOP = 19

# The first four flags have the same values as MOUNT_ATTR_* of the new calls and ST_* of statvfs.
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_OPEN_TREE_CLONE = 1
_AT_RECURSIVE = 0x8000
_MOVE_MOUNT_BOTH_EMPTY = 0x04 | 0x40

_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
ADDR_NO_RANDOMIZE = 0x0040000
PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECCOMP_MODE_FILTER = 2
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_NEW_LISTENER = 8
_SECCOMP_WAIT_KILLABLE_RECV = 32
_EINVAL = 22
_CAPABILITY_VERSION_3 = 0x20080522
_LANDLOCK_SCOPES = 1 | 2  # abstract unix sockets, signals
_KEYCTL_JOIN_SESSION_KEYRING = 1
_AF_INET = 2
_SOCK_DGRAM = 2
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x5414
_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431
_ENOSYS = 38
_EPERM = 1


def call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """A raw system call: whole numbers as longs, bytes as pointers to them, None as NULL."""
    result: int = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        _fail()
    return result


def _fail(path: bytes | None = None) -> None:
    code = ctypes.get_errno()
    if path is None:
        raise OSError(code, os.strerror(code))
    raise OSError(code, os.strerror(code), path)


def _checked(result: int, path: bytes | None = None) -> None:
    if result < 0:
        _fail(path)


def clone3(flags: int) -> tuple[int, int]:
    """Fork with namespaces: (0, -1) in the child, (pid, pidfd) in the parent."""
    pidfd = ctypes.c_int(-1)
    arguments = (ctypes.c_uint64 * 8)()
    arguments[0] = flags | _CLONE_PIDFD
    arguments[1] = ctypes.addressof(pidfd)
    arguments[4] = _SIGCHLD
    pid = call(435, ctypes.addressof(arguments), ctypes.sizeof(arguments))
    return pid, pidfd.value


def clone(flags: int) -> tuple[int, int]:
    """`clone3` by the older call. Its third argument takes the pidfd on every architecture of `_OLD`."""
    pidfd = ctypes.c_int(-1)
    number = _OLD[os.uname().machine][0]
    pid = call(number, flags | _CLONE_PIDFD | _SIGCHLD, 0, ctypes.addressof(pidfd), 0, 0)
    return pid, pidfd.value


def pidfd_kill(pidfd: int, number: int = SIGKILL) -> None:
    """A process that has ended already is no error."""
    try:
        call(424, pidfd, number, None, 0)
    except ProcessLookupError:
        return


def mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
    _checked(_libc.mount(source, target, kind, ctypes.c_ulong(flags), data), target)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags))


def setns(namespace: int, kind: int) -> None:
    _checked(_libc.setns(namespace, kind))


def umount(target: bytes, flags: int) -> None:
    _checked(_libc.umount2(target, flags), target)


def pivot_root(new: bytes, old: bytes) -> None:
    _checked(_libc.pivot_root(new, old))


def sethostname(name: bytes) -> None:
    _checked(_libc.sethostname(name, ctypes.c_size_t(len(name))))


def fsopen(kind: bytes) -> int:
    return call(430, kind, _FSOPEN_CLOEXEC)


def fsconfig_string(context: int, key: bytes, value: bytes) -> None:
    """`value` has at most 255 bytes: the kernel takes no more."""
    call(431, context, _FSCONFIG_SET_STRING, key, value, 0)


def fsconfig_flag(context: int, key: bytes) -> None:
    call(431, context, _FSCONFIG_SET_FLAG, key, None, 0)


def fsmount(context: int, attributes: int) -> int:
    """Creates the file system of `context` and gives it as a mount that is attached nowhere."""
    call(431, context, _FSCONFIG_CMD_CREATE, None, None, 0)
    return call(432, context, _FSMOUNT_CLOEXEC, attributes)


def open_tree_clone(path: bytes, *, recursive: bool = False) -> int:
    """A detached copy of the mount at `path`, from there on, with the mounts below it or without."""
    return call(428, AT_FDCWD, path, _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0))


def move_mount(tree: int, target: int) -> None:
    call(429, tree, b"", target, b"", _MOVE_MOUNT_BOTH_EMPTY)


def mount_setattr(tree: int, attributes: int, *, cleared: int = 0, recursive: bool = False) -> None:
    """Adds `attributes` to a mount, or to those below it as well, and takes others from it."""
    value = (ctypes.c_uint64 * 4)(attributes, cleared, 0, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    call(442, tree, b"", flags, ctypes.addressof(value), ctypes.sizeof(value))


def open_target(root: int, path: bytes) -> int:
    """An O_PATH descriptor of `path` below the folder `root`; a symlink on the way, or at its end, is ELOOP."""
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_IN_ROOT)
    return call(437, root, path, ctypes.addressof(how), ctypes.sizeof(how))


def openat2(folder: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """openat2(2), with a closing descriptor whatever `flags` say."""
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, mode, resolve)
    return call(437, folder, path, ctypes.addressof(how), ctypes.sizeof(how))


def close_all_but(kept: tuple[int, ...], *, by_range: bool) -> None:
    """Closes every descriptor from 3 on that is not in `kept`; without close_range (Linux 5.9) one by one."""
    if not by_range:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in kept:
                # The one that listed the folder is gone by now: EBADF, which this ignores.
                _libc.close(int(name))
        return
    first = 3
    for last in (*sorted(kept), 0x7FFFFFFF):
        if first < last:
            call(436, first, last - 1, 0)
        first = last + 1


def close_all() -> None:
    """Closes every descriptor there is."""
    for name in os.listdir("/proc/self/fd"):
        _libc.close(int(name))


def unlock_terminal(master: int) -> int:
    """Makes the other side of a new pty usable; its number (ioctl_tty(2))."""
    number = ctypes.c_int(0)
    _checked(_libc.ioctl(master, ctypes.c_ulong(_TIOCSPTLCK), ctypes.byref(number)))
    _checked(_libc.ioctl(master, ctypes.c_ulong(_TIOCGPTN), ctypes.byref(number)))
    return number.value


def set_terminal_size(terminal: int, rows: int, columns: int) -> None:
    size = (ctypes.c_ushort * 4)(rows, columns, 0, 0)
    _checked(_libc.ioctl(terminal, ctypes.c_ulong(_TIOCSWINSZ), size))


def take_terminal(terminal: int) -> None:
    """Makes it the controlling terminal of the session that this process leads."""
    _checked(_libc.ioctl(terminal, ctypes.c_ulong(_TIOCSCTTY), ctypes.c_ulong(0)))


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def bring_up(interface: bytes) -> None:
    """Sets the flag IFF_UP of a network interface (netdevice(7))."""
    request = interface.ljust(16, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder)
    fd = _libc.socket(_AF_INET, _SOCK_DGRAM, 0)
    _checked(fd)
    try:
        _checked(_libc.ioctl(fd, ctypes.c_ulong(_SIOCSIFFLAGS), ctypes.create_string_buffer(request, 40)))
    finally:
        os.close(fd)


def hide(name: bytes) -> None:
    """Lets nobody without CAP_SYS_PTRACE look into this process (its memory, its environment, which is the builder's), and
    calls it `name` and nothing else (proc(5): the places of the arguments are the fields 48 and 49 of stat)."""
    prctl(_PR_SET_DUMPABLE, 0)
    with open("/proc/self/stat", "rb") as file:
        # The second field may hold blanks and parentheses.
        start, end = file.read().rpartition(b")")[2].split()[45:47]
    ctypes.memset(int(start), 0, int(end) - int(start))
    ctypes.memmove(int(start), name, min(len(name), int(end) - int(start) - 1))
    prctl(_PR_SET_NAME, ctypes.addressof(ctypes.create_string_buffer(name)))


def prctl(option: int, value: int, more: int = 0) -> None:
    _checked(_libc.prctl(option, value, more, 0, 0))


def load_seccomp(program: bytes) -> None:
    """`program` is an array of struct sock_filter. Without no_new_privs it needs CAP_SYS_ADMIN."""
    value = _Filter(program)
    _checked(_libc.prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(value), 0, 0))


def load_notifying_seccomp(program: bytes) -> int:
    """The same for a program that asks: the descriptor on which somebody else answers (seccomp_unotify(2))."""
    value = _Filter(program)
    number = _OLD[os.uname().machine][3]
    try:
        # A call that is being answered waits for it whatever signals come: done twice, a mkdir(2) fails.
        flags = _SECCOMP_NEW_LISTENER | _SECCOMP_WAIT_KILLABLE_RECV
        return call(number, _SECCOMP_SET_MODE_FILTER, flags, ctypes.addressof(value))
    except OSError as error:
        if error.errno != _EINVAL:
            raise
        # Before Linux 5.19.
        return call(number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_NEW_LISTENER, ctypes.addressof(value))


class _Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))
        super().__init__(len(program) // 8, ctypes.addressof(self._code))


def permitted_capabilities() -> int:
    """This process's permitted set, as a mask."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(header, data))
    return data[1] | data[4] << 32


def capset(mask: int, inheritable: int = 0) -> None:
    """Effective and permitted become `mask`. What is not inheritable is not ambient either."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(low, low, inheritable & 0xFFFFFFFF, high, high, inheritable >> 32)
    _checked(_libc.capset(header, data))


def hand_on_capabilities() -> None:
    """Let the programs that this thread starts have its capabilities, though it is not root (capabilities(7), "ambient")."""
    mask = permitted_capabilities()
    capset(mask, mask)
    for capability in range(mask.bit_length()):
        if mask >> capability & 1:
            prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def landlock_abi() -> int:
    """The version of Landlock that the kernel has, 0 for none. Scopes came with 6."""
    try:
        return call(444, None, 0, 1)
    except OSError:
        return 0


def landlock_scope() -> None:
    """No connection to abstract unix sockets, and no signal to processes, outside. Needs CAP_SYS_ADMIN."""
    attributes = (ctypes.c_uint64 * 3)(0, 0, _LANDLOCK_SCOPES)
    ruleset = call(444, ctypes.addressof(attributes), ctypes.sizeof(attributes), 0)
    try:
        call(446, ruleset, 0)
    finally:
        os.close(ruleset)


def join_session_keyring() -> None:
    call(_OLD[os.uname().machine][1], _KEYCTL_JOIN_SESSION_KEYRING, None)


def has_keyrings() -> bool:
    """Whether the kernel knows keyctl (an unknown request is EOPNOTSUPP then)."""
    numbers = _OLD.get(os.uname().machine)
    return numbers is not None and exists(numbers[1], 0xFFFF)


def exists(number: int, *arguments: int | bytes | None) -> bool:
    """Whether a system call is there, asked by a call that must fail. A filter says ENOSYS, older ones EPERM."""
    try:
        call(number, *arguments)
    except OSError as error:
        return error.errno not in (_ENOSYS, _EPERM)
    return True


def reset_signals() -> None:
    """Every signal has its default action and is let through: Python ignores SIGPIPE, nohup SIGHUP, and both are inherited."""
    default = ctypes.create_string_buffer(32)
    rt_sigaction = _OLD[os.uname().machine][2]
    for number in range(1, 65):
        # Not through libc: it refuses its own two, 32 and 33, which musl's programs leave ignored.
        if number not in (SIGKILL, _SIGSTOP):
            call(rt_sigaction, number, default, None, 8)
    empty = (ctypes.c_uint64 * 16)()
    _checked(_libc.sigprocmask(2, empty, None))


def getrlimit(resource: int) -> tuple[int, int]:
    """Soft and hard."""
    value = (ctypes.c_uint64 * 2)()
    _checked(_libc.getrlimit(resource, value))
    return value[0], value[1]


def setrlimit(resource: int, soft: int, hard: int) -> None:
    _checked(_libc.setrlimit(resource, (ctypes.c_uint64 * 2)(soft, hard)))


def personality(persona: int) -> None:
    _checked(_libc.personality(ctypes.c_ulong(persona)))
