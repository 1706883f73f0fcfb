"""Images of the store as an archive or a folder: `pybuild save`."""

from __future__ import annotations

import hashlib
import json
import os

from builder.engine.rendering import kept_blobs, render
from builder.engine.roots import Root, stored
from builder.errors import StoreError, UsageError
from builder.export.docker_archive import write_docker_archives, write_docker_dir
from builder.export.layout import Rendered, write_oci_layouts
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import CONFIG_TYPE, LAYER_TYPE, manifest, parse_config
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from builder.engine.rendering import Blobs
    from builder.engine.roots import Layer, Roots
    from builder.layers.forms import Form
    from builder.store.store import ImageRecord, Store

    Format = Literal["docker-archive", "oci-archive", "oci-dir", "docker-dir"]

CONFIG_LIMIT = 16 << 20


class Saved(NamedTuple):
    """What is saved under some names (normalised), or under none."""

    record: ImageRecord
    names: tuple[str, ...]
    whole: bool = False
    """All of the index that it is part of, as it is."""


def save(
    images: Sequence[Saved],
    format: Format,
    dest: str,
    store: Store,
    roots: Roots,
    *,
    compression: Form = "gzip",
    threads: int = 1,
) -> int:
    """Write the images to `dest` (`-`: standard output); the bytes.

    Layers go as they came, those that were built here in the form `compression`; in Docker's archive all of them are
    uncompressed, as docker and podman save them. Raises UsageError for a destination that cannot be, StoreError.
    """
    if format == "docker-archive":
        with store.scratch() as scratch:
            plain = PlainLayers(scratch, store, roots)
            return write_docker_archives([plain.of_record(each.record, each.names) for each in images], dest)
    rendered = []
    for record, names, whole in images:
        config = store.read_blob(record.config, CONFIG_LIMIT)
        if whole:
            from builder.engine import indexes  # for those who have one

            image = indexes.rendered(Digest.parse(record.source), store)
        else:
            root = Root.of(parse_config(config).diff_ids)
            notes = store.annotations(record.config)
            blobs = kept_blobs(record, root, store)
            image = render(config, root, blobs, compression, store, roots, threads=threads, annotations=notes)
        said = "" if whole else store.request(record.config)
        rendered.append(image._replace(names=names, created=_created(config), request=said))
    if format == "docker-dir":
        if len(rendered) != 1:
            raise UsageError("a folder of the format docker-dir holds one image", hint="save several with --format=oci-dir")
        return write_docker_dir(rendered[0], dest)
    return write_oci_layouts(rendered, dest, tar=format == "oci-archive")


class PlainLayers:
    """Layers as they are without compression, each made once: in the store where they lie there so, else in `scratch`."""

    def __init__(self, scratch: str, store: Store, roots: Roots) -> None:
        self._scratch = scratch
        self._store = store
        self._roots = roots
        self._made: dict[Digest, str] = {}

    def of_record(self, record: ImageRecord, names: Sequence[str]) -> Rendered:
        config = self._store.read_blob(record.config, CONFIG_LIMIT)
        root = Root.of(parse_config(config).diff_ids)
        return self.image(config, kept_blobs(record, root, self._store), names)

    def image(self, config: bytes, blobs: Blobs, names: Sequence[str]) -> Rendered:
        """An image with all layers uncompressed; `blobs` are those that they came in."""
        root = Root.of(parse_config(config).diff_ids)
        layers = []
        for layer, blob in self.with_blobs(root, blobs):
            path = self.path(layer, blob)
            layers.append((Descriptor(LAYER_TYPE, layer.diff_id, os.stat(path).st_size), path))
        descriptor = Descriptor(CONFIG_TYPE, Digest.of(config), len(config))
        data = manifest(descriptor, [d for d, _ in layers])
        return Rendered(config, data, tuple(layers), tuple(names), _created(config))

    def with_blobs(self, root: Root, blobs: Blobs) -> list[tuple[Layer, Descriptor | None]]:
        return list(zip(root.layers, [*blobs, *[None] * (len(root.layers) - len(blobs))], strict=True))

    def path(self, layer: Layer, blob: Descriptor | None) -> str:
        """The file that holds the layer's tar."""
        if layer.diff_id not in self._made:
            self._made[layer.diff_id] = self._make(layer, blob)
        return self._made[layer.diff_id]

    def _make(self, layer: Layer, blob: Descriptor | None) -> str:
        if self._store.has_blob(layer.diff_id) or blob is None:
            known = self._roots.tars.file(layer)
            if known is not None:
                return known
        path = os.path.join(self._scratch, layer.diff_id.hex)
        with open(path, "wb") as file:
            if blob is None:
                self._roots.tar(layer, file.write)
                return path
            from builder.layers.compression import decompress

            self._store.verify_blob(blob.digest)
            hasher = hashlib.new(layer.diff_id.algorithm)

            def write(data: bytes) -> None:
                hasher.update(data)
                file.write(data)

            with stored():
                decompress(self._store.blob_path(blob.digest), write, name=str(blob.digest))
        if hasher.hexdigest() != layer.diff_id.hex:
            raise StoreError(
                f"the blob {blob.digest} is not the layer {layer.diff_id}", hint="build, import or pull the image again"
            )
        return path


def _created(config: bytes) -> str:
    created = json.loads(config).get("created")
    return created if isinstance(created, str) else ""
