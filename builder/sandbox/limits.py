"""The limits of getrlimit(2) that a command has, and those that this machine keeps lower.

Used on both sides: part of the fork server's program too.
"""

from __future__ import annotations

UNLIMITED = (1 << 64) - 1

# Each limit by its number, soft and hard: what the builder's own shell happens to have must not decide a build. No core file
# may land in a layer; 1024 and 524288 descriptors are systemd's and today's Docker's.
LIMITS = (
    (0, "CPU", UNLIMITED, UNLIMITED),
    (1, "FSIZE", UNLIMITED, UNLIMITED),
    (2, "DATA", UNLIMITED, UNLIMITED),
    (3, "STACK", 8 << 20, UNLIMITED),
    (4, "CORE", 0, UNLIMITED),
    (5, "RSS", UNLIMITED, UNLIMITED),
    (6, "NPROC", UNLIMITED, UNLIMITED),
    (7, "NOFILE", 1024, 524288),
    (8, "MEMLOCK", 8 << 20, 8 << 20),
    (9, "AS", UNLIMITED, UNLIMITED),
)


def lowered() -> list[str]:
    """`NAME=hard` for each limit that a builder without CAP_SYS_RESOURCE cannot raise to what a command should have."""
    import resource

    own = ((name, resource.getrlimit(number)[1], hard) for number, name, _, hard in LIMITS)
    # RLIM_INFINITY is -1 in Python.
    return [f"{name}={limit}" for name, limit, hard in own if 0 <= limit < hard]
