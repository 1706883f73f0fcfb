"""Walking a plan: every step that the target needs, each after those that it builds on, with the events that a person sees.

Steps that do not need each other run side by side, on as many threads as there may be jobs; where only one can run, it runs
on the thread of the build itself, and a cached build of one stage starts no other. The first failure stops what has not
begun and ends what runs.
"""

from __future__ import annotations

import time
from _queue import Empty, SimpleQueue  # `queue` and `threading` cost 4 ms at start
from _thread import allocate_lock, start_new_thread

from builder.engine.roots import Use
from builder.errors import BuildError, Interrupted
from builder.events import PlanReady, StepFinished, StepStarted
from builder.plan import triggers
from builder.plan.steps import BaseStep, RunStep, parents
from builder.plan.unexecuted import refuse_unexecuted
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.engine.executor import Executor, Result
    from builder.engine.roots import Root
    from builder.events import Emit
    from builder.plan.steps import Plan

    _End = tuple["_Member", "_Done"]

_TICK = 0.2
"""Seconds. A signal that comes between Python's last look for one and the system call that waits does not end that call."""
_GRACE = 10.0
"""Seconds that cancelled steps have to end. A download that hears nothing from its server is left to the process's end."""


class Outcome(NamedTuple):
    root: Root
    """The target's file system."""
    results: Mapping[int, Result]
    """Of each step, by its id."""

    def of(self, plan: Plan) -> Outcome:
        """What the same steps gave for another plan that has them."""
        return self._replace(root=self.results[plan.target].root)

    @property
    def changed(self) -> frozenset[int]:
        """Ids of the steps that made a layer."""
        return frozenset(step for step, result in self.results.items() if result.diff_id is not None)

    @property
    def ran(self) -> int:
        return sum(not result.cached for result in self.results.values())

    @property
    def cached(self) -> int:
        """How many steps came from the cache; bases, which have no key, do not count."""
        return sum(result.cached and result.key is not None for result in self.results.values())


def run(
    plans: Sequence[Plan], executor: Executor, emit: Emit, *, jobs: int = 1, allow: frozenset[str] = frozenset()
) -> Outcome:
    """Execute a plan, at most `jobs` steps at a time; or plans for several platforms, which have the same steps: what comes is
    the outcome of the first.

    The first failure ends it: the step's StepFinished says `failed`, those of what was running beside it `cancelled`, and
    the error is raised, with the names of these.
    """
    plan = plans[0]
    emit(PlanReady(len(plan.steps)))
    refuse_unexecuted(plan, allow)
    schedule = _Schedule(plans, executor, emit)
    crew = _Crew(schedule, max(1, jobs))
    try:
        while schedule.ready or crew.busy:
            if schedule.ready and (schedule.is_trivial() or (not crew.busy and (len(schedule.ready) == 1 or jobs <= 1))):
                schedule.done(schedule.do(schedule.next()))
            else:
                crew.fill()
                schedule.done(crew.wait())
    except BaseException as error:
        executor.stop.cancel()
        crew.dismiss()
        if isinstance(error, BuildError):
            error.cancelled = tuple(plan.steps[step].name for step in sorted(schedule.cancelled))
        raise
    crew.dismiss()
    return Outcome(schedule.results[plan.target].root, schedule.results)


class _Done(NamedTuple):
    """How a step ended: with a result, or with an error."""

    step: int
    result: Result | None
    error: BaseException | None


class _Schedule:
    """What is ready, and what each step gave. Changed by the thread of the build alone; the others read results that are
    there already."""

    def __init__(self, plans: Sequence[Plan], executor: Executor, emit: Emit) -> None:
        plan = plans[0]
        self._plan = plan
        self._executor = executor
        self._emit = emit
        self._looked_into = _looked_into(plan)
        self._shipped = _shipped(plans)
        self._brought = dict(plan.triggers)
        self._waits: dict[int, int] = {}
        self._wanted_by: dict[int, list[int]] = {}
        self.results: dict[int, Result] = {}
        self.cancelled: list[int] = []
        """Steps that ended because of another's failure, or of Ctrl-C."""
        self.ready: list[int] = []
        """In the order of the plan."""
        for step in plan.steps:
            needs = set(parents(step))
            self._waits[step.id] = len(needs)
            for need in needs:
                self._wanted_by.setdefault(need, []).append(step.id)
            if not needs:
                self.ready.append(step.id)

    def next(self) -> int:
        return self.ready.pop(0)

    def is_trivial(self) -> bool:
        """Whether the next step is a base, which is there already."""
        return isinstance(self._plan.steps[self.ready[0]], BaseStep)

    def done(self, done: _Done) -> None:
        """Count a step that ended. Raises its error."""
        if done.error is not None:
            raise done.error
        assert done.result is not None
        self.results[done.step] = done.result
        freed = []
        for step in self._wanted_by.get(done.step, ()):
            self._waits[step] -= 1
            if not self._waits[step]:
                freed.append(step)
        if freed:
            self.ready = sorted(self.ready + freed)

    def do(self, id: int) -> _Done:
        """Do a step, on whatever thread this is; what it raises is part of what it gives."""
        step = self._plan.steps[id]
        number, line = step.id + 1, step.span.line
        self._emit(StepStarted(number, step.name, line))
        begun = time.monotonic()
        try:
            result = self._executor.execute(step, number, self.results, Use(id in self._looked_into, id in self._shipped))
        except BaseException as error:  # noqa: BLE001  it is handed to the thread of the build, and raised there
            unwanted = isinstance(error, KeyboardInterrupt | Interrupted)
            if unwanted:
                self.cancelled.append(id)
            seconds = time.monotonic() - begun
            self._emit(StepFinished(number, step.name, line, "cancelled" if unwanted else "failed", seconds, "", 0))
            if isinstance(error, BuildError) and id in self._brought:
                triggers.told(error, self._brought[id], step.span)
            return _Done(id, None, error)
        self._emit(
            StepFinished(
                number,
                step.name,
                line,
                "cached" if result.cached else "done",
                time.monotonic() - begun,
                str(result.diff_id) if result.diff_id else "",
                result.size,
                result.key.hex if result.key else "",
            )
        )
        return _Done(id, result, None)

    def parent(self, id: int) -> int:
        """The step whose file system this one starts from, -1 for a base."""
        step = self._plan.steps[id]
        return -1 if isinstance(step, BaseStep) else step.parent


class _Crew:
    """The threads that steps run on beside each other, started when they are needed first."""

    def __init__(self, schedule: _Schedule, size: int) -> None:
        self._schedule = schedule
        self._size = size
        self._members: list[_Member] = []
        self._ends: SimpleQueue[_End] = SimpleQueue()
        self.busy = 0

    def fill(self) -> None:
        """Give ready steps to threads, as far as there may be threads; best to the one that did what a step builds on, which
        has its file system at hand."""
        while self._schedule.ready and self.busy < self._size:
            step = self._schedule.next()
            parent = self._schedule.parent(step)
            idle = [member for member in self._members if not member.busy]
            member = next((member for member in idle if member.last == parent), None)
            if member is None:
                member = self._new() if len(self._members) < self._size else idle[0]
            member.last, member.busy = step, True
            self.busy += 1
            member.tasks.put(step)

    def wait(self) -> _Done:
        """The next step that ends."""
        while True:
            try:
                member, done = self._ends.get(timeout=_TICK)
                break
            except Empty:
                continue
        member.busy = False
        self.busy -= 1
        return done

    def dismiss(self) -> None:
        """Wait until no thread is left."""
        for member in self._members:
            member.tasks.put(None)
        deadline = time.monotonic() + _GRACE
        for member in self._members:
            # Not what `acquire` says decides: Ctrl-C, pressed again, may come just after it.
            while not member.is_over and (left := deadline - time.monotonic()) > 0:
                try:
                    member.ended.acquire(timeout=left)
                except KeyboardInterrupt:
                    # The end is near.
                    continue

    def _new(self) -> _Member:
        # Before there is a second thread: two that import it first get in each other's way (seen in Python 3.13).
        import collections.abc  # noqa: F401  for what it leaves behind

        member = _Member()
        # No Thread object: its end runs callbacks of weak references, and Python drops a Ctrl-C that comes in one of those.
        start_new_thread(member.work, (self._schedule, self._ends))
        self._members.append(member)
        return member


class _Member:
    """A thread and its tasks. What it does last stays at hand there: `Roots` keeps merged trees by thread."""

    def __init__(self) -> None:
        self.tasks: SimpleQueue[int | None] = SimpleQueue()
        self.last = -1
        """The step that it did last, or is at."""
        self.busy = False
        self.is_over = False
        self.ended = allocate_lock()
        """Held until the thread has ended."""
        self.ended.acquire()

    def work(self, schedule: _Schedule, ends: SimpleQueue[_End]) -> None:
        try:
            while (step := self.tasks.get()) is not None:
                try:
                    done = schedule.do(step)
                except BaseException as error:  # noqa: BLE001  a step that cannot even be told of; the build waits for its end
                    done = _Done(step, None, error)
                ends.put((self, done))
        finally:
            self.is_over = True
            self.ended.release()


def _looked_into(plan: Plan) -> frozenset[int]:
    """Ids of the steps whose file system some RUN starts from or mounts, itself or through others: their layers are made as
    folders."""
    marked: set[int] = set()
    for step in reversed(plan.steps):
        if isinstance(step, RunStep):
            marked.update(parents(step))
        if step.id in marked and not isinstance(step, BaseStep):
            marked.add(step.parent)
    return frozenset(marked)


def _shipped(plans: Sequence[Plan]) -> frozenset[int]:
    """Ids of the steps whose layers are the images'."""
    marked = set()
    for plan in plans:
        step = plan.steps[plan.target]
        while not isinstance(step, BaseStep):
            marked.add(step.id)
            step = plan.steps[step.parent]
    return frozenset(marked)
