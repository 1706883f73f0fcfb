"""Rendering an image: the compressed blob of each layer, made once and kept, and the manifest that names them.

An image in the store has an id (its config) and no manifest; one exists as soon as an output asks for it.
"""

from __future__ import annotations

import os

from builder.engine.roots import Root
from builder.export.layout import Rendered
from builder.hashing import hasher
from builder.layers.entry import EPOCH, Item
from builder.layers.forms import NAMES
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import CONFIG_TYPE, LAYER_TYPE, manifest, parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.engine.roots import Layer, Roots
    from builder.layers.forms import Form
    from builder.store.store import ImageRecord, Store

if TYPE_CHECKING:
    Blobs = Sequence[Descriptor | None]
    """The blobs that the lowest layers of an image came in (`BaseImage.blobs`)."""


def render(
    config: bytes,
    root: Root,
    blobs: Blobs,
    form: Form,
    store: Store,
    roots: Roots,
    *,
    threads: int,
    annotations: Mapping[str, str] | None = None,
) -> Rendered:
    """Every layer as a blob in the given form, but those that came in one: base layers are never rewritten. `annotations` are
    the manifest's."""
    kept = [*blobs, *[None] * (len(root.layers) - len(blobs))]
    store.expect_renderings([layer.diff_id for layer, blob in zip(root.layers, kept, strict=True) if blob is None], NAMES[form])
    layers = tuple(
        _kept(blob, store) if blob is not None else layer_blob(layer, form, store, roots, threads)
        for layer, blob in zip(root.layers, kept, strict=True)
    )
    descriptor = Descriptor(CONFIG_TYPE, Digest.of(config), len(config))
    return Rendered(config, manifest(descriptor, [d for d, _ in layers], annotations), layers)


def kept_blobs(record: ImageRecord, root: Root, store: Store) -> Blobs:
    """The blobs that an image's layers came in; an older pybuild did not write down which."""
    return record.blobs if record.blobs is not None else [store.foreign(layer.diff_id) for layer in root.layers]


def manifest_of(record: ImageRecord, config: bytes, store: Store, roots: Roots) -> bytes:
    """The manifest that a push of an image of the store would send."""
    root = Root.of(parse_config(config).diff_ids)
    blobs, said = kept_blobs(record, root, store), store.annotations(record.config)
    return render(config, root, blobs, "gzip", store, roots, threads=os.cpu_count() or 1, annotations=said).manifest


def flatten(root: Root, roots: Roots) -> list[Item]:
    """The merged file system, whole, with the content of each file and the times that ship (SPEC section 5): a base's own, and
    the constant for what builds made. The root is an item only where a layer says what it is."""
    tree = roots.tree(root)
    ours = [not roots.is_foreign(layer) for layer in root.layers]
    items = []
    for entry in tree.walk(b""):
        number = tree.layer_of(entry.path)
        if number < 0:
            continue
        source = roots.locate(root, entry, number) if entry.kind == "file" else None
        items.append(Item(entry._replace(mtime=EPOCH * 10**9) if ours[number] else entry, source))
    return items


def _kept(blob: Descriptor, store: Store) -> tuple[Descriptor, str]:
    store.verify_blob(blob.digest)
    return blob, store.blob_path(blob.digest)


def layer_blob(layer: Layer, form: Form, store: Store, roots: Roots, threads: int) -> tuple[Descriptor, str]:
    """A layer of ours in the given form, made once and kept: its descriptor, and the file that has it."""
    media_type = LAYER_TYPE if form == "uncompressed" else f"{LAYER_TYPE}+{form}"
    name = NAMES[form]
    known = store.rendering(layer.diff_id, name)
    if known is None:
        known = _compress(layer, form, store, roots, threads)
        store.put_rendering(layer.diff_id, name, *known)
    digest, size = known
    return Descriptor(media_type, digest, size), store.blob_path(digest)


def _compress(layer: Layer, form: Form, store: Store, roots: Roots, threads: int) -> tuple[Digest, int]:
    if form == "uncompressed":
        return _tar_blob(layer, store, roots)
    if known := roots.tars.file(layer):
        return _packed(known, form, store, threads)
    with store.scratch() as scratch:
        tar = os.path.join(scratch, "layer.tar")
        with open(tar, "wb") as file:
            roots.tar(layer, file.write)
        return _packed(tar, form, store, threads)


def _tar_blob(layer: Layer, store: Store, roots: Roots) -> tuple[Digest, int]:
    known = roots.tars.file(layer)
    if store.has_blob(layer.diff_id):
        return layer.diff_id, os.stat(store.blob_path(layer.diff_id)).st_size
    with store.blob_writer() as writer:
        if known is None:
            roots.tar(layer, writer.write)
        else:
            with open(known, "rb") as file:
                for chunk in iter(lambda: file.read(1 << 20), b""):
                    writer.write(chunk)
        return writer.commit(layer.diff_id)


def _packed(tar: str, form: Form, store: Store, threads: int) -> tuple[Digest, int]:
    from builder.layers import compression  # for layers that are new

    with store.blob_writer() as writer:
        if form == "gzip":
            compression.gzip_file(tar, writer.write, threads=threads)
        else:
            compression.zstd_file(tar, writer.write, threads=threads)
        return writer.commit()


def repacked(root: Root, store: Store, roots: Roots) -> list[Digest]:
    """The layers of ours that are other blobs when one thread compresses them once more."""
    return [layer.diff_id for layer in root.layers if not roots.is_foreign(layer) and _differs(layer, store, roots)]


def _differs(layer: Layer, store: Store, roots: Roots) -> bool:
    from builder.layers import compression

    descriptor, _ = layer_blob(layer, "gzip", store, roots, os.cpu_count() or 1)
    digest = hasher("sha256")
    with store.scratch() as scratch:
        tar = roots.tars.file(layer)
        if tar is None:
            tar = os.path.join(scratch, "layer.tar")
            with open(tar, "wb") as file:
                roots.tar(layer, file.write)
        compression.gzip_file(tar, digest.update)
    return digest.hexdigest() != descriptor.digest.hex
