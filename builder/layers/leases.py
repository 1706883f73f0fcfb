"""Whether somebody else may be writing to an open file, as the kernel's leases tell (fcntl(2), "Leases")."""

from __future__ import annotations

import fcntl

_SIGURG = 23
"""Ignored by default."""


def may_be_written(file: int, *, briefly: bool) -> bool:
    """Whether somebody may have the file open for writing, or mapped so. `briefly`: it is to be closed right after.

    A read lease is granted only where nobody has. Who opens it for writing while we have the lease, some microseconds, waits
    for us, and we get a signal: one that is ignored by default.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, _SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        if not briefly:
            # Else it ends with the descriptor: who opens the file waits for one read.
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        # EAGAIN: somebody has. EACCES: it is another user's file. EINVAL: no leases there. The last two say nothing.
        return True
    return False
