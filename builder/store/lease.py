"""This process's private folder inside the store, and the removal of those that dead processes left.

A lease is a folder `tmp/<random>` under flock(2): the kernel drops the lock when the process ends, however it ends, so that
a folder without a lock belongs to nobody. Scratch folders and unfinished files lie inside it, and the file that says what the
process uses (`builder.store.uses`).
"""

from __future__ import annotations

import fcntl
import os
from _thread import allocate_lock  # `threading` costs 1 ms at start

from builder.store.faults import FULL
from builder.store.files import make_folder
from builder.store.removal import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from builder.store.faults import Faults

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Lease:
    """Names for this process's temporary files; the folder is made when the first one is asked for."""

    def __init__(self, tmp: str, faults: Faults) -> None:
        self._tmp = tmp
        self._faults = faults
        self._lock = allocate_lock()
        self._folder: tuple[str, int] | None = None
        self._names = 0
        self._left: list[str] = []
        """What nobody needs any more."""

    def new_path(self) -> str:
        """A path inside the lease where nothing is yet."""
        folder = self.folder()
        with self._lock:
            self._names += 1
            return os.path.join(folder, str(self._names))

    def folder(self) -> str:
        """The lease itself."""
        with self._lock:
            if self._folder is None:
                with self._faults:
                    self._folder = _take(self._tmp)
            return self._folder[0]

    def lacks(self, needed: int) -> bool:
        """Whether there is no room for a file of so many bytes.

        It is tried: what a file system reserves, and for whom, and what a quota leaves, is in no number of statvfs(3).
        """
        path = self.new_path()
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return error.errno in FULL
        try:
            os.posix_fallocate(fd, 0, needed)
        except OSError as error:
            return error.errno in FULL
        finally:
            os.close(fd)
            os.unlink(path)
        return False

    def was_used(self) -> bool:
        """Whether this process has made anything that may have gone into the store."""
        return self._names > 0

    def scratch(self, *, stays: bool = False) -> Scratch:
        return Scratch(self, self._faults, stays)

    def leave(self, path: str) -> None:
        """Nobody needs it any more."""
        with self._lock:
            self._left.append(path)

    def tidy(self) -> None:
        """Remove what was left; what cannot be removed stays for `close`, which says so."""
        with self._lock:
            left, self._left = self._left, []
        for path in left:
            try:
                remove_tree(path)
            except OSError:
                # Who tidies has nothing to do with it.
                continue

    def close(self) -> None:
        """Remove the folder with all that is still in it."""
        with self._lock:
            folder, self._folder = self._folder, None
        if folder is not None:
            try:
                remove_tree(folder[0])
            finally:
                os.close(folder[1])


class Scratch:
    """``with lease.scratch() as folder``: an empty folder of mode 0700, removed with all that is in it at the end; one that
    `stays` is left for `tidy` where nothing went wrong."""

    def __init__(self, lease: Lease, faults: Faults, stays: bool) -> None:
        self._lease = lease
        self._faults = faults
        self._stays = stays
        self._path = ""

    def __enter__(self) -> str:
        with self._faults:
            path = self._lease.new_path()
            make_folder(path)
        self._path = path
        return path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # What failed may have left much, and have failed for want of room.
        if self._stays and kind is None:
            self._lease.leave(self._path)
        else:
            remove_tree(self._path)


def _take(tmp: str) -> tuple[str, int]:
    while True:
        path = os.path.join(tmp, os.urandom(8).hex())
        try:
            make_folder(path)
            fd = os.open(path, _OPEN_FOLDER)
        except FileNotFoundError:
            if not os.path.isdir(tmp):
                raise
            continue  # Another process opened the store and took the folder for a dead one's: it had no lock yet.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink > 0:
                return path, fd
        except BlockingIOError:
            pass  # As above, and it is just removing it.
        os.close(fd)


def sweep(tmp: str) -> bool:
    """Remove what dead processes left in `tmp`. True when there was something."""
    found = False
    for name in os.listdir(tmp):
        path = os.path.join(tmp, name)
        try:
            fd = os.open(path, _OPEN_FOLDER)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            os.unlink(path)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path)
            found = True
        except BlockingIOError:
            pass  # Its process lives.
        finally:
            os.close(fd)
    return found
