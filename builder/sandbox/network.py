"""A command's own network: what the fork server starts for it, and how the command comes into it and waits for it.

The namespace is handed on as a descriptor: by its path in /proc nobody in a user namespace may open that of a process that
hides. The program (slirp4netns, pasta) enters it, makes a tap interface there, says on a pipe that all is configured, and then
only moves data. It ends by SIGKILL, or by PDEATHSIG with the server; slirp4netns besides when the server's end of another pipe
is closed.

Part of the fork server's program.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import time

from builder.sandbox import kernel, rights

_READY, _LEAVE, _NAMESPACE = 3, 4, 5
_PF_EXITING = 0x4  # linux/sched.h
_OLDEST = 60.0  # Seconds.
_SLIRP4NETNS = (
    b"--configure",
    b"--mtu=65520",
    # The host's loopback is not for everybody: this is the point of a network of one's own.
    b"--disable-host-loopback",
    # Who finds a hole in it finds an empty root and few system calls.
    b"--enable-sandbox",
    b"--enable-seccomp",
    b"--ready-fd=%d" % _READY,
    b"--exit-fd=%d" % _LEAVE,
    b"--netns-type=path",
    b"/proc/self/fd/%d" % _NAMESPACE,
    b"tap0",
)
_PASTA = (
    b"--foreground",
    b"--quiet",
    b"--config-net",
    b"--netns-only",
    b"--ipv4-only",
    # As slirp4netns has them.
    *(b"--address=10.0.2.100", b"--netmask=24", b"--gateway=10.0.2.2"),
    b"--dns-forward=10.0.2.3",
    *(b"--ns-ifname=tap0", b"--mtu=65520"),
    # Neither the host's loopback from here, nor anything from there.
    b"--no-map-gw",
    *(b"--tcp-ports=none", b"--udp-ports=none", b"--tcp-ns=none", b"--udp-ns=none"),
    # It writes its number there when all is configured.
    b"--pid=/proc/self/fd/%d" % _READY,
    b"--netns=/proc/self/fd/%d" % _NAMESPACE,
)
_PASTA_OF_ROOT = (b"--runas=0:0",)
"""Else it becomes nobody, who may not enter the namespace."""


def allow_as_docker() -> None:
    """Every user of this network may listen on any port, and ping, as in Docker's (ip(7), icmp(7))."""
    with open("/proc/self/gid_map", "rb") as file:
        # Inside, outside, count. It takes groups of this user namespace alone.
        last = max(int(line.split()[0]) + int(line.split()[2]) - 1 for line in file)
    for name, value in ((b"ip_unprivileged_port_start", b"0"), (b"ping_group_range", b"0 %d" % min(last, 0x7FFFFFFF))):
        try:
            with open(b"/proc/sys/net/ipv4/" + name, "wb") as file:
                file.write(value)
        except OSError as error:
            # In a container /proc/sys may be read-only: what Docker allows is then refused to users, as on the host.
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise


class Network:
    """A network namespace with its stack, which begins before there is a command: its program is ready when the command asks.

    Made by the server. The command `enter`s it, and `wait`s until all is there. Where not a frame has passed when the command
    has ended, another command of the build may have it (`is_untouched`): what it could find are counts of refused calls.
    """

    def __init__(self, program: bytes) -> None:
        """Raises OSError where no process, or no descriptor, is to be had."""
        self.program = program
        fds: list[int] = []
        try:
            fds += os.pipe()
            fds += os.pipe()
            self._takes, gives = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
            server = os.getpid()
            self._pid = os.fork()
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        self._ready, said, left, self._leave = fds
        self._begun = time.monotonic()
        self._counters = -1
        """/proc/net/dev of the namespace, once a command has ended there."""
        if not self._pid:
            _become(program, server, gives, said, left)
        os.close(said)
        os.close(left)
        gives.close()

    def enter(self) -> None:
        """The command's part. Raises OSError where there is no namespace, which is no fault of the stack's."""
        namespace, counters = _received(self._takes)
        os.close(counters)
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        os.close(namespace)

    def wait(self) -> None:
        """The command's part: until its network is there. Raises OSError where it will not be."""
        # Another command has waited already.
        if self._counters < 0 and not os.read(self._ready, 1):
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))

    def descriptors(self) -> tuple[int, int]:
        """What the command needs of it."""
        return self._takes.fileno(), self._ready

    def is_untouched(self) -> bool:
        """The server's part, when a command has ended well that had it, and could not configure it: whether it is as new. To be
        asked again when another one takes it: the kernel may have had something to say for the first one that was late."""
        try:
            if self._counters < 0:
                namespace, self._counters = _received(self._takes)
                os.close(namespace)
            return self.is_recent() and not _passed(os.pread(self._counters, 1 << 14, 0))
        except OSError:
            # No descriptor is free, for one: then there is nothing to be looked at, and a new one is made.
            return False

    def is_recent(self) -> bool:
        """Whether it is there, and not so old that the machine's own network may be another: pasta asks for that once."""
        return time.monotonic() - self._begun < _OLDEST and self.is_there()

    def is_there(self) -> bool:
        """Whether the stack has not ended yet, nor begun to: the kernel takes some 20 ms to be rid of its interface."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = 0
        return self._pid > 0 and not is_exiting(self._pid)

    def end(self) -> int:
        """Let it end, for which nobody waits: its pid, or 0 where there is nothing to be reaped."""
        for fd in (self._leave, self._ready, self._counters):
            if fd >= 0:
                os.close(fd)
        self._takes.close()
        if self._pid:
            os.kill(self._pid, kernel.SIGKILL)
        return self._pid


def _become(program: bytes, server: int, gives: _socket.socket, said: int, left: int) -> None:
    """Be the program of the stack. Never returns."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
        if os.getppid() != server:
            return
        namespace = _made(gives)
        null = os.open("/dev/null", os.O_RDWR)
        # Out of the way of the places that it is told.
        far = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in (null, null, null, said, left, namespace)]
        for target, fd in enumerate(far):
            os.dup2(fd, target)
        kernel.close_all_but((_READY, _LEAVE, _NAMESPACE), by_range=False)
        if os.geteuid() != 0:
            # To enter the namespace, which belongs to the builder's user namespace.
            kernel.hand_on_capabilities()
        # slirp4netns leaves the host's tree behind by unmounting it, and makes only the root of it its own before: below it
        # that would take the host's mounts away where they are shared, as systemd has them (mount_namespaces(7)).
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_SLAVE)
        os.execve(program, (program, *_options(program)), {})
    finally:
        os._exit(125)


def _made(gives: _socket.socket) -> int:
    """A new network namespace, which goes to the commands, too, with its counters of frames. A process of its own makes it: who
    left the host's namespace has no way back from a user namespace."""
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    maker = os.fork()
    if not maker:
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            kernel.bring_up(b"lo")
            allow_as_docker()
            _quieten()
            namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            counters = os.open("/proc/self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
            for channel in (gives, far):
                rights.send(channel, b"n", namespace, counters)
        except OSError as error:
            gives.sendmsg([b"%d" % (error.errno or errno.EIO)], [], _socket.MSG_NOSIGNAL)
        finally:
            os._exit(0)
    # Else nobody would see that none comes.
    far.close()
    gives.close()
    os.waitpid(maker, 0)
    return _received(near)[0]


def _quieten() -> None:
    """No IPv6 on interfaces that come, as in Docker: nobody is there to talk to, and the kernel would send frames by itself."""
    try:
        with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "wb") as file:
            file.write(b"1")
    except OSError as error:
        # A kernel without it; or a container, as above. Then each command gets a new network.
        if error.errno not in (errno.ENOENT, errno.EROFS, errno.EACCES):
            raise


def _passed(counters: bytes) -> bool:
    """Whether any interface has sent or received a frame, or lost one: fields as in proc_pid_net(5)."""
    lines = counters.splitlines()[2:]
    return any(int(field) for line in lines for field in line.rpartition(b":")[2].split())


def is_exiting(pid: int) -> bool:
    """Whether a child of ours, which has not ended as far as its pidfd says, is about to: that takes the kernel a while."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The ninth field, counted behind a name that may have anything in it (proc_pid_stat(5)).
            flags = int(file.read().rpartition(b")")[2].split()[6])
    except OSError:
        # Without /proc it is known when it has ended.
        return False
    return bool(flags & _PF_EXITING)


def _options(program: bytes) -> tuple[bytes, ...]:
    if program.rpartition(b"/")[2] != b"pasta":
        return _SLIRP4NETNS
    return (*_PASTA, *(_PASTA_OF_ROOT if os.geteuid() == 0 else ()))


def _received(channel: _socket.socket) -> tuple[int, int]:
    """The namespace, and its counters. They stay there, for who comes next. Raises OSError where none was made, with the errno
    of that."""
    said, fds = rights.receive(channel, 16, 2, stays=True)
    if len(fds) == 2:
        return fds[0], fds[1]
    for fd in fds:
        os.close(fd)
    number = int(said) if said.isdigit() else errno.ENETDOWN
    raise OSError(number, os.strerror(number))
