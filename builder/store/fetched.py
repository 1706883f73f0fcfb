"""What came from the network: which blob a URL gave, and which ones a commit. All of it can be fetched again.

The blobs are on the disk before a row names them; a row whose blob is gone counts as absent.
"""

from __future__ import annotations

from builder.oci.digest import Digest
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.store.blobs import Blobs
    from builder.store.database import Database


class Download(NamedTuple):
    """A file that was downloaded, and what its server said of it; texts are empty where it said nothing."""

    digest: Digest
    name: str
    """From Content-Disposition."""
    etag: str
    modified: str
    """Last-Modified, as it was sent."""
    mtime: int
    """The same in ns since 1970; 0 for none."""


class Checkout(NamedTuple):
    """The files of a commit: the blobs of their entries (`layers.index.dump_index`) and of all their contents in a row."""

    entries: Digest
    contents: Digest


class FetchedThings:
    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    def download(self, key: str) -> Download | None:
        row = self._database.one("SELECT digest, name, etag, modified, mtime FROM downloads WHERE key = ?", key)
        if row is None:
            return None
        found = Download(Digest.parse(row[0]), *row[1:])
        return found if self._blobs.has(found.digest) else None

    def put_download(self, key: str, download: Download) -> None:
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO downloads (key, digest, name, etag, modified, mtime) VALUES (?, ?, ?, ?, ?, ?)",
                (key, str(download.digest), *download[1:]),
            )

    def checkout(self, key: str) -> Checkout | None:
        row = self._database.one("SELECT entries, contents FROM checkouts WHERE key = ?", key)
        if row is None:
            return None
        found = Checkout(Digest.parse(row[0]), Digest.parse(row[1]))
        return found if self._blobs.has(found.entries) and self._blobs.has(found.contents) else None

    def put_checkout(self, key: str, checkout: Checkout) -> None:
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO checkouts (key, entries, contents) VALUES (?, ?, ?)",
                (key, str(checkout.entries), str(checkout.contents)),
            )
