"""Finding a step again in an earlier build, though lines came, went and moved."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.plan.matching import Mark, differing, match, nearest


def marks(*lines: str, stage: str = "stage-0") -> list[Mark]:
    ops = {"FROM": "base", "RUN": "run", "COPY": "copy", "WORKDIR": "workdir"}
    return [Mark(number, ops[line.split()[0]], stage, number, line) for number, line in enumerate(lines, 1)]


def test_the_same_lines_match() -> None:
    lines = marks("FROM a", "RUN x", "RUN x", "COPY a b")
    assert match(lines, lines) == {1: 1, 2: 2, 3: 3, 4: 4}


def test_a_new_line_is_nothing_known_and_those_behind_it_are_found() -> None:
    assert match(marks("FROM a", "RUN new", "RUN x", "RUN y"), marks("FROM a", "RUN x", "RUN y")) == {1: 1, 3: 2, 4: 3}


def test_a_changed_line_is_known_by_its_place() -> None:
    assert match(marks("FROM a", "RUN z", "RUN y"), marks("FROM a", "RUN x", "RUN y")) == {1: 1, 2: 2, 3: 3}


def test_a_line_of_another_kind_is_another_step() -> None:
    assert match(marks("FROM a", "COPY z z"), marks("FROM a", "RUN x")) == {1: 1}


def test_a_stage_that_was_renamed() -> None:
    assert match(marks("FROM a", "RUN x", stage="build"), marks("FROM a", "RUN x", stage="stage-0")) == {1: 1, 2: 2}


MARKS = st.lists(
    st.builds(
        Mark,
        st.just(0),
        st.sampled_from(["run", "copy"]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 4),
        st.sampled_from(["RUN x", "RUN y", "COPY z"]),
    ),
    max_size=8,
).map(lambda found: [mark._replace(number=number) for number, mark in enumerate(found, 1)])


@settings(max_examples=300)
@given(MARKS, MARKS)
def test_each_step_is_found_once_and_is_of_its_kind(now: list[Mark], before: list[Mark]) -> None:
    found = match(now, before)
    assert len(set(found.values())) == len(found)
    assert all(now[a - 1].op == before[b - 1].op for a, b in found.items())
    # What is left on both sides could not be put together.
    ours = [mark for mark in now if mark.number not in found]
    theirs = [mark for mark in before if mark.number not in found.values()]
    assert not [(a, b) for a in ours for b in theirs if a.op == b.op and (a.text == b.text or a[2:4] == b[2:4])]
    assert match(now, now) == {mark.number: mark.number for mark in now} or len({m[1:] for m in now}) < len(now)


def test_the_nearest_has_the_fewest_differences_and_is_the_same_command() -> None:
    now = {"op": "run", "root": "1", "argv": ["make"], "env": [["A", "1"], ["B", "1"]], "cwd": "/"}
    other = {**now, "argv": ["ls"]}
    far = {**now, "root": "2", "env": [["A", "2"], ["B", "2"]]}
    near = {**now, "env": [["A", "2"], ["B", "1"]]}
    assert [differing(now, each) for each in (other, far, near)] == [1, 3, 1]
    assert nearest(now, [other, far, near]) == 2
    assert nearest(now, [other, far]) == 1
    assert nearest(now, [other]) is None
    assert nearest(now, []) is None


def test_a_copy_to_the_same_place_is_another_one_unless_it_has_more_in_common() -> None:
    now = {"op": "copy", "root": "1", "dest": "/app/", "content": "a"}
    assert nearest(now, [{**now, "root": "2", "content": "b"}]) is None
    assert nearest(now, [{**now, "root": "2"}]) == 0
    assert nearest(now, [{**now, "content": "b"}]) == 0
    assert nearest(now, [{**now, "dest": "/srv/"}]) is None
