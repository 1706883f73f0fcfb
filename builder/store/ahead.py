"""What a build is going to ask for, read at once: a cached build would put five small questions for each step else."""

from __future__ import annotations

from builder.layers.ownerform import form

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.store.database import Database, Row
    from builder.store.uses import Uses

_AT_ONCE = 500
"""Keys in one statement; sqlite takes 32,766 values."""


class Ahead:
    """The rows that a build will look up, as they were once their layers were in use. For several threads.

    Each counts for one look-up: who asks again wants to know what became of it meanwhile.
    """

    def __init__(self, database: Database, uses: Uses) -> None:
        self._database = database
        self._uses = uses
        self._rows: dict[str, Row] = {}
        self._sizes: dict[str, int] = {}
        self._renderings: dict[tuple[str, str], Row] = {}

    def read(self, keys: Sequence[str]) -> None:
        """Read the records of these keys. Those that are not there are asked for as if this had not been called."""
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            layers = self._database.all(f"SELECT diff_id FROM records WHERE key IN ({marks}) AND diff_id IS NOT NULL", *some)
            # In use first, and looked for then: what is read now stays.
            self._uses.add_all(row[0] for row in layers)
            rows = self._database.all(
                "SELECT key, size, preimage, r.diff_id, created,"
                " (SELECT min(id) FROM snapshots s WHERE s.diff_id = r.diff_id AND s.owners = ?)"
                f" FROM records r LEFT JOIN layers l ON l.diff_id = r.diff_id WHERE key IN ({marks})",
                form(),
                *some,
            )
            for key, size, *row in rows:
                if size is not None:
                    self._sizes[row[1]] = size
                if size is not None or row[1] is None:
                    self._rows[key] = tuple(row)

    def read_renderings(self, diff_ids: Sequence[str], form: str) -> None:
        """The same of the blobs that layers are in one compressed form."""
        for start in range(0, len(diff_ids), _AT_ONCE):
            some = diff_ids[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT diff_id, digest, size FROM renderings WHERE form = ? AND diff_id IN ({marks})"
            names = [*some, *(row[1] for row in self._database.all(query, form, *some))]
            self._uses.add_all(names)
            for diff_id, *row in self._database.all(query, form, *some):
                self._renderings[diff_id, form] = tuple(row)

    def record(self, key: str) -> Row | None:
        """What `Records.lookup` asks of the key: preimage, diff ID, time and a snapshot of ours; None where it was not read."""
        return self._rows.pop(key, None)

    def rendering(self, diff_id: str, form: str) -> Row | None:
        """Digest and size of the blob, likewise."""
        return self._renderings.pop((diff_id, form), None)

    def size(self, diff_id: str) -> int | None:
        """The size of a layer, which never changes; None where it was not read."""
        return self._sizes.get(diff_id)
