"""Which steps are tainted, what --vary names, and what it all comes to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.verify.difference import FileChange, Finding
from builder.verify.verification import CAUSES, VARIATIONS, StepResult, Verification, chosen, fix, narrowed, tainted

ALL = frozenset(VARIATIONS)


def test_what_follows_is_tainted() -> None:
    steps = [(0, ()), (1, (0,)), (2, (1,)), (3, (0,)), (4, (3, 2))]
    assert tainted(steps, {1}) == {2, 4}
    assert tainted(steps, {3}) == {4}
    assert tainted(steps, set()) == set()
    assert tainted(steps, {0, 1}) == {1, 2, 3, 4}


@given(st.lists(st.sets(st.integers(0, 20), max_size=3), max_size=20), st.sets(st.integers(0, 20), max_size=4))
def test_tainted_is_what_can_be_reached(needs: list[set[int]], differ: set[int]) -> None:
    steps = [(number, tuple(need for need in each if need < number)) for number, each in enumerate(needs)]
    found = tainted(steps, differ)
    for number, each in steps:
        assert (number in found) == any(need in differ or need in found for need in each)


def test_variations_by_name() -> None:
    assert chosen(()) == (ALL, "")
    assert chosen(("all",)) == (ALL, "")
    assert chosen(("none",)) == (frozenset(), "")
    assert chosen(("clock,order", "pids")) == (frozenset(("clock", "order", "pids")), "")
    assert chosen(("-clock",)) == (ALL - {"clock"}, "")
    assert chosen(("-clock", "-order")) == (ALL - {"clock", "order"}, "")
    assert chosen(("none,aslr",)) == (frozenset(("aslr",)), "")
    assert chosen(("clock,nosuch",))[1] == "nosuch"
    assert chosen(("-nosuch",))[1] == "nosuch"


@given(st.lists(st.text("abclok-,ner", max_size=8), max_size=4))
def test_any_words(texts: list[str]) -> None:
    taken, unknown = chosen(texts)
    assert taken <= ALL
    assert unknown not in VARIATIONS


def verification(*statuses: str) -> Verification:
    steps = tuple(StepResult(number, "n", 1, status) for number, status in enumerate(statuses))  # type: ignore[arg-type]
    return Verification("Dockerfile", "sha256:aa", steps, ())


def test_verdicts() -> None:
    for statuses, verdict, identical, semantic in (
        ((), "identical", True, True),
        (("same", "same"), "identical", True, True),
        (("same", "semantic", "tainted"), "semantic", False, True),
        (("semantic", "different", "tainted"), "different", False, False),
        (("same", "failed"), "different", False, False),
    ):
        found = verification(*statuses)
        assert (found.verdict, found.meets("identical"), found.meets("semantic")) == (verdict, identical, semantic)
    # Blobs that a compressor made otherwise are another manifest of the same layers.
    found = verification("same")._replace(repacked=("sha256:aa",))
    assert found.verdict == "diff-ids"
    assert [found.meets(level) for level in ("identical", "diff-ids", "semantic")] == [False, True, True]


def test_every_cause_is_told_and_most_can_be_mended() -> None:
    assert set(VARIATIONS) < set(CAUSES)
    assert [name for name in CAUSES if not fix(name)] == ["unknown", "together"]


def changes(*patterns: str, complete: bool = True) -> list[FileChange]:
    return [FileChange(b"f", "changed", findings=(Finding(pattern),), complete=complete) for pattern in patterns]


def test_what_the_files_say_decides_between_the_clock_and_chance() -> None:
    """Of a step that takes too long for two runs in one second."""
    both = ("clock", "random")
    assert narrowed(both, changes("pyc-time", "date-in-text")) == ("clock",)
    assert narrowed(both, changes("pyc-path")) == ("random",)
    assert narrowed(both, changes("pyc-time", "pyc-path")) == both
    assert narrowed(both, changes("pyc-time", complete=False)) == both
    assert narrowed(("order",), changes("pyc-time")) == ("order",)
