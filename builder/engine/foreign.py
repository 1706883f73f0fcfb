"""Images that others made, brought into the store: what comes is compared with its digests and diff IDs before it counts."""

from __future__ import annotations

import os

from builder.engine.roots import Root
from builder.errors import StoreError, UsageError
from builder.oci.digest import Descriptor
from builder.oci.image import LAYER_TYPE, complete_history, parse_config
from builder.plan.steps import BaseImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.context.oci_layout import Layout, Place
    from builder.engine.roots import Roots
    from builder.oci.digest import Digest
    from builder.oci.image import ParsedImage
    from builder.oci.platform import Platform
    from builder.store.store import Store

CONFIG_LIMIT = 16 << 20
"""Bytes of a config or manifest that are read at most."""


def base_image(name: str, parsed: ParsedImage, blobs: Sequence[Descriptor | None]) -> BaseImage:
    history = complete_history(parsed.history, len(parsed.diff_ids))
    return BaseImage(name, parsed.config, parsed.diff_ids, history, tuple(blobs))


def from_layout(name: str, place: Place, store: Store, roots: Roots, platform: Platform) -> BaseImage:
    """Bring an image of an OCI layout on disk into the store; layers that are there already are not read again."""
    from builder.context.oci_layout import Layout

    layout = Layout(place)
    manifest = layout.manifest(platform)
    parsed = parse_config(layout.read(manifest.config, CONFIG_LIMIT))
    blobs = bring(name, parsed, manifest.layers, store, roots, lambda descriptor, _: _fetch(layout, descriptor, store))
    return base_image(name, parsed, blobs)


def check_layers(name: str, parsed: ParsedImage, layers: Sequence[Descriptor]) -> None:
    """Raises UsageError for a manifest that does not fit its config, and for layers that nobody can read here."""
    if len(parsed.diff_ids) != len(layers):
        raise UsageError(
            f"the image '{name}' is damaged: {len(layers)} layers, but {len(parsed.diff_ids)} diff IDs in its config",
            hint="fetch or make it again",
        )

    for layer in layers:
        if layer.media_type.endswith("+encrypted"):
            raise UsageError(
                f"the layer {layer.digest} of the image '{name}' is encrypted, and nothing here has its key",
                hint="decrypt it first: skopeo copy --decryption-key",
            )


def missing(parsed: ParsedImage, layers: Sequence[Descriptor], store: Store, roots: Roots) -> list[Descriptor]:
    """The layers whose blobs have to be read, the lowest first and each once. Raises as `check_layers`."""
    root = Root()
    found = {}
    for diff_id, descriptor in zip(parsed.diff_ids, layers, strict=True):
        root = root.on_top(diff_id)
        if not _is_here(root, descriptor, store, roots):
            found[descriptor.digest] = descriptor
    return list(found.values())


def bring(
    name: str,
    parsed: ParsedImage,
    layers: Sequence[Descriptor],
    store: Store,
    roots: Roots,
    fetch: Callable[[Descriptor, Digest], str],
) -> list[Descriptor]:
    """Unpack each layer that is not there, after `fetch` has put its blob into the store, and perhaps made its tar, of the
    diff ID, whose path it gives. The descriptors that count: their media types say what the blobs are."""
    check_layers(name, parsed, layers)
    root = Root()
    blobs = []
    for diff_id, descriptor in zip(parsed.diff_ids, layers, strict=True):
        if not _is_here(root.on_top(diff_id), descriptor, store, roots):
            tar = fetch(descriptor, diff_id)
            _add_packed(root, diff_id, descriptor, store, roots, tar)
            store.put_foreign(diff_id, _typed(descriptor, store))
            store.put_rendering(diff_id, _form(descriptor), descriptor.digest, descriptor.size)
        root = root.on_top(diff_id)
        blobs.append(_typed(descriptor, store))
    return blobs


def _is_here(root: Root, descriptor: Descriptor, store: Store, roots: Roots) -> bool:
    # A blob counts for a layer once it was unpacked and its content compared.
    return roots.has(root) and store.rendering(root.layers[-1].diff_id, _form(descriptor)) is not None


def _form(descriptor: Descriptor) -> str:
    return f"foreign {descriptor.digest}"


def _typed(descriptor: Descriptor, store: Store) -> Descriptor:
    """The layer under OCI's media type for what the blob really is: layouts carry Docker's types too, and wrong ones."""
    form = _form_of(descriptor, store)
    if form in ("bzip2", "xz"):
        raise UsageError(
            f"the layer {descriptor.digest} is compressed with {form}, which OCI images do not have",
            hint="make the image again with gzip, zstd or uncompressed layers",
        )
    return Descriptor(f"{LAYER_TYPE}+{form}" if form else LAYER_TYPE, descriptor.digest, descriptor.size)


def _form_of(descriptor: Descriptor, store: Store) -> str:
    """How a blob is compressed; empty for a plain one."""
    from builder.layers.compression import sniff

    with open(store.blob_path(descriptor.digest), "rb") as file:
        return sniff(file.read(16))


def _fetch(layout: Layout, descriptor: Descriptor, store: Store) -> str:
    try:
        store.verify_blob(descriptor.digest)
    except StoreError:
        # Missing, or damaged: it is fetched anew.
        with store.blob_writer(descriptor.digest.algorithm) as writer:
            layout.copy(descriptor, writer.write)
            writer.commit(descriptor.digest)
    return ""


def _add_packed(root: Root, diff_id: Digest, descriptor: Descriptor, store: Store, roots: Roots, tar: str) -> None:
    """Put a layer's blob, compressed or not, on `root`; `tar` is what it holds, where that was made before. Raises UsageError
    when its content is not `diff_id`."""
    if not tar and descriptor.digest == diff_id and _form_of(descriptor, store) == "":
        # A plain tar, which was compared with its digest when it came.
        roots.add_foreign(root, diff_id, store.blob_path(diff_id), name=str(diff_id), packed=True)
        return
    with store.scratch() as scratch:
        if tar:
            # It goes with the scratch folder, whatever happens.
            os.rename(tar, os.path.join(scratch, "layer.tar"))
        tar = os.path.join(scratch, "layer.tar")
        if not os.path.lexists(tar):
            from builder.engine.unpacked import make_tar  # for those who unpack

            make_tar(descriptor, diff_id, store, tar)
        roots.add_foreign(root, diff_id, tar, name=str(descriptor.digest), packed=True)
