"""A process in namespaces of its own that is going to be a command, and may be born before that is known: what the server has
of it, and what it has of the server.

A child that waits has made all that does not depend on its command (`Shape`): `enter` says what.

Part of the fork server's program.
"""

from __future__ import annotations

import _socket
import errno
import os

from builder.sandbox import kernel, rights, wire
from builder.sandbox.enter import enter
from builder.sandbox.network import Network, is_exiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox.wire import Job, Shape

_NAMESPACES = (
    ("mount-namespace", kernel.CLONE_NEWNS),
    ("pid-namespace", kernel.CLONE_NEWPID),
    ("ipc-namespace", kernel.CLONE_NEWIPC),
    ("uts-namespace", kernel.CLONE_NEWUTS),
    ("cgroup-namespace", kernel.CLONE_NEWCGROUP),
)
_DESCRIPTORS = 16
_CHANGES = 256


class Unborn(Exception):
    """There is no child: at which step, and the errno of that."""

    def __init__(self, stage: str, number: int) -> None:
        super().__init__(stage, number)
        self.stage = stage
        self.number = number


class Request:
    """What a child is told: its command, the files by which it joins cgroups, and its streams; -1 as the first is /dev/null."""

    def __init__(self, job: Job, given: list[int]) -> None:
        self.job = job
        self.cgroups = tuple(given[: job.groups_given])
        streams = given[job.groups_given :]
        self.streams = (streams[0] if len(streams) == 3 else -1, streams[-2], streams[-1])


class Child:
    def __init__(self, shape: Shape, missing: tuple[str, ...], server: int, unused: list[Network]) -> None:
        """The server's part, and in the child the way to its command. `server` is the server's pidfd; of the networks that are
        `unused` it takes one, if it is to have one and that is of the right program. Raises Unborn."""
        self.shape = shape
        self.network: Network | None = None
        self.hears = self.asks = self.said = self.errors = self._gives = self._takes = -1
        """The two ends each: of what the listener for its questions comes over, of its error channel, of its command's way."""
        stage = "clone"
        try:
            if shape.network == "stack":
                # Before the pipe, which ends when its last writer ends.
                self.network = _taken(unused, shape.stack) or Network(shape.stack)
            self.said, self.errors = os.pipe()
            self._gives, self._takes = _pair(_socket.SOCK_SEQPACKET)
            if shape.emulate:
                stage = "supervisor"
                self.hears, self.asks = _questions(shape, missing)
                stage = "clone"
            flags = _flags(shape)
            self.pid, self.pidfd = kernel.clone(flags) if "clone3" in missing else kernel.clone3(flags)
        except OSError as error:
            _close(self.said, self.hears, self._gives, self.errors, self.asks, self._takes)
            if self.network is not None:
                # Nobody else knows of it.
                _reap(self.network.end())
            raise Unborn(stage, error.errno or errno.EIO) from error
        if self.pid == 0:
            enter(self, server, missing)
        _close(self.errors, self.asks, self._takes)

    def give(self, job_file: int, changes: dict[str, object], given: list[int]) -> None:
        """The server's part: the command, with `changes` of its fields, and the descriptors that came with it. Raises OSError
        where they cannot be sent."""
        channel = _socket.socket(fileno=self._gives)
        try:
            rights.send(channel, wire.pack_job(changes), job_file, *given)
        except ConnectionError:
            # It has ended: its pidfd says so, and its error channel why.
            return
        finally:
            channel.close()
            self._gives = -1

    def is_there(self) -> bool:
        """Whether it waits, and its network with it."""
        is_alive = not kernel.has_ended(self.pidfd) and not is_exiting(self.pid)
        return is_alive and (self.network is None or self.network.is_recent())

    def end(self) -> list[int]:
        """The server's part, for one that gets no command: the pids that are to be reaped once they have ended."""
        kernel.pidfd_kill(self.pidfd)
        _close(self.pidfd, self.said, self.hears, self._gives)
        stack = self.network.end() if self.network is not None else 0
        return [self.pid, *([stack] if stack else [])]

    def descriptors(self) -> tuple[int, ...]:
        """The child's part: those it needs while it waits."""
        return (*self.kept(), self._takes, *(self.network.descriptors() if self.network is not None else ()))

    def kept(self) -> tuple[int, ...]:
        """The child's part: those it needs until it is the command."""
        return (self.errors, *((self.asks,) if self.asks >= 0 else ()))

    def take(self) -> Request:
        """The child's part: it waits, and ends with the server, or when it is not needed."""
        channel = _socket.socket(fileno=self._takes)
        changes, fds = rights.receive(channel, _CHANGES, _DESCRIPTORS)
        channel.close()
        if not changes:
            os._exit(125)
        if fds:
            job = wire.unpack_job(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
            job.__dict__.update(wire.unpack_job(changes).__dict__)
            if len(fds) - 1 - job.groups_given in (2, 3):
                return Request(job, fds[1:])
        # The kernel gives fewer where there is no room for more.
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _taken(unused: list[Network], program: bytes) -> Network | None:
    for network in unused:
        if network.program == program:
            unused.remove(network)
            return network
    return None


def _flags(shape: Shape) -> int:
    flags = sum(flag for name, flag in _NAMESPACES if name not in shape.without)
    if shape.groups_given:
        # Its root is the group in which it is made: the command's, which it has yet to join.
        flags &= ~kernel.CLONE_NEWCGROUP
    if shape.network == "none":
        flags |= kernel.CLONE_NEWNET
    return flags


def _questions(shape: Shape, missing: tuple[str, ...]) -> tuple[int, int]:
    """Our end and the command's of the socket on which it sends the listener for its questions."""
    if "openat2" in missing:
        # Paths of a command cannot be followed safely without it.
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if shape.emulate == "owners":
        # Every command will ask: what answers is loaded once, before it is forked.
        from builder.sandbox import answers  # noqa: F401
    return _pair(_socket.SOCK_STREAM)


def _pair(kind: int) -> tuple[int, int]:
    one, other = _socket.socketpair(_socket.AF_UNIX, kind)
    return one.detach(), other.detach()


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _reap(pid: int) -> None:
    if pid:
        os.waitpid(pid, 0)
