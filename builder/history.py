"""Builds and steps that the store remembers, by what a user calls them."""

from __future__ import annotations

import os

from builder.errors import UsageError, did_you_mean
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.store.builds import Build, BuiltStep
    from builder.store.peek import Peek
    from builder.store.store import Store

_LONGEST = 100
"""Characters of a step's name in a message."""
_LISTED = 8
"""Steps that an error lists."""


class Found(NamedTuple):
    """The steps that a text means."""

    steps: tuple[BuiltStep, ...]
    stage: bool
    """They are all of a stage that was named."""


def last_build(store: Store | Peek, dockerfile: str | None) -> Build:
    """The last build in the store, or of the Dockerfile at the path `dockerfile`. Raises UsageError where there is none."""
    path = os.path.realpath(dockerfile) if dockerfile is not None else None
    for build in store.builds(1, path=path):
        return build
    if dockerfile is None:
        raise UsageError("no build is remembered in this store", hint="build something first, or name the store with --root")
    known = [build.dockerfile for build in store.builds(50)]
    near = did_you_mean(dockerfile, known)
    raise UsageError(f"no build of '{dockerfile}' is remembered", hint=near or "without -f it is the last build of the store")


def find(build: Build, text: str) -> Found:
    """The step `#3` (or `3`), `build 2/5`, `2/5`, that of line `:12`, all of a stage by its name, or what has the text in its
    line. Raises UsageError where that is none, or several that are no stage."""
    wanted = " ".join(text.split())
    if not wanted:
        raise UsageError("the step is empty", hint="give its number, as in #3")
    if (digits := wanted.removeprefix("#")).isdecimal() and digits.isascii():
        return Found((_by_number(build, digits),), False)
    if wanted.startswith(":"):
        return Found((_one(_by_line(build, wanted[1:]), text),), False)
    lower = wanted.lower()
    stage = tuple(step for step in build.steps if step.stage.lower() == lower and step.place)
    if stage:
        return Found(stage, True)
    placed = [step for step in build.steps if lower.strip("[]") in _places(step)]
    found = placed or [step for step in build.steps if lower in step.name.lower()]
    if not found:
        raise UsageError(f"no step of the build is '{text}'", hint=_near(build, wanted))
    return Found((_one(found, text),), False)


def named(step: BuiltStep) -> str:
    """The step as messages name it, cut where its line is long."""
    name = f"#{step.number} {step.name}"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _by_number(build: Build, digits: str) -> BuiltStep:
    number = int(digits) if len(digits) < 9 else 0
    if not 0 < number <= len(build.steps):
        raise UsageError(f"the build has no step #{digits}: it has {len(build.steps)}", hint="pybuild why lists them")
    return build.steps[number - 1]


def _by_line(build: Build, text: str) -> list[BuiltStep]:
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise UsageError(f"':{text}' is not a line of the Dockerfile", hint="a line looks like :12")
    line = int(text)
    found = [step for step in build.steps if step.line <= line <= step.end_line]
    if not found:
        raise UsageError(f"no step of the build stands in line {line}", hint="pybuild why lists the steps")
    return found


def _places(step: BuiltStep) -> tuple[str, ...]:
    place = f"{step.place}/{step.total}"
    return (f"{step.stage.lower()} {place}", place) if step.place else ()


def _one(found: Sequence[BuiltStep], text: str) -> BuiltStep:
    if len(found) == 1:
        return found[0]
    lines = "; ".join(named(step) for step in found[:_LISTED])
    more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise UsageError(f"'{text}' means {len(found)} steps", hint=f"give the number of one: {lines}{more}")


def _near(build: Build, wanted: str) -> str:
    stages = dict.fromkeys(step.stage for step in build.steps)
    lines = dict.fromkeys(step.name.partition("] ")[2] for step in build.steps)
    return did_you_mean(wanted, (*stages, *lines)) or "pybuild why lists the steps"
