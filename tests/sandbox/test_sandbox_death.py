"""However it ends, nothing of a sandbox is left: Ctrl-C, SIGKILL of the builder, SIGKILL of the fork server, daemons.

That the kernel kills when neither of them can is a line of the hardening (`sandbox_probes`, pdeathsig).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from sandbox_builder import Builder, ended, fresh_token
from sandbox_room import Room, mounts_below, processes_with, server_of, start_child

from builder.errors import SandboxError
from builder.sandbox.launcher import Launcher


@pytest.fixture
def token() -> str:
    return fresh_token()


def test_ctrl_c_leaves_nothing(tmp_path: Path, token: str) -> None:
    builder = Builder(str(tmp_path), token)
    try:
        builder.process.send_signal(signal.SIGINT)
        assert builder.output.readline() == b"left 0\n"
        assert builder.process.wait(60) == 130
        assert builder.all_dead()
        assert not os.path.exists(f"/proc/{builder.server}")
    finally:
        builder.clean_up()
    assert mounts_below(str(tmp_path)) == []


def test_ctrl_c_at_any_moment(room: Room, token: str) -> None:
    """While the server starts, a request is sent, the sandbox is made, the command runs: it ends, and leaves nothing."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for step in range(1, 40):
            with Launcher() as launcher, pytest.raises(KeyboardInterrupt):
                # Again and again: Python drops an exception that comes while it clears up objects.
                signal.setitimer(signal.ITIMER_REAL, step * 0.0015, 2.0)
                fields = {"network": "stack", "stack": shutil.which("slirp4netns"), "followed": True} if step % 2 else {}
                room.run(launcher, "sleep", token, **fields)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert processes_with(token) == []
            with pytest.raises(AssertionError, match="no fork server"):
                server_of(os.getpid())
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert mounts_below(room.folder) == []


@pytest.mark.parametrize("victim", ["builder", "server"])
def test_sigkill_leaves_nothing(tmp_path: Path, token: str, victim: str) -> None:
    builder = Builder(str(tmp_path), token)
    server = os.pidfd_open(builder.server)
    try:
        os.kill(builder.process.pid if victim == "builder" else builder.server, signal.SIGKILL)
        assert builder.all_dead()
        assert builder.sandboxed() == []
        assert ended(server, 10_000)
    finally:
        os.close(server)
        builder.clean_up()
    assert mounts_below(str(tmp_path)) == []


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
