"""One connection to the store's database, shared by the threads of this process, and its transactions."""

from __future__ import annotations

import os
from _thread import RLock  # `threading` costs 1 ms at start

from builder.store import schema, sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = tuple[Any, ...]
    from types import TracebackType

    from builder.store.faults import Faults


class Database:
    """Reads and write transactions; every error of the database is a StoreError.

    Several threads may use it: a lock keeps one thread's transaction apart from another's statements. Other processes are
    kept apart by sqlite; each write begins IMMEDIATE, since a deferred one fails where it should wait.
    """

    def __init__(self, path: str, faults: Faults, *, read_only: bool = False, frozen: bool = False) -> None:
        self.faults = faults
        self._lock = RLock()
        with faults:
            # autocommit: transactions are begun by hand, in `write` alone.
            self._connection = sqlite.connect(
                _read_only(path, frozen) if read_only else path,
                timeout=schema.BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=64,
                uri=read_only,
            )
            self._connection.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version != schema.VERSION:
                # An upgrade that was killed before its version came from the log into the file, where `schema.peek` looks.
                self._connection.close()
                raise faults.newer()

    def one(self, sql: str, *values: object) -> Row | None:
        """The first row of a query, None where there is none."""
        with self.faults, self._lock:
            row: Row | None = self._connection.execute(sql, values).fetchone()
            return row

    def all(self, sql: str, *values: object) -> list[Row]:
        with self.faults, self._lock:
            return self._connection.execute(sql, values).fetchall()

    def write(self, *, durable: bool = False) -> Write:
        """A write transaction: ``with database.write() as connection``. It is rolled back when the block raises.

        `durable`: it is on the disk when the block has ended (0.5 ms); otherwise a power cut may undo it, whole.
        """
        return Write(self._connection, self._lock, self.faults, durable)

    def is_writing(self) -> bool:
        """Whether this very thread is inside a write transaction."""
        # Re-entrant: a lock that is free, or this thread's own.
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._connection.in_transaction
        finally:
            self._lock.release()

    def close(self) -> None:
        with self.faults, self._lock:
            self._connection.close()


def _read_only(path: str, frozen: bool) -> str:
    """The URI by which sqlite changes nothing (sqlite.org/uri.html). Without a log nobody writes, and sqlite must be told so,
    or it makes one; `frozen` says that of an empty log as well."""
    log = f"{path}-wal"
    logged = os.path.exists(log) and not (frozen and os.path.getsize(log) == 0)
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?mode=ro" + ("" if logged else "&immutable=1")


class Write:
    """The context manager behind `Database.write`."""

    def __init__(self, connection: sqlite.Connection, lock: RLock, faults: Faults, durable: bool) -> None:
        self._connection = connection
        self._lock = lock
        self._faults = faults
        self._durable = durable

    def __enter__(self) -> sqlite.Connection:
        self._lock.acquire()
        try:
            with self._faults:
                # In WAL mode FULL syncs the log at each commit, NORMAL at a checkpoint alone (sqlite.org/pragma.html).
                self._connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
                self._connection.execute("BEGIN IMMEDIATE")
                # A newer pybuild may have upgraded the database since this process opened it.
                (version,) = self._connection.execute("PRAGMA user_version").fetchone()
                if version != schema.VERSION:
                    raise self._faults.newer()
        except BaseException:
            self._roll_back()
            self._lock.release()
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with self._faults:
                if error is not None:
                    raise error
                self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._lock.release()

    def _roll_back(self) -> None:
        # sqlite ends the transaction by itself after some errors, as a full disk.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
