"""What is remembered of a build: it listens to the events, and tells why each step ran that did.

A cached build pays for one small file. What compares a step with earlier builds is imported at the first step that
the cache does not know.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock  # `threading` costs 1 ms at start

import builder
from builder.errors import Interrupted, StoreError
from builder.events import BuildWarning, StepExplained, StepFinished, StepUsage
from builder.hashing import sha256
from builder.plan.steps import BaseStep, CopyStep, RunStep
from builder.redact import redact
from builder.store.builds import Build, BuiltStep
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from builder.engine.explaining import Explainer
    from builder.events import Emit, Event
    from builder.plan.keys import Key
    from builder.plan.steps import Plan, Step
    from builder.store.store import Store


class Subject(NamedTuple):
    """What is built, and what a command finds in it that no step says."""

    dockerfile: str
    context: str
    target: str
    """As the user named them."""
    no_path: bool
    """The Dockerfile lies nowhere on this machine: it came on stdin, or with what was fetched."""
    network: Literal["default", "host", "none"]
    hosts: tuple[tuple[str, str], ...]
    shm_size: int


class Journal:
    """Of one build. `emit` and `missed` may be called by several threads."""

    def __init__(self, store: Store, emit: Emit) -> None:
        self._store = store
        self._emit = emit
        self._lock = allocate_lock()
        self._begun = int(time.time())
        self._planned: tuple[Plan, Subject] | None = None
        self._place = self._path = ""
        """`identity` of what is built."""
        self._explainer: Explainer | None = None
        self._keys: dict[int, Key] = {}
        """Of the steps that the cache did not give."""
        self._imported: dict[int, str] = {}
        """The caches that steps came from, other than the store."""
        self._ended: dict[int, StepFinished] = {}
        self._had: dict[int, tuple[str, str]] = {}
        """Network and sandbox of the commands that ran."""
        self._reasons: dict[int, tuple[tuple[str, str, int], ...]] = {}
        self.steps: tuple[BuiltStep, ...] = ()
        """All of them, once the build has ended."""

    def planned(self, plan: Plan, subject: Subject) -> None:
        """Without a plan there is nothing to remember."""
        self._planned = (plan, subject)
        # Most builds find most of what the last one had.
        self._place, self._path = identity(subject)
        self._store.expect_build(self._place)

    def missed(self, step: Step, key: Key, refused: str) -> None:
        """The cache has no result for `step`, or was not asked because of the flag `refused`. Called before the step is
        done."""
        with self._lock:
            # In this order: what was interrupted, or could not be asked of the store, was not missed, and needs no reason.
            self._explain().missed(step, key, refused)
            self._keys[step.id + 1] = key

    def imported(self, step: Step, cache: str) -> None:
        """The result of `step` came from `cache`, as messages name it. Called before the step ends."""
        with self._lock:
            self._imported[step.id + 1] = cache

    def emit(self, event: Event) -> None:
        """Hand on an event; before the end of a step that ran, why it did, and of one that was imported, from where."""
        if isinstance(event, StepUsage):
            self._had[event.step] = event.network, event.sandbox
        elif isinstance(event, StepFinished):
            with self._lock:
                self._ended[event.step] = event
                if event.step in self._keys and event.status != "cached":
                    reasons = self._reasons[event.step] = self._explain().reasons(event.step, event.diff_id)
                    self._emit(StepExplained(event.step, event.name, event.line, reasons))
                elif event.step in self._imported and event.status == "cached":
                    from builder.plan.reasons import imported  # for those who have other caches

                    source = self._reasons[event.step] = (imported(self._imported[event.step]),)
                    self._emit(StepExplained(event.step, event.name, event.line, source))
        self._emit(event)

    def end(self, error: BaseException | None, image: str = "") -> None:
        """The build has ended, by `error` where it failed; what cannot be written is warned of."""
        if self._planned is None:
            return
        plan, subject = self._planned
        outcome: Literal["done", "failed", "cancelled"] = "done"
        if error is not None:
            outcome = "cancelled" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed"
        self.steps = tuple(self._step(plan, step, subject) for step in plan.steps)
        shown = (subject.dockerfile, redact(subject.context), subject.target)
        build = Build(self._place, self._path, *shown, self._begun, outcome, image, builder.__version__, self.steps)
        try:
            self._store.put_build(build)
        except (StoreError, OSError) as failure:
            why = failure.message if isinstance(failure, StoreError) else failure.strerror
            self._emit(BuildWarning("BuildHistory", f"the history of builds was not written: {why}"))

    def _explain(self) -> Explainer:
        if self._explainer is None:
            from builder.engine.explaining import Explainer

            assert self._planned is not None
            self._explainer = Explainer(self._store, self._planned[0], self._place, self._ended)
        return self._explainer

    def _step(self, plan: Plan, step: Step, subject: Subject) -> BuiltStep:
        number = step.id + 1
        place, ended, key = plan.places[step.id], self._ended.get(number), self._keys.get(number)
        status = ended.status if ended else "waiting"
        if isinstance(step, BaseStep):
            layers = tuple(map(str, step.base.diff_ids))
        else:
            layers = (ended.diff_id,) if ended and ended.diff_id else ()
        run = step if isinstance(step, RunStep) else None
        return BuiltStep(
            number,
            step.name,
            kind(step),
            place.stage,
            place.number,
            place.total,
            step.span.line,
            step.span.end_line,
            status,
            key.hex if key else ended.key if ended else "",
            _inputs(key) if key and status not in ("done", "cached") else "",
            0 if isinstance(step, BaseStep) else step.parent + 1,
            layers,
            self._reasons.get(number, ()),
            tuple((name, redact(value)) for name, value in place.env),
            place.cwd,
            place.user,
            run.hostname if run else "pybuild",
            run.network if run else subject.network,
            subject.hosts,
            subject.shm_size,
            run.ulimits if run else (),
            *self._had.get(number, ("", "")),
        )


def _inputs(key: Key) -> str:
    """The preimage with the credentials of its URLs masked: no record has it."""
    from builder import canonical
    from builder.plan.wording import masked  # for builds that fail

    return canonical.dumps(masked(canonical.loads(key.preimage.decode())))


def kind(step: Step) -> Literal["base", "run", "copy", "workdir"]:
    """The kind of step, as keys name it."""
    match step:
        case BaseStep():
            return "base"
        case RunStep():
            return "run"
        case CopyStep():
            return "copy"
        case _:
            return "workdir"


def identity(subject: Subject) -> tuple[str, str]:
    """What makes two builds runs of one, as a hash, and the absolute path of the Dockerfile, empty where it has none."""
    path = "" if subject.no_path else _absolute(subject.dockerfile)
    place = "\0".join((path, _absolute(subject.context), subject.target))
    return sha256(place.encode("utf-8", "surrogateescape")).hexdigest(), path


def _absolute(name: str) -> str:
    """A path without links; what is no path, as a URL, as it is."""
    return os.path.realpath(name) if os.path.lexists(name) else name
