"""What a step depends on: two runs are compared that differ in one circumstance alone, all else being fixed.

One run says little of a step that is random with few outcomes: what seems to be a cause is tried again, with a run beside it in
which nothing is other, and counts only where it makes a difference each time and the other run makes none.
"""

from __future__ import annotations

import time

from builder.engine.repeating import Circumstances
from builder.plan.mounts import CacheMount
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.plan.steps import RunStep

    Run = Callable[[RunStep, Circumstances], str | None]
    """The diff ID that a step gives, empty for no layer; None where it fails."""

DAYS = ("2031-05-06 07:08:09", "2032-11-27 20:21:22")
"""Far from today, in other years, months, weekdays and halves of the day."""
_MANY = 2
"""More causes than this may be none."""
_TRIES = 5
"""How often two runs are tried to fall into one second of the clock."""
_AGAIN = ((1.0, 4), (5.0, 2), (float("inf"), 1))
"""Up to how many seconds of a run, how often a cause has to show again."""
_FAILS = ((1.0, 10), (5.0, 6), (float("inf"), 3))
"""The same for how often it has to fail: that one which fails every other time fails so often is not likely."""
_ORDER = ("clock", "mtimes", "order", "cpus", "pids", "aslr", "rung", "surroundings")
"""In which variations are tried and told."""


class Causes(NamedTuple):
    """Of one step."""

    names: tuple[str, ...]
    """Of `builder.verify.verification.CAUSES`."""
    notes: tuple[str, ...] = ()


class Situation(NamedTuple):
    step: RunStep
    first: str
    """What it gave when it was built: a diff ID, empty for no layer."""
    other: Circumstances
    """Those under which it gave something else."""
    variations: frozenset[str]
    """Names of `builder.verify.verification.VARIATIONS`: those that can be had."""
    has_days: bool
    """Whether its programs take libfaketime's word."""
    fresh_caches: bool
    """Whether its cache mounts began empty the second time."""


class _Pair(NamedTuple):
    first: str | None
    """What the first run gave."""
    equal: bool
    """Whether the other one gave the same."""
    held: bool
    """Whether the clock said the same second to both."""


class Search:
    """For one step."""

    def __init__(self, run: Run, situation: Situation) -> None:
        self._given = run
        self._step = situation.step
        self._situation = situation
        self._longest = 0.0

    def different(self) -> Causes:
        """Why it gave something else."""
        # Some steps fail on another day, by certificates for example: those are held in today.
        for day in (DAYS[0], "") if self._situation.has_days else ("",):
            fixed = Circumstances(one_cpu=True, random_addresses=False, day=day)
            pair = self._pair(fixed, fixed)
            if pair.first is not None:
                break
        else:
            return Causes(("unknown",))
        if not pair.equal and not pair.held:
            # The clock went on, whatever was tried: it may be that, or chance.
            return Causes(self._and_network(["clock", "random"]))
        found = self._varied(fixed, pair.first) if pair.equal else ["random"]
        if found != ["random"]:
            return Causes(self._and_network(found))
        note = "what else it depends on cannot be seen before that is mended"
        return Causes(self._and_network(found), (note,) if len(self._situation.variations) > 1 else ())

    def _varied(self, fixed: Circumstances, first: str | None) -> list[str]:
        """The causes, where two runs gave the same when all was held."""
        names = self._situation.variations - {"surroundings"}
        ticks = "clock" in names and self._ticks(fixed, first)
        found = ["clock"] if ticks else []
        for name in ordered(names - ({"clock"} if ticks or not fixed.day else set())):
            if self._depends(fixed, name, first, ticks=ticks):
                found.append(name)
        if any(not self._shows_again(fixed, name, first, ticks=ticks) for name in found):
            return ["random"]
        if len(found) > _MANY and self._differs_by_chance(fixed):
            return ["random"]
        return found or [self._otherwise(fixed.day)]

    def failing(self, said: str) -> tuple[str, ...]:
        """What it fails by that did not fail the first time; `said` is what it wrote last."""
        plain = Circumstances()
        fails = self._run(plain) is None
        tried = 1
        while tried < (self._tries(_FAILS) if fails else self._tries() + 1):
            if (self._run(plain) is None) != fails:
                return ("random",)
            tried += 1
        if fails:
            # As it was, it fails too: what it needs is no more there.
            if self._situation.fresh_caches and _has_caches(self._step):
                return ("caches",)
            return ("network",) if told_of_network(said) and self._step.network != "none" else ("since",)
        found = [
            name
            for name in ordered(self._situation.variations - {"surroundings", "clock"})
            if self._run(toggled(plain, name)) is None
        ]
        for name in found:
            for _ in range(self._tries()):
                if self._run(plain) is None or self._run(toggled(plain, name)) is not None:
                    return ("random",)
        return tuple(found) or ("random",)

    def _and_network(self, found: list[str]) -> tuple[str, ...]:
        needs = "random" in found and self._step.network != "none" and self._run(Circumstances(network=False)) is None
        return (*found, "network") if needs else tuple(found)

    # Chance

    def _shows_again(self, fixed: Circumstances, name: str, first: str | None, *, ticks: bool) -> bool:
        """Whether a cause makes a difference each time, and nothing does where nothing is other."""
        for _ in range(self._tries()):
            if ticks:
                pair = self._pair(fixed, fixed)
                if pair.held and not pair.equal:
                    return False
                if name == "clock" and not self._ticks(fixed, pair.first):
                    return False
                if name != "clock" and self._pair(fixed, toggled(fixed, name)).equal:
                    return False
            elif self._run(fixed) != first or self._run(toggled(fixed, name)) == first:
                return False
        return True

    def _tries(self, of: tuple[tuple[float, int], ...] = _AGAIN) -> int:
        """How often a cause has to show again: less often where it takes long."""
        return next(tries for seconds, tries in of if self._longest < seconds)

    def _differs_by_chance(self, fixed: Circumstances) -> bool:
        """Whether two runs with all held differ after all, though the first two did not: what seems to depend on many things
        may depend on none."""
        pairs = (self._pair(fixed, fixed) for _ in range(_TRIES))
        return any(pair.held and not pair.equal for pair in pairs)

    def _otherwise(self, day: str) -> str:
        """The cause where nothing that is varied alone makes a difference, and all is the same when all is held."""
        plain = Circumstances()
        again = self._pair(plain, plain)
        if day and not again.equal:
            # Parts of a second, which libfaketime holds, too.
            return "clock"
        first = self._situation.first
        if again.equal and again.first != first:
            if self._ticks(plain, again.first):
                # Nobody asked for it to be varied, and it is another time all the same.
                return "clock"
            return "caches" if self._situation.fresh_caches and _has_caches(self._step) else "since"
        if any(self._run(self._situation.other) == first for _ in range(self._tries())):
            # What differed once need not.
            return "random"
        return "surroundings" if "surroundings" in self._situation.variations else "together"

    # Runs

    def _depends(self, fixed: Circumstances, name: str, first: str | None, *, ticks: bool) -> bool:
        """Whether the step gives another layer than `first` where this alone is other. `ticks`: each second gives another."""
        if ticks:
            two = self._pair(fixed, toggled(fixed, name))
            return two.held and not two.equal
        return self._run(toggled(fixed, name)) != first

    def _ticks(self, fixed: Circumstances, first: str | None) -> bool:
        """Whether a second later, as the kernel has it, all else being the same, the step gives another layer."""
        later()
        return self._run(fixed) != first

    def _pair(self, one: Circumstances, other: Circumstances) -> _Pair:
        """Two runs, in one second of the clock where they are that fast. The kernel's own times, as files have them, are no
        libfaketime's."""
        for _ in range(_TRIES):
            begun = int(time.time())
            first = self._run(one)
            equal = first == self._run(other)
            held = int(time.time()) == begun
            if equal or held:
                break
            if self._longest > 1.0:
                # No two runs fit into a second; but their programs' clock stands still on a day of libfaketime's.
                held = bool(one.day and other.day)
                break
            time.sleep(1.0 - time.time() % 1.0)
        return _Pair(first, equal, held)

    def _run(self, circumstances: Circumstances) -> str | None:
        begun = time.monotonic()
        try:
            return self._given(self._step, circumstances)
        finally:
            self._longest = max(self._longest, time.monotonic() - begun)


_NETWORK = (
    "resolve",
    "resolving",
    "network",
    "connect",
    "unreachable",
    "timed out",
    "timeout",
    "refused",
    "http",
    "certificate",
)


def told_of_network(said: str) -> bool:
    """Whether the last words of a command are about one, as far as words can be trusted."""
    return any(word in said.lower() for word in _NETWORK)


def toggled(circumstances: Circumstances, name: str) -> Circumstances:
    """The same with one variation the other way."""
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
            return circumstances._replace(day=DAYS[1])
        case _:
            return circumstances


def ordered(names: frozenset[str]) -> list[str]:
    """Variations in the order in which they are tried and told."""
    return [name for name in _ORDER if name in names]


def later() -> None:
    """Until the clock says another time also to who counts in steps of two seconds, as zip and FAT do."""
    time.sleep(2.0 - time.time() % 2.0)


def _has_caches(step: RunStep) -> bool:
    return any(isinstance(mount, CacheMount) for mount in step.mounts)
