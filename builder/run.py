"""A container from an image of the store: the sandbox of a RUN, with the caller's streams and an upper folder that is thrown
away."""

from __future__ import annotations

import os
from contextlib import nullcontext

from builder.engine.container import Process, exec_hint, new_folder, prepare
from builder.engine.mountpoints import unmounted
from builder.engine.networks import Networks
from builder.engine.roots import Root, Roots
from builder.errors import DockerfileError, SandboxError, StepError, UsageError
from builder.oci.image import DEFAULT_PATH, parse_config
from builder.oci.platform import Platform
from builder.sandbox import resources
from builder.sandbox.capabilities import DOCKER_CAPABILITIES, absent
from builder.sandbox.launcher import Launcher
from builder.sandbox.probe import explain, require, require_terminal
from builder.sandbox.resources import Limits
from builder.sandbox.rungs import CHROOT_WARNING, Isolation
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from builder.engine.container import Prepared
    from builder.engine.mountpoints import Attachment
    from builder.sandbox.cgroups import Groups
    from builder.sandbox.spec import Outcome, SandboxSpec
    from builder.store.store import ImageRecord, Store

CONFIG_LIMIT = 16 << 20


class Changes(NamedTuple):
    """What is other than the image says."""

    env: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    workdir: str | None = None
    entrypoint: tuple[str, ...] | None = None
    """Instead of the image's, whose CMD then does not count."""
    hostname: str = ""
    hosts: tuple[tuple[str, str], ...] = ()
    """Name and address, for /etc/hosts."""
    mounts: tuple[Attachment, ...] = ()
    readonly: bool = False
    """Nothing can be written but in mounts, /dev and /proc."""
    groups: tuple[str, ...] = ()
    """More groups for the user: names that the image has, or numbers."""
    capabilities: tuple[str, ...] | None = None
    """Instead of Docker's."""
    no_new_privileges: bool = False
    without: frozenset[str] = frozenset()
    """Lines of the sandbox's hardening that are left out."""


class RunRequest(NamedTuple):
    image: ImageRecord
    argv: tuple[str, ...]
    """Replaces the image's CMD when it is not empty."""
    network: Literal["default", "host", "none"] = "default"
    terminal: bool = False
    """The command gets a terminal, and the user's is lent to it."""
    interactive: bool = False
    """It gets the caller's stdin; else that is empty."""
    init: bool = False
    """The command is not the first process of its namespace."""
    isolation: Isolation = Isolation()
    limits: Limits = Limits()
    shm_size: int = 64 << 20
    """Bytes of /dev/shm."""
    changes: Changes = Changes()


def run(request: RunRequest, store: Store, warn: Callable[[str], None]) -> int:
    """Run the image's command to its end; its exit code. Raises UsageError for an image without a command, StepError for
    one that cannot be started."""
    parsed = parse_config(store.read_blob(request.image.config, CONFIG_LIMIT))
    config = parsed.config
    changes = request.changes
    if changes.entrypoint is None:
        argv = (*(config.entrypoint or ()), *(request.argv or config.cmd or ()))
    else:
        argv = (*changes.entrypoint, *request.argv)
    if not argv:
        raise UsageError("the image has no command", hint="give one: pybuild run IMAGE COMMAND")
    hostname = changes.hostname or request.image.config.hex[:12]
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, **dict(config.env), **dict(changes.env)}
    if request.terminal:
        # As Docker has it.
        env.setdefault("TERM", "xterm")
    cwd = changes.workdir or config.workdir or "/"
    user = config.user if changes.user is None else changes.user
    hosts = changes.hosts
    process = Process(argv, tuple(env.items()), cwd, user, hostname, "host", hosts, request.shm_size)
    process = process._replace(
        ulimits=request.limits.ulimits,
        attachments=changes.mounts,
        readonly=changes.readonly,
        groups=changes.groups,
        make_cwd=True,
    )
    require(request.isolation)
    if request.terminal:
        require_terminal(request.isolation)
    if request.isolation.rung == "chroot":
        warn(CHROOT_WARNING)
    networks = Networks(request.isolation, warn)
    process = networks.connect(process, request.network)
    if config.platform[:2] != Platform.of_machine(os.uname().machine)[:2]:
        from builder.engine import emulation  # for images for other platforms

        emulation.require(config.platform)
    roots = Roots(store)
    # The last before it is closed in any case: it may have changed the builder's own cgroup.
    groups = _enforceable(request)
    with groups or nullcontext(), store.scratch() as scratch, Launcher(groups) as launcher:

        def started(process: Process, scratch: str) -> tuple[Prepared, Outcome]:
            prepared = _prepared(roots, Root.of(parsed.diff_ids), scratch, process)
            spec = prepared.spec._replace(init=request.init, no_new_privileges=changes.no_new_privileges)
            spec = _with_rights(spec, changes)
            return prepared, attached(launcher, spec, terminal=request.terminal, interactive=request.interactive)

        prepared, outcome = started(process, scratch)
        while outcome.failed_at == "network":
            process = networks.reconnect(process, outcome.exec_error)
            scratch = new_folder(scratch, "again")
            prepared, outcome = started(process, scratch)
    if "network-ended" in outcome.notes:
        warn("the program behind the network ended before the command did: it went on without one")
    if outcome.oom_kills:
        warn(f"out of memory: {resources.out_of_memory(outcome.oom_kills, request.limits.cgroup.memory)}")
    if outcome.refused_processes:
        warn(f"too many processes: {resources.too_many(outcome.refused_processes, request.limits.cgroup.pids)}")
    if (unmade := explain(outcome)) is not None:
        raise unmade
    if (unplaced := unmounted(outcome, prepared.attached)) is not None:
        raise UsageError(unplaced.message, hint=unplaced.hint)
    if outcome.failed_at:
        raise _not_run(process, outcome, exec_hint(process, outcome.exec_error, roots.tree(Root.of(parsed.diff_ids))))
    return outcome.code


def _with_rights(spec: SandboxSpec, changes: Changes) -> SandboxSpec:
    without = spec.without | changes.without
    if changes.capabilities is None:
        return spec._replace(without=without)
    if "CAP_SYS_ADMIN" in changes.capabilities:
        # Who is in a Landlock domain may not mount, whatever the domain is for.
        without |= {"landlock-scope"}
    return spec._replace(capabilities=changes.capabilities, without=without)


def _prepared(roots: Roots, root: Root, scratch: str, process: Process) -> Prepared:
    """What is wrong with a mount is wrong on the command line, and not in a Dockerfile."""
    try:
        return prepare(roots, root, scratch, process)
    except DockerfileError as error:
        raise UsageError(error.message, hint=error.hint) from None


def _enforceable(request: RunRequest) -> Groups | None:
    """Raises SandboxError with Docker's exit code for what its own side of a run cannot do."""
    try:
        lacking = absent(set(request.changes.capabilities or ()) - set(DOCKER_CAPABILITIES), "CapEff")
        if lacking:
            raise SandboxError(
                f"the builder itself lacks {', '.join(sorted(lacking))}", hint="leave --cap-add out, or start it with more"
            )
        resources.require(request.limits, request.isolation.rung)
        return resources.groups(request.limits)
    except SandboxError as error:
        error.exit_code = 125
        raise


def attached(launcher: Launcher, spec: SandboxSpec, *, terminal: bool, interactive: bool = True) -> Outcome:
    """Run a command to its end with the user's streams, or with a terminal that stands for them. Signals are the command's;
    with a terminal they end it, since there the keys are."""
    if not terminal:
        from builder.forwarding import Forwarding
        from builder.piping import Pipes

        spec = spec._replace(stdin="inherit" if interactive else "null")
        with Forwarding() as forwarding, Pipes(interactive) as streams:
            outcome = launcher.run(spec, stdio=streams, begun=forwarding.begun)
            killed_for = forwarding.killed_for
        return outcome._replace(code=128 + killed_for, signal=killed_for) if killed_for and outcome.signal else outcome
    spec = spec._replace(stdin="inherit")
    from builder.terminal import Terminal

    with Terminal() as lent:
        return launcher.run(spec._replace(terminal=lent.size), stdio=lent.streams)


def _not_run(process: Process, outcome: Outcome, hint: str | None) -> StepError:
    """Its exit code is a shell's and Docker's for what cannot be run, 126 or 127: the command itself has given none."""
    reason = os.strerror(outcome.exec_error)
    if outcome.failed_at == "cwd":
        hint = "it is the image's WORKDIR, or what --workdir says: name a folder that the image has"
        error = StepError(f"the command cannot run in '{process.cwd}': {reason}", hint=hint)
    else:
        hint = hint or "check the name and the PATH; the image's own command: pybuild inspect IMAGE"
        error = StepError(f"the command '{process.argv[0]}' cannot be run: {reason}", hint=hint)
    error.exit_code = outcome.code
    return error
