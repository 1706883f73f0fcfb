"""The cache: what a step with a given key gave, parsed Dockerfiles, what a COPY took. All of it can be made again."""

from __future__ import annotations

import time

from builder.errors import BuildError
from builder.layers.ownerform import form
from builder.oci.digest import Digest
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from builder.store.ahead import Ahead
    from builder.store.database import Database, Row
    from builder.store.durability import Durability
    from builder.store.layers import Layers
    from builder.store.uses import Uses

AST_LIMIT = 1000
"""Parsed Dockerfiles that are kept; beyond it the oldest go."""
LISTING_LIMIT = 300
"""Listings that are kept; beyond it the oldest go."""


class Record(NamedTuple):
    """The result of a step."""

    key: str
    preimage: bytes
    """The text that `key` is the hash of."""
    diff_id: Digest | None
    """None: the step changed no file."""
    created: int = 0
    """Seconds since 1970; the store sets it."""


def remembered(database: Database, key: str) -> Record | None:
    """The record of a key, whatever became of its layer. Raises StoreError for one that is damaged."""
    row = database.one("SELECT preimage, diff_id, created FROM records WHERE key = ?", key)
    if row is None:
        return None
    preimage, diff_id, created = row
    try:
        return Record(key, preimage, None if diff_id is None else Digest.parse(diff_id), created)
    except BuildError as error:
        raise database.faults.corrupt(f"a record of the cache: {error.message}") from error


class Records:
    def __init__(self, database: Database, layers: Layers, durability: Durability, uses: Uses, ahead: Ahead) -> None:
        self._database = database
        self._ahead = ahead
        self._listed: set[str] | None = None
        self._layers = layers
        self._durability = durability
        self._uses = uses

    def lookup(self, key: str) -> Record | None:
        """The record of a key. One whose layer has lost its index or all its forms does not count."""
        row = self._ahead.record(key)
        return self._found(key, row) if row is not None else self._asked(key)

    def _asked(self, key: str) -> Record | None:
        row = self._database.one(
            "SELECT preimage, diff_id, created,"
            " (SELECT min(id) FROM snapshots s WHERE s.diff_id = r.diff_id AND s.owners = ?)"
            " FROM records r WHERE key = ? AND (diff_id IS NULL OR diff_id IN (SELECT diff_id FROM layers))",
            form(),
            key,
        )
        return None if row is None else self._found(key, row)

    def _found(self, key: str, row: Row) -> Record | None:
        preimage, diff_id, created, snapshot = row
        self._uses.touch(key)
        if diff_id is None:
            return Record(key, preimage, None, created)
        if not self._layers.is_whole(diff_id, snapshot):
            return None
        return Record(key, preimage, Digest.parse(diff_id), created)

    def remembered(self, key: str) -> Record | None:
        """The record of a key, also one that does not count any more."""
        return remembered(self._database, key)

    def put(self, record: Record, *, replace: bool = False) -> Record:
        """Record a result and return what counts: the first one wins, as long as its layer is there; with `replace` the new."""
        self._uses.touch(record.key)
        # What was read before is not what counts from here on.
        self._ahead.record(record.key)
        with self._database.write() as connection:
            existing = None if replace else self._asked(record.key)
            if existing is not None:
                return existing
            new = record._replace(created=int(time.time()))
            connection.execute(
                "INSERT OR REPLACE INTO records (key, preimage, diff_id, created) VALUES (?, ?, ?, ?)",
                (new.key, new.preimage, None if new.diff_id is None else str(new.diff_id), new.created),
            )
            self._durability.mark(connection, "record", new.key)
            return new

    def ast(self, key: str) -> bytes | None:
        row = self._database.one("SELECT data FROM asts WHERE key = ?", key)
        return None if row is None else row[0]

    def put_ast(self, key: str, data: bytes) -> None:
        with self._database.write() as connection:
            new = connection.execute("INSERT OR REPLACE INTO asts (key, data) VALUES (?, ?)", (key, data)).lastrowid or 0
            connection.execute("DELETE FROM asts WHERE id <= ?", (new - AST_LIMIT,))

    def has_listing(self, content: str) -> bool:
        if self._listed is None:
            self._listed = {row[0] for row in self._database.all("SELECT content FROM listings")}
        return content in self._listed

    def listings(self, contents: Collection[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        wanted = list(contents)
        for start in range(0, len(wanted), LISTING_LIMIT):
            some = wanted[start : start + LISTING_LIMIT]
            marks = ",".join("?" * len(some))
            rows = self._database.all(f"SELECT content, files FROM listings WHERE content IN ({marks})", *some)
            found.update(dict(rows))
        return found

    def put_listing(self, content: str, files: str) -> None:
        insert = "INSERT OR REPLACE INTO listings (content, files) VALUES (?, ?)"
        with self._database.write() as connection:
            new = connection.execute(insert, (content, files)).lastrowid or 0
            connection.execute("DELETE FROM listings WHERE id <= ?", (new - LISTING_LIMIT,))
        if self._listed is not None:
            self._listed.add(content)
