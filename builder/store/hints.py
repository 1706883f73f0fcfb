"""What was read of the files of contexts (`builder.context.hints`), a row for each folder. All of it can be made again.

Rows are of this boot alone: after a power cut a file may have its old times and another content.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.store.database import Database

PLACES = 16
"""Contexts that are remembered; beyond it those go that were written longest ago."""


class FileHints:
    def __init__(self, database: Database, boot: str) -> None:
        self._database = database
        self._boot = boot

    def load_folders(self, root: bytes, folders: Sequence[bytes]) -> dict[bytes, bytes]:
        """What was saved for those of its folders that something was saved for; at most 1,000 are asked for."""
        sql = (
            "SELECT folder, files FROM hints WHERE place = (SELECT id FROM hinted WHERE boot = ? AND root = ?)"
            f" AND folder IN ({','.join('?' * len(folders))})"
        )
        return {bytes(folder): bytes(files) for folder, files in self._database.all(sql, self._boot, root, *folders)}

    def save(self, root: bytes, folders: Iterable[tuple[bytes, bytes]]) -> None:
        """Replace the rows of these folders, each given with its bytes."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO hinted (boot, root, used) VALUES (?, ?, (SELECT coalesce(max(used), 0) + 1 FROM hinted))"
                " ON CONFLICT (boot, root) DO UPDATE SET used = excluded.used",
                (self._boot, root),
            )
            (place,) = connection.execute("SELECT id FROM hinted WHERE boot = ? AND root = ?", (self._boot, root)).fetchone()
            connection.executemany(
                "INSERT OR REPLACE INTO hints (place, folder, files) VALUES (?, ?, ?)",
                ((place, folder, files) for folder, files in folders),
            )
            gone = connection.execute(
                "DELETE FROM hinted WHERE boot <> ? OR id NOT IN (SELECT id FROM hinted ORDER BY used DESC LIMIT ?)",
                (self._boot, PLACES),
            )
            if gone.rowcount:
                connection.execute("DELETE FROM hints WHERE place NOT IN (SELECT id FROM hinted)")

    def forget(self, root: bytes) -> None:
        with self._database.write() as connection:
            mine = "(SELECT id FROM hinted WHERE boot = ? AND root = ?)"
            connection.execute(f"DELETE FROM hints WHERE place = {mine}", (self._boot, root))
