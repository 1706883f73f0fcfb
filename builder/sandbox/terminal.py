"""A terminal for a command: a pty of the sandbox's own devpts, so that `tty` knows it; the other side goes to the builder.

The command is not the first process of its namespace then, as it is without a terminal: the kernel drops Ctrl-C for a first
process that has not asked for it (pid_namespaces(7)), and nobody could end a `sleep`.

Part of the fork server's program.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # built into every Python
import _socket
import os

from builder.sandbox import kernel, rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox.wire import Job


_SIGNALS = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2)
"""What the builder hands on (`builder.forwarding`)."""


def open_terminal(job: Job, connection: int) -> int:
    """The command's side; the other one was sent over the socket `connection`."""
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    name = b"/dev/pts/%d" % kernel.unlock_terminal(master)
    terminal = os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    kernel.set_terminal_size(terminal, *job.terminal)
    # As login(1) has it: the user's own, the group is the one that devpts was mounted with.
    if job.emulate != "owners":
        os.fchown(terminal, job.uid, -1)
    channel = _socket.socket(fileno=connection)
    try:
        rights.send(channel, b"t", master)
    finally:
        channel.detach()
        os.close(master)
    return terminal


def become_second(*, has_terminal: bool) -> None:
    """Go on as a child that leads a session of its own, with the terminal, if there is one, at its descriptor 0; the first
    process waits for it, reaps whoever is left, hands on signals, and ends with its status."""
    kernel.hide(b"init")
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        _wait(child)
    os.close(writer)
    # Until the first process has closed what it had: none of that is for the command.
    os.read(reader, 1)
    os.close(reader)
    os.setsid()
    if has_terminal:
        kernel.take_terminal(0)


def _wait(child: int) -> None:

    def hand_on(number: int, _frame: object) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            return  # It has just ended.

    for number in _SIGNALS:
        _signal.signal(number, hand_on)
    kernel.close_all()
    ended, status = 0, 0
    while ended != child:
        ended, status = os.wait()
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
