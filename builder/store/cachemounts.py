"""Cache mounts: folders that outlive the build, `mounts/<number>/` with a row each in the database.

A cache is known by its id and by what a new one begins with (`base`); several folders may have both, since a `private` one is
nobody else's while it is in use. Whoever uses a folder holds the lock `mount-<number>`, shared or alone; which folder somebody
gets, makes or gives back is decided under the lock of the cache itself, so that nobody sees a change half done.

A killed process leaves a row without a folder at most: the next one that wants it makes the folder. A folder without a row
(the database was lost) belongs to nobody and is removed. The content is never synced: after a power cut a cache may hold
torn files, as any cache folder of a machine may.
"""

from __future__ import annotations

import hashlib
import os
import time

from builder.store.files import make_folder, move_folder
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Literal

    from builder.store.database import Database
    from builder.store.lease import Lease
    from builder.store.locks import Lock, Locks

    Sharing = Literal["shared", "private", "locked"]

_PAUSE = 0.1
"""Seconds between two looks at a cache that others hold."""


class CacheMountRecord(NamedTuple):
    number: int
    id: str
    """As the Dockerfile has it: `id=`, else the target."""
    base: str
    """What it began with and who owns it, as text; empty for an empty folder of root."""
    created: int
    """Seconds since 1970, as `used`."""
    used: int
    """When it was last given back."""
    path: str


class CacheMounts:
    """All cache mounts of a store."""

    def __init__(self, root: str, database: Database, locks: Locks, lease: Lease) -> None:
        self._folder = os.path.join(root, "mounts")
        self._database = database
        self._locks = locks
        self._lease = lease

    def use(self, id: str, base: str, sharing: Sharing, holder: str) -> CacheMountUse:
        """The cache, not taken yet. `holder` is what others are told while they wait for it; it must hold no secret."""
        return CacheMountUse(self, id, base, sharing, holder)

    def all(self) -> list[CacheMountRecord]:
        """Every cache mount whose folder is there, the oldest first."""
        self._remove_lost()
        rows = self._database.all("SELECT number, id, base, created, used FROM cache_mounts ORDER BY number")
        records = [
            CacheMountRecord(number, id, base, created, used, self.path(number)) for number, id, base, created, used in rows
        ]
        return [record for record in records if os.path.isdir(record.path)]

    def size(self, record: CacheMountRecord) -> int:
        """Bytes that it takes on the disk, as du(1) counts: allocated blocks, a file with several names once."""
        total = 0
        seen: set[tuple[int, int]] = set()
        folders = [os.fsencode(record.path)]
        while folders:
            folder = folders.pop()
            try:
                info = os.lstat(folder)
                with os.scandir(folder) as entries:
                    found = list(entries)
            except FileNotFoundError:
                continue  # A command is using it.
            total += info.st_blocks * 512
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if info.st_nlink == 1 or (info.st_dev, info.st_ino) not in seen:
                    seen.add((info.st_dev, info.st_ino))
                    total += info.st_blocks * 512
        return total

    def remove(self, record: CacheMountRecord) -> bool:
        """Remove the folder and its row; False, and nothing happens, while a step uses it."""
        lock = self.lock(record.number, "a removal", shared=False)
        with self.decision(record.id, record.base):
            if not lock.try_acquire():
                return False
            try:
                with self._lease.scratch() as grave:
                    _move(record.path, os.path.join(grave, "mount"))
                    with self._database.write() as connection:
                        connection.execute("DELETE FROM cache_mounts WHERE number = ?", (record.number,))
            finally:
                lock.release()
        return True

    # For `CacheMountUse`.

    def path(self, number: int) -> str:
        return f"{self._folder}/{number}"

    def lock(self, number: int, holder: str, *, shared: bool) -> Lock:
        return self._locks.lock(f"mount-{number}", holder, shared=shared)

    def decision(self, id: str, base: str) -> Lock:
        """The lock of the cache itself, held for moments (and while a new folder is filled)."""
        name = hashlib.sha256(f"{len(id)}:{id}{base}".encode("utf-8", "surrogateescape")).hexdigest()
        return self._locks.lock(f"mounts-{name}", "a step that is making it")

    def numbers(self, id: str, base: str) -> list[int]:
        rows = self._database.all("SELECT number FROM cache_mounts WHERE id = ? AND base = ? ORDER BY number", id, base)
        return [row[0] for row in rows]

    def add_row(self, id: str, base: str) -> int:
        now = int(time.time())
        with self._database.write() as connection:
            while True:
                sql = "INSERT INTO cache_mounts (id, base, created, used) VALUES (?, ?, ?, ?)"
                number = connection.execute(sql, (id, base, now, now)).lastrowid
                if not os.path.lexists(self.path(int(number or 0))):
                    return int(number or 0)
                # A folder that a lost database knew: it is not given to anybody.
                connection.execute("DELETE FROM cache_mounts WHERE number = ?", (number,))

    def make(self, number: int, fill: Callable[[str], object]) -> None:
        """Let the folder be there, whole: `fill` puts into an empty one what a new cache begins with, and gives it mode and
        owner."""
        if not os.path.isdir(self._folder):
            make_folder(self._folder)
        with self._lease.scratch() as scratch:
            new = os.path.join(scratch, "mount")
            make_folder(new)
            fill(new)
            os.rename(new, self.path(number))

    def touch(self, number: int) -> None:
        with self._database.write() as connection:
            connection.execute("UPDATE cache_mounts SET used = ? WHERE number = ?", (int(time.time()), number))

    def _remove_lost(self) -> None:
        """Remove folders without a row. In this order: a folder gets its name after its row, and loses it before."""
        names = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        known = {str(row[0]) for row in self._database.all("SELECT number FROM cache_mounts")}
        for name in names:
            if name not in known:
                with self._lease.scratch() as grave:
                    _move(os.path.join(self._folder, name), os.path.join(grave, "mount"))


class CacheMountUse:
    """``use.acquire(fill)``, then `path` is the folder; ``use.release()``. For one thread."""

    def __init__(self, mounts: CacheMounts, id: str, base: str, sharing: Sharing, holder: str) -> None:
        self._mounts = mounts
        self._id, self._base, self._sharing, self._holder = id, base, sharing, holder
        self._lock: Lock | None = None
        self.number = 0
        self.path = ""

    def acquire(self, fill: Callable[[str], object], waiting: Callable[[str], object] | None = None) -> None:
        """Take a folder. `fill` makes a new one what it is to be (`CacheMounts.make`).

        `shared` takes one that others share, `private` and `locked` one that nobody uses; where all are in use, `locked` waits
        and the others get a new one. While it waits `waiting` is called again and again with what the holder says of itself
        (empty where that is not known); what it raises ends the wait.
        """
        while True:
            with _Decision(self._mounts.decision(self._id, self._base), waiting):
                holder = self._take(fill)
            if holder is None:
                return
            if waiting is not None:
                waiting(holder)
            time.sleep(_PAUSE)

    def release(self) -> None:
        """Give the folder back. Harmless where none was taken."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            # Under the same lock: the end of a shared use looks for a moment like one alone.
            with self._mounts.decision(self._id, self._base):
                lock.release()
            self._mounts.touch(self.number)
        finally:
            lock.release()

    def _take(self, fill: Callable[[str], object]) -> str | None:
        """None when a folder was taken, else who has the one to wait for."""
        held = None
        for number in self._mounts.numbers(self._id, self._base):
            lock = self._mounts.lock(number, self._holder, shared=self._sharing == "shared")
            if lock.try_acquire():
                self._keep(number, lock, fill)
                return None
            held = held or lock.held_by()
        if held is not None and self._sharing == "locked":
            return held
        number = self._mounts.add_row(self._id, self._base)
        lock = self._mounts.lock(number, self._holder, shared=self._sharing == "shared")
        lock.acquire()
        self._keep(number, lock, fill)
        return None

    def _keep(self, number: int, lock: Lock, fill: Callable[[str], object]) -> None:
        self._lock, self.number, self.path = lock, number, self._mounts.path(number)
        if not os.path.isdir(self.path):
            try:
                self._mounts.make(number, fill)
            except BaseException:
                self._lock = None
                lock.release()
                raise


class _Decision:
    """A lock that says while it waits for whom."""

    def __init__(self, lock: Lock, waiting: Callable[[str], object] | None) -> None:
        self._lock = lock
        self._waiting = waiting

    def __enter__(self) -> None:
        self._lock.acquire(self._waiting)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()


def _move(path: str, to: str) -> None:
    """Out of the way at once, whatever is in it; a process that has it mounted keeps what it has."""
    try:
        move_folder(path, to)
    except FileNotFoundError:
        return
