"""File systems of failed steps: what a RUN had written when its command failed, kept for `pybuild shell` in `failed/<id>`.

All of it is disposable, and there are never more than `MOST`. A folder is moved and its row is made or deleted under the
database's write lock, so that a folder without a row belongs to a killed process. Whoever looks into one holds its lock,
shared; it is removed by who holds it alone.
"""

from __future__ import annotations

import os
import time

from builder.store.files import make_folder, move_folder
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.store import sqlite
    from builder.store.database import Database
    from builder.store.durability import Durability
    from builder.store.lease import Lease
    from builder.store.locks import Lock, Locks

FOLDER = "failed"
MOST = 5
"""How many are kept; beyond it the oldest go."""


class FailedStep(NamedTuple):
    """What a failed step left: an upper folder in overlay's own format, to be put on the file system that it started from."""

    id: int
    key: str
    """Of the step."""
    name: str
    """What a person reads for the step."""
    created: int
    """Seconds since 1970."""


class FailedSteps:
    """The folder `failed`; it is made when the first one is kept."""

    def __init__(self, root: str, database: Database, durability: Durability, lease: Lease, locks: Locks) -> None:
        self._root = root
        self._database = database
        self._durability = durability
        self._lease = lease
        self._locks = locks

    def keep(self, upper: str, key: str, name: str) -> FailedStep:
        """Move the folder `upper` here. What the same step left before goes, and what is beyond `MOST`."""
        created = int(time.time())
        with self._database.faults:
            make_folder(os.path.join(self._root, FOLDER))
        with self._database.write() as connection:
            sql = "INSERT INTO failed (key, name, created) VALUES (?, ?, ?)"
            number = connection.execute(sql, (key, name, created)).lastrowid or 0
            while os.path.lexists(self.path(number)):
                # A folder without a row: a process was killed before its commit. Recovery removes it; its id is not used.
                connection.execute("DELETE FROM failed WHERE id = ?", (number,))
                number = connection.execute(sql, (key, name, created)).lastrowid or 0
            self._durability.mark(connection, "failed", str(number))
            move_folder(upper, self.path(number))
        step = FailedStep(number, key, name, created)
        for place, other in enumerate(self.all()):
            # Another build may have kept what the same step left a moment later.
            if other.id < number and (other.key == key or place >= MOST):
                self.remove(other)
        return step

    def all(self) -> list[FailedStep]:
        """Those whose folder is there, the newest first."""
        return kept(self._root, self._database)

    def find(self, key: str) -> FailedStep | None:
        """What the step of this key left when it failed last."""
        return next((step for step in self.all() if step.key == key), None)

    def path(self, number: int) -> str:
        return _path(self._root, number)

    def in_use(self, number: int) -> Lock:
        """The lock that keeps it from being removed; take it, then look whether it is still there."""
        return self._locks.lock(_lock_name(number), "pybuild shell", shared=True)

    def remove(self, step: FailedStep) -> bool:
        """Remove it; False where somebody looks into it, who keeps it."""
        lock = self._locks.lock(_lock_name(step.id), "the removal of what a failed step left")
        if not lock.try_acquire():
            return False
        try:
            with self._lease.scratch() as grave, self._database.write() as connection:
                connection.execute("DELETE FROM failed WHERE id = ?", (step.id,))
                if os.path.lexists(self.path(step.id)):
                    move_folder(self.path(step.id), os.path.join(grave, "failed"))
        finally:
            lock.release()
        return True


def kept(root: str, database: Database) -> list[FailedStep]:
    """Those whose folder is there, the newest first."""
    rows = database.all("SELECT id, key, name, created FROM failed ORDER BY id DESC")
    return [FailedStep(*row) for row in rows if os.path.isdir(_path(root, row[0]))]


def _path(root: str, number: int) -> str:
    """Its folder; short, since mount(2) takes one page of options."""
    return os.path.join(root, FOLDER, str(number))


def _lock_name(number: int) -> str:
    return f"failed-{number}"


def recover(root: str, grave: str, connection: sqlite.Connection) -> None:
    """In a write transaction: move folders that no row names into the folder `grave`, and forget rows without a folder."""
    folder = os.path.join(root, FOLDER)
    if not os.path.isdir(folder):
        return
    known = {str(row[0]) for row in connection.execute("SELECT id FROM failed")}
    found = set(os.listdir(folder))
    for name in found - known:
        os.rename(os.path.join(folder, name), os.path.join(grave, f"failed-{name}"))
    for name in known - found:
        connection.execute("DELETE FROM failed WHERE id = ?", (name,))
