"""Whether this machine lets the builder make a sandbox, and what to change where it does not."""

from __future__ import annotations

import os

from builder.errors import SandboxError, StepError
from builder.sandbox import capabilities
from builder.sandbox.rungs import Isolation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox.spec import Outcome

_OLDEST = (5, 11)
_KERNELS = ("/proc/", "/sys/", "/dev/")
_OWN_FILES = ("hosts", "resolv.conf", "hostname")
"""Of the sandbox's own, in the image's /etc."""
# What a failed step means for the person who reads it; others are told as they are.
_HINTS = {
    "clone": "let this machine make namespaces: in a container, start it with --privileged",
    "mounts": "the builder must not run in a chroot; in a container, start that with --privileged",
    "overlay": "put the store on a file system that can carry an overlay (ext4, xfs, btrfs, tmpfs) with --root",
    "pivot_root": "the builder must not run in a chroot or in an initramfs: start it in a container or on the host",
    "network": "the network stack (slirp4netns, pasta) does not come up here: --network=host does without it",
    "seccomp": "the kernel needs CONFIG_SECCOMP_FILTER",
    "landlock": "the builder runs inside too many Landlock domains already: start it outside of them",
}


def require(isolation: Isolation = Isolation()) -> None:  # noqa: B008  a frozen value
    """Raises SandboxError, with what to change, when no sandbox can be made here. Reads only; a millisecond at most. Where
    `isolation` is a user namespace the builder is in there already."""
    system = os.uname()
    if system.sysname != "Linux":
        raise SandboxError(f"RUN needs Linux, this is {system.sysname}")
    if _version(system.release) < _OLDEST:
        raise SandboxError(f"RUN needs Linux 5.11, this is {system.release}", hint="boot a newer kernel")
    if isolation.rung is None:
        raise SandboxError(isolation.reason, hint=isolation.hint or None)
    if isolation.rung == "chroot":
        return
    if lacking := capabilities.lacking():
        raise SandboxError(
            f"the builder {'is root without' if os.geteuid() == 0 else 'lacks'} {', '.join(lacking)}",
            hint="in a container, start it with --privileged (Docker's default leaves out CAP_SYS_ADMIN)",
        )
    if not os.path.exists("/proc/self/fd"):
        raise SandboxError("/proc is not mounted", hint="mount it: mount -t proc proc /proc")


def require_terminal(isolation: Isolation) -> None:
    """Raises SandboxError where a command can have no terminal: a devpts of its own is a mount."""
    if isolation.rung == "chroot":
        raise SandboxError(
            "--isolation=chroot has no terminals", hint="leave -t out; 'pybuild doctor' says what a stronger rung takes"
        )


def explain(outcome: Outcome) -> SandboxError | StepError | None:
    """The error for an outcome whose sandbox could not be made, of this machine's or the image's fault; None when it is the
    command's own (also `exec` and `cwd`)."""
    if not outcome.failed_at or outcome.failed_at in ("exec", "cwd"):
        return None
    stage = outcome.failed_at.split(" ")[0]
    reason = os.strerror(outcome.exec_error)
    place = outcome.failed_at.partition(" ")[2]
    if stage == "mount" and place.startswith(_KERNELS) and os.path.basename(place) in _OWN_FILES:
        return StepError(
            f"the image's own links lead its /etc/{os.path.basename(place)} to {place}, where nothing can be mounted: {reason}",
            hint="let /etc, and what is in it, stay among the image's own files",
        )
    if stage == "collect":
        return SandboxError(
            f"what the command changed cannot be kept: {place}: {reason}",
            hint="--isolation=chroot has no mounts: what is one elsewhere (/dev, /etc/hosts, a --mount), or a device of the"
            " image, must stay as it is; and a device 0:0 cannot be made on any other rung",
        )
    return SandboxError(f"the sandbox could not be made: {outcome.failed_at}: {reason}", hint=_HINTS.get(stage))


def _version(release: str) -> tuple[int, int]:
    """(6, 18) of "6.18.44-generic"; (0, 0) for what is no version."""
    parts = [part for part in release.replace("-", ".").split(".")[:2] if part.isdecimal()]
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else (0, 0)
