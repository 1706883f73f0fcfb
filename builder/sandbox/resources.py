"""What a sandbox may use at most, as values, and whether this builder can see to it. Pure but for `require`."""

from __future__ import annotations

from builder.errors import SandboxError
from builder.sandbox.hierarchies import CgroupLimits
from builder.sandbox.limits import LIMITS, UNLIMITED
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox.cgroups import Groups

Ulimit = tuple[str, int, int]
"""Docker's name, soft and hard; -1 for no limit. Units are those of setrlimit(2): bytes, seconds, or a number of things."""

NUMBERS = {
    "core": 4,
    "cpu": 0,
    "data": 2,
    "fsize": 1,
    "locks": 10,
    "memlock": 8,
    "msgqueue": 12,
    "nice": 13,
    "nofile": 7,
    "nproc": 6,
    "rss": 5,
    "rtprio": 14,
    "rttime": 15,
    "sigpending": 11,
    "stack": 3,
}
"""The names that Docker takes, and the kernel's numbers (asm-generic/resource.h)."""

_SYS_RESOURCE = 24


class Limits(NamedTuple):
    """All that a user may limit of a command; what is not set is not limited beyond what every command has."""

    ulimits: tuple[Ulimit, ...] = ()
    """In the order of their names, each once."""
    cgroup: CgroupLimits = CgroupLimits()


def numbered(ulimits: tuple[Ulimit, ...]) -> tuple[tuple[int, int, int], ...]:
    """As setrlimit(2) takes them: number, soft, hard."""
    return tuple((NUMBERS[name], soft & UNLIMITED, hard & UNLIMITED) for name, soft, hard in ulimits)


def require(limits: Limits, rung: str | None) -> None:
    """Raises SandboxError for a limit that this builder cannot give, before anything runs. A few reads of /proc, and only
    where there are limits."""
    if not limits.ulimits:
        return
    import resource

    for name, _, hard in limits.ulimits:
        if name == "locks" and rung == "single-uid":
            # It is where the identity of a process is noted there (`identities`).
            raise SandboxError(
                "--ulimit locks: it cannot be set with --isolation=single-uid, which has a use of its own for it",
                hint="leave it out: Linux has not looked at it since 2.4.25",
            )
        if name == "nofile" and not 0 <= hard <= _most_files():
            # Not even root may have more (getrlimit(2)).
            most = _most_files()
            raise SandboxError(
                f"--ulimit nofile: this kernel gives {most} descriptors at most (fs.nr_open), not {_text(hard)}",
                hint=f"say --ulimit nofile={most} at most",
            )
    if _may_raise():
        return
    # The fork server has lowered its own to these already, and may raise them as little as we may.
    given = {number: hard for number, _, _, hard in LIMITS}
    for name, _, hard in limits.ulimits:
        own = resource.getrlimit(NUMBERS[name])[1]
        ceiling = min(UNLIMITED if own < 0 else own, given.get(NUMBERS[name], UNLIMITED))
        if (UNLIMITED if hard < 0 else hard) > ceiling:
            raise SandboxError(
                f"--ulimit {name}: the builder may not raise its hard limit of {ceiling} to {_text(hard)}",
                hint=f"say --ulimit {name}={ceiling} at most, or run the builder with CAP_SYS_RESOURCE, as root has it",
            )


def groups(limits: Limits) -> Groups | None:
    """Cgroups for the commands that are limited so, to be closed; None for limits that need none.

    Raises SandboxError for a limit that cannot be enforced here.
    """
    if limits.cgroup == CgroupLimits():
        return None
    from builder.sandbox.cgroups import Groups  # for those who limit

    return Groups(limits.cgroup)


def out_of_memory(kills: int, memory: int) -> str:
    """What is said of a command of which the kernel killed processes at the limit of so many bytes; 0 where the limit is not
    its own, but that of a group above or of the machine."""
    if not memory:
        return f"the kernel killed {kills} of its processes, since there was no memory left"
    unit = next((unit for unit, size in _UNITS if memory % size == 0), "")
    amount = f"{memory // dict(_UNITS).get(unit, 1)}{unit}"
    return f"the kernel killed {kills} of its processes at the limit of memory, --memory={amount}"


def too_many(refused: int, limit: int) -> str:
    """What is said of a command that could not start so many processes."""
    return f"{refused} of its processes could not start at the limit of their number, --pids-limit={limit}"


_UNITS = (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10))


def _text(limit: int) -> str:
    return "unlimited" if limit < 0 else str(limit)


def _most_files() -> int:
    with open("/proc/sys/fs/nr_open", "rb") as file:
        return int(file.read())


def _may_raise() -> bool:
    """Whether this process has CAP_SYS_RESOURCE over the machine: that of a user namespace raises no limit."""
    with open("/proc/self/uid_map", "rb") as file:
        if file.read().split() != [b"0", b"0", b"4294967295"]:
            return False
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) >> _SYS_RESOURCE & 1)
    return False
