"""The ladder of sandboxes as values: what a machine allows, and which rung was taken. Pure.

`root` is a builder that has what it needs by itself. `userns` is a user's own namespace with the subordinate ids of
/etc/subuid; its results are those of root. `single-uid` is one without such ids: owners and identities are emulated, and its
results are its own. `chroot` has no namespaces at all, and is taken where it is asked for alone.
"""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Rung = Literal["root", "userns", "single-uid", "chroot"]

RUNGS: tuple[Rung, ...] = ("root", "userns", "single-uid", "chroot")
"""The strongest first."""


CHROOT_WARNING = (
    "--isolation=chroot keeps nothing apart but files: commands see and can end the processes of this machine or container,"
    " have its network and its name, no /proc, no limit of /dev/shm and of a tmpfs, and what they write to caches is dropped."
    " Run nothing with it that you do not trust"
)


class Verdict(NamedTuple):
    """What the probe found out about one rung."""

    rung: Rung
    usable: bool
    reason: str
    """Why not; of one that works, what it is like."""
    hint: str = ""
    """What to change on this machine."""


class Isolation(NamedTuple):
    """The rung that a command has; it travels from the command line to the sandbox's spec."""

    rung: Rung | None = "root"
    """None: nothing works, and a RUN is an error."""
    reason: str = ""
    """What it is like; where nothing works, why."""
    hint: str = ""
    path: str = ""
    """PATH: where the network stack is looked for (`stack.find`)."""
    require_network: bool = False
    """A command whose network would be the host's for want of a stack is an error."""


def choose(verdicts: tuple[Verdict, ...], wanted: str = "auto") -> Isolation:
    """The strongest rung that works, or the one that is wanted, where it works. `chroot` is never taken unasked."""
    tried = [verdict for verdict in verdicts if wanted == verdict.rung or (wanted == "auto" and verdict.rung != "chroot")]
    for verdict in tried:
        if verdict.usable:
            return Isolation(verdict.rung, verdict.reason)
    if wanted != "auto":
        return Isolation(None, f"--isolation={wanted} does not work here: {tried[0].reason}", tried[0].hint)
    # What is nearest to working for a user is told first.
    reasons = "; ".join(f"{verdict.rung}: {verdict.reason}" for verdict in tried)
    hints = [verdict.hint for verdict in reversed(tried) if verdict.hint]
    if any(verdict.rung == "chroot" and verdict.usable for verdict in verdicts):
        hints.append("--isolation=chroot works, and keeps nothing apart but files: for Dockerfiles that you trust")
    return Isolation(None, f"no sandbox can be made here ({reasons})", "; or ".join(dict.fromkeys(hints)))
