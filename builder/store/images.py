"""Images: names for config digests. They cannot be made again from anything else, and are on the disk at once.

A name stands for one image, or for images of several platforms: those of an index that was built or pulled whole, or what was
pulled of one so far.
"""

from __future__ import annotations

import os
import time

from builder import canonical
from builder.errors import UsageError
from builder.oci.digest import Descriptor, Digest
from builder.oci.platform import Platform
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.store.database import Database, Row
    from builder.store.sqlite import Connection

SHORTEST_ID = 4
"""Digits of an id that a person must give at least."""

_COLUMNS = (
    "name, config, created, blobs, platform, source,"
    " EXISTS (SELECT 1 FROM indexes WHERE indexes.digest = images.source) FROM images"
)


class ImageRecord(NamedTuple):
    """An image of the store. `name` is normalised, and empty for one that was kept without a name."""

    name: str
    config: Digest
    created: int
    """When it got this name, in seconds since 1970."""
    blobs: tuple[Descriptor | None, ...] | None = None
    """The blobs that its lowest layers came in, None for one that we pack; None for an image that an older pybuild kept."""
    platform: str = ""
    """For which of several platforms the name stands for it; empty where it stands for this image alone."""
    source: str = ""
    """The digest of the index, or manifest, that it was made or pulled as part of; empty for none."""
    whole: bool = False
    """The index `source` is in the store with all that it names."""


class Member(NamedTuple):
    """An image that a name is to stand for; fields as in `ImageRecord`."""

    config: Digest
    blobs: Sequence[Descriptor | None] | None = ()
    platform: str = ""
    source: str = ""


class Images:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, name: str, members: Sequence[Member], index: Iterable[Digest] | None = None) -> None:
        """Let a name stand for these images, one for each platform. Others that had it are kept, without a name if they have no
        other, as Docker keeps them. An empty name keeps the images without one.

        `index` says that their source is an index which is here whole: the digests of all blobs that it needs."""
        wanted = [(str(m.config), _packed(m.blobs), m.platform, m.source) for m in members]
        source = members[0].source
        known = index is None or self._database.one("SELECT 1 FROM indexes WHERE digest = ?", source) is not None
        if known and self._holds(name, wanted):
            return  # A cached build that tags the same image again costs no sync of the disk.
        now = int(time.time())
        with self._database.write(durable=True) as connection:
            losers = []
            if name:
                found = "SELECT config, created, blobs FROM images WHERE name = ?"
                losers = connection.execute(found, (name,)).fetchall()
                connection.execute("DELETE FROM images WHERE name = ?", (name,))
            # An image that has a name is not listed as nameless too.
            dropped = "DELETE FROM images WHERE config = ? AND name = '' AND source IN ('', ?)"
            connection.executemany(dropped, [(config, source) for config, _, _, source in wanted])
            for config, packed, platform, source in wanted:
                row = (name, config, now, packed, platform, source)
                connection.execute(
                    "INSERT INTO images (name, config, created, blobs, platform, source) VALUES (?, ?, ?, ?, ?, ?)", row
                )
            for loser in losers:
                connection.execute(
                    "INSERT INTO images (name, config, created, blobs) SELECT '', ?, ?, ?"
                    " WHERE NOT EXISTS (SELECT 1 FROM images WHERE config = ?)",
                    (*loser, loser[0]),
                )
            if index is not None:
                needed = canonical.dumps([str(blob) for blob in index])
                connection.execute("INSERT OR REPLACE INTO indexes (digest, blobs) VALUES (?, ?)", (source, needed))
            _forget_indexes(connection)

    def _holds(self, name: str, wanted: Sequence[tuple[str, str | None, str, str]]) -> bool:
        if not name:
            held = "SELECT 1 FROM images WHERE config = ? AND ? IN ('', source)"
            return all(self._database.one(held, config, source) is not None for config, _, _, source in wanted)
        rows = self._database.all("SELECT config, blobs, platform, source FROM images WHERE name = ?", name)
        return {tuple(row) for row in rows} == set(wanted)

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

    def request(self, config: Digest) -> str:
        row = self._database.one("SELECT request FROM requests WHERE config = ?", str(config))
        return "" if row is None else str(row[0])

    def put_request(self, config: Digest, text: str) -> None:
        if self.request(config) == text:
            return
        with self._database.write() as connection:
            # Those of images that are gone go with them.
            forget = "DELETE FROM requests WHERE config = ? OR config NOT IN (SELECT config FROM images)"
            connection.execute(forget, (str(config),))
            connection.execute("INSERT INTO requests (config, request) VALUES (?, ?)", (str(config), text))

    def untag(self, name: str) -> bool:
        with self._database.write(durable=True) as connection:
            gone = connection.execute("DELETE FROM images WHERE name = ? AND name <> ''", (name,)).rowcount > 0
            _forget_indexes(connection)
            return gone

    def remove(self, config: Digest) -> list[str]:
        """Forget an image with all its names; the names it had."""
        with self._database.write(durable=True) as connection:
            rows = connection.execute("SELECT name FROM images WHERE config = ? ORDER BY name", (str(config),)).fetchall()
            connection.execute("DELETE FROM images WHERE config = ?", (str(config),))
            _forget_indexes(connection)
            return [row[0] for row in rows]

    def all(self) -> list[ImageRecord]:
        """All images, by name; those without a name first."""
        return [_record(row) for row in self._database.all(f"SELECT {_COLUMNS} ORDER BY name, platform, config")]

    def find(self, wanted: str, platform: Platform | None = None) -> ImageRecord | None:
        """An image by its name, or by the first digits of its id or its index's, with or without `sha256:`; of several
        platforms the one that is best for `platform`, or for this machine.

        Raises UsageError where several images' ids begin so.
        """
        found = self.find_all(wanted)
        return best(found, platform) if found else None

    def find_all(self, wanted: str) -> list[ImageRecord]:
        """The same: all that the name, or the index of this id, stands for."""
        if not wanted:
            return []
        rows = self._database.all(f"SELECT {_COLUMNS} WHERE name = ? ORDER BY platform", wanted)
        digits = wanted.removeprefix("sha256:")
        if rows or not SHORTEST_ID <= len(digits) <= 64 or digits.strip("0123456789abcdef"):
            return [_record(row) for row in rows]
        # A range, not LIKE: it uses the index on the column; "g" is beyond every hexadecimal digit.
        bounds = (f"sha256:{digits}", f"sha256:{digits}g")
        sql = f"SELECT {_COLUMNS} WHERE %s >= ? AND %s < ? ORDER BY name, platform"
        images = [_record(row) for row in self._database.all(sql % ("config", "config"), *bounds)]
        members = [one for row in self._database.all(sql % ("source", "source"), *bounds) if (one := _record(row)).whole]
        ids = sorted({*(str(one.config) for one in images), *(one.source for one in members)})
        if len(ids) > 1:
            raise UsageError(f"'{wanted}' is not enough to tell {len(ids)} images apart", hint=f"they are {', '.join(ids)}")
        # One image, whatever it is called; of an index what one of its names stands for.
        return images[:1] or [one for one in members if one.name == members[0].name]


def best(records: Sequence[ImageRecord], platform: Platform | None = None) -> ImageRecord:
    """What `platform` runs best of the images that a name stands for, or this machine; the first one where it runs none."""
    if len(records) == 1:
        return records[0]
    wanted = platform or Platform.of_machine(os.uname().machine)
    ranks = {str(each): rank for rank, each in enumerate(wanted.compatible())}
    return min(records, key=lambda one: ranks.get(one.platform, len(ranks)))


def _forget_indexes(connection: Connection) -> None:
    connection.execute("DELETE FROM indexes WHERE digest NOT IN (SELECT source FROM images)")


def _record(row: Row) -> ImageRecord:
    blobs = None if row[3] is None else tuple(blob and _descriptor(*blob) for blob in canonical.loads(row[3]))
    return ImageRecord(row[0], Digest.parse(row[1]), int(row[2]), blobs, row[4], row[5], bool(row[6]))


def _packed(blobs: Sequence[Descriptor | None] | None) -> str | None:
    return None if blobs is None else canonical.dumps([blob and (*blob[:1], str(blob.digest), blob.size) for blob in blobs])


def _descriptor(media_type: str, digest: str, size: int) -> Descriptor:
    return Descriptor(media_type, Digest.parse(digest), size)
