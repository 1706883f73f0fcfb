"""`pybuild verify`: a build, and each of its steps once more under other circumstances, from the very file system that it
started from; what differs is explained by what it depends on and by what is in the files.

Repeating from the first build's own inputs judges each step by itself: one that differs taints what follows, and says nothing
of it. For the cause two runs are compared that differ in one circumstance alone, all else being fixed.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager, nullcontext

from builder.build import build, pins_of
from builder.cancellation import Cancellation
from builder.contexts import BuildContexts
from builder.diff import Options, explained, looked_at
from builder.engine.executor import Result
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
from builder.plan.mounts import CacheMount
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

_DAYS = ("2031-05-06 07:08:09", "2032-11-27 20:21:22")
"""Far from today, in other years, months, weekdays and halves of the day."""
_NO_ROOM = "not varied: the file system, for want of room in memory (/dev/shm)"
_MANY = 2
"""More causes than this may be none."""
_TRIES = 5
"""How often two runs are tried to fall into one second of the clock."""


class Wanted(NamedTuple):
    variations: frozenset[str]
    options: Options = Options()
    surroundings: Callable[[], AbstractContextManager[object]] = nullcontext
    """A block in which the builder's own environment is another."""
    keep_caches: bool = False
    """Cache mounts are as the first build left them; else they begin anew."""
    runs: int = 1
    """How often a RUN is repeated, until it gives something else."""


def verify(request: Request, store: Store, emit: Emit, wanted: Wanted) -> Verification:
    """Build what `request` asks for, and repeat its steps. Raises BuildError kinds for what the build itself cannot do, and
    UsageError for what cannot be repeated."""
    if request.others:
        raise UsageError("one platform is verified at a time", hint="choose one by --platform")
    if request.context == "-" or request.dockerfile_text is not None:
        raise UsageError("what comes on standard input is there once", hint="put it into a folder and verify that")
    image = build(request, store, emit)
    return _Verifier(request, store, emit, wanted, image).run()


class _Pair(NamedTuple):
    first: str | None
    """What the first run gave."""
    equal: bool
    """Whether the other one gave the same."""
    held: bool
    """Whether the clock said the same second to both."""


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
            repeater.library = library() if "clock" in self._wanted.variations else b""
            if "clock" in self._wanted.variations:
                if not repeater.library:
                    self._unvaried["clock"] = "the day is the same: libfaketime is not installed; a second passes"
                _later()
            results = [self._step(step) for step in plan.steps if not isinstance(step, BaseStep)]
        # What the first pass says of each by itself.
        differ = {result.number - 1 for result in results if result.status in ("different", "failed", "semantic")}
        spoiled = tainted([(step.id, parents(step)) for step in plan.steps], differ)
        results = [
            one._replace(status="tainted") if one.status == "same" and one.number - 1 in spoiled else one for one in results
        ]
        if "order" in self._unvaried or not self._memory:
            self._unvaried.setdefault("order", "there is no file system in memory, at /dev/shm")
        varied = tuple(name for name in _order(self._wanted.variations) if name not in self._unvaried or name == "clock")
        unvaried = [(name, why) for name, why in self._unvaried.items() if name in self._wanted.variations]
        return Verification(source.name, str(self._image.id), tuple(results), varied, tuple(unvaried))

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
            contexts.handed_out(),
            request.platform,
            quiet,
            roots=self._roots,
            use_cache=False,
            access=request.access,
            provided=request.provided,
            isolation=request.isolation,
            stop=stop,
        )
        repeater.fresh_caches = not self._wanted.keep_caches
        if request.locked:
            repeater.pins = pins_of(contexts)
        return repeater

    def _step(self, step: Step) -> StepResult:
        self._emit(Notice(f"verifying {step.name}"))
        result = self._done[step.id]
        before, first = self._before(step), result.diff_id
        all_other = self._circumstances(step, self._wanted.variations)
        notes = (_NO_ROOM,) if self._does_not_fit(step) else ()
        ids = str(first or ""), str(first or "")
        same = StepResult(step.id + 1, step.name, step.span.line, "same", *ids, notes=notes)
        for _ in range(self._wanted.runs if isinstance(step, RunStep) else 1):
            with self._new_scratch(all_other) as scratch:
                try:
                    again = self._repeater.again(step, self._done, all_other, scratch)
                except (Interrupted, StoreError):
                    raise
                except BuildError as error:
                    causes = self._failing(step, all_other)
                    return same._replace(status="failed", b="", message=failure(error), causes=causes)
                if again.diff_id != first:
                    return self._different(step, same, before, first, again)
        other_day = self._other_day(step) if isinstance(step, RunStep) else None
        return other_day(same) if other_day else same

    def _different(
        self, step: Step, same: StepResult, before: Root, first: Digest | None, again: Repeated, causes: tuple[str, ...] = ()
    ) -> StepResult:
        sides = stacks(self._roots, before, first, again)
        files: Sequence[FileChange] = list(explained(*sides, self._wanted.options))
        kept = self._kept(files, *sides)
        status: Status = "different" if kept or not files else "semantic"
        if not causes and isinstance(step, RunStep) and status == "different":
            causes = narrowed(self._causes(step), kept)
        return same._replace(status=status, b=str(again.diff_id or ""), causes=causes, files=tuple(kept))

    def _kept(self, files: Sequence[FileChange], a: Stack, b: Stack) -> list[FileChange]:
        """What counts of it."""
        options = self._wanted.options
        kept = [rest for change in files if (rest := options.ignores.rest(change)) is not None]
        return list(looked_at(kept, a, b, options))

    # Causes

    def _causes(self, step: RunStep) -> tuple[str, ...]:
        # Some steps fail on another day, by certificates for example: those are held in today.
        for day in (_DAYS[0], "") if self._has_fake_days(step) else ("",):
            fixed = Circumstances(one_cpu=True, random_addresses=False, day=day)
            pair = self._pair(step, fixed, fixed)
            if pair.first is not None:
                break
        else:
            return ("unknown",)
        found = []
        if not pair.equal:
            if not pair.held:
                # The clock went on, whatever was tried: it may be that, or chance.
                return ("clock", "random")
            found = ["random"]
        else:
            names = self._wanted.variations - {"surroundings"} - self._impossible(step)
            ticks = "clock" in names and self._ticks(step, fixed, pair.first)
            if ticks:
                found.append("clock")
            for name in _order(names - ({"clock"} if ticks or not day else set())):
                if self._depends(step, fixed, name, pair.first, ticks=ticks):
                    found.append(name)
            if len(found) > _MANY and self._differs_by_chance(step, fixed):
                found = ["random"]
            elif not found:
                found = [self._otherwise(step, day)]
        if "random" in found and step.network != "none" and self._needs_network(step):
            found.append("network")
        return tuple(found)

    def _differs_by_chance(self, step: RunStep, fixed: Circumstances) -> bool:
        """Whether two runs with all held differ after all, though the first two did not: what seems to depend on many things
        may depend on none."""
        pairs = (self._pair(step, fixed, fixed) for _ in range(_TRIES))
        return any(pair.held and not pair.equal for pair in pairs)

    def _otherwise(self, step: RunStep, day: str) -> str:
        """The cause where nothing that is varied alone makes a difference, and all is the same when all is held."""
        plain = Circumstances()
        again = self._pair(step, plain, plain)
        if day and not again.equal:
            # Parts of a second, which libfaketime holds, too.
            return "clock"
        if again.equal and again.first != str(self._done[step.id].diff_id or ""):
            return "caches" if self._has_fresh_caches(step) else "since"
        return "surroundings" if "surroundings" in self._wanted.variations else "together"

    def _has_fresh_caches(self, step: RunStep) -> bool:
        return not self._wanted.keep_caches and any(isinstance(mount, CacheMount) for mount in step.mounts)

    def _failing(self, step: Step, other: Circumstances) -> tuple[str, ...]:
        """What a step fails by that did not fail the first time."""
        if not isinstance(step, RunStep):
            return ()
        if self._run(step, Circumstances()) is None:
            # As it was, it fails too: what it needs is no more there.
            if self._has_fresh_caches(step):
                return ("caches",)
            return ("network",) if step.network != "none" else ("random",)
        return tuple(
            name
            for name in _order(self._wanted.variations - {"surroundings", "clock"} - self._impossible(step))
            if self._run(step, _toggled(Circumstances(), name)) is None
        )

    def _needs_network(self, step: RunStep) -> bool:
        return self._run(step, Circumstances(network=False)) is None

    def _depends(self, step: RunStep, fixed: Circumstances, name: str, first: str | None, *, ticks: bool) -> bool:
        """Whether the step gives another layer than `first` where this alone is other. `ticks`: each second gives another."""
        if ticks:
            two = self._pair(step, fixed, _toggled(fixed, name))
            return two.held and not two.equal
        return self._run(step, _toggled(fixed, name)) != first

    def _ticks(self, step: RunStep, fixed: Circumstances, first: str | None) -> bool:
        """Whether a second later, as the kernel has it, all else being the same, the step gives another layer."""
        _later()
        return self._run(step, fixed) != first

    def _pair(self, step: RunStep, one: Circumstances, other: Circumstances) -> _Pair:
        """Two runs, in one second of the clock where they are that fast. The kernel's own times, as files have them, are no
        libfaketime's."""
        for _ in range(_TRIES):
            begun = int(time.time())
            first = self._run(step, one)
            equal = first == self._run(step, other)
            held = int(time.time()) == begun
            if equal or held:
                break
            _next_second()
        return _Pair(first, equal, held)

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
            return None
        days = [Circumstances(day=day) for day in _DAYS]
        with self._new_scratch(days[0]) as one, self._new_scratch(days[1]) as two:
            try:
                results = [self._repeater.again(step, self._done, day, folder) for day, folder in zip(days, (one, two))]
            except (Interrupted, StoreError):
                raise
            except BuildError as error:
                note = f"it fails on another day, {_DAYS[0]} or {_DAYS[1]} as libfaketime has them: {failure(error)}"
                return lambda same: same._replace(notes=(*same.notes, note))
            if results[0].diff_id == results[1].diff_id or not self._pair(step, days[0], days[0]).equal:
                return None
            before = self._before(step)
            pair = [stacks(self._roots, before, None, result)[1] for result in results]
            files = list(explained(pair[0], pair[1], self._wanted.options))
            kept = self._kept(files, pair[0], pair[1])
            status: Status = "different" if kept else "semantic"
            ids = [str(result.diff_id or "") for result in results]
        note = f"the two are {_DAYS[0]} and {_DAYS[1]}, as libfaketime has them"
        return lambda same: same._replace(
            status=status, a=ids[0], b=ids[1], causes=("clock",), files=tuple(kept), notes=(*same.notes, note)
        )

    def _has_fake_days(self, step: RunStep) -> bool:
        """Whether the programs of this file system take libfaketime's word: static ones, and those of another C library, do
        not."""
        if not self._repeater.library or "clock" not in self._wanted.variations:
            return False
        shell = step.argv[:-1] if len(step.argv) > 2 else ("/bin/sh", "-c")
        probe = step._replace(argv=(*shell, "date +%Y > /.pybuild-verify"), script=None, mounts=(), user="")
        with self._new_scratch(Circumstances()) as scratch:
            try:
                made = self._repeater.again(probe, self._done, Circumstances(day=_DAYS[0]), scratch)
            except (Interrupted, StoreError):
                raise
            except BuildError:
                return False
            expected = Digest.of(f"{_DAYS[0][:4]}\n".encode()).hex
            return any(entry.path == b".pybuild-verify" and entry.digest == expected for entry in made.entries)

    # Places

    def _before(self, step: Step) -> Root:
        assert not isinstance(step, BaseStep)
        return self._done[step.parent].root

    def _circumstances(self, step: Step, variations: frozenset[str]) -> Circumstances:
        found = Circumstances(random_addresses="aslr" not in variations)
        for name in variations - {"aslr", "clock", "surroundings"} - self._impossible(step):
            found = _toggled(found, name)
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
        made = self._done[step.id].diff_id
        entries = self._roots.entries(self._before(step).on_top(made).layers[-1]) if made else ()
        insecure = isinstance(step, RunStep) and step.security == "insecure"
        return insecure or any(entry.kind in ("char", "block") for entry in entries)

    def _does_not_fit(self, step: Step) -> bool:
        """Whether there is no room in memory for what the step starts from, though there is a file system there."""
        if "order" not in self._wanted.variations or "order" in self._unvaried or not isinstance(step, RunStep):
            return False
        return not self._memory or not fits(self._repeater.to_copy(self._before(step)))

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


def _toggled(circumstances: Circumstances, name: str) -> Circumstances:
    match name:
        case "cpus":
            return circumstances._replace(one_cpu=not circumstances.one_cpu)
        case "order":
            return circumstances._replace(elsewhere=not circumstances.elsewhere)
        case "mtimes":
            return circumstances._replace(shifted=not circumstances.shifted)
        case "pids":
            return circumstances._replace(pids=not circumstances.pids)
        case "rung":
            return circumstances._replace(user_namespace=not circumstances.user_namespace)
        case "aslr":
            return circumstances._replace(random_addresses=not circumstances.random_addresses)
        case "clock":
            return circumstances._replace(day=_DAYS[1])
        case _:
            return circumstances


def _has_user_namespaces() -> bool:
    """Whether root may make one, as far as the kernel says (namespaces(7))."""
    try:
        with open("/proc/sys/user/max_user_namespaces", encoding="ascii") as file:
            return int(file.read()) > 0
    except (FileNotFoundError, PermissionError, ValueError):
        return False


def _order(names: frozenset[str]) -> list[str]:
    return [name for name in ("clock", "mtimes", "order", "cpus", "pids", "aslr", "rung", "surroundings") if name in names]


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


def _next_second() -> None:
    time.sleep(1.0 - time.time() % 1.0)


def _later() -> None:
    """Until the clock says another time also to who counts in steps of two seconds, as zip and FAT do."""
    time.sleep(2.0 - time.time() % 2.0)
