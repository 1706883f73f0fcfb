"""The user's terminal, lent to a command that has one of its own: what is typed goes there, what it writes comes here.

Promises: the user's terminal has its modes back when the block has ended, however it ended, short of SIGKILL. Does not
protect from what a command writes to it: it is the command's own screen meanwhile.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import termios
import tty
from _thread import allocate_lock, start_new_thread
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

_CHUNK = 1 << 16


class Terminal:
    """``with Terminal() as terminal``: give `streams` and `size` to the command, whose terminal's other side comes back over
    them. From then on this terminal is raw, and a change of its size is the other one's, too. For the main thread."""

    def __init__(self, stdin: int = 0, stdout: int = 1) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._near, self._far = socket.socketpair()
        self._master = -1
        self._modes = termios.tcgetattr(stdin)
        self._raw = False
        self._over = allocate_lock()
        """Held while the relay runs."""

    @property
    def streams(self) -> tuple[int, int, int]:
        """What the command gets in place of its streams."""
        return (self._far.fileno(), self._far.fileno(), self._far.fileno())

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return termios.tcgetwinsize(self._stdin)

    def __enter__(self) -> Terminal:
        self._before = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, self._resized),
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._stopped),
            signal.SIGCONT: signal.signal(signal.SIGCONT, self._continued),
        }
        self._over.acquire()
        start_new_thread(self._relay, ())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            # Where no terminal came, the relay still waits for it. Where one did, its command is dead, and its end near.
            self._far.close()
            with self._over:
                pass
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._give_back()
            self._near.close()
            if self._master >= 0:
                os.close(self._master)

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        # An error says that one of the two terminals is gone.
        if self._master >= 0:
            with suppress(OSError, termios.error):
                termios.tcsetwinsize(self._master, self.size)

    def _give_back(self) -> None:
        if self._raw:
            # An error here says that the terminal is gone.
            with suppress(termios.error):
                termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._modes)

    def _stopped(self, _number: int, _frame: FrameType | None) -> None:
        """From outside: what is typed at the terminal goes to the command, Ctrl-Z too."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _continued(self, number: int, frame: FrameType | None) -> None:
        """Whoever had the terminal meanwhile may have changed its modes, or its size."""
        if self._raw:
            with suppress(termios.error):
                tty.setraw(self._stdin, termios.TCSADRAIN)
            self._resized(number, frame)

    def _relay(self) -> None:
        try:
            _, fds, _, _ = socket.recv_fds(self._near, 1, 1)
            if not fds:
                return
            os.set_inheritable(fds[0], False)
            os.set_blocking(fds[0], False)
            self._master = fds[0]
            # It may have changed since the command was told.
            termios.tcsetwinsize(self._master, self.size)
            self._raw = True
            tty.setraw(self._stdin, termios.TCSADRAIN)
            self._copy()
        except (OSError, termios.error):
            # The user's terminal is gone. So is the command's then, which learns it by SIGHUP, as we do.
            master, self._master = self._master, -1
            if master >= 0:
                os.close(master)
        finally:
            self._over.release()

    def _copy(self) -> None:
        """Until nobody has the other side open any more."""
        typed = b""
        listening = True
        while True:
            poll = select.poll()
            poll.register(self._master, select.POLLIN | (select.POLLOUT if typed else 0))
            if listening and not typed:
                poll.register(self._stdin, select.POLLIN)
            for fd, happened in poll.poll():
                if fd == self._stdin:
                    typed = self._typed()
                    listening = bool(typed)
                elif happened & select.POLLOUT and typed:
                    with suppress(BlockingIOError, OSError):
                        typed = typed[os.write(self._master, typed) :]
                if fd == self._master and happened & (select.POLLIN | select.POLLHUP | select.POLLERR) and not self._show():
                    return

    def _typed(self) -> bytes:
        """What the user typed; nothing at the end of the terminal."""
        try:
            return os.read(self._stdin, _CHUNK)
        except OSError:
            return b""

    def _show(self) -> bool:
        """Hand on what the command wrote; False at its end, which is EIO for a terminal."""
        try:
            data = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._stdout, view) :]
            except BlockingIOError:
                select.select([], [self._stdout], [])
            except OSError:
                # Nobody looks any more; the command learns it from the signal that we get.
                return True
        return bool(data)
