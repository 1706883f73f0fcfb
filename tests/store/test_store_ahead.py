"""What the last build of a place had is read at once, and counts as if it had been asked for one by one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.oci.digest import Digest
from builder.store.builds import BuiltStep
from builder.store.collect import Rule
from builder.store.database import Database
from builder.store.store import Record, Store
from tests.store.test_store_builds import build
from tests.store.test_store_open import a_step

FIRST, SECOND = Digest.of(b"first"), Digest.of(b"second")


def step(number: int, key: str) -> BuiltStep:
    return BuiltStep(number, "RUN", "run", "", 1, 1, 1, 1, "done", key, "", 0, (), (), (), "", "", "", "host", (), 0)


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A store whose last build of the place `aa` had two steps and one that changed nothing."""
    root = str(tmp_path / "store")
    with Store(root) as store:
        for name in ("first", "second"):
            a_step(store, name)
        store.put_record(Record("nothing", b"changed", None))
        packed, size = store.put_blob(b"packed")
        store.put_rendering(FIRST, "gzip", packed, size)
        # A failed step has none, and an older build does not count.
        keys = ("", "first", "second", "nothing", "first", "lost")
        store.put_build(build("aa", "/a", step(1, "never")))
        store.put_build(build("aa", "/a", *(step(number, key) for number, key in enumerate(keys))))
        store.put_build(build("bb", "/b", step(1, "other")))
    return root


class Counted:
    """How many questions the database was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.questions = 0
        for name in ("one", "all"):
            monkeypatch.setattr(Database, name, self._counting(getattr(Database, name)))

    def _counting(self, ask: Callable[..., object]) -> Callable[..., object]:
        def counting(database: Database, sql: str, *values: object) -> object:
            self.questions += 1
            return ask(database, sql, *values)

        return counting


def test_all_of_a_build_is_two_questions(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(root) as store:
        asked = {key: store.lookup(key) for key in ("first", "second", "nothing", "lost")}
        sizes, packed = store.layer_size(FIRST), store.rendering(FIRST, "gzip")
        assert [record is None for record in asked.values()] == [False, False, False, True] and packed is not None
    with Store(root) as store:
        counted = Counted(monkeypatch)
        store.expect_build("aa")
        assert counted.questions == 2
        assert {key: store.lookup(key) for key in ("first", "second", "nothing")} | {"lost": None} == asked
        assert counted.questions == 2
        assert store.layer_size(FIRST) == sizes
        assert counted.questions == 2
        store.expect_renderings([FIRST, SECOND], "gzip")
        assert counted.questions == 4
        assert store.rendering(FIRST, "gzip") == packed
        assert counted.questions == 4
        # What was not there is asked for.
        assert store.lookup("lost") is None and store.rendering(SECOND, "gzip") is None
        assert counted.questions == 6


def test_another_place_is_not_read(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(root) as store:
        counted = Counted(monkeypatch)
        store.expect_build("cc")
        assert counted.questions == 0
        assert store.lookup("first") is not None
        assert counted.questions == 1


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[2,[],[],[[]]]", b"[2,[],[],7]", b'[2,[],[],[["a",1,2,3,4,5,6,7,8,7]]]', b"\xff"]
)
def test_a_damaged_history_is_passed_over(root: str, text: bytes) -> None:
    folder = Path(root, "builds")
    (newest,) = sorted(name for name in os.listdir(folder) if "-aa-" in name)[-1:]
    (folder / newest).write_bytes(text)
    with Store(root) as store:
        store.expect_build("aa")
        assert store.lookup("first") is not None


def test_it_is_in_use_from_then_on(root: str) -> None:
    with Store(root) as store:
        store.expect_build("aa")
        with Store(root) as other:
            other.housekeeping().remove((Rule(nameless=True),))
        found = store.lookup("first")
        assert found is not None and found.diff_id == FIRST
        assert store.layer_index(FIRST) == b"index of first"


def test_a_layer_whose_files_are_gone_does_not_count(root: str) -> None:
    with Store(root) as store:
        store.expect_build("aa")
        os.unlink(f"{root}/index/{FIRST}")
        shutil.rmtree(f"{root}/snapshots")
        os.mkdir(f"{root}/snapshots")
        assert store.lookup("first") is None and store.lookup("second") is None


def test_what_was_put_meanwhile_counts(root: str) -> None:
    """As with --no-cache-filter: one stage makes it anew, and another one asks."""
    with Store(root) as store:
        store.expect_build("aa")
        store.expect_renderings([FIRST], "gzip")
        store.put_record(Record("first", b"anew", None), replace=True)
        found = store.lookup("first")
        assert found is not None and found.preimage == b"anew"
        other, size = store.put_blob(b"packed again")
        store.put_rendering(FIRST, "gzip", other, size)
        assert store.rendering(FIRST, "gzip") == (other, size)


def test_who_asks_again_is_told_what_is_there_by_then(root: str) -> None:
    with Store(root) as store:
        store.expect_build("aa")
        with Store(root) as other:
            other.put_record(Record("first", b"anew", None), replace=True)
            other.put_record(Record("second", b"anew", None), replace=True)
        before = store.lookup("first")
        assert before is not None and before.preimage != b"anew"
        after = store.lookup("first")
        assert after is not None and after.preimage == b"anew"
        # The first to put wins, not the first to read.
        assert store.put_record(Record("second", b"mine", None)).preimage == b"anew"
