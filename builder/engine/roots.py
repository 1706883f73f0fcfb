"""File systems as stacks of layers, and the forms that each layer has: index, folder, tar. Each is made when it is needed.

A `Root` is a value; `Roots` knows how to look into one (`tree`), to hand its folders to the sandbox (`folders`), and to
find the content of a file. Foreign layers (images that others made) are known by their chain ID, because what they do may
depend on what lies below them; our own by their diff ID.

The readers and writers of layers are imported where they are used: a fully cached build needs none of them.
"""

from __future__ import annotations

import os
from _thread import _local, allocate_lock  # `threading` costs 1 ms at start

from builder.cancellation import NEVER
from builder.errors import BuildError, StoreError
from builder.layers.entry import EPOCH, FileSource, Item
from builder.layers.names import show
from builder.layers.source import ContentChanged
from builder.oci.digest import chain_id
from builder.sandbox import capabilities
from builder.store.layers import foreign_index
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from builder.cancellation import Cancellation
    from builder.context.directory import DirectoryContext
    from builder.engine.packing import Packing, Written
    from builder.engine.placement import Alone
    from builder.engine.stubs import Stub, Stubs
    from builder.engine.tars import Tars
    from builder.layers.codec import Columns
    from builder.layers.entry import Entry, Source
    from builder.layers.forms import Forms
    from builder.layers.index import Tree
    from builder.layers.rows import Entries
    from builder.layers.tarwriter import LayerSum, Reader
    from builder.oci.digest import Descriptor, Digest
    from builder.oci.platform import Platform
    from builder.store.store import Store

    Items = Callable[[str], Iterable[Item]]
    """Gives the items of a layer, with a scratch folder that lives until they were used."""


_KEPT = 1 << 16
"""Bytes of a file that is kept in memory once it was read."""


class Layer(NamedTuple):
    diff_id: Digest
    chain: Digest
    """Of the stack that ends with this layer."""


class Root(NamedTuple):
    """A file system: its layers, the lowest first. Empty for scratch."""

    layers: tuple[Layer, ...] = ()

    @property
    def chain(self) -> Digest | None:
        return self.layers[-1].chain if self.layers else None

    def on_top(self, diff_id: Digest) -> Root:
        return Root((*self.layers, Layer(diff_id, chain_id(self.chain, diff_id))))

    @classmethod
    def of(cls, diff_ids: Iterable[Digest]) -> Root:
        root = cls()
        for diff_id in diff_ids:
            root = root.on_top(diff_id)
        return root


class BuiltImage(NamedTuple):
    """What a build gave for one platform."""

    platform: Platform
    config: bytes
    root: Root
    blobs: Sequence[Descriptor | None]
    """That its lowest layers came in (`BaseImage.blobs`)."""
    annotations: Mapping[str, str]
    """Of its manifest."""
    request: str = ""
    """What it says of its build (`builder.plan.recorded`); empty for one of several platforms."""


class Use(NamedTuple):
    """What becomes of the layer that a step makes."""

    as_folder: bool
    """A RUN looks into it."""
    ships: bool = False
    """The image has it, so that outputs will ask for it."""


class Roots:
    """The layers of one store, for one build. Usable from several threads: each has merged trees of its own."""

    def __init__(self, store: Store, stop: Cancellation = NEVER, *, forms: Forms | None = None, unpacks: bool = True) -> None:
        """`forms`: what outputs will ask for of the layers that ship. `unpacks`: folders of foreign layers are made as they
        come, since a command will look into them."""
        self._store = store
        self._stop = stop
        self._forms = forms
        self.unpacks = unpacks
        self._own = _local()
        # Held while the folder of a layer is made that is missing: what two would make at once is made by one.
        self._making = allocate_lock()
        self._entries: dict[Digest, Entries] = {}
        self._tars: Tars | None = None
        self._pending: dict[Digest, Items] = {}
        # What was found in a build stays there until its end.
        self._folders: dict[Layer, str] = {}
        self._contents: dict[str, bytes] = {}
        self._stubs: Stubs | None = None
        # Held while one of those two is made, or a stub, for which nobody waits who unpacks a layer.
        self._stubbing = allocate_lock()

    # Looking

    def tree(self, root: Root) -> Tree:
        """The merged index. It must not be changed by the caller, and is valid until this thread's next call."""
        from builder.layers.index import Tree

        trees = self._trees()
        known = trees.get(root.chain)
        if known is not None:
            return known
        start = 0
        tree = Tree()
        for end in range(len(root.layers) - 1, 0, -1):
            # A tree grows with its stack: the one below is used up, since it is rarely asked for again.
            below = trees.pop(root.layers[end - 1].chain, None)
            if below is not None:
                tree, start = below, end
                break
        for number in range(start, len(root.layers)):
            tree.apply(self.entries(root.layers[number]), number)
        trees[root.chain] = tree
        return tree

    def _trees(self) -> dict[Digest | None, Tree]:
        try:
            trees: dict[Digest | None, Tree] = self._own.trees
        except AttributeError:
            trees = self._own.trees = {}
        return trees

    def entries(self, layer: Layer) -> Entries:
        """What the layer does to the stack below it, canonical."""
        from builder.layers.index import entries_of

        name = self._index_name(layer)
        known = self._entries.get(name)
        if known is None:
            known = self._entries[name] = entries_of(self._store.layer_index(name))
        return known

    def read(self, root: Root, path: bytes, limit: int = 1 << 24) -> bytes:
        """The content of a file of the merged tree, links followed; empty when there is none. Raises BuildError beyond
        `limit` bytes."""
        from builder.layers.source import open_source

        tree = self.tree(root)
        entry = tree.lookup(tree.resolve(path))
        if entry is None or entry.kind not in ("file", "hardlink"):
            return b""
        if entry.size > limit:
            raise BuildError(f"'/{show(path)}' of the image is larger than {limit} bytes")
        # Each command asks for the users that its image knows, and few steps make new ones.
        known = self._contents.get(entry.digest)
        if known is None:
            known = b"".join(open_source(self.locate(root, entry, tree.layer_of(entry.path))))
            if entry.digest and len(known) <= _KEPT:
                self._contents[entry.digest] = known
        return known

    def content(self, root: Root, path: bytes) -> Source:
        """Where the content of the file at `path` is, which is there; no link is followed."""
        tree = self.tree(root)
        entry = tree.lookup(path)
        if entry is None:
            raise KeyError(path)
        return self.locate(root, entry, tree.layer_of(path))

    def locate(self, root: Root, entry: Entry, number: int) -> Source:
        """Where the content of a file of layer `number` is: its folder, else its tar."""
        layer = root.layers[number]
        folder = self._folder(layer)
        if folder is not None:
            return FileSource(folder, entry.path)
        return self.tars.contents(Root(root.layers[:number]), layer).source(entry)

    # Keeping

    def add(self, root: Root, items: list[Item] | Alone, use: Use) -> Root:
        """Put a layer of ours on `root`: hashed, indexed, and stored in one form. No items: the same root."""
        if not items:
            return root
        with self._packing(use, items, tar=not use.as_folder) as packing:
            summary = self._packed(items, packing, links=isinstance(items, list))
            packing.commit(summary.diff_id)
        known = (lambda _: _known(items, summary)) if isinstance(items, list) else (lambda _: items)
        return self._added(root, known, use, summary, packing)

    def written(self, items: list[Item] | Alone, use: Use, folder: DirectoryContext) -> Written:
        """The tar of a layer, before it is known whether anybody wants it. `folder` learns what was read of it. `items` are
        asked for once; a list of them is empty afterwards."""
        from builder.engine.packing import Written

        packing = self._packing(use, items, tar=not use.as_folder)

        def write() -> LayerSum:
            if isinstance(items, list):
                return self._packed(_drained(items), packing, folder)
            return self._packed(items, packing, folder, links=False)

        return Written(packing, write, lambda root, summary, again: self._added(root, again, use, summary, packing))

    def _added(self, root: Root, items: Items, use: Use, summary: LayerSum, packing: Packing) -> Root:
        result = root.on_top(summary.diff_id)
        layer = result.layers[-1]
        if use.as_folder and self._folder(layer) is None:
            self._make_folder(root, layer, items)
        self._put_index(layer.diff_id, summary.entries)
        packing.record()
        return result

    def adopt(self, root: Root, items: list[Item], folder: str, use: Use, *, implied_parents: bool) -> Root:
        """Put the upper directory `folder`, already normal, on `root`: it becomes the layer's folder by a rename."""
        if not items:
            return root
        with self._packing(use, items, tar=False) as packing:
            summary = self._packed(items, packing)
            packing.commit(summary.diff_id)
        result = root.on_top(summary.diff_id)
        layer = result.layers[-1]
        self._store.add_snapshot(folder, layer.diff_id, layer.chain if implied_parents else None)
        self._put_index(layer.diff_id, summary.entries)
        packing.record()
        return result

    def _packing(self, use: Use, items: Iterable[Item], *, tar: bool) -> Packing:
        from builder.engine.packing import Packing
        from builder.layers.forms import Forms

        wanted = self._forms or Forms()
        forms = wanted.shipped if use.ships else wanted.others
        packed = forms - {"uncompressed"}
        # What an output asks for is a form, too: the tar can be had from it, and is not written beside where nobody looks into
        # it. What does not ship is there to be looked into.
        looked_into = wanted.files or not use.ships
        tar = "uncompressed" in forms or (tar and (looked_into or not packed))
        return Packing(self._store, tar=tar, forms=packed, threads=wanted.threads, size=lambda: _tar_size(items))

    def _packed(self, items: Iterable[Item], packing: Packing, reader: Reader | None = None, *, links: bool = True) -> LayerSum:
        from builder.layers.tarwriter import write_layer

        return write_layer(items, packing.write, stop=self._stop, reader=reader, links=links)

    def add_foreign(self, root: Root, diff_id: Digest, tar: str, *, name: str, packed: bool = False) -> Root:
        """Put a layer that others packed on `root`. `tar` is uncompressed and holds what `diff_id` says (checked before);
        errors call it `name`. `packed`: the blob that it came in is in the store, and stays."""
        from builder.engine.indexing import indexed
        from builder.layers.codec import Columns
        from builder.layers.folder import materialise
        from builder.layers.tarreader import read_tar

        result = root.on_top(diff_id)
        layer = result.layers[-1]
        if self.has(result):
            return result
        below = self.tree(root)
        found = read_tar(tar, whiteouts=True, name=name)
        items = indexed(found, below, lambda path: self.content(root, path), self._stop)
        # Without root, and without a namespace, no folder can have the owners that its files have: the tar must do.
        if capabilities.absent(("CAP_CHOWN",), "CapEff") or (packed and not self.unpacks):
            if not packed:
                self._keep_tar(tar, diff_id)
        else:
            with self._store.scratch() as scratch:
                folder = _new_folder(scratch)
                materialise(items, folder, below, stop=self._stop, hand_on=_handing_on())
                self._store.add_snapshot(folder, diff_id, layer.chain)
        columns = Columns()
        for item in items:
            columns.add(item.entry)
        self._put_index(_foreign_name(layer), columns)
        return result

    def _keep_tar(self, tar: str, diff_id: Digest) -> None:
        with open(tar, "rb") as file, self._store.blob_writer(diff_id.algorithm) as writer:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                writer.write(chunk)
            writer.commit(diff_id)

    def has(self, root: Root) -> bool:
        """Whether the top layer of `root` is there as a foreign one, with its index and a form."""
        top = root.layers[-1]
        return self.is_foreign(top) and (self._folder(top) is not None or self._store.has_tar(top.diff_id))

    def holds(self, root: Root) -> bool:
        """Whether the top layer of `root` is there, whoever packed it, with its index and a form."""
        top = root.layers[-1]
        is_known = self.is_foreign(top) or self._store.has_layer(top.diff_id)
        return is_known and (self._folder(top) is not None or self._store.has_tar(top.diff_id))

    def is_known_as(self, diff_id: Digest, blob: Digest) -> bool:
        """Whether the store has seen that a blob of this digest is the layer."""
        return blob == diff_id or self._store.is_packed_in(diff_id, blob)

    def is_foreign(self, layer: Layer) -> bool:
        """Whether others packed it: then its times are its own."""
        return self._store.has_layer(_foreign_name(layer))

    def has_devices(self, root: Root, *, own_dev: bool = False) -> bool:
        """Whether a layer of it has device nodes, other than in /dev, or anywhere with `own_dev`."""
        return any(
            entry.kind in ("char", "block") and (own_dev or not entry.path.startswith(b"dev/"))
            for layer in root.layers
            for entry in _devices(self.entries(layer))
        )

    # Forms

    def folders(self, root: Root) -> list[str]:
        """The folder of each layer, the lowest first; missing ones are made."""
        out = []
        for number, layer in enumerate(root.layers):
            folder = self._folder(layer)
            out.append(folder or self._made(Root(root.layers[:number]), layer))
        return out

    def has_folders(self, root: Root) -> bool:
        """Whether `folders` has nothing to make."""
        return all(self._folder(layer) is not None for layer in root.layers)

    def stub(self, stub: Stub) -> str:
        """The folder of a stub layer, for as long as the store is open."""
        with self._stubbing:
            if self._stubs is None:
                from builder.engine.stubs import Stubs

                self._stubs = Stubs(self._store.temporary_path)
            return self._stubs.folder(stub)

    def _made(self, below: Root, layer: Layer) -> str:
        with self._making:
            folder = self._folder(layer)
            if folder is None:
                self._make_folder(below, layer, self._pending.get(layer.diff_id) or self._from_tar(below, layer))
                folder = self._folder(layer)
        if folder is None:
            raise StoreError(f"the folder of layer {layer.diff_id} vanished", hint="another process changed the store")
        return folder

    def _from_tar(self, below: Root, layer: Layer) -> Items:
        return lambda scratch: self.tars.items(below, layer, scratch)

    def remember(self, layer: Layer, items: Items) -> None:
        """A cached COPY whose sources are at hand: should its folder be needed, it is made from these (true times).

        `items` is called with a scratch folder that lives until the layer's folder is complete.
        """
        self._pending[layer.diff_id] = items

    @property
    def tars(self) -> Tars:
        with self._stubbing:
            if self._tars is None:
                from builder.engine.tars import Tars

                self._tars = Tars(self, self._store, self._stop)
            return self._tars

    def tar(self, layer: Layer, write: Callable[[bytes], object]) -> None:
        """Write the layer's tar. For a layer of ours only; raises StoreError when the result is not what the diff ID says."""
        from builder.layers.tarwriter import write_layer

        folder = self._folder(layer)
        if folder is None:
            raise self._store.formless(layer.diff_id)
        items = [Item(e, FileSource(folder, e.path) if e.kind == "file" else None) for e in self.entries(layer)]
        with stored():
            summary = write_layer(items, write, mtime=EPOCH)
        if summary.diff_id != layer.diff_id:
            raise StoreError(
                f"the folder of layer {layer.diff_id} was changed", hint="remove the store's folder 'snapshots' and build again"
            )

    def size(self, root: Root) -> int:
        """Uncompressed bytes of all files of all layers."""
        return sum(map(self.layer_size, root.layers))

    def layer_size(self, layer: Layer) -> int:
        # As one of ours first, which most are: who packed it is not seen in its size.
        return self._store.layer_size(layer.diff_id, _foreign_name(layer))

    def _put_index(self, name: Digest, columns: Columns) -> None:
        self._store.put_layer(name, columns.dump(), columns.size)

    def _index_name(self, layer: Layer) -> Digest:
        return _foreign_name(layer) if self.is_foreign(layer) else layer.diff_id

    def _folder(self, layer: Layer) -> str | None:
        known = self._folders.get(layer)
        if known is None:
            found = self._store.find_snapshot(layer.diff_id, layer.chain)
            if not found:
                return None
            known = self._folders[layer] = self._store.snapshot_path(found)
        return known

    def _make_folder(self, below: Root, layer: Layer, items: Items) -> None:
        from builder.layers.folder import materialise

        with self._store.scratch() as scratch:
            folder = _new_folder(scratch)
            # First the items: making them asks for other trees, of which this one may be made.
            found = items(scratch)
            tied = materialise(found, folder, self.tree(below), stop=self._stop, hand_on=_handing_on())
            tied = tied or self.is_foreign(layer)
            self._store.add_snapshot(folder, layer.diff_id, layer.chain if tied else None)


class stored:
    """What is read inside lies in the store, where nothing changes: a content that is not its digest's is damage."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, ContentChanged) or type(error) is BuildError:
            raise damaged(error) from error


def damaged(error: BuildError) -> StoreError:
    """What a content that is not its digest's comes to where it lies in the store."""
    hint = "remove its folder 'snapshots' and build again with --no-cache"
    what = f"the content of '{error.name}' is not what was put there" if isinstance(error, ContentChanged) else error.message
    return StoreError(f"the store is damaged: {what}", hint=hint)


def _known(items: list[Item], summary: LayerSum) -> list[Item]:
    """The items as they were written, with the digests of what was read; their times are what no index may have room for."""
    entries = {entry.path: entry for entry in summary.entries}
    return [Item(entries[item.entry.path]._replace(mtime=item.entry.mtime), item.source) for item in items]


def _drained(items: list[Item]) -> Iterator[Item]:
    """The items, each given away: there may be many, and whoever takes them makes others in their place."""
    items.reverse()
    while items:
        yield items.pop()


def _devices(entries: Entries) -> Iterable[Entry]:
    """Those that may be device nodes."""
    return entries if isinstance(entries, list) else entries.devices()


def _tar_size(items: Iterable[Item]) -> int:
    from builder.layers.tarwriter import tar_size  # for forms that begin with it

    return tar_size(items)


def _foreign_name(layer: Layer) -> Digest:
    return foreign_index(layer.chain)


def _handing_on() -> Callable[[], object] | None:
    """What lets a process that helps have the capabilities that this one has in its user namespace; root's have them."""
    if os.geteuid() == 0:
        return None

    def hand_on() -> None:
        from builder.sandbox.kernel import hand_on_capabilities  # for large layers

        hand_on_capabilities()

    return hand_on


def _new_folder(scratch: str) -> str:
    folder = os.path.join(scratch, "folder")
    os.mkdir(folder, 0o755)
    return folder
