"""Controllers of cgroups of version 2 for the groups below one: what has to be there first, and its end.

A group whose groups have controllers has no processes itself, but for the root ("no internal processes",
Documentation/admin-guide/cgroup-v2.rst). Where the builder is alone in the group that was delegated to it, it goes into a group
of its own beside those of its commands, and comes back at the end. Where others are in it, as the shell of a terminal's
session, the groups are made in the nearest group above that allows it: a slice of systemd's, or the machine's root.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "pybuild-"
"""What the names of all groups begin with that a builder makes."""


class Delegation:
    """Close it: then the group is as it was."""

    def __init__(self, *, may_move: bool) -> None:
        self._may_move = may_move
        self._enabled: list[tuple[str, str]] = []
        self._home: tuple[str, str] | None = None

    def place(self, own: str, top: str, wanted: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The folder whose groups can have limits, and which of these controllers they have: `own`, or the nearest one above it
        that has them all, up to `top`. Raises OSError, with the file that the kernel did not take in `own`."""
        ours, failure = self._offered(own, wanted), None
        if len(ours) == len(wanted):
            try:
                self.hand_down(own, ours)
                return own, ours
            except OSError as error:
                failure = error
        for folder in _above(own, top):
            theirs = self._offered(folder, wanted)
            # Who moves a process writes to the group that is above both, too.
            if len(theirs) < len(wanted) or not os.access(os.path.join(folder, "cgroup.procs"), os.W_OK, effective_ids=True):
                continue
            try:
                self.hand_down(folder, theirs)
            except OSError:
                continue  # What is told is what the builder's own group lacks.
            return folder, theirs
        if failure is not None:
            raise failure
        return own, ours

    def _offered(self, folder: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
        there = controllers(folder, "cgroup.controllers")
        return tuple(name for name in wanted if name in there)

    def hand_down(self, folder: str, names: tuple[str, ...]) -> None:
        """Give the groups in the folder these controllers. Raises OSError, with the file that the kernel did not take."""
        control = os.path.join(folder, "cgroup.subtree_control")
        # The kernel would let cpu and pids be handed down beside processes, and then take none into the groups below: those
        # would be of threads ("threads", there).
        if names and _crowded(folder):
            if not self._may_move or not _alone(folder):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), control)
            leaf = os.path.join(folder, f"{PREFIX}builder-{os.getpid()}")
            _make(leaf)
            self._home = folder, leaf
            write(os.path.join(leaf, "cgroup.procs"), "0")
        there = controllers(folder, "cgroup.subtree_control")
        missing = [name for name in names if name not in there]
        if not missing:
            return
        write(control, " ".join(f"+{name}" for name in missing))
        if self._home is not None:
            # Without the move they are left: others' groups may have come to need them.
            self._enabled += [(control, f"-{name}") for name in missing]

    def close(self) -> None:
        """Where another builder has come to need the controllers meanwhile, all is left to it: its groups would lose their
        limits. Raises OSError."""
        enabled, self._enabled = self._enabled, []
        if self._home is None:
            return
        (home, leaf), self._home = self._home, None
        if any(entry.is_dir() and entry.path != leaf for entry in os.scandir(home)):
            return
        for control, text in enabled:
            write(control, text)
        write(os.path.join(home, "cgroup.procs"), "0")
        os.rmdir(leaf)


def _above(own: str, top: str) -> Iterator[str]:
    """The folders above it, the nearest first, up to the root of the hierarchy."""
    while own != top and own.startswith(top.rstrip("/") + "/"):
        own = os.path.dirname(own)
        yield own


def _crowded(folder: str) -> bool:
    """Whether it has processes that keep controllers from its groups: the machine's root, which has no type, may have them."""
    return os.path.exists(os.path.join(folder, "cgroup.type")) and bool(read(os.path.join(folder, "cgroup.procs")).strip())


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o755)
    except OSError as error:
        error.filename = folder
        raise


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
