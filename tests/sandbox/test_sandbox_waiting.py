"""A child that waits for the next command: taken where it fits, ended where it does not, and nothing of one command is met by
the one after it."""

from __future__ import annotations

import functools
import os
import signal
import threading
from pathlib import Path

import pytest
from sandbox_room import Room, children, eventually, run_child, server_of

from builder.errors import Interrupted
from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import FileMount, Shape, TmpfsMount


def children_are(count: int) -> bool:
    return len(children()) == count


def _namespaces(pid: int) -> set[str]:
    return {os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "pid", "ipc", "uts")}


def test_it_becomes_the_next_command(room: Room, launcher: Launcher) -> None:
    script = (
        "echo $$ $(hostname) $(cat /etc/hosts) $(readlink /proc/self/ns/pid); touch /dev/shm/left /tmp/left; ls /dev/shm /tmp"
    )
    waiting: list[int] = []
    for number in range(4):
        expected = [os.readlink(f"/proc/{pid}/ns/pid") for pid in waiting]
        mount = FileMount("/etc/hosts", b"hosts of %d" % number)
        outcome, written = room.sh(launcher, script, followed=number < 3, hostname=f"h{number}", mounts=(mount,))
        assert outcome.code == 0
        first, *rest = written.split("\n", 1)
        pid, hostname, *hosts, space = first.split()
        # The first process of a namespace, with nothing of the command before it.
        assert (pid, hostname, hosts) == ("1", f"h{number}", ["hosts", "of", str(number)])
        assert rest == ["/dev/shm:\nleft\n\n/tmp:\nleft\n"]
        assert number == 0 or expected == [space]
        eventually(functools.partial(children_are, number < 3))
        assert set(waiting).isdisjoint(children())
        waiting = children()


def test_it_waits_apart_from_the_host_and_from_others(room: Room, launcher: Launcher) -> None:
    room.sh(launcher, "true", followed=True)
    (waiting,) = children()
    assert _namespaces(waiting).isdisjoint(_namespaces(os.getpid()))
    opened = {int(name): os.readlink(f"/proc/{waiting}/fd/{name}") for name in os.listdir(f"/proc/{waiting}/fd")}
    # The way to its command and its error channel, and the server's pidfd: no streams, channel or questions of another one.
    kinds = sorted(each.partition(":")[0] for fd, each in opened.items() if fd > 2)
    assert [kind for kind in kinds if kind != "/"] == ["anon_inode", "pipe", "socket"]


@pytest.mark.parametrize("other", [{"shm_size": 1 << 20}, {"network": "none"}, {"without": frozenset({"masked-paths"})}])
def test_a_command_of_another_shape_does_not_get_it(other: dict[str, object], room: Room, launcher: Launcher) -> None:
    host = os.readlink("/proc/self/ns/net")
    look = 'df /dev/shm | tail -n 1; [ -z "$(cat /proc/keys)" ] || echo keys;'
    look += f" [ $(readlink /proc/self/ns/net) != {host} ] || echo host"
    fresh = room.sh(launcher, look, **other)[1]
    room.sh(launcher, "true", followed=True)
    (waiting,) = children()
    assert room.sh(launcher, look, **other)[1] == fresh
    assert room.sh(launcher, look)[1] != fresh
    eventually(lambda: not Path(f"/proc/{waiting}").exists())


@pytest.mark.parametrize("network", ["host", "none"])
def test_one_that_was_killed_is_replaced(network: str, room: Room, launcher: Launcher) -> None:
    room.sh(launcher, "true", network=network, followed=True)
    (waiting,) = children()
    os.kill(waiting, signal.SIGKILL)
    eventually(lambda: children() == [])
    outcome, written = room.sh(launcher, "echo here", network=network)
    assert (outcome.code, written) == (0, "here\n")


def test_one_that_is_not_ready_yet_is_waited_for(room: Room, launcher: Launcher) -> None:
    room.sh(launcher, "true", followed=True)
    (waiting,) = children()
    os.kill(waiting, signal.SIGSTOP)
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(room.sh(launcher, "echo here")[1]))
    thread.start()
    thread.join(0.2)
    assert done == []
    os.kill(waiting, signal.SIGCONT)
    thread.join(60)
    assert done == ["here\n"]


def test_many_at_once_and_each_is_alone(tmp_path: Path, launcher: Launcher) -> None:
    """Whoever comes first has the one that waits; the others get new ones."""
    found: dict[int, str] = {}

    def run(number: int) -> None:
        room = Room(str(tmp_path / f"room-{number}"))
        for _ in range(5):
            script = f"echo {number} >> /dev/shm/x; ls /proc | grep -c '^[0-9]'; cat /dev/shm/x"
            found[number] = found.get(number, "") + room.sh(launcher, script, followed=True)[1]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for number in range(4):
        lines = found[number].split()
        assert lines[1::2] == [str(number)] * 5
    eventually(lambda: len(children()) == 1)


def test_a_command_that_fails_is_followed_by_none(room: Room, launcher: Launcher) -> None:
    assert room.sh(launcher, "exit 3", followed=True)[0].code == 3
    eventually(lambda: children() == [])
    assert room.sh(launcher, "exit 0", cwd="/none", followed=True)[0].failed_at == "cwd"
    eventually(lambda: children() == [])


def test_what_a_mount_of_the_first_covers_the_second_sees(room: Room, launcher: Launcher) -> None:
    first = TmpfsMount("/mnt")
    assert room.sh(launcher, "touch /mnt/x; ls /mnt", mounts=(first,), followed=True)[1] == "x\n"
    assert room.sh(launcher, "ls /mnt; cat /proc/self/mountinfo | grep -c ' /mnt '")[1] == "0\n"


_ON_SHARED_MOUNTS = """
import os, sys
from builder.sandbox import kernel
from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import BindMount
from sandbox_room import Room, children
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount(None, b"/", None, kernel.MS_REC | 1 << 20)
room = Room(sys.argv[1])
first, second = sys.argv[1] + "/first", sys.argv[1] + "/second"
for folder in (first, second):
    os.mkdir(folder)
kernel.mount(b"tmpfs", os.fsencode(first), b"tmpfs", 0)
with Launcher() as launcher:
    room.sh(launcher, "true", followed=True)
    kernel.umount(os.fsencode(first), 0)
    kernel.mount(b"tmpfs", os.fsencode(second), b"tmpfs", 0)
    open(second + "/new", "w").close()
    (waiting,) = children()
    print(first in open(f"/proc/{waiting}/mountinfo").read())
    print(room.sh(launcher, "ls /mnt; grep -c ' /mnt ' /proc/self/mountinfo", mounts=(BindMount(second, "/mnt"),))[1].split())
points = [line.split()[4] for line in open("/proc/self/mountinfo")]
print([point for point in points if point.startswith(sys.argv[1])] == [second])
"""


def test_it_follows_what_the_host_mounts_and_unmounts(tmp_path: Path) -> None:
    """Else the device of a disk that was unmounted stays busy for as long as a child waits."""
    assert run_child(_ON_SHARED_MOUNTS, str(tmp_path)).splitlines() == ["False", "['new', '1']", "True"]


_WITHOUT_A_NAMESPACE = """
import os, sys
from builder.sandbox import kernel
from builder.sandbox.launcher import Launcher
from sandbox_room import Room
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE)
room = Room(sys.argv[1])
with Launcher() as launcher:
    for _ in range(2):
        print(room.sh(launcher, "echo here", followed=True, without=frozenset({"mount-namespace"}))[1].strip())
print(os.listdir("/..") == os.listdir("/"))
"""


def test_without_a_mount_namespace_nothing_lies_over_the_hosts_root(tmp_path: Path) -> None:
    assert run_child(_WITHOUT_A_NAMESPACE, str(tmp_path)).split() == ["here", "here", "True"]


@pytest.mark.parametrize("ends", ["closed", "killed"])
def test_it_ends_with_the_server(ends: str, room: Room) -> None:
    with Launcher() as launcher:
        room.sh(launcher, "true", followed=True)
        (waiting,) = children()
        if ends == "killed":
            os.kill(server_of(os.getpid()), signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{waiting}").exists())


def test_one_is_made_for_a_command_that_is_expected(room: Room, launcher: Launcher) -> None:
    """As many as commands are said to come, up to eight, and the one that fits is taken."""
    plain, large = Shape("host", "", 64 << 20, frozenset(), ""), Shape("none", "", 1 << 20, frozenset(), "")
    for shape in (plain, large, plain):
        launcher.expect(shape)
    eventually(functools.partial(children_are, 3))
    spaces = [os.readlink(f"/proc/{pid}/ns/pid") for pid in children()]
    look = "readlink /proc/self/ns/pid; df -k /dev/shm | tail -n 1"
    found = []
    for given in ({"network": "none", "shm_size": 1 << 20}, {}, {}, {}):
        outcome, written = room.sh(launcher, look, **given)
        assert outcome.code == 0
        space, disk = written.splitlines()
        found.append(space)
        assert disk.split()[1] == ("1024" if given else "65536")
    # The fourth had none.
    assert set(found[:3]) == set(spaces) and len(set(found[:3])) == 3
    for _ in range(20):
        launcher.expect(plain)
    # Requests are done in their order: the last of those was, once this is answered, which took one of them.
    assert room.sh(launcher, "true")[0].code == 0
    assert len(children()) == 7


def test_one_that_is_expected_outlives_others_and_what_is_dead_goes(room: Room, launcher: Launcher) -> None:
    plain, large = Shape("host", "", 64 << 20, frozenset(), ""), Shape("host", "", 1 << 20, frozenset(), "")
    for shape in (plain, large, large):
        launcher.expect(shape)
    eventually(functools.partial(children_are, 3))
    expected = set(children())
    # One that nobody announced, and that has none made for after it but its own.
    assert room.sh(launcher, "true", network="none", followed=True)[0].code == 0
    eventually(functools.partial(children_are, 4))
    assert expected <= set(children())
    os.kill(min(expected), signal.SIGKILL)
    eventually(lambda: min(expected) not in children())
    for size in (1 << 20, 1 << 20, 64 << 20):
        assert room.sh(launcher, "true", shm_size=size)[0].code == 0
    # The two that were left have become commands: else they would wait on.
    eventually(functools.partial(children_are, 1))
    assert expected.isdisjoint(children())


def test_a_command_that_was_expected_and_does_not_come_is_forgotten(room: Room) -> None:
    with Launcher() as launcher:
        launcher.start()
        launcher.expect(Shape("host", "", 64 << 20, frozenset(), ""))
        eventually(functools.partial(children_are, 1))
        (waiting,) = children()
    assert not Path(f"/proc/{waiting}").exists()
    with pytest.raises(Interrupted):
        launcher.expect(Shape("host", "", 64 << 20, frozenset(), ""))
