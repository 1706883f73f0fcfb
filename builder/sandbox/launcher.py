"""Starts commands in sandboxes: the builder's side of the fork server.

The server is one process a builder, started on first use. Several threads may run commands at once (`running`).
"""

from __future__ import annotations

import _socket  # `socket` costs 3 ms at start, and `threading` 1
import _thread
import os

from builder.errors import Interrupted, SandboxError
from builder.sandbox import capabilities, rights, wire
from builder.sandbox.running import Running
from builder.sandbox.spawn import memory_file, spawn_server
from builder.sandbox.spec import BindMount, FileMount, Outcome, OverlayMount, ScriptMount, TmpfsMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from builder.sandbox.cgroups import Groups
    from builder.sandbox.running import Output
    from builder.sandbox.spec import Mount, SandboxSpec, Shape

_SIGINT = 2
_SIGKILL = 9
_ENOENT = 2


class Launcher:
    """The fork server, and the way to it. A context manager: leaving it ends whatever still runs.

    `groups` has a cgroup for each command; it must outlive this. With `user_namespace` all of it is in a user namespace that
    has root's ids as they are.
    """

    def __init__(self, groups: Groups | None = None, *, user_namespace: bool = False) -> None:
        self._groups = groups
        self._user_namespace = user_namespace
        self._lock = _thread.allocate_lock()
        self._socket: _socket.socket | None = None
        self._far_socket: _socket.socket | None = None
        self._filters: dict[tuple[tuple[str, ...], bool], bytes] = {}
        self._asking: dict[str, tuple[bytes, tuple[tuple[int, str], ...]]] = {"": (b"", ())}
        self._fallbacks: tuple[str, ...] = ()
        self._start_error: OSError | None = None
        self._closed = False
        self._wanted, self._started = _Gate(), _Gate()
        # Held while the keeper runs.
        self._kept = _thread.allocate_lock()
        self._kept.acquire()
        # It starts here and not with the server, so that no Ctrl-C can come between the two. No Thread object: its end runs
        # callbacks of weak references, and Python drops a Ctrl-C that comes in one of those.
        _thread.start_new_thread(self._keep_server, ())

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run(
        self,
        spec: SandboxSpec,
        *,
        output: Output | None = None,
        stdio: tuple[int, int, int] | None = None,
        begun: Callable[[int], object] | None = None,
    ) -> Outcome:
        """Runs one command to its end.

        `output` gets what the command writes to both streams, in order, cut anywhere; or `stdio` are the descriptors that it
        writes to itself. Standard input is empty unless `spec.stdin` is "inherit" (then `stdio[0]`, else the builder's).
        `begun` is told the pidfd of its first process, which stays open until all has ended.

        Raises SandboxError when there is no fork server, Interrupted when `close` was called meanwhile. Whatever exception
        `output` or a signal raises: the sandbox is dead before it leaves here.
        """
        if self._groups is None:
            return self._run(spec, output, stdio, begun, ())
        group = self._groups.new()
        try:
            outcome = self._run(spec, output, stdio, begun, tuple(group.procs))
            use = group.use()
        finally:
            group.close()
        return outcome._replace(
            oom_kills=use.oom_kills, peak_memory=use.peak or outcome.peak_memory, refused_processes=use.refused
        )

    def _run(
        self,
        spec: SandboxSpec,
        output: Output | None,
        stdio: tuple[int, int, int] | None,
        begun: Callable[[int], object] | None,
        groups: tuple[int, ...],
    ) -> Outcome:
        fields = _fields(spec, self._filter(spec), self._emulation(spec), own_streams=stdio is None)
        fields["groups_given"] = len(groups)
        run = Running(begun, own_output=stdio is None, end_by=wire.END if spec.chroot else _SIGKILL)
        try:
            own = (0, run.output_end, run.output_end)
            streams = stdio or own
            run.send(self._connect(), fields, (*groups, *(streams if spec.stdin == "inherit" else streams[1:])))
            reply = run.follow(output)
        finally:
            run.end()
        if self._closed:
            raise Interrupted(_SIGINT)
        if reply is None:
            raise SandboxError(
                "the sandbox's fork server ended unexpectedly", hint="look for 'Out of memory' in the kernel's log (dmesg)"
            )
        return _outcome(reply, self._fallbacks)

    def start(self) -> None:
        """Start the fork server, which `run` does where nobody did; returns once it is on its way. Raises as `run`."""
        self._connect()

    def expect(self, shape: Shape) -> None:
        """A command of this shape is going to be run: its process is made meanwhile. One that joins cgroups has its own made
        when it comes. Raises as `run`."""
        if self._groups is not None:
            return
        server = self._connect()
        try:
            with open(memory_file("shape"), "wb") as file:
                file.write(wire.pack_job({**_shape(shape), "groups_given": 0}))
                file.flush()
                rights.send(server, wire.EXPECT, file.fileno())
        except OSError:
            # No descriptor, or no server any more: the command itself meets the same, and says so.
            return

    def end_all(self) -> None:
        """Ends every run (they raise Interrupted) and the fork server, and waits for neither. None starts any more."""
        with self._lock:
            self._closed = True
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        self._wanted.open()

    def close(self) -> None:
        """The same, and waits for both."""
        self.end_all()
        with self._kept:
            pass

    def _filter(self, spec: SandboxSpec) -> bytes:
        if "seccomp" in spec.without:
            return b""
        # Only a build that runs something pays for the table of system calls.
        from builder.sandbox.seccomp import docker_profile

        # Where the network is the host's, so is its traffic.
        key = (spec.capabilities, spec.network != "host")
        if key not in self._filters:
            self._filters[key] = docker_profile(spec.capabilities, os.uname().machine, packet_sockets=key[1])
        return self._filters[key]

    def _emulation(self, spec: SandboxSpec) -> tuple[bytes, tuple[tuple[int, str], ...]]:
        known = self._asking.get(spec.emulate)
        if known is None:
            from builder.sandbox.emulation import program

            known = self._asking[spec.emulate] = program(spec.emulate, os.uname().machine, _ids())
        return known

    def _connect(self) -> _socket.socket:
        with self._lock:
            if self._closed:
                raise Interrupted(_SIGINT)
            return self._socket or self._start()

    def _start(self) -> _socket.socket:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        if not self._started.is_open:
            # In this order: what `close` can close, the keeper may wait for.
            self._socket = ours
            self._far_socket = theirs
            self._wanted.open()
            self._started.wait()
        if self._start_error is not None:
            self._socket = None
            raise SandboxError(f"the sandbox's fork server does not start: {self._start_error}")
        return ours

    def _keep_server(self) -> None:
        """PDEATHSIG follows the thread that started a process: this one stays for as long as the server does, while the
        thread that runs the first step may end."""
        try:
            self._wanted.wait()
            if self._far_socket is not None:
                self._serve(self._far_socket)
        finally:
            self._kept.release()

    def _serve(self, far_socket: _socket.socket) -> None:
        try:
            pid, self._fallbacks = spawn_server(far_socket.fileno(), user_namespace=self._user_namespace)
        except OSError as error:
            self._start_error = error
            return
        finally:
            far_socket.close()
            self._started.open()
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            # The builder ignores SIGCHLD: the server has ended, and the kernel has forgotten it.
            return


class _Gate:
    """What is waited for once, until somebody opens it."""

    def __init__(self) -> None:
        self.is_open = False
        self._shut = _thread.allocate_lock()
        self._shut.acquire()
        self._opening = _thread.allocate_lock()

    def open(self) -> None:
        with self._opening:
            if not self.is_open:
                self.is_open = True
                self._shut.release()

    def wait(self) -> None:
        """For one thread at a time."""
        with self._shut:
            pass


def _fields(
    spec: SandboxSpec, seccomp: bytes, emulation: tuple[bytes, tuple[tuple[int, str], ...]], *, own_streams: bool
) -> dict[str, object]:
    """The fields of a `wire.Job`."""
    return _shape(spec) | {
        "lowers": tuple(os.fsencode(folder) for folder in spec.lowers),
        "upper": os.fsencode(spec.upper),
        "work": os.fsencode(spec.work),
        "argv": tuple(_bytes(word) for word in spec.argv),
        "env": tuple((_bytes(name), _bytes(value)) for name, value in spec.env),
        "cwd": _bytes(spec.cwd),
        "uid": spec.uid,
        "gid": spec.gid,
        "groups": spec.groups,
        "hostname": _bytes(spec.hostname),
        "followed": spec.followed,
        "mounts": tuple(_mount(mount) for mount in spec.mounts),
        # With the one it would leave its copy, with the other make a disk: nothing else holds it.
        "capabilities": capabilities.mask(set(spec.capabilities) - {"CAP_SYS_CHROOT", "CAP_MKNOD"})
        if spec.chroot
        else capabilities.mask(spec.capabilities),
        "seccomp": seccomp,
        "notify": emulation[0],
        "calls": emulation[1],
        "own_streams": own_streams,
        "ulimits": spec.ulimits,
        "chroot": spec.chroot,
        "readonly": spec.readonly,
        "terminal": spec.terminal or (),
        "init": spec.init,
        "no_new_privileges": spec.no_new_privileges,
        "cpus": spec.cpus,
        "random_addresses": spec.random_addresses,
        "pids_taken": spec.pids_taken,
    }


def _shape(spec: SandboxSpec | Shape) -> dict[str, object]:
    """The fields of a `wire.Shape`."""
    return {
        "network": spec.network,
        "stack": os.fsencode(spec.stack),
        "shm_size": spec.shm_size,
        "without": tuple(sorted(spec.without)),
        "emulate": spec.emulate,
    }


def _mount(mount: Mount) -> dict[str, object]:
    """The fields of a `wire.Mount`."""
    fields: dict[str, object] = {"target": _bytes(mount.target)}
    match mount:
        case BindMount():
            return fields | {"kind": "bind", "source": os.fsencode(mount.source), "readonly": mount.readonly}
        case OverlayMount():
            lowers = tuple(os.fsencode(folder) for folder in mount.lowers)
            made = {"lowers": lowers, "upper": os.fsencode(mount.upper), "work": os.fsencode(mount.work)}
            return fields | made | {"kind": "overlay", "source": _bytes(mount.source), "readonly": mount.readonly}
        case TmpfsMount():
            return fields | {"kind": "tmpfs", "size": mount.size, "mode": mount.mode, "readonly": mount.readonly}
        case FileMount():
            owner = {"mode": mount.mode, "uid": mount.uid, "gid": mount.gid}
            return fields | owner | {"kind": "file", "content": mount.content, "readonly": mount.readonly}
        case ScriptMount():
            return fields | {"kind": "script", "content": mount.content, "mode": 0o755, "readonly": True}


def _bytes(text: str) -> bytes:
    """What the sandbox sees is UTF-8, whatever the builder's locale."""
    return text.encode("utf-8", "surrogateescape")


def _outcome(reply: wire.Reply, fallbacks: tuple[str, ...]) -> Outcome:
    fallbacks += reply.missing
    if reply.failed_at:
        code = {"exec": 127 if reply.errno == _ENOENT else 126, "cwd": 126}.get(reply.failed_at, 125)
        return Outcome(code, exec_error=reply.errno, failed_at=reply.failed_at, fallbacks=fallbacks, notes=reply.notes)
    code = os.waitstatus_to_exitcode(reply.status)
    if code < 0:
        ended = Outcome(128 - code, signal=-code, fallbacks=fallbacks, notes=reply.notes)
    else:
        ended = Outcome(code, fallbacks=fallbacks, notes=reply.notes)
    return ended._replace(cpu_seconds=reply.used[0], peak_memory=reply.used[1])


def _ids() -> int:
    """How many ids from 0 on this user namespace has, of users and of groups."""
    from builder.sandbox import subids  # for those who are in one

    found = []
    for kind in ("uid", "gid"):
        with open(f"/proc/self/{kind}_map", encoding="utf-8") as file:
            found.append(subids.reaches(tuple(sorted(subids.parsed(tuple(file.read().split()))))))
    return min(found)
