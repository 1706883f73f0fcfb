"""Executing one step: what its result is, and how it comes about when the cache does not know it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from builder.engine import accounts, selection
from builder.engine.container import Process, image_accounts, prepare
from builder.engine.placement import Owner, make_folders, place
from builder.engine.roots import Root, Roots
from builder.engine.sources import SourceTree, StackTree
from builder.engine.unpacking import unpacker
from builder.errors import BuildError, StepError, StoreError
from builder.events import BuildWarning, Emit, StepLog
from builder.layers.diff import commit_upper
from builder.layers.entry import Item
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.plan import keys
from builder.plan.steps import BaseStep, ContextOrigin, CopyStep, RunStep, StageOrigin, Step, WorkdirStep
from builder.sandbox.launcher import Launcher
from builder.sandbox.probe import require
from builder.sandbox.spec import Outcome
from builder.store.store import Record, Store

TAIL_BYTES = 8192
TAIL_LINES = 12
RUNG = "root"
"""The rung class of a key (DESIGN): root and user namespaces give the same results."""


class Contexts(NamedTuple):
    """The build contexts by name, `""` the main one; each is opened when a COPY first asks for it."""

    open: Callable[[str], SourceTree]
    describe: Callable[[str], str]
    """How a message names it."""


class Result(NamedTuple):
    """What a step gave."""

    root: Root
    cached: bool
    diff_id: Digest | None
    size: int


class Executor:
    """Runs steps of one build, one at a time. Close it: it may have started the fork server."""

    def __init__(
        self, store: Store, contexts: Contexts, platform: Platform, emit: Emit, *, roots: Roots, use_cache: bool
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._platform = platform
        self._emit = emit
        self._use_cache = use_cache
        self._launcher: Launcher | None = None
        self.roots = roots

    def close(self) -> None:
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None

    def execute(self, step: Step, number: int, done: dict[int, Root], *, as_folder: bool) -> Result:
        """The step's result, from the cache or by doing it. `number` is its number in events; `as_folder` says that a RUN
        will look into a layer that is made here. Raises BuildError kinds with the step's span.
        """
        try:
            match step:
                case BaseStep():
                    return Result(Root.of(step.base.diff_ids), True, None, 0)
                case RunStep():
                    return self._run(step, number, done[step.parent])
                case CopyStep():
                    return self._copy(step, number, done, as_folder)
                case WorkdirStep():
                    return self._workdir(step, done[step.parent], as_folder)
        except BuildError as error:
            if error.span is None and not isinstance(error, StoreError):
                error.span = step.span
            raise

    # The cache

    def _cached(self, key: keys.Key, root: Root) -> Result | None:
        record = self._store.lookup(key.hex) if self._use_cache else None
        if record is None:
            return None
        if record.diff_id is None:
            return Result(root, True, None, 0)
        result = root.on_top(record.diff_id)
        return Result(result, True, record.diff_id, self.roots.layer_size(result.layers[-1]))

    def _record(self, key: keys.Key, before: Root, after: Root) -> Result:
        """Record what a step gave, and return what counts: another process may have been first."""
        diff_id = after.layers[-1].diff_id if after != before else None
        kept = self._store.put_record(Record(key.hex, key.preimage, diff_id), replace=not self._use_cache)
        if kept.diff_id is None:
            return Result(before, False, None, 0)
        result = before.on_top(kept.diff_id)
        return Result(result, False, kept.diff_id, self.roots.layer_size(result.layers[-1]))

    # COPY and WORKDIR

    def _copy(self, step: CopyStep, number: int, done: dict[int, Root], as_folder: bool) -> Result:
        root = done[step.parent]
        tree, where = self._source(step, done)
        picked = selection.select(step.sources, tree, where=where, keyword=step.keyword)
        content = selection.content_digest(picked, owners=not step.chown, modes=step.chmod is None)
        key = keys.copy_key(step, root.chain, content)

        def items(scratch: str) -> list[Item]:
            below = self.roots.tree(root)
            owner = Owner(*accounts.owner(step.chown, image_accounts(self.roots, root))) if step.chown else None
            unpack = unpacker(scratch, self._warn(step)) if step.unpack else None
            return place(picked, below, step.dest, owner=owner, mode=step.chmod, now=time.time_ns(), unpack=unpack)

        hit = self._cached(key, root)
        if hit is not None:
            if hit.diff_id is not None and as_folder:
                self.roots.remember(hit.root.layers[-1], items)
            return hit
        with self._store.scratch() as scratch:
            after = self.roots.add(root, items(scratch), as_folder=as_folder)
        return self._record(key, root, after)

    def _source(self, step: CopyStep, done: dict[int, Root]) -> tuple[SourceTree, str]:
        match step.origin:
            case ContextOrigin(name=name):
                return self._contexts.open(name), self._contexts.describe(name)
            case StageOrigin(step=source):
                root = done[source]
                return StackTree(self.roots.tree(root), lambda e, n: self.roots.locate(root, e, n)), "the stage it copies from"

    def _workdir(self, step: WorkdirStep, root: Root, as_folder: bool) -> Result:
        key = keys.workdir_key(step, root.chain)
        hit = self._cached(key, root)
        if hit is not None:
            return hit
        owner = Owner(*accounts.owner(step.user, image_accounts(self.roots, root))) if step.user else None
        items = make_folders(step.path, self.roots.tree(root), owner, now=time.time_ns())
        return self._record(key, root, self.roots.add(root, items, as_folder=as_folder))

    def _warn(self, step: Step) -> Callable[[str], None]:
        return lambda message: self._emit(BuildWarning("LayerContent", message, step.span.line))

    # RUN

    def _run(self, step: RunStep, number: int, root: Root) -> Result:
        key = keys.run_key(step, root.chain, self._platform, RUNG)
        hit = self._cached(key, root)
        if hit is not None:
            return hit
        process = Process(
            step.argv,
            (*step.proxy, *step.env),
            step.cwd,
            step.user,
            step.hostname,
            step.network,
            step.hosts,
            step.shm_size,
        )
        with self._store.scratch() as scratch:
            prepared = prepare(self.roots, root, scratch, process)
            upper = prepared.spec.upper
            tail = _Tail()

            def output(data: bytes) -> None:
                tail.add(data)
                self._emit(StepLog(number, data))

            outcome = self._sandboxes().run(prepared.spec, output=output)
            if outcome.code or outcome.failed_at:
                raise _failure(step, outcome, tail)
            committed = commit_upper(upper, prepared.folders, self.roots.tree(root), warn=self._warn(step))
            after = self.roots.adopt(root, committed.items, upper, implied_parents=committed.implied_parents)
        return self._record(key, root, after)

    def _sandboxes(self) -> Launcher:
        """The fork server's client, started at the first RUN that must run."""
        if self._launcher is None:
            require()
            self._launcher = Launcher()
        return self._launcher


class _Tail:
    """The last output of a command, for its error message."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, data: bytes) -> None:
        self._data = (self._data + data)[-TAIL_BYTES:]

    def lines(self) -> tuple[str, ...]:
        text = self._data.decode("utf-8", "replace").replace("\r\n", "\n")
        return tuple(line.rpartition("\r")[2] for line in text.rstrip("\n").split("\n") if line)[-TAIL_LINES:]


def _failure(step: RunStep, outcome: Outcome, tail: _Tail) -> StepError:
    program = step.argv[0]
    if outcome.failed_at == "exec":
        reason = os.strerror(outcome.exec_error)
        shell = program.endswith("/sh")
        hint = (
            f"the image has no {program}: write the command in JSON form, or name a shell with SHELL"
            if shell
            else "check the name and the PATH, or install the program in an earlier line"
        )
        return StepError(f"the command '{program}' cannot be run: {reason}", step.span, hint=hint, code=None)
    if outcome.failed_at:
        reason = f": {os.strerror(outcome.exec_error)}" if outcome.exec_error else ""
        return StepError(f"the sandbox could not be made ({outcome.failed_at}){reason}", step.span, code=None)
    if outcome.signal:
        message = f"the command was ended by signal {outcome.signal} (exit code {outcome.code})"
    else:
        message = f"the command failed with exit code {outcome.code}"
    return StepError(message, step.span, code=outcome.code, tail=tail.lines(), hint=_code_hint(outcome.code))


def _code_hint(code: int) -> str | None:
    if code == 127:
        return "127 says that the shell did not find a program: install it first, or check its name"
    if code == 126:
        return "126 says that a file is not executable: chmod +x it, or check its first line"
    if code == 137:
        return "137 is SIGKILL: often the machine ran out of memory"
    return None
