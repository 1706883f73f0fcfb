"""The signals that the builder gets while somebody's command runs: they are the command's, as with `docker run`.

A command is the first process of its pid namespace, where the kernel drops every signal that it has no handler for
(pid_namespaces(7)). A signal that would end any other process ends this one, too: then all of it is killed.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Each of them ends a process that has no handler for it (signal(7))."""
_IMPATIENT = (signal.SIGINT, signal.SIGTERM)
_MOST = 3
"""Who asks for an end so often gets it, whatever the command makes of it: so has it docker."""


class Forwarding:
    """``with Forwarding() as forwarding``: hand its `begun` to the launcher. For the main thread."""

    def __init__(self) -> None:
        self._pidfd = -1
        self._asked = 0
        self._early: list[tuple[signal.Signals, FrameType | None]] = []
        """What came before it was known that the command is there: it may run already."""
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self.killed_for = 0
        """The signal for which the command was killed that it had no handler for; 0 for none."""

    def __enter__(self) -> Forwarding:
        for number in SIGNALS:
            # Who started the builder with nohup, or in the background of a script, wants it to go on.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._got)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        elif self._early:
            # There was no command that could have had it.
            self._as_before(*self._early[0])

    def begun(self, pidfd: int) -> None:
        """The command's first process is there; the descriptor stays the caller's."""
        self._pidfd = os.dup(pidfd)
        early, self._early = self._early, []
        for number, _ in early:
            self._hand_on(number)

    def _got(self, number: int, frame: FrameType | None) -> None:
        self._asked += number in _IMPATIENT
        if self._pidfd >= 0:
            self._hand_on(number)
        elif self._asked < _MOST:
            self._early.append((signal.Signals(number), frame))
        else:
            self._as_before(signal.Signals(number), frame)

    def _hand_on(self, number: int) -> None:
        with suppress(ProcessLookupError):  # It has just ended.
            if self._asked < _MOST and not _ends(self._pidfd, number):
                signal.pidfd_send_signal(self._pidfd, number)
                return
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self.killed_for = number

    def _as_before(self, number: signal.Signals, frame: FrameType | None) -> None:
        handler = self._before[number]
        if callable(handler):
            handler(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _ends(pidfd: int, number: int) -> bool:
    """Whether the process has left the signal to the kernel: it neither handles, ignores nor blocks it."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
        pid = next((int(line.split()[1]) for line in file if line.startswith(b"Pid:")), -1)
    if pid <= 0:
        raise ProcessLookupError
    taken = 0
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith((b"SigBlk:", b"SigIgn:", b"SigCgt:")):
                    taken |= int(line.split()[1], 16)
    except FileNotFoundError:
        raise ProcessLookupError from None
    return not taken >> (number - 1) & 1
