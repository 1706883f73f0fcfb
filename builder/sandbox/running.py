"""One command that runs, as the builder sees it: a channel of its own to the fork server, so that nobody hands out answers, the
pipe of its output, and its pidfd.

Whatever goes wrong, and wherever a signal's exception comes: after `end` nothing of the command is left.
"""

from __future__ import annotations

import _socket  # `socket` costs 3 ms at start
import os
import select

from builder.sandbox import rights, wire
from builder.sandbox.spawn import memory_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Output = Callable[[bytes], None]

_CHUNK = 1 << 16
_TICK = 200
"""Milliseconds. A signal that comes between Python's last look for one and the system call does not end that call: Ctrl-C would
wait for the command's next word."""


class Running:
    """One command's channel, the pipe of its output, and its pidfd once it runs."""

    def __init__(self, begun: Callable[[int], object] | None, *, own_output: bool, end_by: int) -> None:
        self._end_by = end_by
        self._begun = begun
        self._channel, self._far_channel = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._output, self.output_end = os.pipe() if own_output else (-1, -1)
        self._pidfd = -1
        self._over = True
        self._reply: wire.Reply | None = None

    def send(self, server: _socket.socket, fields: dict[str, object], given: tuple[int, ...]) -> None:
        job = memory_file("job")
        try:
            with open(job, "wb", closefd=False) as file:
                file.write(wire.pack_job(fields))
            self._over = False
            rights.send(server, wire.RUN, job, self._far_channel.fileno(), *given)
        except ConnectionError:
            self._over = True
        finally:
            os.close(job)
            self._far_channel.close()
            self._close_output_end()

    def follow(self, output: Output | None) -> wire.Reply | None:
        """Until the command has ended and all its output was handed on; None when the server is gone."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if self._output >= 0:
            poll.register(self._output, select.POLLIN)
        while not self._over:
            for fd, _ in poll.poll(_TICK):
                if fd == self._output:
                    if not self._pass_on(output):
                        poll.unregister(fd)
                else:
                    self._listen()
        self._drain(output)
        return self._reply

    def _pass_on(self, output: Output | None) -> int:
        data = os.read(self._output, _CHUNK)
        if data and output is not None:
            output(data)
        return len(data)

    def _drain(self, output: Output | None) -> None:
        """What is left in the pipe. Whoever still holds its other end is dead, or not of the sandbox: no more is awaited."""
        if self._output < 0:
            return
        os.set_blocking(self._output, False)
        try:
            while self._pass_on(output):
                continue
        except BlockingIOError:
            return

    def _listen(self) -> None:
        try:
            data, fds = rights.receive(self._channel, 1 << 16)
        except ConnectionResetError:
            # The server closed its end without reading what we said; its own last word is still to come.
            return
        if fds:
            self._pidfd = fds[0]
            if self._begun is not None:
                self._begun(self._pidfd)
        if data == wire.STARTED:
            return
        self._over = True
        if data:
            self._reply = wire.unpack_reply(data)
        else:
            # The server died. Its commands do too (PDEATHSIG), but one that had become setuid does not.
            self._kill()
            self._await_death()

    def end(self) -> None:
        """Nothing of the command is left after this."""
        try:
            # Ctrl-C may have come before `send` did it; the answer is awaited until nobody has the channel's other end.
            self._far_channel.close()
            if not self._over:
                self._kill()
                self._await_reply()
        finally:
            self._channel.close()
            self._close_output_end()
            for fd in (self._output, self._pidfd):
                if fd >= 0:
                    os.close(fd)

    def _kill(self) -> None:
        if self._pidfd >= 0:
            _kill_by_pidfd(self._pidfd, self._end_by)
        try:
            self._channel.send(wire.KILL, _socket.MSG_NOSIGNAL)
        except ConnectionError:
            return

    def _await_reply(self) -> None:
        while not self._over:
            try:
                self._listen()
            except KeyboardInterrupt:
                # Pressed again: the first one is on its way already, and the end is near.
                continue

    def _await_death(self) -> None:
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll()

    def _close_output_end(self) -> None:
        if self.output_end >= 0:
            os.close(self.output_end)
            self.output_end = -1


def _kill_by_pidfd(pidfd: int, number: int) -> None:
    from signal import pidfd_send_signal

    try:
        pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
