"""A shell in the file system of a step: before it, after it, or as its command left it when it failed."""

from __future__ import annotations

import os
from contextlib import nullcontext

from builder.engine.container import Process, exec_hint, prepare
from builder.engine.networks import Networks
from builder.engine.roots import Root, Roots
from builder.errors import StepError, UsageError, did_you_mean
from builder.history import find, last_build, named
from builder.layers import owners
from builder.oci.digest import Digest
from builder.oci.image import DEFAULT_PATH
from builder.run import attached
from builder.sandbox.launcher import Launcher
from builder.sandbox.probe import explain, require, require_terminal
from builder.sandbox.rungs import Isolation
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from builder.sandbox.spec import Outcome
    from builder.store.builds import Build, BuiltStep
    from builder.store.failed import FailedStep
    from builder.store.store import Store

    Moment = Literal["before", "after", "failed"]

MOMENTS = ("before", "after", "failed")


class ShellRequest(NamedTuple):
    step: str
    """As the user names it, with `:before`, `:after` or `:failed` behind it or not."""
    dockerfile: str | None
    """None for the last build of the store."""
    argv: tuple[str, ...]
    network: Literal["default", "host", "none"] | None
    """None for the step's own."""
    proxies: tuple[tuple[str, str], ...]
    terminal: bool
    isolation: Isolation = Isolation()


class View(NamedTuple):
    """What is looked into."""

    build: Build
    step: BuiltStep
    moment: Moment
    kept: FailedStep | None
    """What the failed command left; None for the other moments."""


def choose(request: ShellRequest, store: Store) -> View:
    """Raises UsageError for a step that there is not, or that has no such moment."""
    build = last_build(store, request.dockerfile)
    step, moment = _step(build, request.step)
    failed = step.status == "failed"
    if not moment:
        moment = "failed" if failed else "after"
    match moment:
        case "failed":
            if not failed:
                raise UsageError(f"the step {named(step)} did not fail", hint=f"its result: pybuild shell {step.number}:after")
            kept = store.find_failed(step.key) if step.key else None
            if kept is None:
                raise UsageError(
                    f"nothing is kept of what {named(step)} left when it failed",
                    hint="only a RUN whose command failed leaves something, and the last few are kept: build again, or look at "
                    f"what it started from: pybuild shell {step.number}:before",
                )
            return View(build, step, "failed", kept)
        case "after" if step.status not in ("done", "cached"):
            state = {"failed": "failed", "cancelled": "did not end"}.get(step.status, "was not begun")
            other = f", pybuild shell {step.number}:failed" if failed else ""
            raise UsageError(f"the step {named(step)} {state}, and has no result", hint=f"{_nearest(build, step)}{other}")
        case "before":
            if not step.parent:
                raise UsageError(f"nothing is before {named(step)}", hint=f"look at: pybuild shell {step.number}:after")
            parent = build.steps[step.parent - 1]
            if parent.status not in ("done", "cached"):
                raise UsageError(
                    f"the step {named(step)} has nothing to start from: {named(parent)} did not end",
                    hint=_nearest(build, parent),
                )
            return View(build, step, "before", None)
    return View(build, step, "after", None)


def shell(view: View, request: ShellRequest, store: Store) -> int:
    """Run the command to its end; its exit code. What it writes is thrown away. Raises UsageError where the file system is
    gone, StepError for a command that cannot be started."""
    require(request.isolation)
    if request.terminal:
        require_terminal(request.isolation)
    roots = Roots(store)
    root = _root(view, roots, store)
    # The build has told what this machine lacks.
    networks = Networks(request.isolation, lambda _: None)
    process = networks.connect(_process(view.step, request), request.network or view.step.network)
    guard = store.failed_in_use(view.kept) if view.kept else nullcontext()
    with guard, store.scratch() as scratch, Launcher() as launcher:
        if view.kept and store.find_failed(view.kept.key) != view.kept:
            raise _gone(view.step)
        cwd = _cwd(roots, root, view)
        prepared = prepare(roots, root, scratch, process._replace(cwd=cwd))
        spec = prepared.spec
        if view.kept:
            # As it lay when the command ran: over the mount points, which it could not remove.
            folder = store.failed_path(view.kept)
            spec = spec._replace(lowers=(folder, *spec.lowers))
            _like(folder, spec.upper)
        outcome = attached(launcher, spec, terminal=request.terminal)
    if (unmade := explain(outcome)) is not None:
        raise unmade
    if outcome.failed_at:
        raise _not_run(process, outcome, exec_hint(process, outcome.exec_error, roots.tree(root)))
    return outcome.code


def _nearest(build: Build, step: BuiltStep) -> str:
    """Where to look in place of a step without a result: what it would have started from, or what is nearest to that."""
    while step.parent:
        parent = build.steps[step.parent - 1]
        if parent.status in ("done", "cached"):
            return f"look at: pybuild shell {step.number}:before"
        step = parent
    return "build again, then look"


def _step(build: Build, text: str) -> tuple[BuiltStep, Moment | None]:
    name, colon, last = text.rpartition(":")
    moment: Moment | None = None
    if colon and name and last in MOMENTS:
        text, moment = name, last  # type: ignore[assignment]  # one of the three
    try:
        found = find(build, text)
    except UsageError as error:
        if moment is None and name and (near := did_you_mean(last, MOMENTS)):
            raise UsageError(f"a step has no moment '{last}'", hint=near) from None
        raise error
    if not found.stage:
        return found.steps[0], moment
    # Of a stage: what it came to.
    begun = [step for step in found.steps if step.status != "waiting"]
    return (begun or found.steps)[-1], moment


def _root(view: View, roots: Roots, store: Store) -> Root:
    number = view.step.number if view.moment == "after" else view.step.parent
    diff_ids: list[str] = []
    while number:
        step = view.build.steps[number - 1]
        diff_ids[:0] = step.layers
        number = step.parent
    root = Root.of(Digest.parse(diff_id) for diff_id in diff_ids)
    for place, layer in enumerate(root.layers):
        there = store.has_layer(layer.diff_id) or roots.has(Root(root.layers[: place + 1]))
        forms = store.find_snapshot(layer.diff_id, layer.chain) is not None or store.has_tar(layer.diff_id)
        if not (there and forms):
            raise _gone(view.step)
    return root


def _gone(step: BuiltStep) -> UsageError:
    return UsageError(f"the file system of {named(step)} is in the store no more", hint="build again, then look")


def _process(step: BuiltStep, request: ShellRequest) -> Process:
    proxies = {each: value for name, value in request.proxies for each in (name.upper(), name.lower())}
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": step.hostname, **proxies, **dict(step.env)}
    if request.terminal:
        # As Docker has it.
        env.setdefault("TERM", "xterm")
    process = Process(request.argv, tuple(env.items()), step.cwd, step.user, step.hostname, "host", step.hosts, step.shm_size)
    return process._replace(ulimits=step.ulimits)


def _cwd(roots: Roots, root: Root, view: View) -> str:
    """The step's folder; where it is not there yet, the root."""
    tree = roots.tree(root)
    entry = tree.lookup(tree.resolve(view.step.cwd.strip("/").encode("utf-8", "surrogateescape")))
    return view.step.cwd if view.kept or (entry is not None and entry.kind == "dir") else "/"


def _like(folder: str, upper: str) -> None:
    """The upper's root *is* the command's `/`."""
    owners.give_like(folder, upper)
    os.chmod(upper, os.lstat(folder).st_mode & 0o7777)


def _not_run(process: Process, outcome: Outcome, hint: str | None) -> StepError:
    """Its exit code is a shell's and Docker's for what cannot be run, 126 or 127."""
    reason = os.strerror(outcome.exec_error)
    if outcome.failed_at == "cwd":
        error = StepError(f"the command cannot run in '{process.cwd}': {reason}", hint="the step removed its folder")
    else:
        hint = hint or "name another by --shell, or give a program of the image: pybuild shell STEP -- PROGRAM"
        error = StepError(f"the command '{process.argv[0]}' cannot be run: {reason}", hint=hint)
    error.exit_code = outcome.code
    return error
