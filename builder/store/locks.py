"""Named locks between processes and threads: `locks/<name>` under flock(2), with a line that says who holds it.

The kernel drops a lock when its process ends, however it ends. The holder removes the file while it still has the lock, so
that files do not gather; whoever got the lock of a removed file takes the new one's. A file that a killed process left is
nobody's: the next one takes it, and `sweep` removes it.
"""

from __future__ import annotations

import fcntl
import os
import time

from builder.store.files import make_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from builder.store.faults import Faults

_HOLDER_BYTES = 1000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
"""Seconds between two attempts: flock(2) that waits cannot be told that its thread is no longer wanted."""


class Locks:
    """The folder `locks`; it is made when the first lock is asked for."""

    def __init__(self, root: str, faults: Faults) -> None:
        self._folder = os.path.join(root, "locks")
        self._faults = faults

    def lock(self, name: str, holder: str, *, shared: bool = False) -> Lock:
        """The lock `name` (a file name: hexadecimal digits, say), not taken yet. `holder` is what others are told while
        they wait for it; it must hold no secret."""
        return Lock(self._folder, name, holder, self._faults, shared=shared)

    def sweep(self) -> None:
        """Remove the files that killed processes left."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return
        for name in names:
            # Taken and given back: the file goes with it.
            lock = self.lock(name, "")
            if lock.try_acquire():
                lock.release()


class Lock:
    """``with lock: ...``, or ``lock.acquire(waiting=...)`` and ``lock.release()``. For one thread; not reentrant."""

    def __init__(self, folder: str, name: str, holder: str, faults: Faults, *, shared: bool) -> None:
        self._folder = folder
        self._path = os.path.join(folder, name)
        self._holder = holder
        self._faults = faults
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._fd = -1

    def acquire(self, waiting: Callable[[str], object] | None = None) -> None:
        """Take the lock. While another has it, `waiting` is called again and again (some ten times a second) with the
        other's `holder` text, empty where that is not known; what it raises ends the wait."""
        pause = _FIRST_PAUSE
        while not self.try_acquire():
            if waiting is not None:
                waiting(self.held_by())
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def try_acquire(self) -> bool:
        """Take the lock where nobody has it; whether it was taken."""
        with self._faults:
            fd = self._open()
            try:
                fcntl.flock(fd, self._mode | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            if os.fstat(fd).st_nlink == 0:
                # Its holder removed it between our opening and our lock: the lock of that file is nobody's concern.
                os.close(fd)
                return False
            self._fd = fd
            # Who was killed may have left a name.
            os.ftruncate(fd, 0)
            if self._mode == fcntl.LOCK_EX:
                os.pwrite(fd, self._holder.encode("utf-8", "backslashreplace")[:_HOLDER_BYTES], 0)
        return True

    def held_by(self) -> str:
        """What the present holder says of itself; empty where there is none, or several that share."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        try:
            return os.read(fd, _HOLDER_BYTES).decode("utf-8", "replace")
        finally:
            os.close(fd)

    def release(self) -> None:
        """Give the lock back. Harmless where it is not held."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            # Only who has it alone may remove it: of those who share it, the last.
            if self._alone(fd):
                os.unlink(self._path)
        except FileNotFoundError:
            pass  # Somebody removed the store's folder.
        finally:
            os.close(fd)

    def _alone(self, fd: int) -> bool:
        if self._mode == fcntl.LOCK_EX:
            return True
        try:
            # This drops the shared lock for a moment, and another may have come and gone: the name must be this file's.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return os.fstat(fd).st_nlink > 0

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            make_folder(self._folder)
            return os.open(self._path, flags, 0o600)
