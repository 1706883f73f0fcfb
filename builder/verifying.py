"""`pybuild verify`: a build, and each of its steps once more under other circumstances, from the very file system that it
started from; what differs is explained by what it depends on and by what is in the files.

Repeating from the first build's own inputs judges each step by itself: one that differs taints what follows, and says nothing
of it. For the cause two runs are compared that differ in one circumstance alone, all else being fixed.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager, nullcontext

from builder.build import build, pins_of
from builder.cancellation import Cancellation
from builder.causes import DAYS, Causes, Search, Situation, later, ordered, toggled, told_of_network
from builder.contexts import BuildContexts
from builder.diff import Options, explained, looked_at
from builder.engine.executor import Result
from builder.engine.rendering import repacked
from builder.engine.repeating import (
    Circumstances,
    Repeater,
    elsewhere,
    failure,
    fits,
    library,
    lists_otherwise,
    stacks,
)
from builder.engine.roots import Root, Roots
from builder.errors import BuildError, Interrupted, StoreError, UsageError
from builder.events import Debug, Notice, StepLog, StepUsage
from builder.oci.digest import Digest
from builder.plan.steps import BaseStep, RunStep, parents
from builder.values import NamedTuple
from builder.verify.verification import StepResult, Verification, narrowed, tainted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from builder.build import Image
    from builder.engine.repeating import Repeated
    from builder.engine.shelf import Stack
    from builder.events import Emit, Event
    from builder.plan.steps import Step
    from builder.request import Request
    from builder.store.store import Store
    from builder.verify.difference import FileChange
    from builder.verify.verification import Status

    _Made = Callable[[StepResult], StepResult]

_NO_ROOM = "not varied: the file system, for want of room in memory (/dev/shm)"
_NO_SPACE = "no space left on device"
_TRIES = 2
"""How often two days have to give the same again before they count as the cause."""
_SAME_DAY = (
    "the day was the same for {}: the programs there do not take libfaketime's word (static ones, and those of another C"
    " library); a second passed"
)


class Wanted(NamedTuple):
    variations: frozenset[str]
    options: Options = Options()
    surroundings: Callable[[], AbstractContextManager[object]] = nullcontext
    """A block in which the builder's own environment is another."""
    keep_caches: bool = False
    """Cache mounts are as the first build left them; else they begin anew."""
    runs: int = 1
    """How often a RUN is repeated, until it gives something else."""
    packs: bool = True
    """Layers that came out the same are compressed once more, as the manifest depends on that."""


def verify(request: Request, store: Store, emit: Emit, wanted: Wanted) -> Verification:
    """Build what `request` asks for, and repeat its steps. Raises BuildError kinds for what the build itself cannot do, and
    UsageError for what cannot be repeated."""
    if request.others:
        raise UsageError("one platform is verified at a time", hint="choose one by --platform")
    if request.context == "-" or request.dockerfile_text is not None:
        raise UsageError("what comes on standard input is there once", hint="put it into a folder and verify that")
    image = build(request, store, emit)
    return _Verifier(request, store, emit, wanted, image).run()


class _Verifier:
    def __init__(self, request: Request, store: Store, emit: Emit, wanted: Wanted, image: Image) -> None:
        self._request = request._replace(no_cache=True)
        self._store = store
        self._emit = emit
        self._wanted = wanted
        self._image = image
        self._roots = Roots(store)
        self._done = _results(image)
        self._unvaried: dict[str, str] = {}
        self._cramped: set[int] = set()
        """Of steps without room in memory."""
        self._powerful: dict[int, str] = {}
        """Of steps that fail in a user namespace, and what they say there."""
        self._same_day: list[int] = []
        """Numbers of the steps whose programs know no other day."""
        self._scratches = 0
        self._memory = ""
        """A folder in memory; empty where there is none."""

    def run(self) -> Verification:
        plan = self._image.plan
        quiet = _quiet(self._emit)
        stop = Cancellation()
        with ExitStack() as stack:
            self._scratch = stack.enter_context(self._store.scratch())
            contexts = stack.enter_context(BuildContexts(self._request, self._store, quiet, stop))
            source = contexts.dockerfile()
            self._prepare(stack)
            self._repeater = repeater = stack.enter_context(self._new_repeater(contexts, quiet, stop))
            repeater.memory, repeater.disk = self._memory, self._scratch
            repeater.faketime = library() if "clock" in self._wanted.variations else b""
            if "clock" in self._wanted.variations:
                if not repeater.faketime:
                    self._unvaried["clock"] = "the day is the same: libfaketime is not installed; a second passes"
                later()
            results = [self._step(step) for step in plan.steps if not isinstance(step, BaseStep)]
        # What the first pass says of each by itself.
        differ = {result.number - 1 for result in results if result.status in ("different", "failed", "semantic")}
        spoiled = tainted([(step.id, parents(step)) for step in plan.steps], differ)
        results = [
            one._replace(status="tainted") if one.status == "same" and one.number - 1 in spoiled else one for one in results
        ]
        if "order" in self._unvaried or not self._memory:
            self._unvaried.setdefault("order", "there is no file system in memory, at /dev/shm")
        # Of these some steps have the variation, or a part of it.
        partly = {"clock"}
        if self._cramped:
            numbers = sorted(id + 1 for id in self._cramped)
            self._unvaried["order"] = f"for want of room in memory (/dev/shm) for {_steps(numbers)}"
            if any(isinstance(step, RunStep) and step.id not in self._cramped for step in plan.steps):
                partly.add("order")
        varied = tuple(name for name in ordered(self._wanted.variations) if name not in self._unvaried or name in partly)
        unvaried = [(name, why) for name, why in self._unvaried.items() if name in self._wanted.variations]
        notes = (_SAME_DAY.format(_steps(self._same_day)),) if self._same_day else ()
        found = Verification(source.name, str(self._image.id), tuple(results), varied, tuple(unvaried), notes)
        if not (self._wanted.packs and found.verdict == "identical"):
            return found
        root = self._done[plan.target].root
        return found._replace(repacked=tuple(map(str, repacked(root, self._store, self._roots))))

    def _prepare(self, stack: ExitStack) -> None:
        """Find out what can be varied here."""
        wanted = self._wanted.variations
        if "surroundings" in wanted:
            stack.enter_context(self._wanted.surroundings())
        if "rung" in wanted and (self._request.isolation.rung != "root" or not _has_user_namespaces()):
            self._unvaried["rung"] = "only root can take another one with the same files, and where user namespaces are allowed"
        if "cpus" in wanted and len(os.sched_getaffinity(0)) < 2:
            self._unvaried["cpus"] = "this machine has one processor"
        if "order" in wanted:
            try:
                self._memory = stack.enter_context(elsewhere())
                if not lists_otherwise(self._scratch, self._memory):
                    self._unvaried["order"] = "the store's file system lists files as one in memory does"
            except OSError as error:
                self._unvaried["order"] = f"there is no file system in memory, at /dev/shm: {error.strerror}"

    def _new_repeater(self, contexts: BuildContexts, quiet: Emit, stop: Cancellation) -> Repeater:
        request = self._request
        repeater = Repeater(
            self._store,
            contexts,
            request.platform,
            quiet,
            roots=self._roots,
            use_cache=False,
            access=request.access,
            provided=request.provided,
            isolation=request.isolation,
            stop=stop,
        )
        repeater.caches = "looked" if self._wanted.keep_caches else "fresh"
        if request.locked:
            repeater.pins = pins_of(contexts)
        return repeater

    def _step(self, step: Step) -> StepResult:
        self._emit(Notice(f"verifying {step.name}"))
        return self._repeated(step)

    def _repeated(self, step: Step) -> StepResult:
        result = self._done[step.id]
        before, first = self._before(step), result.diff_id
        all_other = self._circumstances(step, self._wanted.variations)
        notes = (_NO_ROOM,) if self._does_not_fit(step) else ()
        if said := self._powerful.get(step.id):
            notes = (*notes, f"not varied: the sandbox, since it fails in a user namespace: {said}")
        ids = str(first or ""), str(first or "")
        same = StepResult(step.id + 1, step.name, step.span.line, "same", *ids, notes=notes)
        for _ in range(self._wanted.runs if isinstance(step, RunStep) else 1):
            with self._new_scratch(all_other) as scratch:
                try:
                    again = self._repeater.again(step, self._done, all_other, scratch)
                except Interrupted:
                    raise
                except (StoreError, OSError) as error:
                    if not (all_other.elsewhere and isinstance(step, RunStep) and _is_full(error)):
                        raise
                    # It writes more than it leaves. Memory is full, and not the store.
                    self._cramped.add(step.id)
                    return self._repeated(step)
                except BuildError as error:
                    told = failure(error)
                    if all_other.elsewhere and _NO_SPACE in told.lower():
                        self._cramped.add(step.id)
                        return self._repeated(step)
                    causes = self._search(step, all_other).failing(told) if isinstance(step, RunStep) else _fetching(told)
                    if causes == ("rung",):
                        # Not what it gives depends on that, but whether it gives anything.
                        self._powerful[step.id] = told
                        return self._repeated(step)
                    return same._replace(status="failed", b="", message=told, causes=causes)
                if again.diff_id != first:
                    return self._different(step, same, before, first, again, all_other)
        other_day = self._other_day(step) if isinstance(step, RunStep) else None
        return other_day(same) if other_day else same

    def _different(
        self, step: Step, same: StepResult, before: Root, first: Digest | None, again: Repeated, other: Circumstances
    ) -> StepResult:
        sides = stacks(self._roots, before, first, again)
        files: Sequence[FileChange] = list(explained(*sides, self._wanted.options))
        kept = self._kept(files, *sides)
        status: Status = "different" if kept or not files else "semantic"
        found = Causes(())
        if status == "different":
            # Of COPY and ADD the sources alone can be others now.
            found = self._search(step, other).different() if isinstance(step, RunStep) else Causes(("since",))
        causes = narrowed(found.names, kept)
        notes = found.notes if causes == found.names else ()
        return same._replace(
            status=status, b=str(again.diff_id or ""), causes=causes, files=tuple(kept), notes=(*same.notes, *notes)
        )

    def _kept(self, files: Sequence[FileChange], a: Stack, b: Stack) -> list[FileChange]:
        """What counts of it."""
        options = self._wanted.options
        kept = [rest for change in files if (rest := options.ignores.rest(change)) is not None]
        return list(looked_at(kept, a, b, options))

    # Causes

    def _search(self, step: RunStep, other: Circumstances) -> Search:
        situation = Situation(
            step,
            str(self._done[step.id].diff_id or ""),
            other,
            self._wanted.variations - self._impossible(step),
            self._has_fake_days(step),
            not self._wanted.keep_caches,
        )
        return Search(self._run, situation)

    def _run(self, step: RunStep, circumstances: Circumstances) -> str | None:
        """The diff ID, empty for no layer; None where it fails."""
        with self._new_scratch(circumstances) as scratch:
            try:
                return str(self._repeater.again(step, self._done, circumstances, scratch).diff_id or "")
            except (Interrupted, StoreError):
                raise
            except BuildError as error:
                self._emit(Debug(f"{step.name}: {error.message}"))
                return None

    # Days

    def _other_day(self, step: RunStep) -> _Made | None:
        """What differs on two days of libfaketime's; None where nothing does, or they cannot be had."""
        if not self._has_fake_days(step):
            if self._repeater.faketime and "clock" in self._wanted.variations:
                self._same_day.append(step.id + 1)
            return None
        days = [Circumstances(day=day) for day in DAYS]
        with self._new_scratch(days[0]) as one, self._new_scratch(days[1]) as two:
            try:
                results = [self._repeater.again(step, self._done, day, folder) for day, folder in zip(days, (one, two))]
            except (Interrupted, StoreError):
                raise
            except BuildError as error:
                note = f"it fails on another day, {DAYS[0]} or {DAYS[1]} as libfaketime has them: {failure(error)}"
                return lambda same: same._replace(notes=(*same.notes, note))
            ids = [str(result.diff_id or "") for result in results]
            if ids[0] == ids[1] or any(self._run(step, day) != id for day, id in list(zip(days, ids)) * _TRIES):
                return None
            before = self._before(step)
            pair = [stacks(self._roots, before, None, result)[1] for result in results]
            files = list(explained(pair[0], pair[1], self._wanted.options))
            kept = self._kept(files, pair[0], pair[1])
            status: Status = "different" if kept else "semantic"
        note = f"the two are {DAYS[0]} and {DAYS[1]}, as libfaketime has them"
        return lambda same: same._replace(
            status=status, a=ids[0], b=ids[1], causes=("clock",), files=tuple(kept), notes=(*same.notes, note)
        )

    def _has_fake_days(self, step: RunStep) -> bool:
        """Whether the programs of this file system take libfaketime's word: static ones, and those of another C library, do
        not."""
        if not self._repeater.faketime or "clock" not in self._wanted.variations:
            return False
        shell = step.argv[:-1] if len(step.argv) > 2 else ("/bin/sh", "-c")
        probe = step._replace(argv=(*shell, "date +%Y > /.pybuild-verify"), script=None, mounts=(), user="")
        with self._new_scratch(Circumstances()) as scratch:
            try:
                made = self._repeater.again(probe, self._done, Circumstances(day=DAYS[0]), scratch)
            except (Interrupted, StoreError):
                raise
            except BuildError:
                return False
            expected = Digest.of(f"{DAYS[0][:4]}\n".encode()).hex
            return any(entry.path == b".pybuild-verify" and entry.digest == expected for entry in made.entries)

    # Places

    def _before(self, step: Step) -> Root:
        assert not isinstance(step, BaseStep)
        return self._done[step.parent].root

    def _circumstances(self, step: Step, variations: frozenset[str]) -> Circumstances:
        found = Circumstances(random_addresses="aslr" not in variations)
        for name in variations - {"aslr", "clock", "surroundings"} - self._impossible(step):
            found = toggled(found, name)
        return found

    def _impossible(self, step: Step) -> frozenset[str]:
        lacking = {name for name in self._unvaried if name != "clock"}
        if self._does_not_fit(step):
            lacking.add("order")
        if self._is_roots_alone(step):
            lacking.add("rung")
        return frozenset(lacking)

    def _is_roots_alone(self, step: Step) -> bool:
        """Whether it has what no user namespace has: devices, or its powers."""
        if step.id in self._powerful:
            return True
        made = self._done[step.id].diff_id
        entries = self._roots.entries(self._before(step).on_top(made).layers[-1]) if made else ()
        insecure = isinstance(step, RunStep) and step.security == "insecure"
        return insecure or any(entry.kind in ("char", "block") for entry in entries)

    def _does_not_fit(self, step: Step) -> bool:
        """Whether there is no room in memory for what the step starts from, though there is a file system there."""
        if "order" not in self._wanted.variations or "order" in self._unvaried or not isinstance(step, RunStep):
            return False
        if not self._memory:
            return True
        if step.id not in self._cramped and not fits(self._repeater.to_copy(step, self._done)):
            self._cramped.add(step.id)
        return step.id in self._cramped

    @contextmanager
    def _new_scratch(self, circumstances: Circumstances) -> Iterator[str]:
        self._scratches += 1
        folder = os.path.join(self._memory if circumstances.elsewhere else self._scratch, str(self._scratches))
        os.mkdir(folder, 0o755)
        try:
            yield folder
        finally:
            from builder.store.removal import remove_tree

            remove_tree(folder)


def _is_full(error: StoreError | OSError) -> bool:
    """Whether it came of a file system without room."""
    causes = (error, error.__cause__)
    return any(isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT) for each in causes)


def _fetching(said: str) -> tuple[str, ...]:
    """Why an ADD or a COPY fails the second time."""
    return ("network",) if told_of_network(said) else ("since",)


def _steps(numbers: Sequence[int]) -> str:
    return f"step{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _has_user_namespaces() -> bool:
    """Whether root may make one, as far as the kernel says (namespaces(7))."""
    try:
        with open("/proc/sys/user/max_user_namespaces", encoding="ascii") as file:
            return int(file.read()) > 0
    except (FileNotFoundError, PermissionError, ValueError):
        return False


def _results(image: Image) -> dict[int, Result]:
    """What each step gave the first time, by its id."""
    roots: dict[int, Result] = {}
    for built in image.steps:
        below = roots[built.parent - 1].root if built.parent else Root()
        for diff_id in map(Digest.parse, built.layers):
            below = below.on_top(diff_id)
        last = Digest.parse(built.layers[-1]) if built.layers and built.op != "base" else None
        roots[built.number - 1] = Result(below, True, last, 0)
    return roots


def _quiet(emit: Emit) -> Emit:
    """What commands write is known from the first time."""

    def hand_on(event: Event) -> None:
        if not isinstance(event, StepLog | StepUsage):
            emit(event)

    return hand_on
