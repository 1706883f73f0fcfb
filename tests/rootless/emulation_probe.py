"""Asks the kernel, or who answers in its place, all that owners, identities and devices come to. Runs inside of a sandbox;
what it prints, and what it leaves in the folder that it is given, is the same with a real root."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import struct
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
EMPTY_PATH, NOFOLLOW, FDCWD = 0x1000, 0x100, -100
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def told(what: str, call: Callable[[], Any]) -> None:
    try:
        print(what, call())
    except OSError as error:
        print(what, errno.errorcode.get(error.errno or 0, error.errno))


def show(path: str | int, *, follow: bool = False) -> str:
    found = os.stat(path) if isinstance(path, int) or follow else os.lstat(path)
    special = f" {os.major(found.st_rdev)},{os.minor(found.st_rdev)}" if found.st_rdev else ""
    return f"{found.st_mode:o} {found.st_uid}:{found.st_gid}{special}"


def raw(name: str, *arguments: int | bytes) -> int:
    number = {"x86_64": NUMBERS[name][0], "aarch64": NUMBERS[name][1]}[os.uname().machine]
    done: int = libc.syscall(number, *(a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), "")
    return done


NUMBERS = {"fchownat": (260, 54), "statx": (332, 291), "openat2": (437, 437), "mknodat": (259, 33), "execveat": (322, 281)}
NUMBERS["newfstatat"] = (262, 79)


def statx(path: bytes, folder: int = FDCWD, flags: int = NOFOLLOW) -> str:
    room = ctypes.create_string_buffer(256)
    raw("statx", folder, path, flags, 0xFFF, ctypes.addressof(room))
    uid, gid, mode = struct.unpack_from("=IIH", room.raw, 20)
    return f"{mode:o} {uid}:{gid} {struct.unpack_from('=II', room.raw, 128)}"


def stat_of_open(descriptor: int) -> tuple[int, ...]:
    """By no path at all, which Linux takes since 6.11."""
    room = ctypes.create_string_buffer(256)
    raw("newfstatat", descriptor, 0, ctypes.addressof(room), EMPTY_PATH)
    return struct.unpack_from("=II", room.raw, 28 if os.uname().machine == "x86_64" else 24)


def apart(what: str, *steps: Callable[[], Any]) -> None:
    """Each step in one child, since there may be no way back."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        for number, step in enumerate(steps):
            told(f"{what} {number}", step)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)


def ids() -> str:
    # setfsuid(-1) asks.
    return f"{os.getresuid()} {os.getresgid()} {sorted(os.getgroups())} {libc.setfsuid(-1)} {libc.setfsgid(-1)}"


def touch(path: str, mode: int = 0o666, flags: int = 0) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | flags, mode))


def owners() -> None:
    touch("file")
    for uid, gid in ((1, 2), (-1, 3), (4, -1), (-1, -1), (0, 0), (70000, 80000)):
        os.chown("file", uid, gid)
        print("chown", uid, gid, show("file"))
    os.symlink("file", "link")
    os.chown("link", 5, 6)
    os.lchown("link", 7, 8)
    print("links", show("file"), show("link"), show("link", follow=True), statx(b"link"), statx(b"link", flags=0))
    with open("file") as opened:
        os.fchown(opened.fileno(), 9, 10)
        print("open", show(opened.fileno()), statx(b"", opened.fileno(), EMPTY_PATH))
        if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 11):
            print("no path", stat_of_open(opened.fileno()))
        raw("fchownat", opened.fileno(), b"", 11, 12, EMPTY_PATH)
        print("empty path", show("file"))
        os.rename("file", "moved")
        os.fchown(opened.fileno(), 13, -1)
        os.unlink("link")
    pinned = os.open("moved", os.O_PATH)
    told("fchown of O_PATH, by its link", lambda: os.chown(f"/proc/self/fd/{pinned}", 14, 15))
    os.close(pinned)
    os.link("moved", "hard")
    os.chown("hard", 16, 17)
    print("hard", show("moved"))
    os.unlink("moved")
    touch("moved")
    print("new", show("moved"), show("hard"))
    os.makedirs("deep/er")
    os.chown("deep", 20, 21)
    folder = os.open("deep", os.O_RDONLY)
    os.chown("er", 22, 23, dir_fd=folder)
    os.chown("er/../../hard", 24, 25, dir_fd=folder)
    told("folders", lambda: [show("deep"), show("deep/er"), show("hard"), os.stat("er", dir_fd=folder).st_uid])
    os.chdir("deep/er")
    os.chown("../../hard", 26, 27)
    os.chdir("../..")
    os.close(folder)
    told("none", lambda: os.chown("none", 1, 1))
    told("no folder", lambda: os.chown("hard/x", 1, 1))
    told("bad descriptor", lambda: os.fchown(999, 1, 1))
    reader, writer = os.pipe()
    told("pipe", lambda: os.fchown(writer, 0, 0))
    os.close(reader)
    os.close(writer)
    os.symlink("loop", "loop")
    told("loop", lambda: os.chown("loop", 1, 1))
    os.chown("loop", 28, 29, follow_symlinks=False)
    # A path over a page's end, and one that is too long.
    told("long", lambda: os.chown("./" * 2000 + "hard", 30, 31))
    told("too long", lambda: os.chown("./" * 2100 + "hard", 30, 31))
    told("no memory", lambda: raw("fchownat", FDCWD, 1, 1, 1, 0))
    print("last", show("hard"), show("loop"), show("/dev/null"), show("/proc/version"), show("/sys"))


def set_id_bits() -> None:
    for mode in (0o4755, 0o6755, 0o2745, 0o2644):
        touch("program")
        os.chmod("program", mode)
        os.chown("program", 3, 4)
        print("set-id", oct(mode), show("program"))
        os.chown("program", 0, 0)
        os.chmod("program", mode)
        os.chown("program", -1, -1)
        print("set-id", oct(mode), show("program"))
    os.setxattr("program", "security.capability", CAPABILITY)
    print(os.getxattr("program", "security.capability") == CAPABILITY, os.listxattr("program"))
    os.chown("program", 5, 5)
    print(os.listxattr("program"), show("program"))
    os.setxattr("program", "security.capability", CAPABILITY)
    os.setxattr("program", "user.mine", b"x")
    print(os.listxattr("program"), show("program"))


def devices() -> None:
    for name, mode, device in (("null", 0o020666, (1, 3)), ("disk", 0o060640, (8, 17)), ("big", 0o020600, (4000, 70000))):
        os.mknod(name, mode, os.makedev(*device))
        print(name, show(name), statx(name.encode()))
    told("again", lambda: os.mknod("null", 0o020666, os.makedev(1, 3)))
    os.chown("null", 1, 2)
    os.chmod("null", 0o4600)
    os.link("null", "null too")
    os.rename("disk", "moved disk")
    print(show("null"), show("null too"), show("moved disk"), os.listxattr("null"))
    os.mkfifo("fifo", 0o640)
    os.chown("fifo", 3, 4)
    os.symlink("fifo", "to fifo")
    os.lchown("to fifo", 5, 6)
    print(show("fifo"), show("to fifo"), show("to fifo", follow=True), os.listxattr("fifo"))
    os.mknod("plain", 0o644)
    os.mknod("plain too", 0o100604)
    told("no folder", lambda: os.mknod("none/x", 0o020666, os.makedev(1, 3)))
    told("slash", lambda: os.mknod("x/", 0o020666, os.makedev(1, 3)))
    told("odd", lambda: os.mknod("odd", 0o050666))


def creation() -> None:
    os.mkdir("group")
    os.chown("group", 0, 77)
    os.chmod("group", 0o2775)
    touch("group/file")
    os.mkdir("group/folder", 0o700)
    touch("group/folder/file")
    os.symlink("x", "group/link")
    os.mkfifo("group/fifo")
    os.symlink("group/beyond", "dangling")
    touch("dangling")
    touch("elsewhere")
    os.rename("elsewhere", "group/elsewhere")
    for name in sorted(os.listdir("group")):
        print(name, show(f"group/{name}"))

    def as_user() -> str:
        os.setgroups([1000, 44])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        return ids()

    def makes() -> str:
        os.umask(0o027)
        touch("mine/file", 0o6777)
        touch("mine/exclusive", flags=os.O_EXCL)
        touch("mine/file")
        touch("mine/to")
        os.mkdir("mine/folder", 0o1777)
        os.mkdir("mine/slash/")
        os.symlink("nowhere", "mine/link")
        os.symlink("/tmp/through", "mine/absolute")
        touch("mine/absolute")
        os.mkfifo("mine/fifo", 0o666)
        os.link("mine/file", "mine/hard")
        told("exclusive", lambda: touch("mine/file", flags=os.O_EXCL))
        told("no follow", lambda: touch("mine/link", flags=os.O_NOFOLLOW))
        told("a folder", lambda: touch("mine/folder"))
        told("a slash", lambda: touch("mine/new/"))
        told("no parent", lambda: touch("mine/none/x"))
        told("mkdir again", lambda: os.mkdir("mine/folder"))
        told("mkdir root", lambda: os.mkdir("/"))
        told("mkdir dot", lambda: os.mkdir("mine/."))
        told("symlink again", lambda: os.symlink("x", "mine/link"))
        told("no target", lambda: os.symlink("", "mine/empty"))
        told("device", lambda: os.mknod("mine/null", 0o020666, os.makedev(1, 3)))
        with open("mine/written", "w+") as file:
            file.write("words")
            file.seek(0)
            print(file.read(), os.fstat(file.fileno()).st_uid, os.get_inheritable(file.fileno()))
        unnamed = os.open("mine", os.O_TMPFILE | os.O_RDWR, 0o640)
        os.write(unnamed, b"unnamed")
        os.link(f"/proc/self/fd/{unnamed}", "mine/named", follow_symlinks=True)
        with open("/dev/stdout", "w") as out:
            out.write("stdout\n")
        how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o600, 0)
        try:
            os.close(raw("openat2", FDCWD, b"mine/openat2", ctypes.addressof(how), 24))
        except OSError:
            touch("mine/openat2", 0o600)
        os.chdir("mine/folder")
        touch("../climbed")
        touch("here")
        os.chdir("../..")
        bound = socket.socket(socket.AF_UNIX)
        bound.bind("mine/socket")
        os.unlink("mine/socket")
        return " ".join(f"{name}={show(f'mine/{name}')}" for name in sorted(os.listdir("mine")))

    def owns() -> str:
        told("another", lambda: os.chown("mine/file", 1, -1))
        told("mine", lambda: os.chown("mine/file", 1000, 1000))
        told("my group", lambda: os.chown("mine/file", -1, 44))
        told("no group of mine", lambda: os.chown("mine/file", -1, 45))
        told("root's", lambda: os.chown("dangling", -1, 1000))
        return show("mine/file")

    os.mkdir("mine")
    os.chown("mine", 1000, 1000)
    apart("user", as_user, makes, owns)
    os.mkdir("effective")
    os.chmod("effective", 0o777)

    def effective() -> str:
        os.setresgid(-1, 5, -1)
        os.setresuid(-1, 6, -1)
        touch("effective/one")
        libc.setfsuid(7)
        touch("effective/still")
        os.setresuid(-1, 0, -1)
        libc.setfsuid(8)
        touch("effective/two")
        libc.setfsuid(0)
        libc.setfsgid(0)
        touch("effective/three")
        return " ".join(show(f"effective/{name}") for name in ("one", "still", "two", "three"))

    apart("effective", effective)


def chrooted() -> None:
    os.makedirs("jail/etc")
    os.symlink("/etc", "jail/to etc")
    os.chmod("jail", 0o777)
    os.chmod("jail/etc", 0o777)

    def jail() -> str:
        os.chroot("jail")
        os.chdir("/etc")
        os.setresuid(0, 33, 0)
        touch("/to etc/absolute")
        touch("relative")
        touch("../../../../climbed")
        os.setresuid(0, 0, 0)
        os.chown("/to etc/absolute", 34, -1)
        os.chown("../etc/relative", -1, 35)
        return f"{show('/etc/absolute')} {show('relative')} {show('/climbed')} {os.listdir('/')}"

    apart("jail", jail)
    print(show("jail/etc/relative"), show("jail/climbed"))


def identities() -> None:
    print(ids(), os.getuid(), os.geteuid(), os.getgid(), os.getegid())
    apart("setuid", lambda: os.setuid(5), ids, lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgid(7), ids)
    apart("seteuid", lambda: os.seteuid(5), ids, lambda: os.setgroups([1]), lambda: os.seteuid(0), ids)
    apart("setreuid", lambda: os.setreuid(3, 4), ids, lambda: os.setreuid(4, 3), ids, lambda: os.setreuid(5, -1), ids)
    apart("setreuid -1", lambda: os.setreuid(-1, 4), ids, lambda: os.setreuid(0, -1), ids, lambda: os.setuid(0), ids)
    apart("setresuid", lambda: os.setresuid(1, 2, 3), ids, lambda: os.setresuid(3, 1, 2), ids, lambda: os.setresuid(4, -1, -1))
    apart("setregid", lambda: os.setregid(3, 4), ids, lambda: os.setresgid(9, 8, 7), ids, lambda: os.setgid(6), ids)
    apart("groups", lambda: os.setgroups([3, 1, 2]), ids, lambda: os.setgroups([]), ids)
    apart("many groups", lambda: os.setgroups(range(5000)), lambda: len(os.getgroups()))
    apart("few", lambda: os.setgroups([1, 2]), lambda: libc.getgroups(1, bytes(8)), lambda: libc.getgroups(0, None))
    apart("too large", lambda: libc.setuid(-1), ids, lambda: os.setuid(4294967294), ids)
    able = (ctypes.c_uint32 * 6)(1 << 6, 1 << 6 | 1 << 7, 0, 0, 0, 0)
    raised = lambda: libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), able)  # noqa: E731
    apart(
        "keep", lambda: libc.prctl(8, 1, 0, 0, 0), lambda: os.setuid(5), lambda: os.setgid(6), raised, lambda: os.setgid(6), ids
    )

    def child() -> str:
        os.setresuid(12, 12, 12)
        reader, writer = os.pipe()
        hears, says = os.pipe()
        first = os.fork()
        if not first:
            # It goes on when its parent is gone.
            if not os.fork():
                os.read(reader, 1)
                os.write(says, ids().encode())
                os._exit(0)
            os._exit(0)
        os.waitpid(first, 0)
        os.write(writer, b"x")
        return f"{ids()}; the grandchild's: {os.read(hears, 1000).decode()}"

    apart("fork", child)

    def threads() -> str:
        seen: list[str] = []
        os.setresuid(13, 13, 13)
        thread = threading.Thread(target=lambda: seen.append(ids()))
        thread.start()
        thread.join()
        return seen[0]

    apart("threads", threads)
    apart("exec", lambda: os.setresuid(14, 15, 14), lambda: run("/usr/bin/id", "-r", "-u"), lambda: run("/usr/bin/id", "-u"))


def run(*words: str) -> int:
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            os.execv(words[0], words)
        except OSError as error:
            print(errno.errorcode[error.errno or 0])
            sys.stdout.flush()
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def programs() -> None:
    with open("/usr/bin/id", "rb") as source, open("asks", "wb") as target:
        target.write(source.read())
    os.chown("asks", 50, 51)
    os.chmod("asks", 0o6755)
    with open("script", "w") as file:
        file.write("#!/bin/sh\n/usr/bin/id -u\n")
    os.chmod("script", 0o6755)

    def become() -> None:
        os.setgroups([])
        os.setresgid(60, 60, 60)
        os.setresuid(61, 61, 61)

    asks = os.path.abspath("asks")
    apart("set-id", become, lambda: run(asks), lambda: run(asks, "-r", "-u"), lambda: run(os.path.abspath("script")))
    apart("forbidden", become, lambda: libc.prctl(38, 1, 0, 0, 0), lambda: run(asks))
    apart("not there", become, lambda: run("/none"), lambda: run("/etc/passwd"), lambda: run("/etc"), ids)
    # By root, whose real user it stays.
    print(run(asks))


def limits() -> None:
    locks = 10
    print(resource.getrlimit(locks), resource.prlimit(0, locks))

    def sets() -> str:
        os.setresuid(70, 70, 70)
        libc.setrlimit(locks, (ctypes.c_uint64 * 2)(2**64 - 1, 2**64 - 1))
        return ids()

    apart("limits", sets)


def listed(path: str) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def attributes() -> None:
    touch("file", 0o644)
    os.symlink("file", "link")
    os.mkfifo("fifo")
    os.mkdir("dir")
    for path in ("file", "dir", "fifo", "link"):
        os.chown(path, 80, 81, follow_symlinks=False)
        touch(f"{path} of root")
        for name, value in (
            *(
                ("user.mine", b"x" * 1000),
                ("user.mine", b""),
                ("user.", b"x"),
                ("other", b"x"),
                ("", b"x"),
                ("user.big", b"x" * 70000),
            ),
            *(("trusted.x", b"x"), ("security.x", b"x"), ("user." + "n" * 250, b"x"), ("user." + "n" * 251, b"x")),
        ):
            for flags in (0, os.XATTR_CREATE, os.XATTR_REPLACE, 4):
                said = f"{path} {name[:20]} {len(value)} {flags}"
                told(said, partial(os.setxattr, path, name, value, flags, follow_symlinks=False))
        told(f"{path} lists", partial(listed, path))
        for name in ("user.mine", "user.mine", "other", "trusted.x", "security.x", "", "user.none"):
            told(f"{path} loses {name}", partial(os.removexattr, path, name, follow_symlinks=False))
        print(show(path), listed(path))
    told("follows", lambda: os.setxattr("link", "user.a", b"1"))
    told("not there", lambda: os.setxattr("none", "user.a", b"1"))
    told("no more", lambda: os.removexattr("none", "user.a"))
    told("bad descriptor", lambda: os.setxattr(999, "user.a", b"1"))
    with open("file") as opened:
        told("open", lambda: os.setxattr(opened.fileno(), "user.b", b"2" * 500, os.XATTR_CREATE))
        told("again", lambda: os.setxattr(opened.fileno(), "user.b", b"2", os.XATTR_CREATE))
        told("gone", lambda: os.removexattr(opened.fileno(), "user.a"))
        os.setxattr("file", "user.c", b"long" * 600)
        told("reads", lambda: [len(os.getxattr("file", name)) for name in sorted(os.listxattr("file"))])
    told("no name", lambda: libc.setxattr(b"file", None, b"x", ctypes.c_size_t(1), 0))
    print(errno.errorcode[ctypes.get_errno()])
    told("no value", lambda: libc.setxattr(b"file", b"user.x", None, ctypes.c_size_t(1), 0))
    print(errno.errorcode[ctypes.get_errno()])
    told("empty", lambda: libc.setxattr(b"file", b"user.x", None, ctypes.c_size_t(0), 0))
    os.chmod("file", 0o444)
    told("root", lambda: os.setxattr("file", "user.d", b"1"))
    mine = partial(os.setxattr, "file", "user.e", b"1")
    able = partial(os.setxattr, "file", "security.capability", CAPABILITY)
    unable = partial(os.removexattr, "file", "security.capability")
    apart("an owner", lambda: os.setresuid(80, 80, 80), mine, able, unable, lambda: os.chmod("file", 0o644), mine)
    print(show("file"), sorted(os.listxattr("file")))
    os.chmod("file", 0o640)
    rows = ((1, 6, -1), (2, 7, 1000), (4, 4, -1), (8, 2, 50), (16, 7, -1), (32, 0, -1))
    named = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *row) for row in rows)
    told("named", lambda: os.setxattr("file", "system.posix_acl_access", named))
    print(show("file"), sorted(os.listxattr("file")))
    told("unnamed", lambda: os.removexattr("file", "system.posix_acl_access"))
    print(show("file"))
    told("capable", able)
    told("unable", unable)
    told("unable", unable)


def main() -> None:
    os.umask(0o022)
    os.chdir(sys.argv[1])
    for part in (owners, set_id_bits, devices, creation, chrooted, identities, programs, limits, attributes):
        print("==", part.__name__)
        os.mkdir(part.__name__)
        os.chdir(part.__name__)
        part()
        os.chdir("..")
        sys.stdout.flush()


main()
