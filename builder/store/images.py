"""Images: names for config digests. They cannot be made again from anything else, and are on the disk at once."""

from __future__ import annotations

import time

from builder import canonical
from builder.errors import UsageError
from builder.oci.digest import Descriptor, Digest
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.store.database import Database, Row

SHORTEST_ID = 4
"""Digits of an id that a person must give at least."""


class ImageRecord(NamedTuple):
    """An image of the store. `name` is normalised, and empty for one that was kept without a name."""

    name: str
    config: Digest
    created: int
    """When it got this name, in seconds since 1970."""
    blobs: tuple[Descriptor | None, ...] | None = None
    """The blobs that its lowest layers came in, None for one that we pack; None for an image that an older pybuild kept."""


class Images:
    def __init__(self, database: Database) -> None:
        self._database = database

    def tag(self, name: str, config: Digest, blobs: Sequence[Descriptor | None] | None) -> None:
        """Give an image a name. Another that had it is kept, without a name if it has no other, as Docker keeps it. An empty
        name keeps the image without one."""
        packed = (
            None if blobs is None else canonical.dumps([blob and (*blob[:1], str(blob.digest), blob.size) for blob in blobs])
        )
        held = "SELECT 1 FROM images WHERE config = ? AND (name = ? AND blobs IS ? OR ? = '')"
        if self._database.one(held, str(config), name, packed, name) is not None:
            return  # A cached build that tags the same image again costs no sync of the disk.
        with self._database.write(durable=True) as connection:
            # An image that has a name is not listed as nameless too.
            connection.execute("DELETE FROM images WHERE config = ? AND name IN ('', ?)", (str(config), name))
            loser = connection.execute(
                "SELECT config, created, blobs FROM images WHERE name = ? AND name <> ''", (name,)
            ).fetchone()
            if loser is not None:
                connection.execute("DELETE FROM images WHERE name = ?", (name,))
                connection.execute(
                    "INSERT INTO images (name, config, created, blobs) SELECT '', ?, ?, ?"
                    " WHERE NOT EXISTS (SELECT 1 FROM images WHERE config = ?)",
                    (*loser, loser[0]),
                )
            connection.execute(
                "INSERT INTO images (name, config, created, blobs) VALUES (?, ?, ?, ?)",
                (name, str(config), int(time.time()), packed),
            )

    def annotations(self, config: Digest) -> dict[str, str]:
        row = self._database.one("SELECT annotations FROM annotations WHERE config = ?", str(config))
        return {} if row is None else dict(canonical.loads(row[0]))

    def annotate(self, config: Digest, annotations: Mapping[str, str]) -> None:
        if self.annotations(config) == annotations:
            return
        with self._database.write() as connection:
            # Those of images that are gone go with them.
            forget = "DELETE FROM annotations WHERE config = ? OR config NOT IN (SELECT config FROM images)"
            connection.execute(forget, (str(config),))
            if annotations:
                text = canonical.dumps(dict(annotations))
                connection.execute("INSERT INTO annotations (config, annotations) VALUES (?, ?)", (str(config), text))

    def untag(self, name: str) -> bool:
        with self._database.write(durable=True) as connection:
            return connection.execute("DELETE FROM images WHERE name = ? AND name <> ''", (name,)).rowcount > 0

    def remove(self, config: Digest) -> list[str]:
        """Forget an image with all its names; the names it had."""
        with self._database.write(durable=True) as connection:
            rows = connection.execute("SELECT name FROM images WHERE config = ? ORDER BY name", (str(config),)).fetchall()
            connection.execute("DELETE FROM images WHERE config = ?", (str(config),))
            return [row[0] for row in rows]

    def all(self) -> list[ImageRecord]:
        """All images, by name; those without a name first."""
        return [
            _record(row) for row in self._database.all("SELECT name, config, created, blobs FROM images ORDER BY name, config")
        ]

    def find(self, wanted: str) -> ImageRecord | None:
        """An image by its name, or by the first digits of its id, with or without `sha256:`.

        Raises UsageError where several images' ids begin so.
        """
        if not wanted:
            return None
        row = self._database.one("SELECT name, config, created, blobs FROM images WHERE name = ?", wanted)
        if row is not None:
            return _record(row)
        digits = wanted.removeprefix("sha256:")
        if not SHORTEST_ID <= len(digits) <= 64 or digits.strip("0123456789abcdef"):
            return None
        # A range, not LIKE: it uses the index on `config`; "g" is beyond every hexadecimal digit.
        rows = self._database.all(
            "SELECT name, config, created, blobs FROM images WHERE config >= ? AND config < ? ORDER BY config, name",
            f"sha256:{digits}",
            f"sha256:{digits}g",
        )
        configs = {row[1] for row in rows}
        if len(configs) > 1:
            raise UsageError(
                f"'{wanted}' is not enough to tell {len(configs)} images apart", hint=f"they are {', '.join(sorted(configs))}"
            )
        return _record(rows[0]) if rows else None


def _record(row: Row) -> ImageRecord:
    blobs = None if row[3] is None else tuple(blob and _descriptor(*blob) for blob in canonical.loads(row[3]))
    return ImageRecord(row[0], Digest.parse(row[1]), int(row[2]), blobs)


def _packed(blob: Descriptor) -> tuple[str, str, int]:
    return blob.media_type, str(blob.digest), blob.size


def _descriptor(media_type: str, digest: str, size: int) -> Descriptor:
    return Descriptor(media_type, Digest.parse(digest), size)
