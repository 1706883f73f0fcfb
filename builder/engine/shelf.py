"""The layers of images that are looked into and not kept: compared with what their config says, indexed once each, and their
files found where they are.

Of a layer that the store has, the index is there. Any other is unpacked and indexed in a scratch folder, with the bounds of a
pull, and once for all images that have it on the same layers.
"""

from __future__ import annotations

import os

from builder.cancellation import NEVER
from builder.engine.foreign import check_layers
from builder.engine.indexing import indexed
from builder.engine.roots import Root
from builder.engine.unpacked import unpack_blob
from builder.errors import BuildError, UsageError
from builder.layers.index import Tree
from builder.layers.source import open_source
from builder.layers.tarreader import read_tar
from builder.oci.image import parse_config
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.engine.roots import Roots
    from builder.engine.sides import Opened
    from builder.layers.entry import Item, Source
    from builder.layers.rows import Entries
    from builder.oci.digest import Descriptor, Digest


class Shelved(NamedTuple):
    """A layer on the layers below it."""

    entries: Entries
    constant: bool
    """Its files ship with the constant time, whatever their true times."""
    sources: Mapping[bytes, Source] | None = None
    """Where the content of its files is; None for a layer of the store."""
    order: tuple[bytes, ...] | None = None
    """Its members as the tar has them; None where no tar was read."""


class Stack:
    """The file system of one image."""

    def __init__(self, root: Root, layers: tuple[Shelved, ...], tree: Tree, roots: Roots) -> None:
        self.layers = layers
        self.tree = tree
        self._root = root
        self._roots = roots

    def read(self, path: bytes) -> bytes:
        """The content of a file that is there. Raises BuildError where it changed."""
        return b"".join(open_source(_locate(path, self.tree, self._root, self.layers, self._roots)))


class Shelf:
    def __init__(self, scratch: str, roots: Roots) -> None:
        self._scratch = scratch
        self._roots = roots
        self._known: dict[Digest, Shelved] = {}
        self._tars: dict[Digest, str] = {}
        self.left_out: dict[str, list[str]] = {}
        """By the name of an image, what its layers have that entries cannot say."""

    def check(self, image: Opened, *, keep: bool) -> None:
        """Read all layers of an image that is not the store's, and compare them with what its manifest and config say. `keep`
        them for `stack`. Raises as `stack`."""
        if image.fetch is None:
            return
        diff_ids = parse_config(image.config).diff_ids
        check_layers(image.name, parse_config(image.config), image.layers)
        root = Root()
        for descriptor, diff_id in zip(image.layers, diff_ids):
            root = root.on_top(diff_id)
            if image.where == "registry" and self._roots.is_known_as(diff_id, descriptor.digest):
                # What a registry gives is compared with the digest by which it is asked for.
                continue
            try:
                if keep and diff_id not in self._tars and not self._roots.holds(root):
                    self._tar(image, descriptor, diff_id)
                else:
                    # Each image is taken at no other's word.
                    self._read(image, descriptor, diff_id, os.devnull)
            except BuildError as error:
                raise image.damaged(error) from error

    def stack(self, image: Opened) -> Stack:
        """Raises UsageError or RegistryError for an image that is not what it says, StoreError, and what fetching raises."""
        parsed = parse_config(image.config)
        if image.fetch is not None:
            check_layers(image.name, parsed, image.layers)
        root, tree = Root(), Tree()
        found: list[Shelved] = []
        for number, diff_id in enumerate(parsed.diff_ids):
            below, root = root, root.on_top(diff_id)
            chain = root.layers[-1].chain
            if chain not in self._known:
                descriptor = image.layers[number] if image.fetch is not None else None
                try:
                    self._known[chain] = self._shelved(image, descriptor, below, root, tree, found)
                except BuildError as error:
                    raise image.damaged(error) from error
            found.append(self._known[chain])
            tree.apply(found[-1].entries, number)
        return Stack(root, tuple(found), tree, self._roots)

    def _shelved(
        self, image: Opened, descriptor: Descriptor | None, below: Root, root: Root, tree: Tree, found: list[Shelved]
    ) -> Shelved:
        layer = root.layers[-1]
        if descriptor is None or self._roots.holds(root):
            return Shelved(self._roots.entries(layer), not self._roots.is_foreign(layer))
        tar = self._tar(image, descriptor, layer.diff_id)
        order: list[bytes] = []

        def members() -> Iterator[Item]:
            def warn(message: str) -> None:
                self.left_out.setdefault(image.name, []).append(message)

            for item in read_tar(tar, whiteouts=True, name=str(descriptor.digest), warn=warn):
                order.append(item.entry.path)
                yield item

        def content(path: bytes) -> Source:
            return _locate(path, tree, below, tuple(found), self._roots)

        items = indexed(members(), tree, content, NEVER)
        sources: dict[bytes, Source] = {}
        for item in items:
            source = sources.get(item.entry.link) if item.entry.kind == "hardlink" else item.source
            if source is not None:
                sources[item.entry.path] = source
        return Shelved([item.entry for item in items], False, sources, tuple(order))

    def _tar(self, image: Opened, descriptor: Descriptor, diff_id: Digest) -> str:
        known = self._tars.get(diff_id)
        if known is not None:
            return known
        tar = os.path.join(self._scratch, f"{len(self._tars)}.tar")
        self._read(image, descriptor, diff_id, tar)
        self._tars[diff_id] = tar
        return tar

    def _read(self, image: Opened, descriptor: Descriptor, diff_id: Digest, tar: str) -> None:
        assert image.fetch is not None
        blob = os.path.join(self._scratch, "blob")
        image.fetch(descriptor, blob)
        try:
            unpack_blob(blob, descriptor, diff_id, tar)
        except UsageError as error:
            # That it is not what the config says: of which image, the caller knows.
            raise BuildError(error.message, hint=error.hint) from error
        os.unlink(blob)


def _locate(path: bytes, tree: Tree, root: Root, layers: tuple[Shelved, ...], roots: Roots) -> Source:
    """Where the content of the file at `path`, which is there, is."""
    entry, number = tree.lookup(path), tree.layer_of(path)
    assert entry is not None
    sources = layers[number].sources
    return roots.locate(root, entry, number) if sources is None else sources[path]
