"""What is removed after builds without being asked (docs/store.md). Pure but for the question how large the file system is."""

from __future__ import annotations

import os

from builder.store.collect import ALL_CACHE, CACHE, Rule
from builder.values import NamedTuple

DAY = 86400
GIB = 1 << 30

_PAUSE, _SHORT_PAUSE = 3600, 60
"""Seconds between two collections: as a rule, and while the disk is nearly full."""


class Policy(NamedTuple):
    """None stands for what follows from the size of the file system (`rules`)."""

    off: bool = False
    max_used_space: int | None = None
    """Bytes of cache that may stay."""
    min_free_space: int | None = None
    """Bytes that are to be free on the file system."""
    reserved_space: int = GIB
    """Bytes of cache that stay although too little is free: others fill the disk, and building would be slow as well."""
    unused_for: int = 60 * DAY
    """Seconds after which what nobody uses goes, cache mounts too."""
    failed_steps_for: int = 2 * DAY
    """Seconds after which what a failed step left goes."""


def rules(policy: Policy, root: str) -> tuple[Rule, ...]:
    most, free = _space(policy, root)
    return (
        Rule(frozenset(("failed-step",)), unused_for=policy.failed_steps_for),
        Rule(CACHE | {"cache-mount"}, unused_for=policy.unused_for),
        Rule(ALL_CACHE, keep=most, free=free, reserve=min(policy.reserved_space, most)),
    )


def is_due(policy: Policy, root: str, last: int, now: int) -> bool:
    """Whether to look for garbage after a build that made something; `last` is when that was done last. Takes microseconds."""
    if policy.off:
        return False
    # A clock that went back must not put it off for ever.
    if not 0 <= now - last < _PAUSE:
        return True
    space = os.statvfs(root)
    return space.f_bavail * space.f_frsize < _space(policy, root)[1] and now - last >= _SHORT_PAUSE


def _space(policy: Policy, root: str) -> tuple[int, int]:
    """Bytes of cache that may stay: a fifth of the file system or 10 GiB, whichever is more, but at most half of it; and bytes
    that are to be free: a twentieth."""
    space = os.statvfs(root)
    total = space.f_blocks * space.f_frsize
    most = policy.max_used_space
    if most is None:
        most = min(max(total // 5, 10 * GIB), total // 2)
    free = policy.min_free_space
    return most, total // 20 if free is None else free
