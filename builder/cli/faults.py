"""Whatever ends a command, as one error for the user."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper

from builder.errors import BuildError, Interrupted, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType
else:
    import _signal as signal  # what `signal` makes enums of: 1 ms

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_THREAD = "can't start new thread"
"""What Python says, by no class of its own, where the system starts no more."""
_AGAIN = 0.01
"""Seconds until a signal that came at a bad moment is tried again."""
received = 2
"""The signal that came last, SIGINT before any."""


def streams() -> None:
    """Give the descriptors 0, 1 and 2 something where the caller closed them: a file that is opened later must not get their
    number, and with it what is meant for the user. What is written to a closed stdout fails, as it should."""
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)  # The lowest free number is this one.
    # Python has no object for a descriptor that was closed when it began.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    # An image's label, or a file's name, may have what the user's encoding lacks.
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def complain(text: str) -> None:
    """Write to stderr. Where nobody takes it the exit code has to do."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        discard(2)


def discard(fd: int) -> None:
    """Let all that is still written to `fd` go nowhere: Python flushes at its exit, and complains when it cannot."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, fd)
    os.close(null)


def install() -> None:
    """Let SIGTERM, and the end of the terminal, take the way of Ctrl-C: sandboxes are killed, temporary files removed. None of
    them gets lost, whenever it comes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup the end of the terminal is to be ignored, and Ctrl-C in what a script has in the background.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    signal.signal(signal.SIGALRM, _end)
    sys.unraisablehook = _unraisable


def told(error: BuildError | OSError | KeyboardInterrupt | RuntimeError, store: str = "") -> BuildError:
    """The error to show and whose code to exit with. `store` is the root of the store that was in use."""
    match error:
        case BuildError():
            return error
        case KeyboardInterrupt():
            return Interrupted(received)
        case OSError():
            return _system(error, store)
        case RuntimeError():
            return BuildError(
                "the system starts no more threads",
                hint="allow more processes (ulimit -u, the pids limit of the container) or more memory (ulimit -v)",
            )


def _system(error: OSError, store: str) -> BuildError:
    if isinstance(error, BrokenPipeError):
        return BuildError("standard output was closed before all was written", hint="its reader ended early")
    # A descriptor as the name of a file says nothing to anyone.
    where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes) else ""
    if error.errno in _NO_SPACE and store and _in(error, store):
        from builder.store.faults import Faults

        return Faults(store).full()
    if error.errno in _NO_SPACE:
        return StoreError(f"no space left on the disk{where}", hint="free some space, or choose another place")
    text = error.strerror or str(error)
    hint = "allow more with ulimit -n, or have fewer steps run at once with --jobs" if error.errno == errno.EMFILE else None
    return BuildError(f"{text[:1].lower()}{text[1:]}{where}", hint=hint)


def _in(error: OSError, store: str) -> bool:
    """Whether it was the store's file system that had no room. What is written elsewhere has a name, standard output too.
    The file system cannot be asked: what filled it is removed by now."""
    return error.filename is None or os.fsdecode(error.filename).startswith(os.path.abspath(store) + os.sep)


def _end(number: int, frame: FrameType | None) -> None:
    global received
    if number != signal.SIGALRM:
        received = int(number)
    # An exception between two lines of the import machinery may leave its lock taken, and other threads wait for ever.
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in the callback of a weak reference, and in `__del__`."""
    if isinstance(dropped.exc_value, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    else:
        sys.__unraisablehook__(dropped)
