"""Answers system calls of one command, as its kernel would if the user namespace had more users and devices.

One process a command, forked from the server at the first question, outside of the command's namespaces: it is nobody's
neighbour there, takes no pid there, and cannot be killed from there. It dies with the server (PDEATHSIG) and is killed by it
when the command has ended.

Why it is safe that the memory which it reads may change meanwhile: an answer is made from what was read once, and decides
over nothing but names and owners inside the sandbox. The supervisor opens nothing beyond the root of the process that asks, or
what that process has open; it has no more rights than the command itself (both are root of one user namespace); a note of an
owner grants nothing, on the host or inside. What is let continue is what Docker's profile allows anyway.

Part of the fork server's program.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct

from builder.sandbox import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sandbox.wire import Job

    Handler = Callable[[int, tuple[int, ...]], int | None]
    """From the process and its six arguments to the call's result; None lets the kernel do it. OSError is its error."""

# linux/seccomp.h
_RECEIVE, _SEND, _IS_VALID, _ADD_DESCRIPTOR, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103, 0x40082104
_CONTINUE = 1
_WAKE_AT_ONCE = 1
_ADD_AND_SEND = 2
_QUESTION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_DESCRIPTOR = struct.Struct("=QIIII")
_NOTHING = bytes(_QUESTION.size)
_MOST_NOTES = 32
# All notes must have room in a pipe.
_MOST_DEVICES = 1500


class Gone(Exception):
    """Who asked is dead, or was answered by a descriptor already: there is nobody to answer."""


class Supervisor:
    """The way to the kernel and back; `handlers` has what to answer, by number of the call."""

    def __init__(self, listener: int, notes: int) -> None:
        self._listener = listener
        self._notes = notes
        self._told: set[bytes] = set()
        self._devices: set[bytes] = set()
        self._id = 0
        self.handlers: dict[int, Handler] = {}
        try:
            fcntl.ioctl(listener, _SET_FLAGS, _WAKE_AT_ONCE)
        except OSError:
            # Before Linux 6.6: the same, some microseconds slower.
            pass

    def tell(self, note: bytes) -> None:
        """Say something to the builder, once; it hears it when the command has ended."""
        if note not in self._told and len(self._told) < _MOST_NOTES:
            self._told.add(note)
            os.write(self._notes, note[:200] + b"\0")

    def tell_device(self, note: bytes) -> None:
        """The same for a device before it is made: one that the builder does not hear of is none. ENOSPC beyond a thousand."""
        if note not in self._devices:
            if len(self._devices) == _MOST_DEVICES:
                raise OSError(errno.ENOSPC, "")
            self._devices.add(note)
            os.write(self._notes, b"device:" + note + b"\0")

    def check(self) -> None:
        """Raises Gone when the process is not the one any more that asked: to be called after the last look at it."""
        try:
            fcntl.ioctl(self._listener, _IS_VALID, struct.pack("=Q", self._id))
        except OSError as error:
            raise Gone from error

    def give(self, descriptor: int, *, close_on_exec: bool) -> None:
        """Answer with a copy of `descriptor` in the process. Never returns: Gone says that it is done."""
        flags = os.O_CLOEXEC if close_on_exec else 0
        try:
            fcntl.ioctl(self._listener, _ADD_DESCRIPTOR, _DESCRIPTOR.pack(self._id, _ADD_AND_SEND, descriptor, 0, flags))
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise Gone from error
            if error.errno != errno.EINVAL:
                raise
            # Before Linux 5.14 in two steps.
            request = bytearray(_DESCRIPTOR.pack(self._id, 0, descriptor, 0, flags))
            self._send(fcntl.ioctl(self._listener, _ADD_DESCRIPTOR, request, True), 0, 0)
        raise Gone

    def loop(self) -> None:
        """Until all that could ask has ended."""
        question = bytearray(_QUESTION.size)
        while True:
            # The kernel wants zeros.
            question[:] = _NOTHING
            try:
                fcntl.ioctl(self._listener, _RECEIVE, question, True)
            except OSError as error:
                if error.errno == errno.ENOENT and self._is_over():
                    return
                if error.errno not in (errno.ENOENT, errno.EINTR):
                    raise
                continue
            self._id, pid, _, number, _, _, *arguments = _QUESTION.unpack(question)
            try:
                result = self.handlers[number](pid, tuple(arguments))
            except Gone:
                continue
            except OSError as error:
                self._send(0, -(error.errno or errno.EIO), 0)
            except Exception as error:  # noqa: BLE001 the command must be told something, and the builder what it was
                self.tell(b"internal:" + repr(error).encode())
                self._send(0, -errno.EIO, 0)
            else:
                self._send(result or 0, 0, _CONTINUE if result is None else 0)

    def _send(self, value: int, error: int, flags: int) -> None:
        try:
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(self._id, value, error, flags))
        except OSError as failure:
            if failure.errno != errno.ENOENT:
                raise

    def _is_over(self) -> bool:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        return any(event & select.POLLHUP for _, event in poll.poll(0))


def start(job: Job, listener: int, missing: tuple[str, ...]) -> tuple[int, int]:
    """A supervisor that answers on `listener`, as a child of this process: its pid, and the pipe with its notes."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    server = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        _supervise(job, listener, writer, server, missing)
    os.close(writer)
    os.close(server)
    return pid, reader


def _supervise(job: Job, listener: int, notes: int, server: int, missing: tuple[str, ...]) -> None:
    """Never returns."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
        if kernel.has_ended(server):
            os._exit(0)
        # Pipes of commands end when their last writer does: that must not be this process.
        kernel.close_all_but((listener, notes), by_range="close_range" not in missing)
        from builder.sandbox.answers import Answers

        supervisor = Supervisor(listener, notes)
        supervisor.handlers = Answers(supervisor, job).handlers()
        supervisor.loop()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 it must never come back into the server's loop
        os.write(notes, b"internal:" + repr(error).encode()[:200] + b"\0")
    finally:
        os._exit(1)


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
