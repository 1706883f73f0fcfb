"""A look into a store that leaves everything in it as it is: no folder is made, no lock or log is written.

For commands that only want to know. Does not protect against a store that another process changes meanwhile: what is gone is
as if it had never been there.
"""

from __future__ import annotations

import hashlib
import os

from builder.store import schema
from builder.store.database import Database
from builder.store.faults import Faults
from builder.store.files import read_file
from builder.store.images import Images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.oci.digest import Digest
    from builder.store.images import ImageRecord


class Peek:
    """The images of the store at `root`; none where there is no store. Raises StoreError for one of a newer version."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        faults = Faults(self._root)
        path = os.path.join(self._root, "db.sqlite")
        readable = schema.peek(path, faults) == schema.VERSION
        self._database = Database(path, faults, read_only=True) if readable else None

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def find_image(self, wanted: str) -> ImageRecord | None:
        """As `Store.find_image`."""
        return Images(self._database).find(wanted) if self._database is not None else None

    def read_blob(self, digest: Digest) -> bytes | None:
        """The content of a small blob; None where it is missing or damaged."""
        try:
            data = read_file(os.path.join(self._root, "blobs", digest.algorithm, digest.hex))
        except FileNotFoundError:
            return None
        return data if hashlib.new(digest.algorithm, data).hexdigest() == digest.hex else None
