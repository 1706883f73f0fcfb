"""The tars of layers: unpacked where only a compressed form is there, and where in them the content of each file lies."""

from __future__ import annotations

import os
from _thread import RLock  # `threading` costs 1 ms at start
from array import array

from builder.engine.roots import stored
from builder.errors import StoreError
from builder.hashing import hasher
from builder.layers.compression import decompress
from builder.layers.entry import Item, RangeSource
from builder.layers.rows import Rows
from builder.layers.settle import fill, settle
from builder.layers.tarreader import read_tar
from builder.values import new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.cancellation import Cancellation
    from builder.engine.roots import Layer, Root, Roots
    from builder.layers.entry import Entry, Source
    from builder.layers.rows import Entries
    from builder.oci.digest import Digest
    from builder.store.store import Store


class Tars:
    """Those of one store, for one build, for several threads."""

    def __init__(self, roots: Roots, store: Store, stop: Cancellation) -> None:
        self._roots = roots
        self._store = store
        self._stop = stop
        # Held while a tar is looked through, or unpacked: what two would do at once is done by one.
        self._reading = RLock()
        self._contents: dict[Digest, Contents] = {}
        self._unpacked: dict[Digest, str] = {}

    def file(self, layer: Layer) -> str | None:
        """The file that has the layer's tar, verified. Where only a compressed form is there, the file goes with this process;
        None where only a folder is. Raises StoreError for one that is corrupt."""
        diff_id = layer.diff_id
        if self._store.has_blob(diff_id):
            self._store.verify_blob(diff_id)
            return self._store.blob_path(diff_id)
        packed = self._store.packed_tar(diff_id)
        if packed is None:
            return None
        with self._reading:
            known = self._unpacked.get(diff_id)
            if known is None:
                known = self._store.temporary_path()
                self._unpack(packed, diff_id, known)
                self._unpacked[diff_id] = known
            return known

    def contents(self, below: Root, layer: Layer) -> Contents:
        """Of each file of the layer, which lies on `below`; looked through once, however many threads ask."""
        with self._reading:
            known = self._contents.get(layer.chain)
            if known is None:
                tar = self.file(layer)
                if tar is None:
                    raise self._store.formless(layer.diff_id)
                known = self._contents[layer.chain] = self._read(below, layer, tar)
            return known

    def items(self, below: Root, layer: Layer, scratch: str) -> list[Item]:
        """All that the layer has, whose folder is to be made: what is unpacked for that goes with the folder `scratch`."""
        packed = None if self._store.has_blob(layer.diff_id) else self._store.packed_tar(layer.diff_id)
        if packed is None:
            contents = self.contents(below, layer)
        else:
            tar = os.path.join(scratch, "layer.tar")
            self._unpack(packed, layer.diff_id, tar)
            contents = self._read(below, layer, tar)
        entries = self._roots.entries(layer)
        return [Item(entry, contents.source(entry) if entry.kind == "file" else None) for entry in entries]

    def _unpack(self, packed: Digest, diff_id: Digest, path: str) -> None:
        """Write the tar that the blob holds. No bound, as for blobs of others: it was written, or compared, here before."""
        self._store.verify_blob(packed)
        digest = hasher(diff_id.algorithm)
        with open(path, "wb") as file, stored():

            def write(data: bytes) -> None:
                self._stop.check()
                digest.update(data)
                file.write(data)

            decompress(self._store.blob_path(packed), write, name=str(packed))
        if digest.hexdigest() != diff_id.hex:
            raise StoreError(
                f"the blob {packed} is not the layer {diff_id} that it stands for",
                hint=f"remove {self._store.blob_path(packed)}, then build or pull the image again",
            )

    def _read(self, below: Root, layer: Layer, tar: str) -> Contents:
        items: Iterable[Item]
        if self._roots.is_foreign(layer):
            # Its names lead through links, and say things twice: its entries are what came of that.
            settled = settle(read_tar(tar, whiteouts=True), self._roots.tree(below)).items
            items = fill(settled, lambda path: self._roots.content(below, path))
        else:
            items = read_tar(tar, whiteouts=True, repeats=False)
        return Contents(tar, items, self._roots.entries(layer))


class Contents:
    """Where in a tar the content of each file lies, and of each hard link: a link outlives the name it repeats, if a later
    layer takes that. Some 80 bytes a file, 8 where the entries are rows: there may be many."""

    def __init__(self, tar: str, items: Iterable[Item], entries: Entries) -> None:
        """`entries` are those of the items, in their order."""
        self._tar = tar
        self._rows = entries if isinstance(entries, Rows) and entries.is_plain else None
        # By their numbers, of rows.
        self._places = array("q", bytes(8 * len(entries))) if self._rows is not None else array("q")
        self._offsets: dict[bytes, int] = {}
        # What is no piece of this file: with holes, or of another layer.
        self._others: dict[bytes, Source] = {}
        known: Iterable[Entry] = iter(entries) if self._rows is None else iter(())
        for entry, source in items:
            if entry.kind == "hardlink":
                self._repeat(_same(entry.path, known), entry.link)
            elif isinstance(source, RangeSource) and source.file == tar:
                place = self._rows.find(entry.path) if self._rows is not None else -1
                if place >= 0:
                    self._places[place] = source.offset
                else:
                    self._offsets[_same(entry.path, known)] = source.offset
            elif source is not None:
                self._others[_same(entry.path, known)] = source

    def source(self, entry: Entry) -> Source:
        """Of an entry of the layer. Raises KeyError for what is no file."""
        place = self._rows.find(entry.path) if self._rows is not None else -1
        # No content is at the tar's beginning.
        if place >= 0 and (offset := self._places[place]):
            return new(RangeSource, (self._tar, offset, entry.size))
        found = self._offsets.get(entry.path)
        return self._others[entry.path] if found is None else new(RangeSource, (self._tar, found, entry.size))

    def _repeat(self, path: bytes, owner: bytes) -> None:
        if owner in self._offsets:
            self._offsets[path] = self._offsets[owner]
        elif owner in self._others:
            self._others[path] = self._others[owner]


def _same(path: bytes, known: Iterable[Entry]) -> bytes:
    """The path of the next entry that has it, for no other one to be kept beside."""
    for entry in known:
        if entry.path == path:
            return entry.path
    return path
