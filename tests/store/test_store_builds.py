"""The history of builds: in bounds, by place and by Dockerfile, and never in the way."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.store.builds import MOST, MOST_OF_PLACE, Build, BuiltStep, dump, load
from builder.store.store import Store

TEXT = st.text(alphabet=st.characters(exclude_categories=[]), max_size=8)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple)
STEPS = st.builds(
    BuiltStep,
    *(st.integers(0, 9), TEXT, st.just("run"), TEXT, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    *(st.integers(0, 9), st.just("done"), TEXT, TEXT, st.integers(0, 9), st.lists(TEXT, max_size=2).map(tuple)),
    st.lists(st.tuples(TEXT, TEXT, st.integers(0, 9)), max_size=2).map(tuple),
    *(PAIRS, TEXT, TEXT, TEXT, st.just("host"), PAIRS, st.integers(0, 9)),
)


def build(place: str = "aa", path: str = "/a/Dockerfile", *steps: BuiltStep) -> Build:
    return Build(place, path, "Dockerfile", ".", "", 7, "done", "sha256:aa", "1", steps)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=3), TEXT)
def test_a_build_comes_back_as_it_was(steps: list[BuiltStep], path: str) -> None:
    one = build("aa", path, *steps)
    assert load(dump(one)) == one


def test_the_last_ones_come_first_and_can_be_chosen(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        assert store.builds(5) == []
        for number in range(3):
            store.put_build(build("aa")._replace(created=number))
            store.put_build(build("bb", "/b/Dockerfile")._replace(created=10 + number))
        assert [each.created for each in store.builds(3)] == [12, 2, 11]
        assert [each.created for each in store.builds(2, place="aa")] == [2, 1]
        assert [each.created for each in store.builds(1, path="/b/Dockerfile")] == [12]
        assert store.builds(1, path="/c/Dockerfile") == []


def test_the_oldest_go(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "builds"
    with Store(str(tmp_path / "store")) as store:
        store.put_build(build("old"))
        for number in range(MOST_OF_PLACE + 5):
            store.put_build(build("aa")._replace(created=number))
        kept = store.builds(1000, place="aa")
        assert len(kept) == MOST_OF_PLACE and kept[-1].created == 5
        assert len(store.builds(1000, place="old")) == 1
        for number in range(MOST):
            (folder / f"{time.time_ns():020d}-{number:016d}-1").write_bytes(dump(build(f"{number:016d}")))
        store.put_build(build("new"))
        assert len(os.listdir(folder)) == MOST
        assert store.builds(1000, place="old") == []


def test_what_a_crash_left_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "builds"
    with Store(str(tmp_path / "store")) as store:
        store.put_build(build())
        step = BuiltStep(1, "", "run", "", 1, 1, 1, 1, "done", "", "", 0, (), (), (), "/", "", "", "host", (), 0)
        step_without_env = dump(build("aa", "/", step)).replace(b",[[]],", b",[],")
        for number, data in enumerate(
            [b"", b"[1,", b"null", b'[2,["aa"],[],[]]', b"\xff", b"[1,[],[],[[1]]]", step_without_env]
        ):
            (folder / f"{time.time_ns():020d}-aa-{number}").write_bytes(data)
        (folder / f"{time.time_ns():020d}-aa-folder").mkdir()
        os.mkfifo(folder / f"{time.time_ns():020d}-aa-pipe")
        fresh, old = folder / f"{time.time_ns():020d}-aa-1.new", folder / f"{1:020d}-aa-1.new"
        fresh.write_bytes(b"[")
        old.write_bytes(b"[")
        assert len(store.builds(50)) == 1
        store.put_build(build())
        assert len(store.builds(50)) == 2
        assert fresh.exists() and not old.exists()
