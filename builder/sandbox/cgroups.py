"""Control groups for commands that are limited: made before the command begins, and removed when it has ended.

A group is a folder `pybuild-...` under flock(2) in each hierarchy that the limits need: in the builder's own group, in one
above it (`delegation`), or in the one that the user names. The lock goes when the builder does, however it ends: the next
builder that limits something removes the groups of the dead. What else is changed of a hierarchy is undone at the end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress

from builder.errors import SandboxError
from builder.sandbox.delegation import PREFIX, Delegation, read, write
from builder.sandbox.hierarchies import PERIOD, CgroupLimits, hierarchies, kills_at_limit, writes
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from builder.sandbox.hierarchies import Hierarchy, Write

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATIENCE = 2.0
"""Seconds for the kernel to be done with the processes of a group whose last one has ended."""
_DELEGATE = "systemd-run --user --scope -p Delegate=yes pybuild ..."
_FLAGS = {"memory": "--memory", "cpu": "--cpus", "cpuset": "--cpuset-cpus", "pids": "--pids-limit"}


class Use(NamedTuple):
    """What a command used, as its groups have it."""

    oom_kills: int = 0
    """Processes that the kernel has killed since the memory was at its limit."""
    peak: int = 0
    """Bytes of memory at most, of all processes together; 0 where no group counts it."""
    refused: int = 0
    """Processes that it could not start since there were as many as it may have."""


class Groups:
    """Where the groups of a builder's commands are made. Close it: what it changed of its own group is undone.

    Raises SandboxError where a limit cannot be enforced, before anything runs: all is tried with a group that is removed again.
    """

    def __init__(self, limits: CgroupLimits) -> None:
        self.limits = limits
        self._delegation = Delegation(may_move=not limits.parent)
        try:
            self._places = self._find()
            for folder, _, _ in self._places:
                _sweep(folder)
            self.new().close()
        except BaseException:
            self.close()
            raise

    def new(self) -> Group:
        """Groups for one command."""
        group = Group()
        try:
            for folder, version, names in self._places:
                group.add(folder, version, [each for name in names for each in writes(self.limits, version, name)])
        except OSError as error:
            group.close()
            told = [name for prefix, name in _FLAGS.items() if f"/{prefix}." in str(error.filename)]
            flag = (told or [_FLAGS[name] for name in self.limits.controllers()] or ["--cgroup-parent"])[0]
            raise SandboxError(
                f"{flag} cannot be enforced: {error.filename}: {error.strerror}", hint=_what_to_do(error, self.limits)
            ) from None
        except BaseException:
            group.close()
            raise
        return group

    def __enter__(self) -> Groups:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._delegation.close()

    def _find(self) -> list[tuple[str, int, tuple[str, ...]]]:
        """The folder in which groups are made, its version, and the controllers that are wanted there."""
        with open("/proc/self/cgroup", "rb") as groups, open("/proc/self/mountinfo", "rb") as mounts:
            known = hierarchies(groups.read(), mounts.read())
        wanted = self.limits.controllers()
        found: list[tuple[str, int, tuple[str, ...]]] = []
        # Those of version 1 are in no hierarchy of version 2, which takes what is left.
        for one in sorted(known, key=lambda one: one.version):
            folder = self._parent(one)
            if folder is None:
                continue
            if one.version == 1:
                ours = tuple(name for name in wanted if name in one.controllers)
            else:
                taken = [name for _, _, names in found for name in names]
                folder, ours = self._second(one, folder, tuple(name for name in wanted if name not in taken))
            if ours or self.limits.parent:
                found.append((folder, one.version, ours))
        if self.limits.parent and known and not any(map(self._parent, known)):
            raise SandboxError(
                f"there is no cgroup '{self.limits.parent}' here, which --cgroup-parent names",
                hint="make it first: mkdir below /sys/fs/cgroup, or systemctl start for a slice",
            )
        if lacking := [name for name in wanted if not any(name in names for _, _, names in found)]:
            raise self._lacking(lacking[0], known)
        return found

    def _parent(self, hierarchy: Hierarchy) -> str | None:
        if not self.limits.parent:
            return hierarchy.own if os.path.isdir(hierarchy.own) else None
        folder = os.path.join(hierarchy.mount, self.limits.parent.lstrip("/"))
        return folder if os.path.isdir(folder) else None

    def _lacking(self, controller: str, known: Sequence[Hierarchy]) -> SandboxError:
        flag = _FLAGS[controller]
        if not known:
            return SandboxError(f"{flag} cannot be enforced: no cgroups are mounted here", hint=f"leave {flag} out")
        where = f"in the cgroup '{self.limits.parent}'" if self.limits.parent else "in the builder's own cgroup"
        return SandboxError(
            f"{flag} cannot be enforced: there is no controller '{controller}' {where}",
            hint=f"leave {flag} out, or start the builder in a cgroup that is its own: {_DELEGATE}",
        )

    def _second(self, hierarchy: Hierarchy, folder: str, wanted: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """Where groups are made in version 2, and which of the controllers they have there."""
        top = folder if self.limits.parent else hierarchy.mount
        try:
            return self._delegation.place(folder, top, wanted)
        except OSError as error:
            raise SandboxError(
                f"{_FLAGS[wanted[0]]} cannot be enforced: {error.filename}: {error.strerror}",
                hint=_what_to_do(error, self.limits),
            ) from None


class Group:
    """The groups of one command."""

    def __init__(self) -> None:
        self._folders: list[tuple[str, int, int]] = []
        self.procs: list[int] = []
        """Descriptors: who writes 0 to them is in the groups."""

    def add(self, parent: str, version: int, wanted: Sequence[Write]) -> None:
        """One more, with these limits. Raises OSError."""
        path, lock = _make(parent)
        self._folders.append((path, version, lock))
        kind = os.path.join(path, "cgroup.type")
        if version == 2 and read(kind) != b"domain\n":
            # It takes no process, below a group of threads.
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), kind)
        for each in wanted:
            value = each.value
            if not value:
                with open(os.path.join(parent, each.file), encoding="utf-8") as file:
                    value = file.read().strip()
            try:
                write(os.path.join(path, each.file), value)
            except OSError:
                if not each.optional:
                    raise
        self.procs.append(os.open(os.path.join(path, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC))

    def use(self) -> Use:
        """Of the command, which has ended."""
        kills = peak = refused = 0
        for path, version, _ in self._folders:
            events, name = (
                ("memory.oom_control", "memory.max_usage_in_bytes") if version == 1 else ("memory.events", "memory.peak")
            )
            # Each is in the group of one controller; that of the peak is not in all kernels of version 2.
            with suppress(FileNotFoundError):
                reached = read(os.path.join(path, "memory.failcnt")) if version == 1 else b""
                kills += kills_at_limit(read(os.path.join(path, events)), reached)
            with suppress(FileNotFoundError):
                peak = max(peak, int(read(os.path.join(path, name))))
            with suppress(FileNotFoundError):
                # "max N" (the kernel's admin-guide, "PID"; Linux 4.3), the same in both versions.
                refused += int(read(os.path.join(path, "pids.events")).split()[1])
        return Use(kills, peak, refused)

    def close(self) -> None:
        """Remove the groups; what still runs in them is killed."""
        for fd in self.procs:
            os.close(fd)
        self.procs = []
        folders, self._folders = self._folders, []
        failure = None
        for path, _, lock in folders:
            try:
                _remove(path)
            except OSError as error:
                # The others go all the same; the next builder sweeps this one.
                failure = failure or error
            finally:
                os.close(lock)
        if failure is not None:
            raise failure


def enforceable() -> tuple[tuple[str, str, str], ...]:
    """Each flag of a limit that needs a cgroup, with why it cannot be enforced here, and what to do; both are empty where it
    can. All are tried."""
    tried = (
        CgroupLimits(memory=64 << 20),
        CgroupLimits(cpu_quota=PERIOD),
        CgroupLimits(pids=64),
    )
    found = []
    for limits in tried:
        flag = _FLAGS[limits.controllers()[0]]
        try:
            Groups(limits).close()
        except SandboxError as error:
            found.append((flag, error.message.removeprefix(f"{flag} cannot be enforced: "), error.hint or ""))
        else:
            found.append((flag, "", ""))
    return tuple(found)


def _make(parent: str) -> tuple[str, int]:
    """A new group and its lock."""
    while True:
        path = os.path.join(parent, f"{PREFIX}{os.urandom(6).hex()}")
        os.mkdir(path, 0o755)
        try:
            lock = os.open(path, _FOLDER)
        except FileNotFoundError:
            continue  # Another builder took it for a dead one's: it had no lock yet.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.isdir(path):
                return path, lock
        except BlockingIOError:
            pass  # As above, and it is just removing it.
        os.close(lock)


def _remove(path: str) -> None:
    """Raises OSError where the kernel does not let it go within a while."""
    with suppress(FileNotFoundError):
        write(os.path.join(path, "cgroup.kill"), "1")
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise
            time.sleep(0.002)
        else:
            return


def _sweep(parent: str) -> None:
    """Remove the groups that dead builders left."""
    for name in os.listdir(parent):
        if not name.startswith(PREFIX):
            continue
        path = os.path.join(parent, name)
        try:
            lock = os.open(path, _FOLDER)
        except (FileNotFoundError, PermissionError):
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Not empty: it is another user's, or the builder's leaf, which has no lock and a process.
            os.rmdir(path)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EBUSY, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
                raise
        finally:
            os.close(lock)


def _what_to_do(error: OSError, limits: CgroupLimits) -> str:
    if limits.parent:
        return "the cgroup of --cgroup-parent must be the builder's to change, and have no processes of its own"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOENT):
        return f"leave the limit out, or start the builder in a cgroup that is its own: {_DELEGATE}"
    return "check the value: the kernel does not take it"
