"""What a supervisor is asked, as the kernel decides it; notes of owners, as both sides write them; identities."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_sandbox_seccomp import unpack, verdict

from builder.layers import nodes, ownerform, owners, xattrs
from builder.layers.entry import Entry
from builder.sandbox import identities, ownernotes, tasks
from builder.sandbox.emulation import program
from builder.sandbox.ownernotes import Notes
from builder.sandbox.seccomp import docker_profile, native_numbers

ALLOWED, ASKED, UNKNOWN = 0x7FFF0000, 0x7FC00000, 0x00050000 | 38
NATIVE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
FOREIGN = {"x86_64": 0x40000003, "aarch64": 0x40000028}
UNCONDITIONAL = (
    *("chown", "lchown", "fchown", "fchownat", "stat", "lstat", "fstat", "newfstatat", "statx", "creat", "openat2"),
    *("mkdir", "mkdirat", "symlink", "symlinkat", "mknod", "mknodat", "execve", "execveat", "capset"),
    *("listxattr", "llistxattr", "flistxattr", "setxattr", "lsetxattr", "fsetxattr"),
    *("removexattr", "lremovexattr", "fremovexattr"),
    *("getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups"),
)
CONDITIONAL = ("open", "openat", "prctl", "setrlimit", "getrlimit", "prlimit64")


@pytest.mark.parametrize("machine", NATIVE)
def test_what_is_asked_where_owners_are_emulated(machine: str) -> None:
    code, calls = program("owners", machine)
    instructions = unpack(code)
    numbers = native_numbers(machine)
    asked = {numbers[name] for name in UNCONDITIONAL if name in numbers}
    told = asked | {numbers[name] for name in CONDITIONAL if name in numbers}
    assert {number for number, _ in calls} == told
    for number in range(600):
        # Newer ways to set, list and remove attributes: whoever knows them knows the older ones.
        expected = UNKNOWN if number in (463, 465, 466) else ASKED if number in asked else ALLOWED
        assert verdict(instructions, NATIVE[machine], number) == expected, number
        # Other programs of this machine have other numbers: none is answered, and none goes on.
        assert verdict(instructions, FOREIGN[machine], number) == UNKNOWN
        assert verdict(instructions, NATIVE[machine], number | 0x40000000) == UNKNOWN
    for name, place in (("open", 1), ("openat", 2)):
        if name not in numbers:
            continue
        for flags, expected in (
            (os.O_RDONLY, ALLOWED),
            (os.O_RDWR | os.O_TRUNC, ALLOWED),
            (os.O_PATH, ALLOWED),
            (os.O_WRONLY | os.O_CREAT, ASKED),
            (os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, ASKED),
            (os.O_RDWR | os.O_TMPFILE, ASKED),
        ):
            before = (0,) * place
            assert verdict(instructions, NATIVE[machine], numbers[name], *before, flags) == expected, (name, flags)
    arguments: tuple[int, ...]
    for name, arguments, expected in (
        ("prctl", (8, 1), ASKED),
        ("prctl", (38, 1), ALLOWED),
        ("setrlimit", (10,), ASKED),
        ("setrlimit", (7,), ALLOWED),
        ("prlimit64", (0, 10), ASKED),
        ("prlimit64", (10, 7), ALLOWED),
    ):
        assert verdict(instructions, NATIVE[machine], numbers[name], *arguments) == expected, (name, arguments)


@pytest.mark.parametrize("machine", NATIVE)
def test_where_owners_are_real_devices_alone_are_asked_for(machine: str) -> None:
    code, calls = program("mknod", machine)
    instructions = unpack(code)
    numbers = native_numbers(machine)
    assert [name for _, name in calls] == [name for name in ("device", "deviceat") if name == "deviceat" or "mknod" in numbers]
    for name, place in (("mknod", 1), ("mknodat", 2)):
        for kind in (0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK):
            arguments = [0] * place + [kind | 0o4644]
            expected = ASKED if kind in (stat.S_IFCHR, stat.S_IFBLK) else ALLOWED
            if name in numbers:
                assert verdict(instructions, NATIVE[machine], numbers[name], *arguments) == expected, (name, kind)
    for number in range(600):
        assert verdict(instructions, FOREIGN[machine], number) == ALLOWED
        if number not in (numbers.get("mknod"), numbers["mknodat"]):
            assert verdict(instructions, NATIVE[machine], number) == ALLOWED


@pytest.mark.parametrize("machine", NATIVE)
def test_nothing_that_dockers_profile_refuses_is_asked(machine: str) -> None:
    """The kernel would take the stricter answer: a handler that is never asked is a mistake."""
    profile = unpack(docker_profile((), machine))
    for number, name in program("owners", machine)[1]:
        assert verdict(profile, NATIVE[machine], number) == ALLOWED, name


# Notes


@pytest.fixture
def noted() -> Iterator[None]:
    """As if this process's user namespace had a single user."""
    known = ownerform._known[:]
    ownerform._known[:] = ["noted"]
    yield
    ownerform._known[:] = known


IDS = st.integers(0, 2**32 - 2)


@pytest.mark.usefixtures("noted")
@pytest.mark.parametrize("kind", ["file", "dir", "symlink", "fifo"])
def test_both_sides_write_the_same_notes(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("notes")
    opened = os.open(folder, os.O_RDONLY)
    path = os.fsencode(folder) + b"/it"
    makes: dict[str, Callable[[bytes], None]] = {
        "file": os.mknod,
        "dir": os.mkdir,
        "fifo": os.mkfifo,
        "symlink": lambda path: os.symlink(b"x", path),
    }
    remove = os.rmdir if kind == "dir" else os.unlink

    @given(IDS, IDS)
    def check(uid: int, gid: int) -> None:
        for write in (True, False):
            makes[kind](path)
            pinned = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            link = b"/proc/self/fd/%d" % pinned
            try:
                if write:
                    owners.give_name(opened, b"it", uid, gid)
                else:
                    Notes().put(link, os.lstat(path).st_mode, uid, gid)
                found = Notes().get(link)
                assert found == ((uid, gid, 0, 0) if (uid, gid) != (0, 0) else None)
                read = owners.read(kind, 0, 0, xattrs.read(xattrs.child(opened, b"it")))
                assert read[:2] == (uid, gid) and read[2].kept == ()
                # What the kernel takes from a file that changes hands is written again.
                Notes().put(link, os.lstat(path).st_mode, 0, 0)
                assert Notes().get(link) is None
            finally:
                os.close(pinned)
                remove(path)

    check()
    os.close(opened)


@given(st.sampled_from(["char", "block"]), st.integers(0, 4095), st.integers(0, 2**20 - 1))
def test_both_sides_write_the_same_devices(kind: str, major: int, minor: int) -> None:
    mode = stat.S_IFCHR if kind == "char" else stat.S_IFBLK
    value = b"%s %d:%d" % (kind[:1].encode(), major, minor)
    assert ownernotes._parse_device(value) == (mode, os.makedev(major, minor))
    attributes = xattrs.Xattrs(notes=((nodes.ATTRIBUTE, value),))
    assert ownernotes.DEVICE.encode() == nodes.ATTRIBUTE and ownernotes.OWNER.encode() == owners.OWNER
    assert ownernotes.device_note(mode, os.makedev(major, minor)) == value
    assert nodes.stands_for(attributes, 0, None, None) == (kind, (major, minor))
    # Any user could write that: it counts at a file of root's, if root made such a device, and where it was known before.
    before = Entry(b"x", kind, rdev=(major, minor))  # type: ignore[arg-type]
    assert nodes.note(before) == value
    assert nodes.stands_for(attributes, 0, None, {value}.__contains__) == (kind, (major, minor))
    assert nodes.stands_for(attributes, 0, None, {b"c 9999:1"}.__contains__) is None
    assert nodes.stands_for(attributes, 5, None, {value}.__contains__) is None
    assert nodes.stands_for(attributes, 5, before, None) is not None
    assert nodes.stands_for(attributes, 5, Entry(b"x", "file"), None) is None


@given(st.binary(max_size=30))
def test_no_value_is_too_odd(value: bytes) -> None:
    """They are a command's own to write."""
    owner, node, device = ownernotes._parse_owner(value), ownernotes._parse_node(value), ownernotes._parse_device(value)
    assert owner == owners._parse(value) and node == owners._parse_node(value)
    assert device[0] in (0, stat.S_IFCHR, stat.S_IFBLK)
    nodes.stands_for(xattrs.Xattrs(notes=((nodes.ATTRIBUTE, value),)), 0, None, None)


# Identities

ID = st.one_of(st.integers(0, 3), st.just(0xFFFFFFFF))
FOUR = st.tuples(*[st.integers(0, 3)] * 4)


@given(FOUR, ID, ID, ID)
def test_nobody_becomes_what_he_was_not(old: tuple[int, int, int, int], real: int, effective: int, saved: int) -> None:
    calls: tuple[Callable[[], tuple[int, ...]], ...] = (
        lambda: identities.set_one(old, real, privileged=False),
        lambda: identities.set_two(old, real, effective, privileged=False),
        lambda: identities.set_three(old, real, effective, saved, privileged=False),
        lambda: identities.set_files(old, real, privileged=False),
    )
    for call in calls:
        try:
            new = call()
        except OSError:
            continue
        assert set(new) <= set(old)


def test_who_holds_a_number_is_found_by_it() -> None:
    known = identities.Known()
    assert known.number(identities.Ids()) == 0
    user = identities.Ids((1, 1, 1, 1), (2, 2, 2, 2), (3,))
    number = known.number(user)
    assert number == known.number(identities.Ids((1, 1, 1, 1), (2, 2, 2, 2), (3,))) != 0
    assert known[number].key == user.key and known[12345].key == identities.Ids().key
    # A set-user-id program, of whose kind there is none that changes nothing.
    assert user.executing(None, None) is user
    assert user.executing(0, None).users == (1, 0, 0, 0) and user.executing(0, None).privileged
    assert user.executing(None, 9).groups == (2, 9, 9, 9)


def test_identities_without_end_are_refused() -> None:
    """They are remembered outside of the command, where none of its limits counts."""
    known = identities.Known()
    groups = [tuple(range(start, start + 65536)) for start in range(17)]
    with pytest.raises(OSError, match=r"\[Errno 12\]"):
        for extra in groups:
            known.number(identities.Ids(extra=extra))
    assert known[known.number(identities.Ids(extra=groups[0]))].extra == groups[0]
    with pytest.raises(OSError, match=r"\[Errno 12\]"):
        for uid in range(1 << 18):
            known.number(identities.Ids((uid, uid, uid, uid)))


def test_a_path_is_found_while_others_rename(tmp_path: Path) -> None:
    """Whatever is renamed or mounted on the machine meanwhile, openat2(2) says EAGAIN of `..`: that is nobody's answer."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    child = os.fork()
    if not child:
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        while True:
            here.rename(there)
            there.rename(here)
    try:
        climbing = b"folder/../" * 100 + b"file"
        for path in (os.fsencode(tmp_path) + b"/" + climbing, climbing):
            with contextlib.chdir(tmp_path):
                for _ in range(3000):
                    os.close(tasks.open_path(os.getpid(), -100, path, os.O_PATH | os.O_CLOEXEC))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
