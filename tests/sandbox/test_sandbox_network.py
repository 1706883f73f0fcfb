"""A command's network: made before the command comes, had again as long as nobody used it, made anew where it ended."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from pathlib import Path

import pytest
from sandbox_room import Room, children, eventually, run_child, server_of

from builder.sandbox.capabilities import DOCKER_CAPABILITIES
from builder.sandbox.launcher import Launcher

LOOK = "readlink /proc/self/ns/net; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"


def stacks() -> list[int]:
    return children("slirp4netns")


def ready_are(count: int) -> bool:
    return len(stacks()) == count


def program() -> str:
    found = shutil.which("slirp4netns")
    assert found is not None
    return found


def test_each_command_finds_a_new_one_be_it_ready_or_not(room: Room, launcher: Launcher) -> None:
    for followed, left in ((False, 0), (True, 2), (True, 2), (False, 0)):
        outcome, written = room.sh(launcher, LOOK, network="stack", stack=program(), followed=followed)
        assert (outcome.failed_at, outcome.notes) == ("", ())
        space, *devices, port = written.split()
        assert (devices, port) == (["lo", "tap0"], "0")
        assert os.readlink("/proc/self/ns/net") != space
        # That of the child that waits, and the one that was left.
        eventually(functools.partial(ready_are, left))


def test_two_take_turns_as_long_as_nobody_uses_them(room: Room, launcher: Launcher) -> None:
    spaces = [_space(room, launcher, "cat /proc/net/dev /proc/net/tcp; ifconfig -a") for _ in range(6)]
    assert len(set(spaces)) == 2
    assert spaces[::2] == [spaces[0]] * 3


TOUCHES = {
    "own address": "ping -c 1 127.0.0.1",
    "refused": "echo | nc 127.0.0.1 9",
    "gateway": "ping -c 1 -W 1 10.0.2.2",
    "nobody there": "ping -c 1 -W 1 10.0.2.77",
    "IPv6": "ping -6 -c 1 ::1",
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_one_that_was_used_nobody_gets_again(touch: str, room: Room, launcher: Launcher) -> None:
    count = "cat /proc/net/dev | grep -v '|'"
    found = []
    for script in (f"{TOUCHES[touch]} > /dev/null 2>&1; {count}", *(count,) * 4):
        outcome, written = room.sh(launcher, script, network="stack", stack=program(), followed=True)
        assert outcome.code == 0
        found.append([{*line.split()[1:]} == {"0"} for line in written.splitlines()])
    assert len(found[0]) == 2 and not all(found[0])
    assert found[1:] == [[True, True]] * 4


def test_one_that_could_be_configured_nobody_gets_again(room: Room, launcher: Launcher) -> None:
    look = "ip -o -4 addr show lo | wc -l"
    found: list[str] = []
    for script in (f"ip addr add 10.9.9.9/32 dev lo; {look}", *(look,) * 4):
        may = DOCKER_CAPABILITIES if found else (*DOCKER_CAPABILITIES, "CAP_NET_ADMIN")
        outcome, written = room.sh(launcher, script, network="stack", stack=program(), followed=True, capabilities=may)
        assert outcome.code == 0
        found.append(written)
    assert found == ["2\n", "1\n", "1\n", "1\n", "1\n"]


def test_the_end_of_a_stack_is_told_whether_or_not_another_command_comes(room: Room, launcher: Launcher) -> None:
    for followed in (True, False):

        def end_all(_: bytes) -> None:
            for stack in stacks():
                os.kill(stack, signal.SIGKILL)

        spec = room.spec("sh", "-c", "echo begun; sleep 0.3", network="stack", stack=program(), followed=followed)
        assert launcher.run(spec, output=end_all).notes == ("network-ended",)


def test_one_whose_stack_ended_meanwhile_nobody_gets_again(room: Room, launcher: Launcher) -> None:
    _space(room, launcher, "true")
    eventually(lambda: len(stacks()) == 2)
    for stack in stacks():
        os.kill(stack, signal.SIGKILL)
    eventually(lambda: stacks() == [])
    for _ in range(3):
        outcome, written = room.sh(launcher, "ls /sys/class/net", network="stack", stack=program(), followed=True)
        assert (outcome.failed_at, outcome.notes, written.split()) == ("", (), ["lo", "tap0"])


_AGE = """
import sys
from builder.sandbox import network
stack = network.Network(sys.argv[1].encode())
print(stack.is_recent())
network._OLDEST = 0.0
print(stack.is_recent(), stack.is_there())
stack.end()
"""


def test_one_that_is_old_nobody_gets() -> None:
    """The machine's own network may be another by now."""
    assert run_child(_AGE, program()).split() == ["True", "False", "True"]


def _space(room: Room, launcher: Launcher, script: str) -> str:
    """The network namespace of a command that does that."""
    script = f"({script}) > /dev/null 2>&1; readlink /proc/self/ns/net"
    outcome, written = room.sh(launcher, script, network="stack", stack=program(), followed=True)
    assert (outcome.code, outcome.notes) == (0, ())
    return written.strip()


def test_a_command_with_another_network_leaves_it(room: Room, launcher: Launcher) -> None:
    room.sh(launcher, "true", network="stack", stack=program(), followed=True)
    for network, devices in (("none", ["lo"]), ("host", sorted(os.listdir("/sys/class/net")))):
        assert room.sh(launcher, "ls /sys/class/net", network=network)[1].split() == devices
    # One behind another program, which is none here.
    outcome, _ = room.sh(launcher, "true", network="stack", stack="/bin/false")
    assert outcome.failed_at == "network"
    eventually(lambda: stacks() == [])


def test_a_command_that_fails_is_followed_by_none(room: Room, launcher: Launcher) -> None:
    outcome, _ = room.sh(launcher, "exit 3", network="stack", stack=program(), followed=True)
    assert outcome.code == 3
    eventually(lambda: stacks() == [])


@pytest.mark.parametrize("ends", ["closed", "killed"])
def test_all_end_with_the_server(ends: str, room: Room) -> None:
    with Launcher() as launcher:
        room.sh(launcher, "true", network="stack", stack=program(), followed=True)
        eventually(lambda: len(stacks()) == 2)
        ready = stacks()
        if ends == "killed":
            os.kill(server_of(os.getpid()), signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{each}").exists() for each in ready))
