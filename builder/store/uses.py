"""What each process uses of the store, told to whoever removes things beside it: a running build never loses anything.

Names are digests, as text: of a blob, of a layer (its diff ID, or the name of its index), of an image's config. A name stands
for all that the store has under it: who names a diff ID keeps its index, its folders and its tars; who names a config keeps
what that image needs.

The protocol. Each process has a file `uses` in its lease (`builder.store.lease`); a line in it is a name.

1. A process writes a name *before* it looks whether the thing is there, and before it puts the thing. It does so under the
   gate, shared: flock(2) on the folder `tmp`. A name counts for the rest of the process's life.
2. Who removes things begins a write transaction, takes the gate alone, and reads the `uses` of all leases. What nobody names
   loses its rows; the transaction is committed; then the files are renamed away. Only then does it give the gate back, and
   removes at leisure what has no name any more.

So a name is written before 2, and the thing stays; or after it, and the look-up that follows misses: the thing is made anew,
under the same name, and nobody renames it away. Within a write transaction of its own a process does not wait for the gate
(who has that waits for no transaction, but had to begin one): it writes its name at once. No removal is between its beginning
and its commit then, and what has a row now was no victim of the last one.

A killed process's file counts until its lease is swept. A killed remover leaves files without rows, as any killed process may,
or blobs that nothing needs: recovery takes the ones, the next removal the others.
"""

from __future__ import annotations

import fcntl
import os
import time
from _thread import allocate_lock  # `threading` costs 1 ms at start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.store.database import Database
    from builder.store.lease import Lease

FILE = "uses"

GRAIN = 3600
"""Seconds: a time of last use is not written again before it is older than this."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_ONCE = 500
"""Names in one statement; sqlite takes 32,766 values."""


class Uses:
    """What this process uses. For several threads."""

    def __init__(self, lease: Lease, database: Database) -> None:
        self._lease = lease
        self._database = database
        self._lock = allocate_lock()
        self._names: set[str] = set()
        self._keys: set[str] = set()
        self._file = -1
        self._gate = -1

    def add(self, name: str) -> None:
        """Use what has this name from here on. Raises StoreError where that cannot be written."""
        if name not in self._names:
            self.add_all((name,))

    def add_all(self, names: Iterable[str]) -> None:
        with self._lock:
            new = [name for name in names if name not in self._names]
            if not new:
                return
            with self._database.faults:
                self._open()
                if self._database.is_writing():
                    self._write(new)
                else:
                    fcntl.flock(self._gate, fcntl.LOCK_SH)
                    try:
                        self._write(new)
                    finally:
                        fcntl.flock(self._gate, fcntl.LOCK_UN)
            self._names.update(new)

    def touch(self, key: str) -> None:
        """A record was of use, which nobody needs to be told before the end."""
        self._keys.add(key)

    def remember(self) -> None:
        """Write into the database when all of this was used last, coarsely (`GRAIN`). A cached build seldom writes."""
        now = int(time.time())
        names = sorted(self._names | self._keys)
        fresh: set[str] = set()
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._database.all(f"SELECT name FROM used WHERE name IN ({marks}) AND at > ?", *some, now - GRAIN)
            fresh.update(row[0] for row in rows)
        stale = [(name, now) for name in names if name not in fresh]
        if stale:
            with self._database.write() as connection:
                connection.executemany("INSERT OR REPLACE INTO used (name, at) VALUES (?, ?)", stale)

    def close(self) -> None:
        """The lease ends, and with it what this process uses."""
        with self._lock:
            for fd in (self._file, self._gate):
                if fd >= 0:
                    os.close(fd)
            self._file = self._gate = -1

    def _open(self) -> None:
        if self._file < 0:
            folder = self._lease.folder()
            if self._gate < 0:
                self._gate = os.open(os.path.dirname(folder), _FOLDER)
            self._file = os.open(os.path.join(folder, FILE), _APPEND, 0o600)

    def _write(self, names: list[str]) -> None:
        data = "".join(f"{name}\n" for name in names).encode()
        written = os.write(self._file, data)
        while written < len(data):
            written += os.write(self._file, data[written:])


def in_use(tmp: str) -> set[str]:
    """The names that living processes have written, and such as were killed a moment ago. Exact under the gate."""
    names: set[str] = set()
    for lease in os.listdir(tmp):
        try:
            with open(os.path.join(tmp, lease, FILE), encoding="ascii", errors="replace") as file:
                names.update(file.read().split("\n"))
        except (FileNotFoundError, NotADirectoryError):
            continue  # It has named nothing yet, or has just ended.
    names.discard("")
    return names


class Gate:
    """While it is shut nobody names anything. Never wait for a lock or a transaction meanwhile."""

    def __init__(self, tmp: str) -> None:
        self._tmp = tmp
        self._fd = -1

    def shut(self) -> None:
        self._fd = os.open(self._tmp, _FOLDER)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def open(self) -> None:
        """Harmless where it is open already."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
