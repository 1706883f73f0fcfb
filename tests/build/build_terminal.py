"""A person at a terminal: a real pty with the program at its other side, in a session of its own."""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import termios
import time
from types import TracebackType

from tests.conftest import Pybuild

PROMPT = b"\x1b[6n"
"""Behind its prompt busybox asks the terminal where the cursor is."""


class Person:
    """Starts the program with the terminal as its three streams. A context manager: at its end the program is dead."""

    def __init__(self, pybuild: Pybuild, *arguments: str, rows: int = 33, columns: int = 101) -> None:
        self.fd, self.terminal = os.openpty()
        termios.tcsetwinsize(self.terminal, (rows, columns))
        self._rest = b""
        self.process = subprocess.Popen(
            [*pybuild.command, *arguments],
            env=pybuild.environment({"TERM": "xterm"}),
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> Person:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.terminal)

    def read(self, until: bytes = PROMPT) -> str:
        """What the screen gets, up to `until` and with it, but for escape sequences."""
        said = self._rest
        deadline = time.monotonic() + 20
        while until not in said:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{until!r} did not come: {said!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            assert data, f"the terminal was closed: {said!r}"
            said += data
        end = said.index(until) + len(until)
        said, self._rest = said[:end], said[end:]
        return re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", said.decode()).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def ask(self, command: str) -> str:
        """What a command line writes; the shell has shown its prompt before, and does so again."""
        self.type(f"{command}; echo 'the'' end'\n")
        answer = self.read(b"the end\r\n")
        self.read()
        return answer.partition("end'\n")[2].rpartition("the end")[0]

    def resize(self, rows: int, columns: int) -> None:
        """The kernel tells the foreground by SIGWINCH."""
        termios.tcsetwinsize(self.fd, (rows, columns))

    def leave(self) -> int:
        """The program's exit code, once it has ended."""
        return self.process.wait(20)

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.terminal)[3] & termios.ICANON

    def await_raw(self) -> None:
        """Until what is typed goes to the command."""
        deadline = time.monotonic() + 20
        while not self.is_raw:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def await_stopped(self) -> None:
        """Until the kernel has stopped the program, as a shell learns it."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
