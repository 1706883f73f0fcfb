"""What the sandbox's tests share: a room to run in, and a launcher whose end leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_room import Room, mounts_below

from builder.sandbox.launcher import Launcher


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(str(tmp_path))


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    with Launcher() as launcher:
        yield launcher
    assert mounts_below(str(tmp_path)) == []
