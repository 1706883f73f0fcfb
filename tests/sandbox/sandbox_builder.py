"""A builder of its own process, to be killed in every way, and the processes that it has in a sandbox."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import uuid

from sandbox_room import command_line, eventually, processes_with, server_of, start_child

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
        return all(ended(pidfd, 10_000) for pidfd in self.pidfds)

    def clean_up(self) -> None:
        for pidfd in self.pidfds:
            if not ended(pidfd, 0):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self.process.kill()
        self.process.wait()
        self.output.close()
        # The shell that is PID 1 has the token inside its script; with the line of hardening off it outlives all else.
        for pid in _mentioning(self.token):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not _mentioning(self.token))


def _mentioning(token: str) -> list[int]:
    """Processes that have the token anywhere in their command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        if token.encode() in command_line(name):
            found.append(int(name))
    return found


def ended(pidfd: int, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(milliseconds))


def fresh_token() -> str:
    """A number of seconds that no other process on this machine sleeps."""
    return f"{1_000_000 + os.getpid()}.{uuid.uuid4().int % 10**12}"
