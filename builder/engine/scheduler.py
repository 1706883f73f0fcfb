"""Walking a plan: every step that the target needs, in order, with the events that a person sees."""

from __future__ import annotations

import time

from builder.errors import BuildError
from builder.events import PlanReady, StepFinished, StepStarted
from builder.plan import triggers
from builder.plan.steps import BaseStep, RunStep
from builder.plan.unexecuted import refuse_unexecuted
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.engine.executor import Executor, Result
    from builder.engine.roots import Root
    from builder.events import Emit
    from builder.plan.steps import Plan, Step


class Outcome(NamedTuple):
    root: Root
    """The target's file system."""
    results: Mapping[int, Result]
    """Of each step, by its id."""

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


def run(plan: Plan, executor: Executor, emit: Emit) -> Outcome:
    """Execute the plan. The first failure ends it: its StepFinished says `failed`, and the error is raised."""
    emit(PlanReady(len(plan.steps)))
    refuse_unexecuted(plan)
    looked_into = _looked_into(plan)
    results: dict[int, Result] = {}
    brought = dict(plan.triggers)
    for step in plan.steps:
        try:
            results[step.id] = _one(step, executor, results, step.id in looked_into, emit)
        except BuildError as error:
            if step.id in brought:
                triggers.told(error, brought[step.id], step.span)
            raise
    return Outcome(results[plan.target].root, results)


def _one(step: Step, executor: Executor, results: dict[int, Result], as_folder: bool, emit: Emit) -> Result:
    number, line = step.id + 1, step.span.line
    emit(StepStarted(number, step.name, line))
    begun = time.monotonic()
    try:
        done = {id: known.root for id, known in results.items()}
        result = executor.execute(step, number, done, as_folder=as_folder)
    except (BuildError, OSError, KeyboardInterrupt) as error:
        seconds = time.monotonic() - begun
        interrupted = isinstance(error, KeyboardInterrupt)
        emit(StepFinished(number, step.name, line, "cancelled" if interrupted else "failed", seconds, "", 0))
        raise
    emit(
        StepFinished(
            number,
            step.name,
            line,
            "cached" if result.cached else "done",
            time.monotonic() - begun,
            str(result.diff_id) if result.diff_id else "",
            result.size,
        )
    )
    return result


def _looked_into(plan: Plan) -> frozenset[int]:
    """Ids of the steps whose file system some RUN starts from, itself or through others: their layers are made as folders."""
    marked: set[int] = set()
    for step in reversed(plan.steps):
        if isinstance(step, RunStep):
            marked.add(step.parent)
        if step.id in marked and not isinstance(step, BaseStep):
            marked.add(step.parent)
    return frozenset(marked)
