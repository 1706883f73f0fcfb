"""Controllers of cgroups of version 2 for the groups below one: what has to be there first, and its end.

A group whose groups have controllers has no processes itself, but for the root ("no internal processes",
Documentation/admin-guide/cgroup-v2.rst). Where the builder is alone in the group that was delegated to it, it goes into a group
of its own beside those of its commands, and comes back at the end.
"""

from __future__ import annotations

import errno
import os

PREFIX = "pybuild-"
"""What the names of all groups begin with that a builder makes."""


class Delegation:
    """Close it: then the group is as it was."""

    def __init__(self, *, may_move: bool) -> None:
        self._may_move = may_move
        self._enabled: list[tuple[str, str]] = []
        self._home: tuple[str, str] | None = None

    def hand_down(self, folder: str, names: tuple[str, ...]) -> None:
        """Give the groups in the folder these controllers. Raises OSError, with the file that the kernel did not take."""
        there = controllers(folder, "cgroup.subtree_control")
        missing = [name for name in names if name not in there]
        if not missing:
            return
        control = os.path.join(folder, "cgroup.subtree_control")
        text = " ".join(f"+{name}" for name in missing)
        try:
            write(control, text)
        except OSError as error:
            if error.errno != errno.EBUSY or not self._may_move or not _alone(folder):
                raise
            leaf = os.path.join(folder, f"{PREFIX}builder-{os.getpid()}")
            os.mkdir(leaf)
            self._home = folder, leaf
            write(os.path.join(leaf, "cgroup.procs"), "0")
            write(control, text)
            # Without the move they are left: others' groups may have come to need them.
            self._enabled += [(control, f"-{name}") for name in missing]

    def close(self) -> None:
        """Raises OSError, as where another's group has come to be in it meanwhile."""
        enabled, self._enabled = self._enabled, []
        for control, text in enabled:
            write(control, text)
        if self._home is None:
            return
        (home, leaf), self._home = self._home, None
        write(os.path.join(home, "cgroup.procs"), "0")
        os.rmdir(leaf)


def _alone(folder: str) -> bool:
    return read(os.path.join(folder, "cgroup.procs")).split() == [str(os.getpid()).encode()]


def controllers(folder: str, file: str) -> frozenset[str]:
    return frozenset(read(os.path.join(folder, file)).decode("ascii").split())


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def write(path: str, text: str) -> None:
    """In one write(2): the kernel takes each as a whole. The path is in the error."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode("ascii", "surrogateescape"))
        finally:
            os.close(fd)
    except OSError as error:
        error.filename = path
        raise
