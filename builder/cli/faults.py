"""Whatever ends a command, as one error for the user."""

from __future__ import annotations

import errno
import os
import signal
from types import FrameType

from builder.errors import BuildError, Interrupted, StoreError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_received = 0


def install() -> None:
    """Let SIGTERM take the way of Ctrl-C: sandboxes are killed, temporary files removed, the terminal restored."""
    signal.signal(signal.SIGTERM, _terminate)


def told(error: BuildError | OSError | KeyboardInterrupt) -> BuildError:
    """The error to show and whose code to exit with."""
    match error:
        case BuildError():
            return error
        case KeyboardInterrupt():
            return Interrupted(_received or signal.SIGINT)
        case OSError():
            return _system(error)


def _system(error: OSError) -> BuildError:
    where = f" ({os.fsdecode(error.filename)})" if error.filename is not None else ""
    if error.errno in _NO_SPACE:
        return StoreError(f"no space left on the disk{where}", hint="free some space, or name another store with --root")
    text = error.strerror or str(error)
    return BuildError(f"{text[:1].lower()}{text[1:]}{where}")


def _terminate(number: int, _frame: FrameType | None) -> None:
    global _received
    _received = number
    raise KeyboardInterrupt
