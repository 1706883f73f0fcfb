"""The steps of a plan in earlier builds: which they were there, and what went into them. Read when it is first asked for."""

from __future__ import annotations

from functools import cached_property

from builder import canonical
from builder.engine.journal import kind
from builder.plan import matching
from builder.plan.wording import masked
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from builder.plan.keys import Key
    from builder.plan.steps import Plan, Step
    from builder.store.builds import Build, BuiltStep
    from builder.store.store import Store

RECENT = 10
"""Builds that are looked through: of the same Dockerfile, and of all."""


class Earlier(NamedTuple):
    """A step of an earlier build."""

    step: BuiltStep
    build: Build
    inputs: Mapping[str, Any] | None
    """What its key was made of, credentials in URLs masked; None where nobody knows any more."""


class Past:
    """For one build; not for several threads."""

    def __init__(self, store: Store, plan: Plan, place: str) -> None:
        self._store = store
        self._plan = plan
        self._place = place
        self._known: dict[str, Mapping[str, Any] | None] = {}

    def by_key(self, key: Key) -> Earlier | None:
        """The last step that had this very key."""
        found = self._by_key.get(key.hex)
        return None if found is None else Earlier(*found, None)

    def same(self, step: Step) -> Earlier | None:
        """What the step was when it had a key last in a build of the same Dockerfile, context and target."""
        for build, match in self._matches:
            number = match.get(step.id + 1)
            if number is not None and build.steps[number - 1].key:
                old = build.steps[number - 1]
                return Earlier(old, build, self._inputs(old))
        return None

    def nearest(self, now: Mapping[str, Any]) -> Earlier | None:
        """The step of any recent build whose inputs differ least from `now`, but none that is another step of this plan."""
        taken = {build.steps[number - 1].key for build, match in self._matches for number in match.values()}
        found = [
            Earlier(step, build, inputs)
            for key, (step, build) in self._by_key.items()
            if step.op == now["op"] and key not in taken and (inputs := self._inputs(step)) is not None
        ]
        place = matching.nearest(now, [earlier.inputs or {} for earlier in found])
        return None if place is None else found[place]

    @cached_property
    def _same(self) -> list[Build]:
        return self._store.builds(RECENT, place=self._place)

    @cached_property
    def _matches(self) -> list[tuple[Build, dict[int, int]]]:
        """Each earlier build of the same Dockerfile, with the numbers of our steps there."""
        marks = [self._mark(step) for step in self._plan.steps]
        return [(build, matching.match(marks, [_mark(step) for step in build.steps])) for build in self._same]

    @cached_property
    def _by_key(self) -> dict[str, tuple[BuiltStep, Build]]:
        """The last step of each key; those of the same Dockerfile come first."""
        found: dict[str, tuple[BuiltStep, Build]] = {}
        for build in (*self._same, *(build for build in self._store.builds(RECENT) if build.place != self._place)):
            for step in build.steps:
                if step.key:
                    found.setdefault(step.key, (step, build))
        return found

    def _inputs(self, step: BuiltStep) -> Mapping[str, Any] | None:
        if step.key not in self._known:
            text = step.inputs
            if not text:
                record = self._store.remembered(step.key)
                text = record.preimage.decode() if record is not None else ""
            self._known[step.key] = masked(canonical.loads(text)) if text else None
        return self._known[step.key]

    def _mark(self, step: Step) -> matching.Mark:
        place = self._plan.places[step.id]
        return matching.Mark(step.id + 1, kind(step), place.stage, place.number, line_of(step.name))


def _mark(step: BuiltStep) -> matching.Mark:
    return matching.Mark(step.number, step.op, step.stage, step.place, line_of(step.name))


def line_of(name: str) -> str:
    """The instruction in a step's name."""
    return name.partition("] ")[2]
