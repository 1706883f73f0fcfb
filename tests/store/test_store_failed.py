"""What failed steps left: kept in bounds, found by their key, removed unless somebody looks into them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from builder.store.failed import MOST
from builder.store.store import Store


def keep(store: Store, key: str, text: str) -> None:
    with store.scratch() as scratch:
        upper = os.path.join(scratch, "upper")
        os.mkdir(upper)
        Path(upper, "file").write_text(text)
        store.keep_failed(upper, key, f"RUN {text}")


def folders(store: Store) -> list[str]:
    return sorted(os.listdir(os.path.join(store.root, "failed")))


def test_what_a_failed_step_left_is_found_by_its_key(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        assert store.failed_steps() == []
        assert store.find_failed("aa") is None
        keep(store, "aa", "one")
        keep(store, "bb", "two")
        found = store.find_failed("aa")
        assert found is not None
        assert (found.key, found.name) == ("aa", "RUN one")
        assert Path(store.failed_path(found), "file").read_text() == "one"
        assert [step.key for step in store.failed_steps()] == ["bb", "aa"]


def test_a_step_that_fails_again_replaces_what_it_left(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        keep(store, "aa", "one")
        keep(store, "aa", "two")
        (found,) = store.failed_steps()
        assert Path(store.failed_path(found), "file").read_text() == "two"
        assert folders(store) == [str(found.id)]


def test_the_oldest_go(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        for number in range(MOST + 3):
            keep(store, str(number), "text")
        assert [step.key for step in store.failed_steps()] == [str(n) for n in range(MOST + 2, 2, -1)]
        assert len(folders(store)) == MOST
        assert os.listdir(tmp_path / "store" / "locks") == []


def test_nothing_is_removed_that_somebody_looks_into(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store, Store(str(tmp_path / "store")) as other:
        keep(store, "aa", "one")
        (found,) = store.failed_steps()
        with other.failed_in_use(found), other.failed_in_use(found):
            assert not store.remove_failed(found)
            assert Path(store.failed_path(found), "file").read_text() == "one"
        assert store.remove_failed(found)
        assert store.failed_steps() == []
        assert folders(store) == []
        assert store.remove_failed(found)


def test_recovery_removes_what_no_row_names_and_what_another_boot_left(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    with Store(root, boot_id="one") as store:
        keep(store, "aa", "synced")
        store.sync()
        keep(store, "bb", "lost")
    os.mkdir(os.path.join(root, "failed", "77"))
    with Store(root, boot_id="two") as store:
        assert [step.key for step in store.failed_steps()] == ["aa"]
        assert folders(store) == [str(store.failed_steps()[0].id)]
        os.rename(store.failed_path(store.failed_steps()[0]), os.path.join(root, "elsewhere"))
        assert store.failed_steps() == []
    with Store(root, boot_id="three"):
        pass
    with sqlite3.connect(os.path.join(root, "db.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM failed").fetchone() == (0,)
    database.close()
