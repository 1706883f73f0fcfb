"""What goes through a pipeline comes out whole and in order, and what fails in its thread fails where the pieces come from."""

from __future__ import annotations

import threading

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
