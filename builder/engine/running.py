"""Doing a RUN: its command is run, and what it changed is put on the file system below."""

from __future__ import annotations

import os
from _thread import allocate_lock  # `threading` costs 1 ms at start
from contextlib import ExitStack, nullcontext

from builder.engine.container import Process, exec_hint, new_folder, prepare, shape
from builder.engine.emulated import devices_as_files, emulated, made_devices, wanted_ids
from builder.engine.mountpoints import unmounted
from builder.engine.networks import Networks, had_network
from builder.errors import Interrupted, SandboxError, StepError, StoreError
from builder.events import BuildWarning, Debug, SandboxChosen, StepLog, StepUsage
from builder.layers.diff import commit_upper
from builder.layers.ownerform import has_map
from builder.layers.owners import MORE_IDS
from builder.oci.platform import Platform
from builder.plan.heredocs import PIPES
from builder.sandbox.hierarchies import CgroupLimits
from builder.sandbox.launcher import Launcher
from builder.sandbox.probe import explain, require
from builder.sandbox.resources import out_of_memory, too_many
from builder.sandbox.rungs import CHROOT_WARNING
from builder.sandbox.spec import ScriptMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.cancellation import Cancellation
    from builder.engine.container import Prepared
    from builder.engine.mountsources import MountSource
    from builder.engine.provided import Provided
    from builder.engine.roots import Root, Roots, Use
    from builder.engine.runmounts import Caches, MountTools
    from builder.errors import BuildError
    from builder.events import Emit
    from builder.layers.diff import Committed
    from builder.layers.entry import Item
    from builder.plan.keys import Key
    from builder.plan.steps import RunStep, Step
    from builder.sandbox.cgroups import Groups
    from builder.sandbox.rungs import Isolation
    from builder.sandbox.spec import Outcome, SandboxSpec
    from builder.store.store import Store

    Other = Callable[[Prepared], Prepared]

_SIGINT = 2
_NO_SPACE = 64 << 10
"""Bytes: where less is free, a command that wrote has met the end of the disk."""
_WEAKER = {
    "landlock-scope": "this kernel has no Landlock scopes: RUN steps with the host's network reach its abstract unix sockets",
    "seccomp": "the builder may load no seccomp filter: RUN steps may call what its own container allows",
    "capabilities": "the builder itself lacks capabilities that Docker gives to RUN steps: what needs them fails",
}
_SHOWN = (
    "the image has device nodes, which programs see as empty files in a user namespace: one that copies or packs them (cp, tar)"
    " copies files. The result is kept apart from root's"
)
TAIL_BYTES = 8192
TAIL_LINES = 12


class Runner:
    """Runs commands, several at once if need be. Close it: it may have started the fork server."""

    def __init__(
        self,
        store: Store,
        roots: Roots,
        emit: Emit,
        provided: Provided,
        isolation: Isolation,
        stop: Cancellation,
        groups: Groups | None = None,
        *,
        caches: Caches = "used",
    ) -> None:
        self._store = store
        self._roots = roots
        self._emit = emit
        self._provided = provided
        self._isolation = isolation
        self._stop = stop
        self._groups = groups
        self._caches = caches
        self._lock = allocate_lock()
        self._networks = Networks(isolation, lambda message: emit(BuildWarning("WeakerSandbox", message)))
        self._launchers: dict[bool, Launcher] = {}
        """By whether all is in a user namespace of its own."""
        # In a chroot two commands at once could hand each other what leads out of it, by sockets of a network that they share.
        self._turn = allocate_lock() if isolation.rung == "chroot" else nullcontext()
        self._mounting: MountTools | None = None
        self._closed = False
        self.crippled: set[int] = set()
        """Numbers of steps that went on after a part of them, or their network, had been taken away: what they gave is no
        result of theirs."""
        self.apart: set[int] = set()
        """Numbers of steps whose commands saw files where root's would have seen device nodes: what they gave is no result of
        root's."""
        self._told: set[str] = set()
        self._platforms: set[Platform] = set()
        """Foreign ones that are known to run here."""

    def close(self) -> None:
        with self._lock:
            launchers, self._launchers, self._closed = self._launchers, {}, True
            mounting, self._mounting = self._mounting, None
        for launcher in launchers.values():
            launcher.close()
        if mounting is not None:
            mounting.close()

    def warm(self) -> None:
        """Start the fork server, for steps to come. Raises as `run`."""
        self._sandboxes().start()

    def run(
        self, step: RunStep, number: int, root: Root, key: Key, use: Use, sources: tuple[MountSource | None, ...] = ()
    ) -> Root:
        """RUN: `root` with what the command changed. `sources` are those of its mounts. Raises StepError with its code and last
        lines when it fails; what it had written by then is kept under the step's key."""
        # A chroot's is a copy of all files, and mounts may have left as much: the next one needs the room.
        with self._store.scratch(stays=self._isolation.rung != "chroot" and not step.mounts) as scratch:
            other = _followed if use.as_folder else None
            committed, upper = self._executed(step, number, root, sources, scratch, key, other)
            return self._roots.adopt(root, committed.items, upper, use, implied_parents=committed.implied_parents)

    def repeat(
        self,
        step: RunStep,
        number: int,
        root: Root,
        sources: tuple[MountSource | None, ...],
        scratch: str,
        other: Other,
        *,
        user_namespace: bool,
    ) -> list[Item]:
        """The items of the layer that the command gives under other circumstances; their files lie in the folder `scratch`. The
        store learns nothing of it. Raises as `run`."""
        return self._executed(step, number, root, sources, scratch, None, other, user_namespace=user_namespace)[0].items

    def _executed(
        self,
        step: RunStep,
        number: int,
        root: Root,
        sources: tuple[MountSource | None, ...],
        scratch: str,
        key: Key | None,
        other: Other | None = None,
        *,
        user_namespace: bool = False,
    ) -> tuple[Committed, str]:
        """Run the command, in folders below `scratch`: what it changed, and the upper folder that has it. What a command that
        fails has written is kept under `key`, where that is given."""
        self._able(step)
        env = (*step.proxy, *step.env)
        scripts = (ScriptMount(PIPES + step.script.name, step.script.data),) if step.script else ()
        process = Process(step.argv, env, step.cwd, step.user, step.hostname, "host", step.hosts, step.shm_size, scripts)
        process = process._replace(insecure=step.security == "insecure", ulimits=step.ulimits)
        process = self._networks.connect(process, step.network)
        # Before anything is made ready: where there is no sandbox, nothing can be.
        launcher = self._sandboxes(user_namespace=user_namespace)
        self._tell_rung()
        with ExitStack() as stack:
            if step.mounts:
                mounts = stack.enter_context(self._mount_tools().mounts(step, number, sources, scratch))
                process = process._replace(env=(*env, *mounts.env), attachments=tuple(mounts.attachments))
            if not process.chroot and not self._roots.has_folders(root):
                # They take longer to make than the process.
                launcher.expect(shape(process))
            prepared = prepare(self._roots, root, scratch, process)
            if other is not None:
                prepared = other(prepared)
            tail = _Tail()

            def output(data: bytes) -> None:
                tail.add(data)
                self._emit(StepLog(number, data))

            # What was cancelled ends by the end of the fork server.
            with self._turn, self._stop.ending(launcher.end_all):
                # While it runs, what the last one left is removed.
                outcome = launcher.run(prepared.spec, output=output, begun=lambda _: self._store.tidy())
                while outcome.failed_at == "network":
                    # Nothing of it has run, but the folders are used.
                    process = self._networks.reconnect(process, outcome.exec_error)
                    scratch = new_folder(scratch, "again")
                    prepared = prepare(self._roots, root, scratch, process)
                    prepared = prepared if other is None else other(prepared)
                    outcome = launcher.run(prepared.spec, output=output)
            # Who waits for a cache need not wait for the layer.
            stack.close()
            self._emit(
                StepUsage(
                    number, outcome.cpu_seconds, outcome.peak_memory, had_network(prepared.spec), self._isolation.rung or ""
                )
            )
            self._tell(outcome.fallbacks, prepared.spec)
            devices = made_devices(outcome.notes)
            strangers = wanted_ids(outcome.notes)
            self._report(step, emulated(outcome.notes) + devices_as_files(prepared.spec.emulate, devices) + strangers)
            if prepared.spec.emulate == "mknod":
                self._keep_apart(step, number, root, sources, made=bool(devices or strangers))
            if "network-ended" in outcome.notes:
                # It may have been refused what it asked for, and have made something of that.
                self.crippled.add(number)
                told = f"the program behind its network, {had_network(prepared.spec)}, ended before the command did"
                told += ": it went on without one. The cache does not take what it gave"
                self._emit(BuildWarning("NetworkEnded", told, step.span.line))
            if not outcome.code:
                self._tell_limits(step, number, outcome)
            if outcome.code or outcome.failed_at:
                hint = exec_hint(process, outcome.exec_error, self._roots.tree(root))
                failure = self._with_disk(
                    unmounted(outcome, prepared.attached)
                    or explain(outcome)
                    or _failure(step, outcome, tail, hint, self._limits())
                )
                if key and isinstance(failure, StepError) and failure.code and failure.exit_code == StepError.exit_code:
                    self._keep(prepared.spec.upper, step, number, key, failure)
                raise failure
            upper = prepared.spec.upper
            committed = commit_upper(upper, prepared.folders, self._roots.tree(root), warn=self._warn(step), devices=devices)
            return committed, upper

    def _keep_apart(
        self, step: RunStep, number: int, root: Root, sources: tuple[MountSource | None, ...], *, made: bool
    ) -> None:
        """Where a user namespace shows device nodes as files. Those of the image's own /dev nobody sees."""
        shown = self._roots.has_devices(root)
        if not shown and sources:
            from builder.engine.mountsources import FromStack  # for those who mount

            mounted = [source.root for source in sources if isinstance(source, FromStack)]
            shown = any(self._roots.has_devices(each, own_dev=True) for each in mounted)
        if made or shown:
            self.apart.add(number)
        if shown:
            self._emit(BuildWarning("Emulation", _SHOWN, step.span.line))

    def _limits(self) -> CgroupLimits:
        return self._groups.limits if self._groups is not None else CgroupLimits()

    def _tell_limits(self, step: RunStep, number: int, outcome: Outcome) -> None:
        """Of a command that met one and went on."""
        met = []
        if outcome.oom_kills:
            met.append(("OutOfMemory", out_of_memory(outcome.oom_kills, self._limits().memory)))
        if outcome.refused_processes:
            met.append(("TooManyProcesses", too_many(outcome.refused_processes, self._limits().pids)))
        for code, told in met:
            self.crippled.add(number)
            told += "; its exit code is 0 all the same. The cache does not take what it gave"
            self._emit(BuildWarning(code, told, step.span.line))

    def _able(self, step: RunStep) -> None:
        """Raises SandboxError, told at the step, for a platform whose programs do not run here."""
        own = Platform.of_machine(os.uname().machine)
        if step.platform is None or step.platform[:2] == own[:2]:
            return
        from builder.engine import emulation  # for builds for other platforms

        if emulation.is_refused(step.platform, own, self._isolation.rung):
            raise SandboxError(
                f"programs for {step.platform} do not run with --isolation=single-uid: they are of 32 bits",
                step.span,
                hint="build as root, or as a user with subordinate ids (see 'pybuild doctor')",
            )

        with self._lock:
            if step.platform not in self._platforms:
                emulation.require(step.platform, step.span)
                self._platforms.add(step.platform)

    def _mount_tools(self) -> MountTools:
        from builder.engine.runmounts import MountTools  # for those who mount

        with self._lock:
            if self._closed:
                raise Interrupted(_SIGINT)
            if self._mounting is None:
                self._mounting = MountTools(
                    self._store, self._roots, self._emit, self._provided, self._stop, caches=self._caches
                )
            return self._mounting

    def _tell_rung(self) -> None:
        """Once a build, what its commands run in; root's own is what everybody expects."""
        rung, reason, *_ = self._isolation
        with self._lock:
            told = rung is None or rung == "root" or rung in self._told
            self._told.add(rung or "")
        if rung is not None and not told:
            self._emit(SandboxChosen(rung, reason))
        if rung == "chroot" and not told:
            self._emit(BuildWarning("WeakerSandbox", CHROOT_WARNING))

    def _tell(self, fallbacks: tuple[str, ...], spec: SandboxSpec) -> None:
        """What this machine does not give to a sandbox, once a build: a warning where it protects less, a note elsewhere."""
        for name in fallbacks:
            if name == "landlock-scope" and spec.network != "host":
                continue  # A network of its own has abstract sockets of its own.
            with self._lock:
                if name in self._told:
                    continue
                self._told.add(name)
            if name in _WEAKER:
                self._emit(BuildWarning("WeakerSandbox", _WEAKER[name]))
            else:
                self._emit(Debug(f"this machine lacks '{name}'; the sandbox does without"))

    def _report(self, step: RunStep, warnings: list[str]) -> None:
        """What the emulation could not give this step: said each time, since its layer may depend on it."""
        for warning in warnings:
            self._emit(BuildWarning("Emulation", warning, step.span.line))

    def _keep(self, upper: str, step: RunStep, number: int, key: Key, failure: StepError) -> None:
        """Keep what the failed command had written, and say how to look at it."""
        try:
            self._store.keep_failed(upper, key.hex, step.name)
        except (StoreError, OSError) as error:
            # The step's own failure is what counts.
            reason = error.message if isinstance(error, StoreError) else error.strerror
            self._emit(Debug(f"what the step left is not kept: {reason}"))
            return
        look = f"look into it: pybuild shell {number}"
        failure.hint = f"{failure.hint}; {look}" if failure.hint else look

    def _with_disk(self, failure: BuildError) -> BuildError:
        """The same failure; told as the store's where its file system is full, which is what the command met, too."""
        if self._store.is_full(_NO_SPACE):
            failure.message += f", and no space is left in the store {self._store.root}"
            failure.hint = (
                "free some space: pybuild prune, or elsewhere on its file system; or choose another place with --root"
            )
            failure.exit_code = StoreError.exit_code
        return failure

    def _sandboxes(self, *, user_namespace: bool = False) -> Launcher:
        """The fork server's client, started at the first RUN that must run."""
        with self._lock:
            self._stop.check()
            if self._closed:
                raise Interrupted(_SIGINT)
            launcher = self._launchers.get(user_namespace)
            if launcher is None:
                require(self._isolation)
                launcher = self._launchers[user_namespace] = Launcher(self._groups, user_namespace=user_namespace)
            return launcher

    def _warn(self, step: Step) -> Callable[[str], None]:
        return lambda message: self._emit(BuildWarning("LayerContent", message, step.span.line))


def _followed(prepared: Prepared) -> Prepared:
    """A RUN looks into what this one gives."""
    return prepared._replace(spec=prepared.spec._replace(followed=True))


class _Tail:
    """The last output of a command, for its error message."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, data: bytes) -> None:
        self._data = (self._data + data)[-TAIL_BYTES:]

    def lines(self) -> tuple[str, ...]:
        text = self._data.decode("utf-8", "replace").replace("\r\n", "\n")
        # What a progress bar overwrote is not shown.
        return tuple(line.rpartition("\r")[2] for line in text.rstrip("\n").split("\n") if line)[-TAIL_LINES:]


def _failure(step: RunStep, outcome: Outcome, tail: _Tail, hint: str | None, limits: CgroupLimits) -> StepError:
    """`hint` says why an exec failed, where that is known."""
    reason = f": {os.strerror(outcome.exec_error)}" if outcome.exec_error else ""
    match outcome.failed_at:
        case "exec":
            program = step.argv[0]
            hint = hint or (
                f"the image has no {program}: write the command in JSON form, or name a shell with SHELL"
                if os.path.basename(program) in _SHELLS
                else "check the name and the PATH, or install the program in an earlier line"
            )
            return StepError(f"the command '{program}' cannot be run{reason}", step.span, hint=hint)
        case "cwd":
            hint = "WORKDIR makes it: did a later RUN remove it, or put a file there?"
            return StepError(f"the command cannot run in '{step.cwd}'{reason}", step.span, hint=hint)
        case _:
            by = f"was ended by signal {outcome.signal}" if outcome.signal else "failed"
            message = f"the command {by} with exit code {outcome.code}"
            if step.argv[-1].startswith("['"):
                hint = "it looks like the JSON form and is none, since that has double quotes: the shell got it as it is"
            if has_map() and any("Invalid argument" in line for line in tail.lines()):
                hint = f"the command may want an id that this user namespace lacks: {MORE_IDS}"
            hint = hint or _CODE_HINTS.get(outcome.code)
            if outcome.oom_kills:
                message += f": {out_of_memory(outcome.oom_kills, limits.memory)}"
                hint = "allow more with --memory, or have the command use less at a time"
            elif outcome.refused_processes:
                message += f": {too_many(outcome.refused_processes, limits.pids)}"
                hint = "allow more with --pids-limit, or have the command start fewer at a time"
            return StepError(message, step.span, code=outcome.code, tail=tail.lines(), hint=hint)


_SHELLS = ("sh", "ash", "bash", "dash", "zsh")
_CODE_HINTS = {
    126: "126 says that a file is not executable: chmod +x it, or check its first line",
    127: "127 says that the shell did not find a program: install it first, or check its name",
    137: "137 is SIGKILL: often the machine ran out of memory",
}
