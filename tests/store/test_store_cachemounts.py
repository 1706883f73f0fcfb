"""Cache mounts: which folder a step gets while others use the cache, in threads and processes, and what a crash leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.store.cachemounts import CacheMountUse
from builder.store.store import Store

HOLD = """
import sys, time
from builder.store.store import Store
with Store(sys.argv[1]) as store:
    use = store.cache_mount("/c", "", sys.argv[2], "the other")
    use.acquire(lambda folder: None)
    print(use.number, flush=True)
    time.sleep(60)
"""


def empty(folder: str) -> None:
    os.chmod(folder, 0o755)


def taken(store: Store, sharing: str, *, id: str = "/c", base: str = "") -> CacheMountUse:
    use = store.cache_mount(id, base, sharing, f"a {sharing} one")  # type: ignore[arg-type]  # a text of the test
    use.acquire(empty)
    return use


def holder(store: Store, sharing: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, store.root, sharing], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=10)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_a_cache_is_its_id_and_what_it_begins_with(store: Store) -> None:
    def fill(folder: str) -> None:
        Path(folder, "file").write_text("content")
        os.chmod(folder, 0o750)

    use = store.cache_mount("id", "b", "shared", "me")
    use.acquire(fill)
    assert Path(use.path, "file").read_text() == "content"
    assert os.stat(use.path).st_mode & 0o7777 == 0o750
    Path(use.path, "more").write_text("kept")
    use.release()
    use.release()
    again = taken(store, "locked", id="id", base="b")
    assert (again.number, sorted(os.listdir(again.path))) == (use.number, ["file", "more"])
    assert taken(store, "shared", id="id").number != use.number
    assert taken(store, "shared", id="i", base="db").number != use.number


@pytest.mark.parametrize(
    ("held", "wanted", "same"),
    [("shared", "shared", True), ("shared", "private", False), ("private", "shared", False), ("private", "private", False)],
)
def test_which_folder_while_another_process_uses_one(store: Store, held: str, wanted: str, same: bool) -> None:
    process, number = holder(store, held)
    use = taken(store, wanted)
    assert (use.number == number) is same
    use.release()
    killed(process)
    # What nobody uses is taken first: there is no third one.
    again = taken(store, wanted)
    assert (again.number, len(store.cache_mounts())) == (number, 1 if same else 2)


@pytest.mark.parametrize("held", ["shared", "private", "locked"])
def test_locked_waits_and_says_for_whom(store: Store, held: str) -> None:
    process, number = holder(store, held)
    told: list[str] = []

    def waiting(name: str) -> None:
        told.append(name)
        if len(told) == 3:
            killed(process)

    use = store.cache_mount("/c", "", "locked", "me")
    use.acquire(empty, waiting)
    # Those who share do not say who they are: there may be several.
    assert (use.number, set(told[:3])) == (number, {"" if held == "shared" else "the other"})


def test_what_waiting_raises_ends_the_wait(store: Store) -> None:
    process, _ = holder(store, "locked")

    def waiting(name: str) -> None:
        raise TimeoutError(name)

    with pytest.raises(TimeoutError, match="the other"):
        store.cache_mount("/c", "", "locked", "me").acquire(empty, waiting)
    killed(process)


def test_shared_by_many_at_once_is_one_folder(store: Store) -> None:
    numbers: set[int] = set()

    def work() -> None:
        for _ in range(10):
            use = taken(store, "shared")
            numbers.add(use.number)
            use.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 1


def test_locked_is_one_at_a_time(store: Store) -> None:
    inside: list[int] = []
    seen: set[int] = set()

    def work() -> None:
        for _ in range(5):
            use = taken(store, "locked")
            inside.append(1)
            seen.add(len(inside))
            inside.pop()
            use.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen, len(store.cache_mounts())) == ({1}, 1)


def test_listing_and_removing(store: Store) -> None:
    assert store.cache_mounts() == []
    use = taken(store, "shared", id="ü", base="b")
    Path(use.path, "folder").mkdir()
    Path(use.path, "folder", "file").write_bytes(b"x" * 10000)
    os.link(Path(use.path, "folder", "file"), Path(use.path, "twice"))
    (record,) = store.cache_mounts()
    assert record[1:3] == ("ü", "b")
    assert record.path == use.path
    du = subprocess.run(["du", "-s", "-B1", record.path], capture_output=True, text=True, check=True).stdout
    assert store.cache_mount_size(record) == int(du.split()[0])
    assert not store.remove_cache_mount(record)
    assert os.path.exists(f"{use.path}/twice")
    use.release()
    assert store.remove_cache_mount(record)
    assert (store.cache_mounts(), os.path.exists(use.path)) == ([], False)
    # Once more is harmless.
    assert store.remove_cache_mount(record)


def test_what_a_crash_leaves(store: Store) -> None:
    def fail(folder: str) -> None:
        raise KeyboardInterrupt

    use = store.cache_mount("/c", "", "locked", "me")
    with pytest.raises(KeyboardInterrupt):
        use.acquire(fail)
    # A row without a folder counts as nothing, and is the next one's.
    assert store.cache_mounts() == []
    number = taken(store, "locked").number
    assert [record.number for record in store.cache_mounts()] == [number]
    # Folders without a row: the database was lost.
    lost = Path(store.root, "mounts", str(number + 1))
    lost.mkdir()
    (lost / "file").write_text("of somebody")
    other = taken(store, "private", id="/other")
    assert (other.number, os.listdir(other.path)) == (number + 2, [])
    assert len(store.cache_mounts()) == 2
    assert not lost.exists()
