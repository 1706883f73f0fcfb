"""What survives a power cut: marks on what is not surely on the disk yet, one syncfs(2) for all of it, and recovery.

Folders and indexes are renamed into place without a sync each. Whatever was recorded since the last `sync` carries the
boot id; a changed boot id means that the page cache is gone, and what carries another one is dropped whole.
"""

from __future__ import annotations

import os

from builder.store.files import move_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from builder.store import sqlite
    from builder.store.database import Database
    from builder.store.lease import Lease

    Marked = Literal["record", "layer", "snapshot", "failed"]


def current_boot_id() -> str:
    """The kernel's random(4) boot_id: another one after each boot."""
    fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 100).decode("ascii").strip()
    finally:
        os.close(fd)


class Durability:
    def __init__(self, root: str, database: Database, boot: str) -> None:
        self._root = root
        self._database = database
        self._boot = boot

    def mark(self, connection: sqlite.Connection, kind: Marked, name: str) -> None:
        """Inside a write transaction: say that `name` is not on the disk yet."""
        connection.execute("INSERT INTO unsynced (boot, kind, name) VALUES (?, ?, ?)", (self._boot, kind, name))

    def sync(self) -> None:
        """Put all that is recorded on the disk; nothing happens where all is there already. Raises StoreError."""
        row = self._database.one("SELECT max(id) FROM unsynced")
        if row is None or row[0] is None:
            return
        # What other processes record from here on has higher ids and keeps its marks.
        with self._database.faults:
            sync_file_system(self._root)
        with self._database.write() as connection:
            connection.execute("DELETE FROM unsynced WHERE id <= ?", (row[0],))

    def recovered(self) -> bool:
        """Whether this boot's first open has looked after the last boot's end."""
        row = self._database.one("SELECT value FROM meta WHERE name = 'boot'")
        return row is not None and row[0] == self._boot

    def recover(self, lease: Lease) -> None:
        """Drop what another boot recorded and never synced, and folders and indexes that no row names.

        Those stem from a process killed between a rename and its commit. Both the renames and the rows are made under the
        write lock, so that what is seen here without a row belongs to nobody; or to who has deleted the row and is about to
        take the file away (`builder.store.collect`), which may happen first.
        """
        from builder.store import failed  # once a boot

        with lease.scratch() as grave, self._database.write() as connection:
            stale = connection.execute("SELECT kind, name FROM unsynced WHERE boot <> ?", (self._boot,)).fetchall()
            for kind, name in stale:
                connection.execute(_DELETE[kind], (name,))
            connection.execute("DELETE FROM unsynced WHERE boot <> ?", (self._boot,))
            snapshots = {str(row[0]) for row in connection.execute("SELECT id FROM snapshots")}
            for name in os.listdir(os.path.join(self._root, "snapshots")):
                if name not in snapshots:
                    _bury(os.path.join(self._root, "snapshots", name), os.path.join(grave, name))
            failed.recover(self._root, grave, connection)
            indexes = {row[0] for row in connection.execute("SELECT diff_id FROM layers")}
            for name in os.listdir(os.path.join(self._root, "index")):
                if name not in indexes:
                    _bury(os.path.join(self._root, "index", name), os.path.join(grave, name))
            connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('boot', ?)", (self._boot,))


def _bury(path: str, grave: str) -> None:
    try:
        move_folder(path, grave)
    except FileNotFoundError:
        return


_DELETE = {
    "record": "DELETE FROM records WHERE key = ?",
    "layer": "DELETE FROM layers WHERE diff_id = ?",
    "snapshot": "DELETE FROM snapshots WHERE id = ?",
    "failed": "DELETE FROM failed WHERE id = ?",
}


def sync_file_system(path: str) -> None:
    """syncfs(2) on the file system of `path`. Raises OSError."""
    # Not at the top: a cached build records nothing, and ctypes costs 4 ms.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)
