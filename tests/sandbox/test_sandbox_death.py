"""However it ends, nothing of a sandbox is left: Ctrl-C, SIGKILL of the builder, SIGKILL of the fork server, daemons."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest
from sandbox_room import Room, eventually, processes_with, server_of, start_child

from builder.errors import SandboxError
from builder.sandbox.launcher import Launcher

# PID 1 and a grandchild in a session of its own; neither minds being asked.
_STUBBORN = "trap '' TERM INT HUP QUIT; setsid sleep {0} & echo ready; while :; do sleep {0}; done"

_BUILDER = """
import sys
from builder.sandbox.launcher import Launcher
from sandbox_room import Room, processes_with
folder, token, script, *without = sys.argv[1:]
def show(data):
    print(data.decode(), end="", flush=True)
room = Room(folder)
with Launcher() as launcher:
    try:
        launcher.run(room.spec("sh", "-c", script, without=frozenset(without)), output=show)
    except KeyboardInterrupt:
        print("left", len(processes_with(token)), flush=True)
        raise SystemExit(130)
"""


class Builder:
    """A process that runs `_STUBBORN` in a sandbox, with its fork server and the sandbox's processes."""

    def __init__(self, folder: str, token: str, *without: str) -> None:
        self.token = token
        self.process = start_child(_BUILDER, folder, token, _STUBBORN.format(token), *without)
        assert self.process.stdout is not None
        self.output = self.process.stdout
        assert self.output.readline() == b"ready\n"
        eventually(lambda: len(self.sandboxed()) == 2)
        self.server = server_of(self.process.pid)
        self.pidfds = [os.pidfd_open(pid) for pid in self.sandboxed()]

    def sandboxed(self) -> list[int]:
        # The two `sleep`s: nobody else has the token as a whole argument.
        return [pid for pid in processes_with(self.token) if pid != self.process.pid]

    def all_dead(self) -> bool:
        return all(_ended(pidfd, 10_000) for pidfd in self.pidfds)

    def clean_up(self) -> None:
        for pidfd in self.pidfds:
            if not _ended(pidfd, 0):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        for pid in self.sandboxed():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.output.close()


def _ended(pidfd: int, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(milliseconds))


@pytest.fixture
def token(request: pytest.FixtureRequest) -> str:
    """A number of seconds that no other process on this machine sleeps."""
    return f"{1_000_000 + os.getpid()}.{abs(hash(request.node.name)) % 10**6}"


def _mounts() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read()


def test_ctrl_c_leaves_nothing(tmp_path: Path, token: str) -> None:
    before = _mounts()
    builder = Builder(str(tmp_path), token)
    try:
        builder.process.send_signal(signal.SIGINT)
        assert builder.output.readline() == b"left 0\n"
        assert builder.process.wait(60) == 130
        assert builder.all_dead()
        assert not os.path.exists(f"/proc/{builder.server}")
    finally:
        builder.clean_up()
    assert _mounts() == before


@pytest.mark.parametrize("victim", ["builder", "server"])
def test_sigkill_leaves_nothing(tmp_path: Path, token: str, victim: str) -> None:
    before = _mounts()
    builder = Builder(str(tmp_path), token)
    server = os.pidfd_open(builder.server)
    try:
        os.kill(builder.process.pid if victim == "builder" else builder.server, signal.SIGKILL)
        assert builder.all_dead()
        assert builder.sandboxed() == []
        assert _ended(server, 10_000)
    finally:
        os.close(server)
        builder.clean_up()
    assert _mounts() == before


@pytest.mark.parametrize("without", [(), ("pdeathsig",)])
def test_the_kernel_kills_when_nobody_else_can(tmp_path: Path, token: str, without: tuple[str, ...]) -> None:
    """The negative control of pdeathsig: the builder is killed while the server stands still, so neither can act."""
    builder = Builder(str(tmp_path), token, *without)
    server = os.pidfd_open(builder.server)
    try:
        os.kill(builder.server, signal.SIGSTOP)
        builder.process.kill()
        # The builder's death kills the server, whose death (which sends the children's signals) is complete here.
        assert _ended(server, 10_000)
        if without:
            assert not any(_ended(pidfd, 200) for pidfd in builder.pidfds)
        else:
            assert builder.all_dead()
    finally:
        os.close(server)
        builder.clean_up()


def test_the_death_of_the_server_is_an_error(room: Room, launcher: Launcher) -> None:
    def kill_server(data: bytes) -> None:
        os.kill(server_of(os.getpid()), signal.SIGKILL)

    with pytest.raises(SandboxError, match="fork server ended"):
        launcher.run(room.spec("sh", "-c", "echo x; exec sleep 1000"), output=kill_server)
    with pytest.raises(SandboxError, match="fork server ended"):
        launcher.run(room.spec("true"))


def test_a_setuid_command_dies_with_the_server_too(room: Room, launcher: Launcher, token: str) -> None:
    # Becoming setuid undoes PDEATHSIG: here the builder kills.
    with open("/usr/bin/busybox", "rb") as source, open(room.path("bin/su"), "wb") as target:
        target.write(source.read())
    os.chmod(room.path("bin/su"), 0o4755)
    room.write("etc/passwd", "root::0:0::/:/bin/sh\nuser::1000:1000::/:/bin/sh\n")

    def kill_server(data: bytes) -> None:
        os.kill(server_of(os.getpid()), signal.SIGKILL)

    spec = room.spec("su", "-c", f"echo x; exec sleep {token}", "root", uid=1000, gid=1000)
    with pytest.raises(SandboxError):
        launcher.run(spec, output=kill_server)
    assert processes_with(token) == []


def test_a_daemon_does_not_outlive_the_command(room: Room, launcher: Launcher, token: str) -> None:
    # It holds the output open: waiting for the end of the pipe would never end.
    outcome, written = room.sh(launcher, f"(setsid sleep {token} &) ; echo done")
    assert (outcome.code, written) == (0, "done\n")
    assert processes_with(token) == []


def test_many_processes_die_with_the_command(room: Room, launcher: Launcher, token: str) -> None:
    script = f"i=0; while [ $i -lt 150 ]; do sleep {token} & i=$((i+1)); done; exit 5"
    assert room.sh(launcher, script)[0].code == 5
    assert processes_with(token) == []


def test_the_server_ends_with_the_launcher(room: Room) -> None:
    with Launcher() as launcher:
        room.sh(launcher, "true")
        server = server_of(os.getpid())
    assert not os.path.exists(f"/proc/{server}")


def test_no_server_for_a_build_that_runs_nothing() -> None:
    with Launcher(), pytest.raises(AssertionError, match="no fork server"):
        server_of(os.getpid())


def test_the_server_outlives_the_thread_that_ran_first(tmp_path: Path) -> None:
    # PDEATHSIG follows the thread that forked.
    code = """
import sys, threading
from builder.sandbox.launcher import Launcher
from sandbox_room import Room
room = Room(sys.argv[1])
with Launcher() as launcher:
    for number in range(3):
        thread = threading.Thread(target=lambda: print(room.sh(launcher, "echo run")[1], end=""))
        thread.start()
        thread.join()
"""
    with start_child(code, str(tmp_path)) as child:
        assert child.communicate()[0] == b"run\nrun\nrun\n"
    assert isinstance(child, subprocess.Popen) and child.returncode == 0
