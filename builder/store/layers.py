"""Layers: their index, their folder form (snapshots), their tar forms (blobs), and whether any form is there."""

from __future__ import annotations

import os

from builder.errors import StoreError
from builder.hashing import sha256
from builder.layers.ownerform import form
from builder.oci.digest import Descriptor, Digest
from builder.store.files import move_folder, read_file, write_file
from builder.store.removal import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.store import sqlite
    from builder.store.ahead import Ahead
    from builder.store.blobs import Blobs
    from builder.store.database import Database
    from builder.store.durability import Durability
    from builder.store.indexfile import IndexFile
    from builder.store.lease import Lease
    from builder.store.uses import Uses


def foreign_index(chain: Digest) -> Digest:
    """What the index of a foreign layer on top of the stack `chain` is called. Not the chain ID itself: that of a lowest layer
    is its diff ID, the name of one of ours, and only a foreign layer has times of its own."""
    return Digest.of(f"foreign {chain}".encode())


_PACKED = "SELECT digest FROM renderings WHERE diff_id = ? AND form <> 'uncompressed' ORDER BY form"
"""Those of a layer that others packed are its original, and as good."""

_AGAIN = "build, import or pull the image that needs it again"


class Layers:
    """`index/<diff id>`, `snapshots/<id>` and the rows that name them."""

    def __init__(
        self, root: str, database: Database, blobs: Blobs, durability: Durability, lease: Lease, uses: Uses, ahead: Ahead
    ) -> None:
        self._root = root
        self._ahead = ahead
        self._database = database
        self._blobs = blobs
        self._durability = durability
        self._lease = lease
        self._uses = uses

    # The index.

    def put(self, diff_id: Digest, index: bytes, size: int) -> None:
        """Record a layer of `size` uncompressed bytes with its index; the first one wins."""
        if self.has(diff_id):
            return
        temporary = self._lease.new_path()
        with self._database.faults:
            write_file(temporary, index, sync=False)
        with self._database.write() as connection:
            if self.has(diff_id):
                os.unlink(temporary)
                return
            os.rename(temporary, self._index(str(diff_id)))
            connection.execute(
                "INSERT OR REPLACE INTO layers (diff_id, size, index_digest) VALUES (?, ?, ?)",
                (str(diff_id), size, sha256(index).hexdigest()),
            )
            self._durability.mark(connection, "layer", str(diff_id))

    def has(self, diff_id: Digest) -> bool:
        path = self._index(str(diff_id))
        row = self._database.one("SELECT 1 FROM layers WHERE diff_id = ?", str(diff_id))
        return row is not None and os.path.exists(path)

    def _index(self, diff_id: str) -> str:
        # The one way to an index, there or not: from here on the layer is in use.
        self._uses.add(diff_id)
        return f"{self._root}/index/{diff_id}"

    def index(self, diff_id: Digest) -> bytes:
        """What `put` was given. Raises StoreError where it is missing or damaged."""
        path = self._index(str(diff_id))
        row = self._database.one("SELECT index_digest FROM layers WHERE diff_id = ?", str(diff_id))
        try:
            data = read_file(path)
        except FileNotFoundError:
            row = None
        if row is None:
            raise self._missing(diff_id)
        if sha256(data).hexdigest() != row[0]:
            raise self._corrupt(diff_id)
        return data

    def entries(self, diff_id: Digest) -> IndexFile:
        """The same as a context manager, entry by entry. Raises StoreError where the index is missing or damaged."""
        from builder.store.indexfile import IndexFile  # for those who look into large layers

        row = self._database.one("SELECT index_digest FROM layers WHERE diff_id = ?", str(diff_id))
        try:
            file = IndexFile(self._index(str(diff_id)))
        except FileNotFoundError:
            raise self._missing(diff_id) from None
        if row is None or not file.has(row[0]):
            file.close()
            raise self._missing(diff_id) if row is None else self._corrupt(diff_id)
        return file

    def _missing(self, diff_id: Digest) -> StoreError:
        return StoreError(f"the index of layer {diff_id} is missing from the store", hint=_AGAIN)

    def _corrupt(self, diff_id: Digest) -> StoreError:
        return StoreError(f"the index of layer {diff_id} is corrupt", hint=f"remove {self._index(str(diff_id))}, then {_AGAIN}")

    def size(self, *names: Digest) -> int:
        """Uncompressed bytes of the first of these that there is. Raises StoreError where there is none."""
        for name in map(str, names):
            self._uses.add(name)
            known = self._ahead.size(name)
            if known is not None:
                return known
            row = self._database.one("SELECT size FROM layers WHERE diff_id = ?", name)
            if row is not None:
                return int(row[0])
        raise StoreError(f"layer {names[0]} is missing from the store", hint=_AGAIN)

    # The folder form.

    def add_snapshot(self, folder: str, diff_id: Digest, chain: Digest | None) -> str:
        """Take `folder` as a snapshot; where an equal one is there already, that one wins and `folder` is removed."""
        self._uses.add(str(diff_id))
        name = ""
        try:
            with self._database.write() as connection:
                existing = self.find_snapshot(diff_id, chain)
                if existing is None:
                    name = self._insert(connection, folder, str(diff_id), None if chain is None else str(chain))
        except StoreError:
            # The commit had no room: a folder without its row is nobody's.
            if name:
                remove_tree(self.snapshot_path(name))
            raise
        if existing is None:
            return name
        with self._database.faults:
            remove_tree(folder)
        return existing

    def _insert(self, connection: sqlite.Connection, folder: str, diff_id: str, chain: str | None) -> str:
        sql = "INSERT INTO snapshots (diff_id, chain, owners) VALUES (?, ?, ?)"
        name = str(connection.execute(sql, (diff_id, chain, form())).lastrowid)
        while os.path.lexists(self.snapshot_path(name)):
            # A folder without a row: a process was killed before its commit. Recovery removes it; its id is not used.
            connection.execute("DELETE FROM snapshots WHERE id = ?", (name,))
            name = str(connection.execute(sql, (diff_id, chain, form())).lastrowid)
        self._durability.mark(connection, "snapshot", name)
        move_folder(folder, self.snapshot_path(name))
        return name

    def find_snapshot(self, diff_id: Digest, chain: Digest | None) -> str | None:
        """The id of one that is right for `chain`, None for any chain, whose folder is there and says owners as ours do."""
        self._uses.add(str(diff_id))
        rows = self._database.all(
            "SELECT id FROM snapshots WHERE diff_id = ? AND owners = ? AND (chain IS NULL OR chain = ?) ORDER BY id",
            str(diff_id),
            form(),
            None if chain is None else str(chain),
        )
        return next((str(row[0]) for row in rows if os.path.isdir(self.snapshot_path(str(row[0])))), None)

    def formless(self, diff_id: Digest) -> StoreError:
        """The error for a layer without a form that is of use here."""
        rows = self._database.all("SELECT id FROM snapshots WHERE diff_id = ? AND owners <> ?", str(diff_id), form())
        if any(os.path.isdir(self.snapshot_path(str(row[0]))) for row in rows):
            return StoreError(
                f"layer {diff_id} was made in another kind of sandbox, which says in its own way whose files are whose",
                hint="build the image again, or choose the sandbox that made it with --isolation (see 'pybuild doctor')",
            )
        return StoreError(f"layer {diff_id} has neither folder nor tar", hint="build once more with --no-cache")

    def snapshot_path(self, name: str) -> str:
        return f"{self._root}/snapshots/{name}"

    # The tar forms.

    def rendering(self, diff_id: Digest, form: str) -> tuple[Digest, int] | None:
        self._uses.add(str(diff_id))
        row = self._ahead.rendering(str(diff_id), form) or self._database.one(
            "SELECT digest, size FROM renderings WHERE diff_id = ? AND form = ?", str(diff_id), form
        )
        if row is None:
            return None
        digest = Digest.parse(row[0])
        return (digest, int(row[1])) if self._blobs.has(digest) else None

    def put_rendering(self, diff_id: Digest, form: str, digest: Digest, size: int) -> None:
        self._uses.add_all((str(diff_id), str(digest)))
        # What was read before is not what counts from here on.
        self._ahead.rendering(str(diff_id), form)
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO renderings (diff_id, form, digest, size) VALUES (?, ?, ?, ?)",
                (str(diff_id), form, str(digest), size),
            )

    def has_tar(self, diff_id: Digest) -> bool:
        """Whether the tar is there, or what it can be unpacked from."""
        # The uncompressed one is a blob under the diff ID itself.
        return self._blobs.has(diff_id) or self.packed_tar(diff_id) is not None

    def packed_tar(self, diff_id: Digest) -> Digest | None:
        """A blob that an output compressed the tar into; None where there is none."""
        self._uses.add(str(diff_id))
        found = [Digest.parse(row[0]) for row in self._database.all(_PACKED, str(diff_id))]
        return next((digest for digest in found if self._blobs.has(digest)), None)

    def is_packed_in(self, diff_id: Digest, blob: Digest) -> bool:
        """Whether a blob of this digest is known to be the layer, be it here or not."""
        self._uses.add(str(diff_id))
        tables = ("renderings", "foreign_layers")
        queries = [f"SELECT 1 FROM {table} WHERE diff_id = ? AND digest = ?" for table in tables]
        return any(self._database.one(query, str(diff_id), str(blob)) is not None for query in queries)

    def foreign(self, diff_id: Digest) -> Descriptor | None:
        self._uses.add(str(diff_id))
        row = self._database.one("SELECT media_type, digest, size FROM foreign_layers WHERE diff_id = ?", str(diff_id))
        return None if row is None else Descriptor(row[0], Digest.parse(row[1]), int(row[2]))

    def put_foreign(self, diff_id: Digest, descriptor: Descriptor) -> None:
        self._uses.add_all((str(diff_id), str(descriptor.digest)))
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO foreign_layers (diff_id, media_type, digest, size) VALUES (?, ?, ?, ?)",
                (str(diff_id), descriptor.media_type, str(descriptor.digest), descriptor.size),
            )

    def is_whole(self, diff_id: str, snapshot: int | None) -> bool:
        """Whether a layer that has a row has its index too, and a form that steps can start from. `snapshot` is one of its
        snapshots."""
        if not os.path.exists(self._index(diff_id)):
            return False
        if snapshot is not None and os.path.isdir(self.snapshot_path(str(snapshot))):
            return True
        if self.has_tar(Digest.parse(diff_id)):
            return True
        snapshots = self._database.all("SELECT id FROM snapshots WHERE diff_id = ? AND owners = ?", diff_id, form())
        return any(os.path.isdir(self.snapshot_path(str(row[0]))) for row in snapshots)
