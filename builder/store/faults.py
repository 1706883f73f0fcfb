"""What the disk and the database can do to the store, told as a `StoreError`."""

from __future__ import annotations

import errno
import os

from builder.errors import StoreError
from builder.store import sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS,)
_DENIED = (errno.EACCES, errno.EPERM)

# Primary result codes (sqlite.org/rescode.html); the extended ones carry them in the low byte.
_FULL_DATABASE = 13
_INPUT_OUTPUT = 10
_CORRUPT = (11, 26, 1)
"""CORRUPT, NOTADB, and ERROR: our statements are right, so that a missing table or column is a damaged schema."""
_NOT_WRITABLE = (8, 14, 3)
"""READONLY, CANTOPEN, PERM."""
_HELD = (5, 6)
"""BUSY, LOCKED."""


class Faults:
    """``with faults:`` turns a full, read-only or corrupt disk into a StoreError; other OSErrors pass as they are."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError):
            told = self._of_system(error)
        elif isinstance(error, sqlite.Error):
            told = self._of_database(error)
        else:
            return
        if told is not None:
            raise told from error

    def full(self) -> StoreError:
        return StoreError(
            f"no space left in the store {self.root}",
            hint="free some space: pybuild prune, or elsewhere on its file system; or choose another place with --root;"
            " what the store holds is intact",
        )

    def read_only(self) -> StoreError:
        return StoreError(
            f"the store {self.root} cannot be written",
            hint="its file system is read-only or its permissions forbid it: choose another place with --root",
        )

    def newer(self) -> StoreError:
        return StoreError(
            f"the store {self.root} was written by a newer pybuild",
            hint="use that pybuild, or choose another place with --root",
        )

    def corrupt(self, reason: str) -> StoreError:
        path = os.path.join(self.root, "db.sqlite")
        return StoreError(
            f"the store's database {path} is corrupt: {reason}",
            hint="its cache records can be made again by building, its image names cannot: copy db.sqlite, db.sqlite-wal and "
            f"db.sqlite-shm to a safe place, try 'sqlite3 {path} .recover' on the copy to read the names, then remove the "
            "three files; the next build makes a new database",
        )

    def _of_system(self, error: OSError) -> StoreError | None:
        if error.errno in FULL:
            return self.full()
        if error.errno in _READ_ONLY:
            return self.read_only()
        if error.errno in _DENIED and isinstance(error.filename, str) and error.filename.startswith(self.root):
            return self.read_only()
        return None

    def _of_database(self, error: sqlite.Error) -> StoreError | None:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return None  # Our own misuse of the module: a bug, to be seen as one.
        primary = code & 0xFF
        if primary == _FULL_DATABASE:
            return self.full()
        if primary in _CORRUPT:
            return self.corrupt(str(error))
        if primary in _NOT_WRITABLE:
            return self._disk_or(self.read_only())
        if primary in _HELD:
            return StoreError(
                f"another process has held the store {self.root} for too long",
                hint="end the other pybuild processes that use this store, or try again",
            )
        if primary == _INPUT_OUTPUT:
            return self._disk_or(StoreError(f"the store's database in {self.root} cannot be read or written: {error}"))
        return None

    def _disk_or(self, other: StoreError) -> StoreError:
        # A full disk shows as an I/O error where sqlite grows its shared memory file or creates the WAL.
        space = os.statvfs(self.root)
        return self.full() if space.f_bavail == 0 or space.f_favail == 0 < space.f_files else other
