"""The fork server: one small process with one thread, started once a build, that starts the commands of all its steps.

It lives in a session of its own, so that Ctrl-C at the terminal reaches the builder alone, and ends when the builder does:
by PDEATHSIG, and by the end of file on its socket. Then it kills what runs.

Part of the fork server's program.
"""

from __future__ import annotations

import _socket
import errno
import gc
import os
import select
import sys

from builder.sandbox import allids, child, chroot, features, kernel, privileges, rights, wire
from builder.sandbox.singleuid import enter_single_uid, single_uid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox import network

_DESCRIPTORS = 16
_MOST_WAITING = 8
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


class _Running:
    """One command: its process, the server's end of its channel, and the reading end of its error channel."""

    def __init__(self, job: wire.Job, pid: int, pidfd: int, channel: int, errors: int, missing: tuple[str, ...]) -> None:
        self.job = job
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel
        self.errors = errors
        self.missing = missing
        # Where the command's questions come from: first the socket on which their listener comes, then that itself; -1 for
        # nowhere.
        self.hears = -1
        self.heard = False
        # The pid of who answers, 0 for nobody yet, and the pipe of his notes.
        self.supervisor = 0
        self.notes = -1
        self.network: network.Network | None = None


class _Server:
    def __init__(self, missing: tuple[str, ...]) -> None:
        self.socket = _socket.socket(fileno=wire.SOCKET)
        self.missing = missing
        self.permitted = kernel.permitted_capabilities()
        self.own_pidfd = os.pidfd_open(os.getpid())
        self.poll = select.poll()
        self.poll.register(wire.SOCKET, select.POLLIN)
        # By descriptor: the pidfd says that the command ended, the channel that the builder wants it to.
        self.ended: dict[int, _Running] = {}
        self.told: dict[int, _Running] = {}
        self.asked: dict[int, _Running] = {}
        # Stacks and children that were killed, and are still to be reaped.
        self.ending: list[int] = []
        # The next commands, perhaps; and networks for those after them.
        self.waiting: list[child.Child] = []
        self.unused: list[network.Network] = []

    def loop(self) -> None:
        """Until the builder is gone; then until nothing runs."""
        while True:
            # One event at a time: what it does may close, and give away again, the descriptor of the next one.
            fd, event = self.poll.poll()[0]
            if self.ending:
                self.ending = [pid for pid in self.ending if os.waitpid(pid, os.WNOHANG)[0] == 0]
            if fd in self.ended:
                self.finish(self.ended[fd])
            elif fd in self.told:
                self.stop_listening(self.told[fd])
            elif fd in self.asked:
                self.hear(self.asked[fd], event)
            elif not self.take_request():
                self.kill_all()
                return

    def take_request(self) -> bool:
        data, fds = rights.receive(self.socket, 1, _DESCRIPTORS)
        if not data:
            return False
        if data == wire.EXPECT:
            # None comes where this process may open no more: the command will say so.
            for fd in fds:
                self.expect(fd)
            return True
        job_file, channel, given = fds[0], fds[1], fds[2:]
        try:
            job = wire.unpack_job(os.pread(job_file, os.fstat(job_file).st_size, 0))
            is_on_its_way = self.start(job_file, job, channel, given)
        finally:
            # At once: a pipe ends when its last writer ends, and that must not be this process.
            for fd in (job_file, *given):
                os.close(fd)
        if is_on_its_way:
            self.make_ready(job)
        return True

    def start(self, job_file: int, job: wire.Job, channel: int, given: list[int]) -> bool:
        """False where there is no process for the command, which the builder has been told."""
        if job.chroot:
            return self.keep(job, channel, given)
        missing = self.missing
        changes: dict[str, object] = {}
        if job.capabilities & ~self.permitted and "capabilities" not in job.without:
            # The builder itself has fewer, as in a container: nobody can hand out what he lacks.
            changes["capabilities"] = job.capabilities & self.permitted
            missing += ("capabilities",)
        if job.emulate != (changed := self.emulated(job)):
            changes["emulate"] = changed
            missing += ("mknod",)
        job.__dict__.update(changes)
        try:
            born = self.take_child(wire.shape(job))
        except child.Unborn as unborn:
            self.refuse(channel, unborn.stage, unborn.number, missing)
            return False
        try:
            born.give(job_file, changes, given)
        except OSError as error:
            self.ending += born.end()
            self.refuse(channel, "request", error.errno or errno.EIO, missing)
            return False
        running = _Running(job, born.pid, born.pidfd, channel, born.said, missing)
        running.network = born.network
        if born.hears >= 0:
            self.listen(running, born.hears)
        self.watch(running)
        return True

    def emulated(self, shape: wire.Shape) -> str:
        """What of it can be."""
        # Without that call nothing follows a command's paths: the kernel says that nobody may.
        return "" if shape.emulate == "mknod" and "openat2" in self.missing else shape.emulate

    def keep(self, job: wire.Job, channel: int, given: list[int]) -> bool:
        """Without namespaces: a keeper does what those would. A server has such commands alone, or none."""
        # Should the keeper be killed, what it kept comes here.
        chroot.adopt()
        missing = self.missing + chroot.beyond(self.permitted)
        errors = child_errors = -1
        try:
            errors, child_errors = os.pipe()
            pid, pidfd = kernel.clone(0) if "clone3" in self.missing else kernel.clone3(0)
        except OSError as error:
            for fd in (errors, child_errors):
                if fd >= 0:
                    os.close(fd)
            self.refuse(channel, "clone", error.errno or errno.EIO, missing)
            return False
        if pid == 0:
            request = child.Request(job, given)
            chroot.keep(job, request.streams, child_errors, self.own_pidfd, missing, request.cgroups)
        os.close(child_errors)
        self.watch(_Running(job, pid, pidfd, channel, errors, missing))
        return True

    def refuse(self, channel: int, stage: str, number: int, missing: tuple[str, ...]) -> None:
        _send(channel, wire.pack_reply(wire.Reply(0, stage, number, missing)))
        os.close(channel)
        self.expect_none()

    def watch(self, running: _Running) -> None:
        self.ended[running.pidfd] = self.told[running.channel] = running
        self.poll.register(running.pidfd, select.POLLIN)
        self.poll.register(running.channel, select.POLLIN)
        _send_descriptor(running.channel, wire.STARTED, running.pidfd)

    def take_child(self, shape: wire.Shape) -> child.Child:
        """One that waits, where it was made for such a command and nobody ended it; else a new one. Raises Unborn."""
        for gone in [waiting for waiting in self.waiting if not waiting.is_there()]:
            self.waiting.remove(gone)
            self.ending += gone.end()
        waiting = self.waits(shape)
        if waiting is None:
            return self.new_child(shape)
        self.waiting.remove(waiting)
        return waiting

    def waits(self, shape: wire.Shape) -> child.Child | None:
        """One that waits for such a command."""
        return next((waiting for waiting in self.waiting if vars(waiting.shape) == vars(shape)), None)

    def expect(self, shape_file: int) -> None:
        """For a command that the builder is making ready."""
        try:
            job = wire.unpack_job(os.pread(shape_file, os.fstat(shape_file).st_size, 0))
        finally:
            os.close(shape_file)
        job.emulate = self.emulated(job)
        if len(self.waiting) < _MOST_WAITING:
            self.let_wait(wire.shape(job))

    def let_wait(self, shape: wire.Shape) -> None:
        if len(self.waiting) >= _MOST_WAITING:
            # It has waited the longest, for what did not come.
            self.ending += self.waiting.pop(0).end()
        try:
            self.waiting.append(self.new_child(shape))
        except child.Unborn:
            # The command itself meets the same, and says so.
            return

    def new_child(self, shape: wire.Shape) -> child.Child:
        """Raises Unborn."""
        gone = [unused for unused in self.unused if not unused.is_untouched()]
        for unused in gone:
            self.unused.remove(unused)
            self.end_network(unused)
        return child.Child(shape, self.missing, self.own_pidfd, self.unused)

    def leave(self, running: _Running, stack: network.Network, *, ended_well: bool) -> bool:
        """What becomes of a command's network. False where it had ended before the command did."""
        if ended_well and _leaves_network(running.job) and stack.is_untouched():
            self.unused.append(stack)
            return True
        return self.end_network(stack)

    def end_network(self, stack: network.Network) -> bool:
        """False where it had ended before."""
        was_there = stack.is_there()
        pid = stack.end()
        if pid:
            self.ending.append(pid)
        return was_there

    def make_ready(self, job: wire.Job) -> None:
        """For the command after this one, while this one runs."""
        if not job.followed:
            # The kernel takes a while to be rid of them, and need not begin at the very end.
            self.end_unused()
        elif not job.chroot and self.waits(wire.shape(job)) is None:
            self.let_wait(wire.shape(job))

    def expect_none(self) -> None:
        for waiting in self.waiting:
            self.ending += waiting.end()
        self.waiting = []
        self.end_unused()

    def end_unused(self) -> None:
        for unused in self.unused:
            self.end_network(unused)
        self.unused = []

    def listen(self, running: _Running, fd: int) -> None:
        running.hears = fd
        self.asked[fd] = running
        self.poll.register(fd, select.POLLIN)

    def hear(self, running: _Running, event: int) -> None:
        """The listener comes, or the first question: then somebody is there to answer, and who never asks costs little."""
        fd = running.hears
        self.stop_hearing(running)
        if not event & select.POLLIN:
            # All that could ask has ended.
            pass
        elif running.heard:
            from builder.sandbox import supervisor

            running.supervisor, running.notes = supervisor.start(running.job, fd, self.missing)
        else:
            running.heard = True
            listener = _receive_descriptor(fd)
            if listener >= 0:
                self.listen(running, listener)
        os.close(fd)

    def stop_hearing(self, running: _Running) -> None:
        if running.hears >= 0:
            self.poll.unregister(running.hears)
            del self.asked[running.hears]
            running.hears = -1

    def stop_listening(self, running: _Running) -> None:
        """The builder wants an end, or has closed its side: in both cases there is nothing more to hear."""
        self.kill(running)
        self.poll.unregister(running.channel)
        del self.told[running.channel]

    def kill(self, running: _Running) -> None:
        """With all that it has started: a namespace goes with its first process; a keeper must do that itself."""
        kernel.pidfd_kill(running.pidfd, wire.END if running.job.chroot else kernel.SIGKILL)

    def finish(self, running: _Running) -> None:
        # With all that it has waited for, or left to end with its namespace.
        _, status, usage = os.wait4(running.pid, 0)
        used = (usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
        failure = os.read(running.errors, 4096)
        number, failed_at = wire.unpack_failure(failure) if failure else (0, "")
        if running.hears >= 0:
            fd = running.hears
            self.stop_hearing(running)
            os.close(fd)
        notes = _end_supervisor(running.supervisor, running.notes)
        if running.network is not None:
            was_there = self.leave(running, running.network, ended_well=not failed_at and not status)
            if not was_there and not failed_at:
                notes += (wire.NETWORK_ENDED,)
        if running.job.chroot and len(self.ended) == 1:
            # Commands take turns there: who is left now is what a keeper kept that was killed.
            chroot.end_all()
        _send(running.channel, wire.pack_reply(wire.Reply(status, failed_at, number, running.missing, notes, used)))
        self.poll.unregister(running.pidfd)
        del self.ended[running.pidfd]
        if running.channel in self.told:
            self.poll.unregister(running.channel)
            del self.told[running.channel]
        for fd in (running.pidfd, running.channel, running.errors):
            os.close(fd)
        if failed_at or status:
            # The build ends with it.
            self.expect_none()

    def kill_all(self) -> None:
        self.expect_none()
        for running in self.ended.values():
            self.kill(running)
        for running in list(self.ended.values()):
            self.finish(running)
        self.end_unused()
        for pid in self.ending:
            os.waitpid(pid, 0)


def _leaves_network(job: wire.Job) -> bool:
    """Whether another command is to have the network of this one: not where it had the right to configure it."""
    rights_to_configure = job.capabilities & (1 << _CAP_NET_ADMIN | 1 << _CAP_SYS_ADMIN)
    return job.followed and not rights_to_configure and not {"capabilities", "masked-paths"}.intersection(job.without)


def _receive_descriptor(connection: int) -> int:
    """-1 when the command failed before it had one."""
    channel = _socket.socket(fileno=connection)
    try:
        _, fds = rights.receive(channel, 1)
    finally:
        channel.detach()
    return fds[0] if fds else -1


def _end_supervisor(pid: int, notes: int) -> tuple[str, ...]:
    """Ends it, the command having ended: its last notes. The first process of a pid namespace is the last to go."""
    if not pid:
        return ()
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, kernel.SIGKILL)
        os.waitpid(pid, 0)
        status = 0
    # What a pipe holds at most, and the supervisor says less.
    said = os.read(notes, 1 << 16)
    os.close(notes)
    heard = tuple(note.decode("utf-8", "replace") for note in said.split(b"\0") if note)
    # Whoever asked it after that was told that there is no such call.
    return (*heard, "internal:it was killed") if os.WIFSIGNALED(status) else heard


def _send(channel: int, data: bytes) -> None:
    """A builder that no longer listens is none of the server's trouble."""
    connection = _socket.socket(fileno=channel)
    try:
        connection.send(data, _socket.MSG_NOSIGNAL)
    except ConnectionError:
        return
    finally:
        connection.detach()


def _send_descriptor(channel: int, data: bytes, fd: int) -> None:
    connection = _socket.socket(fileno=channel)
    try:
        rights.send(connection, data, fd)
    except ConnectionError:
        return
    finally:
        connection.detach()


def _in_user_namespace() -> bool:
    """Whether it is another one than the machine's first (user_namespaces(7))."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() != [b"0", b"0", b"4294967295"]


def main() -> None:
    if wire.USER_NAMESPACE in sys.argv:
        allids.enter()
    if single_uid():
        enter_single_uid()
    kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
    if os.geteuid() != 0:
        # What the builder handed on in its user namespace is for this process alone.
        kernel.capset(kernel.permitted_capabilities())
    if _in_user_namespace():
        # Only who owns the mount namespace may use the mount calls, which are asked for next.
        try:
            kernel.unshare(kernel.CLONE_NEWNS)
        except PermissionError:
            # A namespace that was left without its powers: each command's own will say so.
            pass
    missing = features.missing()
    if not privileges.set_inherited():
        missing += ("limits",)
    # What the builder had inherited without the close-on-exec flag.
    kernel.close_all_but((wire.SOCKET,), by_range="close_range" not in missing)
    gc.disable()
    _Server(missing).loop()
