"""A look into a store that leaves everything in it as it is: no folder is made, no lock or log is written.

For commands that only want to know. Does not protect against a store that another process changes meanwhile: what is gone is
as if it had never been there.
"""

from __future__ import annotations

import hashlib
import os

from builder.errors import StoreError
from builder.store import schema
from builder.store.database import Database
from builder.store.faults import Faults
from builder.store.files import read_file
from builder.store.images import Images
from builder.store.layout import is_current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.store.builds import Build
    from builder.store.failed import FailedStep
    from builder.store.images import ImageRecord
    from builder.store.records import Record
    from builder.store.usage import Sized


class Peek:
    """The images of the store at `root`; none where there is no store. Raises StoreError for one of a newer version."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        faults = Faults(self._root)
        is_current(self._root)
        path = os.path.join(self._root, "db.sqlite")
        readable = schema.peek(path, faults) == schema.VERSION
        self._database = _opened(path, faults) if readable else None

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    @property
    def readable(self) -> bool:
        """False where there is no store, and for one of an older version."""
        return self._database is not None

    def contents(self) -> list[Sized]:
        """Everything that takes space in the store. Raises StoreError where an image's config cannot be read."""
        from builder.store.descriptions import record_text
        from builder.store.inventory import take
        from builder.store.needs import Images
        from builder.store.usage import measure
        from builder.store.uses import in_use

        if self._database is None:
            return []
        names = in_use(os.path.join(self._root, "tmp"))
        sized = measure(self._root, take(self._root, self._database, Images(self._root), names))
        texts = record_text(
            self._database.all("SELECT diff_id, preimage FROM records WHERE diff_id IS NOT NULL ORDER BY created")
        )
        return [
            one._replace(thing=one.thing._replace(description=texts[one.thing.id])) if texts.get(one.thing.id) else one
            for one in sized
        ]

    def builds(self, limit: int, *, place: str | None = None, path: str | None = None) -> list[Build]:
        """As `Store.builds`."""
        from builder.store.builds import Builds

        return Builds(self._root, Faults(self._root)).last(limit, place=place, path=path)

    def remembered(self, key: str) -> Record | None:
        """As `Store.remembered`."""
        from builder.store.records import remembered

        return remembered(self._database, key) if self._database is not None else None

    def find_failed(self, key: str) -> FailedStep | None:
        """As `Store.find_failed`."""
        from builder.store.failed import kept

        steps = kept(self._root, self._database) if self._database is not None else []
        return next((step for step in steps if step.key == key), None)

    def find_image(self, wanted: str, platform: Platform | None = None) -> ImageRecord | None:
        """As `Store.find_image`."""
        return Images(self._database).find(wanted, platform) if self._database is not None else None

    def read_blob(self, digest: Digest) -> bytes | None:
        """The content of a small blob; None where it is missing or damaged."""
        try:
            data = read_file(os.path.join(self._root, "blobs", digest.algorithm, digest.hex))
        except FileNotFoundError:
            return None
        return data if hashlib.new(digest.algorithm, data).hexdigest() == digest.hex else None


def look(root: str) -> Peek:
    """A look into the store at `root`. One of an older version is led to ours first, as by any command."""
    peek = Peek(root)
    if not peek.readable and os.path.exists(os.path.join(root, "VERSION")):
        from builder.store.store import Store

        peek.close()
        Store(root).close()
        peek = Peek(root)
    return peek


def _opened(path: str, faults: Faults) -> Database:
    try:
        database = Database(path, faults, read_only=True)
        database.one("SELECT 1 FROM meta")
        return database
    except StoreError:
        # On a full disk, or a read-only one, no shared memory can be made beside a log. An empty log is not missed.
        return Database(path, faults, read_only=True, frozen=True)
