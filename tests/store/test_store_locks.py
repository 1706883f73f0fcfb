"""Named locks: between threads and processes, told who holds them, gone with their holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from builder.store.store import Store

HOLD = """
import sys, time
from builder.store.store import Store
with Store(sys.argv[1]) as store, store.lock("abc", "the other"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)


def test_a_lock_keeps_others_out_and_says_who_has_it(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with Store(str(tmp_path / "store")) as store:
        lock = store.lock("abc", "me")
        assert not lock.try_acquire()
        assert lock.held_by() == "the other"
        assert store.lock("abd", "me").try_acquire()
        seen = []

        def waiting(holder: str) -> None:
            seen.append(holder)
            if len(seen) == 3:
                end(other)

        lock.acquire(waiting)
        assert set(seen) == {"the other"}
        assert lock.held_by() == "me"
        lock.release()
        lock.release()
        assert lock.held_by() == ""


def test_what_waiting_raises_ends_the_wait(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    def waiting(holder: str) -> None:
        raise TimeoutError(holder)

    with Store(str(tmp_path / "store")) as store, pytest.raises(TimeoutError, match="the other"):
        store.lock("abc", "me").acquire(waiting)
    end(other)


def test_no_file_is_left_and_no_two_hold_it_at_once(tmp_path: Path) -> None:
    """Threads that come and go, each with a file description of its own."""
    inside = 0
    most = 0

    def work(store: Store, number: int) -> None:
        nonlocal inside, most
        for _ in range(20):
            with store.lock("name", f"thread {number}"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    with Store(str(tmp_path / "store")) as store:
        threads = [threading.Thread(target=work, args=(store, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 1
        assert os.listdir(f"{store.root}/locks") == []


def test_several_may_share(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        first, second = (store.lock("name", "", shared=True) for _ in range(2))
        alone = store.lock("name", "alone")
        assert first.try_acquire() and second.try_acquire()
        assert not alone.try_acquire()
        first.release()
        assert not alone.try_acquire()
        second.release()
        assert alone.try_acquire()
        assert not first.try_acquire()
        alone.release()
        assert os.listdir(f"{store.root}/locks") == []


def test_who_died_is_not_named_for_those_who_share(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        os.mkdir(f"{store.root}/locks")
        # As a process leaves it that is killed after this one opened the store and looked for what is left.
        with open(f"{store.root}/locks/abc", "w") as file:
            file.write("the other")
        with store.lock("abc", "", shared=True):
            assert store.lock("abc", "me").held_by() == ""
