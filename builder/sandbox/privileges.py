"""What a command may do: identity, capabilities, Landlock scope, limits, and what it inherits.

Part of the fork server's program.
"""

from __future__ import annotations

import errno
import os

from builder.sandbox import kernel
from builder.sandbox.limits import LIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox.wire import Job, Shape


def set_inherited() -> bool:
    """Everything else that commands inherit from the server: limits, umask, personality, signals.

    False when the builder's own limits are lower and may not be raised (no CAP_SYS_RESOURCE): then they count.
    """
    # An ignored SIGCHLD, as a builder may have inherited it, would also reap commands before the server sees their status.
    kernel.reset_signals()
    os.umask(0o022)
    kernel.personality(0)
    allowed = [_set_limit(number, soft, hard) for number, _, soft, hard in LIMITS]
    return all(allowed)


def _set_limit(resource: int, soft: int, hard: int) -> bool:
    try:
        kernel.setrlimit(resource, soft, hard)
    except PermissionError:
        ceiling = min(hard, kernel.getrlimit(resource)[1])
        kernel.setrlimit(resource, min(soft, ceiling), ceiling)
        return False
    return True


def limit(job: Job) -> None:
    """The limits of this command alone. Raises OSError where the kernel does not give one."""
    for number, soft, hard in job.ulimits:
        kernel.setrlimit(number, soft, hard)


def drop_bounding(job: Job) -> None:
    """No program, setuid or not, gets more than the spec's capabilities."""
    if "capabilities" in job.without:
        return
    for capability in range(64):
        if not job.capabilities >> capability & 1:
            try:
                kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # Behind the kernel's last one. Where there is no /proc, nobody says which that is.
                return


def become_root(server: int, job: Job) -> None:
    """In a user namespace the builder and its server keep the user's own number, under which the paths of the host are reached;
    what is made from here on is the sandbox's own, and root's."""
    if os.geteuid() != 0 or os.getegid() != 0:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        die_with(server, job)


def become(job: Job) -> None:
    """The spec's user with its groups. Root keeps the spec's capabilities, others none; nothing is inheritable (as Docker,
    CVE-2022-24769)."""
    os.setgroups(job.groups)
    os.setresgid(job.gid, job.gid, job.gid)
    os.setresuid(job.uid, job.uid, job.uid)
    # Where identities are emulated the kernel sees root all the time, and takes nothing by itself.
    if (job.uid == 0 or job.emulate == "owners") and "capabilities" not in job.without:
        kernel.capset(job.capabilities)


def die_with(server: int, shape: Shape) -> None:
    """SIGKILL when the fork server ends. A change of credentials undoes it, so it is said again after each.

    `server` is the server's pidfd, readable when it ended before the kernel was told.
    """
    if "pdeathsig" in shape.without:
        return
    kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
    if kernel.has_ended(server):
        os._exit(kernel.SIGKILL)
