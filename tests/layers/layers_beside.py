"""Processes beside this one, for tests: that they are asked from their start on, and seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.layers import beside


def children() -> list[str]:
    tasks = Path("/proc/self/task")
    return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def ready(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From its start on every file is asked of the process; the pids of those that were started."""
    started: list[int] = []
    spawn = beside._spawn

    def waiting(requests: int, answers: int, program: str, words: tuple[str, ...], hand_on: Callable[[], object] | None) -> int:
        started.append(spawn(requests, answers, program, words, hand_on))
        return started[-1]

    def is_ready(process: beside.Beside) -> bool:
        os.set_blocking(process._answers, True)
        return unpatched(process)

    unpatched = beside.Beside.is_ready
    monkeypatch.setattr(beside, "_spawn", waiting)
    monkeypatch.setattr(beside.Beside, "is_ready", is_ready)
    return started
