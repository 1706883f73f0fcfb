"""Where the control groups of a process are, read from what /proc says of it; and what a limit is in either version. Pure.

cgroups(7); cgroup v1: Documentation/admin-guide/cgroup-v1 of Linux, v2: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CONTROLLERS = ("memory", "cpu", "cpuset", "pids")
"""Those that a limit of ours needs."""
PERIOD = 100_000
"""Microseconds in which a quota of processor time is spent, where nobody says otherwise: the kernel's and Docker's."""


class CgroupLimits(NamedTuple):
    """Limits of a command and of all that it starts, together. 0 and the empty text stand for no limit."""

    memory: int = 0
    """Bytes, the page cache of what it reads and writes included."""
    memory_swap: int = 0
    """Bytes of memory and swap together, -1 for as much swap as there is. 0 for twice the memory, as Docker has it."""
    cpu_period: int = 0
    """Microseconds."""
    cpu_quota: int = 0
    """Microseconds of processor time in each period, of all processors together."""
    cpu_shares: int = 0
    """Weight beside other groups, 2 to 262144; 1024 is what each has without it."""
    cpuset_cpus: str = ""
    """As the kernel takes it: 0-3,5."""
    cpuset_mems: str = ""
    pids: int = 0
    parent: str = ""
    """The group in which the command's own is made, as a path from the root of the hierarchy; empty for the builder's."""

    def controllers(self) -> tuple[str, ...]:
        wanted = {
            "memory": self.memory,
            "cpu": self.cpu_quota or self.cpu_shares,
            "cpuset": self.cpuset_cpus or self.cpuset_mems,
            "pids": self.pids,
        }
        return tuple(name for name in CONTROLLERS if wanted[name])


class Hierarchy(NamedTuple):
    """A mounted hierarchy of cgroups."""

    version: int
    controllers: frozenset[str]
    """Of version 1; those of version 2 are in the file cgroup.controllers of each group."""
    mount: str
    """Where it is mounted: the path of the group that is its root here."""
    own: str
    """The path of this process's group, in the file system."""


class Write(NamedTuple):
    """A file of a group, and what is written to it."""

    file: str
    value: str
    """Empty for what the parent group has."""
    optional: bool = False
    """A kernel without the file, or one that does not take it, is as good."""


def hierarchies(cgroup: bytes, mountinfo: bytes) -> tuple[Hierarchy, ...]:
    """`cgroup` and `mountinfo` are the texts of those names in /proc/self. Hierarchies in which the process's own group is
    not to be seen, as behind the mounts of a container, are left out."""
    found: dict[tuple[str, ...], Hierarchy] = {}
    groups = dict(_groups(cgroup))
    for root, place, kind, names in _mounts(mountinfo):
        for controllers, path in groups.items():
            version = 1 if controllers else 2
            same = kind == "cgroup2" if version == 2 else kind == "cgroup" and set(controllers) <= names
            below = _below(path, root)
            if same and below is not None and controllers not in found:
                found[controllers] = Hierarchy(version, frozenset(controllers), place, (place + below).rstrip("/") or "/")
    return tuple(found.values())


def _groups(cgroup: bytes) -> Iterator[tuple[tuple[str, ...], str]]:
    """The controllers of each hierarchy (none for version 2), and the path of the group in it."""
    for line in cgroup.splitlines():
        _, _, rest = line.partition(b":")
        names, colon, path = rest.partition(b":")
        if colon:
            yield tuple(_text(names).split(",") if names else ()), _text(path)


def _mounts(mountinfo: bytes) -> Iterator[tuple[str, str, str, set[str]]]:
    """Root, mount point, type and the options of the file system, of each mount of cgroups (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(b" - ")
        fields, told = before.split(b" "), after.split(b" ")
        if len(fields) > 4 and len(told) > 2 and told[0] in (b"cgroup", b"cgroup2"):
            yield _path(fields[3]), _path(fields[4]), _text(told[0]), set(_text(told[2]).split(","))


def _below(path: str, root: str) -> str | None:
    """The rest of a group's path below the root of a mount; None where it is not below it."""
    if "/.." in path:
        # It lies outside of the cgroup namespace.
        return None
    if root == "/":
        return path
    return path[len(root) :] if path == root or path.startswith(root + "/") else None


def _path(field: bytes) -> str:
    """Spaces and the like are octal there."""
    head, *parts = field.split(b"\\")
    return _text(head + b"".join(_character(part) for part in parts))


def _character(part: bytes) -> bytes:
    digits = part[:3]
    if len(digits) == 3 and not digits.strip(b"01234567") and int(digits, 8) < 256:
        return bytes([int(digits, 8)]) + part[3:]
    return b"\\" + part


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def writes(limits: CgroupLimits, version: int, controller: str) -> tuple[Write, ...]:
    """What a controller's limits are, in the order in which the kernel takes them."""
    return tuple(_first(limits, controller) if version == 1 else _second(limits, controller))


def _first(limits: CgroupLimits, controller: str) -> Iterator[Write]:
    match controller:
        case "memory":
            yield Write("memory.limit_in_bytes", str(limits.memory))
            both, optional = _with_swap(limits)
            yield Write("memory.memsw.limit_in_bytes", str(both), optional)
        case "cpu":
            if limits.cpu_quota:
                yield Write("cpu.cfs_period_us", str(limits.cpu_period or PERIOD))
                yield Write("cpu.cfs_quota_us", str(limits.cpu_quota))
            if limits.cpu_shares:
                yield Write("cpu.shares", str(limits.cpu_shares))
        case "cpuset":
            # A new group has neither, and takes no process without both (cpuset(7)).
            yield Write("cpuset.cpus", limits.cpuset_cpus)
            yield Write("cpuset.mems", limits.cpuset_mems)
        case "pids":
            yield Write("pids.max", str(limits.pids))


def _second(limits: CgroupLimits, controller: str) -> Iterator[Write]:
    match controller:
        case "memory":
            yield Write("memory.max", str(limits.memory))
            both, optional = _with_swap(limits)
            yield Write("memory.swap.max", "max" if both < 0 else str(both - limits.memory), optional)
        case "cpu":
            if limits.cpu_quota:
                yield Write("cpu.max", f"{limits.cpu_quota} {limits.cpu_period or PERIOD}")
            if limits.cpu_shares:
                # What every group has is 1024 in the first version and 100 in this one.
                yield Write("cpu.weight", str(min(max(limits.cpu_shares * 100 // 1024, 1), 10_000)))
        case "cpuset":
            if limits.cpuset_cpus:
                yield Write("cpuset.cpus", limits.cpuset_cpus)
            if limits.cpuset_mems:
                yield Write("cpuset.mems", limits.cpuset_mems)
        case "pids":
            yield Write("pids.max", str(limits.pids))


def _with_swap(limits: CgroupLimits) -> tuple[int, bool]:
    """Memory and swap together, and whether nobody asked for it: kernels may do without (swapaccount=0)."""
    return limits.memory_swap or 2 * limits.memory, limits.memory_swap == 0


def kills_at_limit(events: bytes, failures: bytes = b"") -> int:
    """Processes that were killed because the group's own limit was reached; none where that never was: then the whole machine
    was short of memory, and chose one of these (cgroup-v2.rst, "memory.events"). `failures` is version 1's memory.failcnt."""
    reached = int(failures or 0) if failures else counter(events, b"oom")
    return counter(events, b"oom_kill") if reached else 0


def counter(text: bytes, name: bytes) -> int:
    """A number of a file with a name and a number a line, as memory.events; 0 where it is not."""
    for line in text.splitlines():
        key, _, value = line.partition(b" ")
        if key == name and value.isdigit():
            return int(value)
    return 0
