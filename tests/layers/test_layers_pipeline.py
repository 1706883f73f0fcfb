"""What goes through a pipeline comes out whole and in order, and what fails in its thread fails where the pieces come from."""

from __future__ import annotations

import _thread
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.layers.pipeline import Pipeline

LARGE = bytes(1 << 20)


@given(st.lists(st.integers(0, 3 << 20), max_size=12))
def test_pieces_come_out_in_order(sizes: list[int]) -> None:
    pieces = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    found: list[bytes] = []
    with Pipeline(found.append) as pipeline:
        for piece in pieces:
            pipeline.put(piece)
    assert found == pieces


def test_much_is_done_on_another_thread_and_little_is_not() -> None:
    threads: list[int] = []
    with Pipeline(lambda _: threads.append(threading.get_ident())) as pipeline:
        for _ in range(12):
            pipeline.put(LARGE)
    own = threading.get_ident()
    assert threads[:4] == [own] * 4
    assert len(set(threads[4:])) == 1
    assert threads[-1] != own


@pytest.mark.parametrize("at", [0, 3, 5, 11])
def test_an_error_reaches_who_puts(at: int) -> None:
    count = 0

    def fails(_: bytes) -> None:
        nonlocal count
        count += 1
        if count > at:
            raise OSError("full")

    before = threading.active_count()
    with pytest.raises(OSError, match="full"), Pipeline(fails) as pipeline:
        for _ in range(12):
            pipeline.put(LARGE)
    assert count == at + 1
    assert threading.active_count() == before


def test_who_ends_early_waits_for_one_piece_alone() -> None:
    at_it, go = threading.Event(), threading.Event()
    found: list[bytes] = []

    def slow(data: bytes) -> None:
        if len(found) == 4:
            at_it.set()
            assert go.wait(10)
        found.append(data)

    with pytest.raises(KeyboardInterrupt), Pipeline(slow) as pipeline:
        for _ in range(9):
            pipeline.put(LARGE)
        assert at_it.wait(10)
        threading.Timer(0.1, go.set).start()
        raise KeyboardInterrupt
    # The four that were done at once, and the one at work; what waited is dropped.
    assert len(found) == 5


def test_who_is_interrupted_at_the_end_waits_for_one_piece_alone() -> None:
    """What the thread writes to is closed afterwards."""
    found: list[bytes] = []

    def slow(data: bytes) -> None:
        if len(found) == 4:
            time.sleep(0.05)
            _thread.interrupt_main()
            time.sleep(0.5)
        found.append(data)

    with pytest.raises(KeyboardInterrupt), Pipeline(slow) as pipeline:
        for _ in range(9):
            pipeline.put(LARGE)
    assert len(found) == 5


def without_threads() -> None:
    """Room for much, but for no stack of a thread."""
    threading.stack_size(256 << 20)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with pytest.raises(RuntimeError):
        _thread.start_new_thread(time.sleep, (0,))


def main() -> None:
    """In a process of its own, where no thread can be started."""
    from builder.layers.compression import GzipStream

    without_threads()
    found = []
    with Pipeline(lambda data: found.append(len(data))) as pipeline:
        for _ in range(12):
            pipeline.put(LARGE)
    assert found == [len(LARGE)] * 12
    packed = []
    for threads in (1, 3):
        parts: list[bytes] = []
        with GzipStream(parts.append, threads=threads) as gzip:
            for _ in range(5):
                gzip.add(LARGE)
        packed.append(b"".join(parts))
    assert packed[0] == packed[1]


def test_where_no_thread_is_to_be_had_all_is_done_without() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests.layers.test_layers_pipeline import main; main()"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
