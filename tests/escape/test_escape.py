"""Nothing gets out: each trick gets on each rung what the table says, and the host is what it was.

That a trick would work without the sandbox's hardening is shown beside it: a trick that cannot work proves nothing.
"""

from __future__ import annotations

import os
import pty
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Pybuild
from tests.escape import escape_calls, escape_files
from tests.escape.escape_ground import RUNGS, Ground, grounds
from tests.escape.escape_table import GOLDEN, parse

TRICKS = parse(GOLDEN.read_text())

# Of the host, which no trick may change.
SETTINGS = ("kernel/core_pattern", "kernel/hostname", "vm/panic_on_oom", "kernel/printk", "vm/swappiness")
NODES = ("/dev/null", "/dev/full", "/proc/version", "/sys", "/proc/irq/default_smp_affinity")

_NODES_ON_TMPFS = ("mknod-disk-tmpfs", "mknod-disk-shm", "mknod-disk-dev")

NEVER_OPEN = {
    *("umount-mask", "mount-setattr", "setns", "uid-map", "ambient", "oom-score"),  # Not by root either, as the control is.
    *("mknod-disk", "mknod-disk-dev", "mknod-disk-shm", "mknod-disk-cache", "mknod-disk-tmpfs"),  # Nothing is in the disk.
    *("mknod-mem", "mknod-kmsg", "kexec", "init-module", "finit-module", "delete-module", "iopl", "x32", "int-0x80"),
    *("io-uring", "userfaultfd", "perf", "bpf", "af-alg", "af-vsock", "quota", "fanotify", "swapon", "acct"),  # Kernels differ.
    *("dev-kvm", "dev-fuse", "dev-loop", "dev-tun", "dev-tty", "tiocsti", "device-remove", "device-link"),
    *("sysrq", "modprobe", "binfmt", "irq", "kcore", "proc-scsi", "uevent-helper", "power-state", "firmware", "cgroup"),
    *("core-pattern", "panic-on-oom", "proc-keys", "timer-list", "dmesg", "request-key", "immutable", "realtime", "nice"),
    # There is no such line of hardening: it is what the sandbox is.
    *("host-path", "proc-1-root", "proc-1-cwd", "proc-task-root", "dot-dot", "descriptors", "chroot", "rename-race"),
    *("mountinfo", "mounts", "environ", "maps", "host-session", "host-memory", "mount-overlay", "mount-cgroup"),
}
"""What the control need not show: the kernel closes it by itself, a machine may not have it, or no line can be left out."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("escape")


@pytest.fixture(scope="module")
def places(room: Path) -> Iterator[dict[str, Ground]]:
    with grounds(room) as found:
        yield found


@pytest.fixture(scope="module")
def program(room: Path) -> Path:
    (room / "bin").mkdir()
    return escape_calls.compiled(room / "bin")


def expected(module_names: set[str], rung: str) -> dict[str, tuple[str, str]]:
    place = 2 + RUNGS.index(rung)
    return {row[0]: (row[1], row[place]) for row in TRICKS if row[0] in module_names}


def of_the_host() -> list[object]:
    values: list[object] = [Path("/proc/sys", name).read_text() for name in SETTINGS]
    for path in NODES:
        if os.path.exists(path):
            status = os.stat(path)
            values.append((path, status.st_mode, status.st_uid, status.st_gid))
    return values


@pytest.mark.parametrize("rung", RUNGS)
def test_calls(rung: str, places: dict[str, Ground], program: Path) -> None:
    before = of_the_host()
    played = escape_calls.played(places[rung], program)
    other = {name for name, (_, got) in played.items() if got in escape_calls.ABSENT}
    wanted = expected(set(played), rung)
    # A machine may lack what the table's had, and have what that lacked: then it must be closed in some way.
    lacked = {name for name, (_, got) in wanted.items() if got in escape_calls.ABSENT}
    # What stands for a device in a user namespace is a file with an attribute, which a tmpfs has since Linux 6.6: else there is
    # not even that.
    lacked |= {name for name in _NODES_ON_TMPFS if rung != "root" and played[name][1] == "EOPNOTSUPP"}
    assert {name: got for name, got in played.items() if name not in other | lacked} == {
        name: got for name, got in wanted.items() if name not in other | lacked
    }
    assert [name for name, (_, got) in played.items() if got == "OUT"] == []
    assert of_the_host() == before
    assert places[rung].field.untouched()


def test_calls_get_out_without_the_hardening(places: dict[str, Ground], program: Path, tmp_path: Path) -> None:
    before = of_the_host()
    played = escape_calls.in_the_open(places["root"].field, program, tmp_path)
    closed = {name for name, (_, got) in played.items() if got != "OUT"}
    assert closed - NEVER_OPEN == set()
    assert len(played) - len(closed) > 25
    assert of_the_host() == before


@pytest.mark.parametrize("rung", RUNGS)
def test_files(rung: str, places: dict[str, Ground]) -> None:
    played = escape_files.played(places[rung])
    assert played == expected(set(played), rung)


def test_what_gets_out_is_seen(places: dict[str, Ground]) -> None:
    """A build that has the secret, and a host's file that is not what it was."""
    ground = places["root"]
    assert escape_files.with_the_secret(ground) == "OUT"
    os.link(ground.field.canary, ground.field.canary.with_name("second"))
    try:
        assert escape_files.TRICKS["copy-to-link"].play(ground) == "OUT"
    finally:
        ground.field.canary.with_name("second").unlink()
    assert escape_files.TRICKS["copy-to-link"].play(ground) == "contained"


def test_the_table_is_whole(places: dict[str, Ground], program: Path) -> None:
    names = [row[0] for row in TRICKS]
    played = escape_calls.played(places["root"], program)
    assert [name for name in names if name in played or name != "abstract-socket"] == [*played, *escape_files.TRICKS]
    assert len(names) >= 60 and not [row for row in TRICKS if "OUT" in row]


def test_a_builder_on_a_terminal(places: dict[str, Ground], program: Path) -> None:
    """Where it has none, as in the table, nobody could open it."""
    ground = places["root"]
    command = ", ".join(f'"{word}"' for word in ("/c/calls", *escape_calls.arguments(ground.field)))
    context = ground.context(f"FROM base\nRUN mkdir -p /mnt\nRUN --mount=target=/c [{command}]\n")
    shutil.copy(program, context / "calls")
    flags = ("--isolation=root", "--progress=plain", "--no-cache", "--build-context", f"base={ground.field.base}")
    script = 'exec 3<>/dev/tty && echo opened && exec 3>&- && exec "$@"'
    pid, terminal = pty.fork()
    if not pid:
        assert isinstance(ground.program, Pybuild)
        words = [*ground.program.command, f"--root={ground.store}", *flags, str(context)]
        os.execve("/bin/sh", ["sh", "-c", script, "sh", *words], ground.program.environment(None))
    said = b""
    with suppress(OSError):
        # EIO is its end.
        while data := os.read(terminal, 1 << 16):
            said += data
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, said
    lines = [line.split(" ", 2)[-1] for line in said.decode().splitlines() if line.startswith("#") and line.count(" ") > 1]
    assert said.startswith(b"opened\r\n")
    table = escape_calls.table(lines)
    assert (table["dev-tty"][1], table["tiocsti"][1]) == ("ENXIO", "ENOTTY")
