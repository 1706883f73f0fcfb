"""Which limits the tests can count on: found without pybuild, by making a cgroup where the kernel says that it can be made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Home(NamedTuple):
    """Where a builder makes groups with a controller."""

    folder: Path
    version: int
    top: Path
    """The root of the hierarchy."""


def home(controller: str) -> Home | None:
    """In version 1 this process's group, in version 2 the nearest one whose groups have the controller; None on a machine where
    that is elsewhere or not allowed."""
    for place in _candidates(controller):
        tried = place.folder / f"tests-{os.getpid()}"
        with suppress(OSError):
            tried.mkdir()
            tried.rmdir()
            return place
    return None


def _candidates(controller: str) -> Iterator[Home]:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            top = Path(f"/sys/fs/cgroup/{names}")
            yield Home(Path(f"{top}{path}"), 1, top)
        elif not names:
            top = Path("/sys/fs/cgroup")
            folder = Path(f"{top}{path}")
            for above in (folder, *folder.parents):
                control = above / "cgroup.subtree_control"
                if control.is_file() and controller in control.read_text().split():
                    yield Home(above, 2, top)
