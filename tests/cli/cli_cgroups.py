"""Which limits the tests can count on: found without pybuild, by making a cgroup where the kernel says that ours is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def home(controller: str) -> Path | None:
    """The folder of this process's group in the controller's own hierarchy of version 1, where a group can be made in it; None
    on a machine where that is elsewhere or not allowed."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller not in names.split(","):
            continue
        folder = Path(f"/sys/fs/cgroup/{names}{path}")
        tried = folder / f"tests-{os.getpid()}"
        with suppress(OSError):
            tried.mkdir()
            tried.rmdir()
            return folder
    return None


def ours(controller: str) -> list[str]:
    """The groups of pybuild's that there are beside those of other builders at the moment."""
    folder = home(controller)
    return [] if folder is None else [name for name in os.listdir(folder) if name.startswith("pybuild-")]
