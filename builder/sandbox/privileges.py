"""What a command may do: identity, capabilities, Landlock scope, limits, and what it inherits.

Part of the fork server's program.
"""

from __future__ import annotations

import os

from builder.sandbox import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox.wire import Job

_UNLIMITED = (1 << 64) - 1
# Each limit of getrlimit(2) by its number, soft and hard: what the builder's own shell happens to have must not decide a
# build. No core file may land in a layer; 1024 and 524288 descriptors are systemd's and today's Docker's.
_LIMITS = (
    (0, _UNLIMITED, _UNLIMITED),  # CPU
    (1, _UNLIMITED, _UNLIMITED),  # FSIZE
    (2, _UNLIMITED, _UNLIMITED),  # DATA
    (3, 8 << 20, _UNLIMITED),  # STACK
    (4, 0, _UNLIMITED),  # CORE
    (5, _UNLIMITED, _UNLIMITED),  # RSS
    (6, _UNLIMITED, _UNLIMITED),  # NPROC
    (7, 1024, 524288),  # NOFILE
    (8, 8 << 20, 8 << 20),  # MEMLOCK
    (9, _UNLIMITED, _UNLIMITED),  # AS
)


def set_inherited() -> bool:
    """Everything else that commands inherit from the server: limits, umask, personality, signals.

    False when the builder's own limits are lower and may not be raised (no CAP_SYS_RESOURCE): then they count.
    """
    # An ignored SIGCHLD, as a builder may have inherited it, would also reap commands before the server sees their status.
    kernel.reset_signals()
    os.umask(0o022)
    kernel.personality(0)
    allowed = [_set_limit(*limit) for limit in _LIMITS]
    return all(allowed)


def _set_limit(resource: int, soft: int, hard: int) -> bool:
    try:
        kernel.setrlimit(resource, soft, hard)
    except PermissionError:
        ceiling = min(hard, kernel.getrlimit(resource)[1])
        kernel.setrlimit(resource, min(soft, ceiling), ceiling)
        return False
    return True


def drop_bounding(job: Job) -> None:
    """No program, setuid or not, gets more than the spec's capabilities."""
    if "capabilities" in job.without:
        return
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        last = int(file.read())
    for capability in range(last + 1):
        if not job.capabilities >> capability & 1:
            kernel.prctl(kernel.PR_CAPBSET_DROP, capability)


def become(job: Job) -> None:
    """The spec's user with its groups. Root keeps the spec's capabilities, others none; nothing is inheritable (as Docker,
    CVE-2022-24769)."""
    os.setgroups(job.groups)
    os.setresgid(job.gid, job.gid, job.gid)
    os.setresuid(job.uid, job.uid, job.uid)
    if job.uid == 0 and "capabilities" not in job.without:
        kernel.capset(job.capabilities)


def die_with(server: int, job: Job) -> None:
    """SIGKILL when the fork server ends. A change of credentials undoes it, so it is said again after each.

    `server` is the server's pidfd, readable when it ended before the kernel was told.
    """
    if "pdeathsig" in job.without:
        return
    kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
    if kernel.has_ended(server):
        os._exit(kernel.SIGKILL)
