"""A network that is made ready for the next command: taken, dropped where it does not fit, made anew where it ended."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from sandbox_room import Room, eventually, server_of

from builder.sandbox.launcher import Launcher

LOOK = "readlink /proc/self/ns/net; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"


def stacks() -> list[int]:
    """What runs slirp4netns below our fork server, and is not about to end."""
    found, server = [], server_of(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                _, parent, *_, flags = (entry / "stat").read_text().rpartition(") ")[2].split()[:7]
                is_exiting = int(flags) & 4
                if int(parent) == server and not is_exiting and (entry / "comm").read_text() == "slirp4netns\n":
                    found.append(int(entry.name))
    return found


def ready_are(count: int) -> bool:
    return len(stacks()) == count


def program() -> str:
    found = shutil.which("slirp4netns")
    assert found is not None
    return found


def test_each_command_has_a_new_one_be_it_ready_or_not(room: Room, launcher: Launcher) -> None:
    spaces = set()
    for followed in (False, True, True, False):
        outcome, written = room.sh(launcher, LOOK, network="stack", stack=program(), followed=followed)
        assert (outcome.failed_at, outcome.notes) == ("", ())
        space, *devices, port = written.split()
        assert (devices, port) == (["lo", "tap0"], "0")
        # Numbers are given again, but not to one that was there before the other went.
        spaces.add(space)
        eventually(functools.partial(ready_are, followed))
    assert os.readlink("/proc/self/ns/net") not in spaces
    assert len(spaces) > 1


def test_one_that_ended_is_made_anew(room: Room, launcher: Launcher) -> None:
    room.sh(launcher, "true", network="stack", stack=program(), followed=True)
    eventually(lambda: len(stacks()) == 1)
    (ready,) = stacks()
    os.kill(ready, signal.SIGKILL)
    eventually(lambda: stacks() == [])
    outcome, written = room.sh(launcher, "ls /sys/class/net", network="stack", stack=program())
    assert (outcome.failed_at, outcome.notes, written.split()) == ("", (), ["lo", "tap0"])
    eventually(lambda: stacks() == [])


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
def test_it_ends_with_the_server(ends: str, room: Room) -> None:
    with Launcher() as launcher:
        room.sh(launcher, "true", network="stack", stack=program(), followed=True)
        eventually(lambda: len(stacks()) == 1)
        (ready,) = stacks()
        if ends == "killed":
            os.kill(server_of(os.getpid()), signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{ready}").exists())
