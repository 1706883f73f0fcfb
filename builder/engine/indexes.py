"""Image indexes in the store: kept byte for byte with all that they name, and taken out again to be pushed."""

from __future__ import annotations

import json

from builder.errors import StoreError
from builder.export.layout import Rendered
from builder.oci.digest import Digest
from builder.oci.image import parse_descriptor
from builder.store.store import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.engine.roots import BuiltImage
    from builder.oci.digest import Descriptor
    from builder.oci.reference import Reference
    from builder.store.store import Store

LIMIT = 4 << 20
"""Bytes of an index or manifest, as registries have it."""
_CONFIG_LIMIT = 16 << 20


def keep(index: Rendered, images: Sequence[BuiltImage], names: Sequence[Reference], store: Store) -> None:
    """Put an index that was built into the store, with its images, under `names`, or without one."""
    blobs = [layer.digest for each in index.images for layer, _ in each.layers]
    for each in index.images:
        blobs += [store.put_blob(data)[0] for data in (each.config, each.manifest)]
    digest, _ = store.put_blob(index.manifest)
    members = [Member(Digest.of(image.config), tuple(image.blobs), str(image.platform), str(digest)) for image in images]
    for name in [str(name) for name in names] or [""]:
        store.tag_images(name, members, [digest, *dict.fromkeys(blobs)])


def rendered(digest: Digest, store: Store) -> Rendered:
    """An index of the store with its images, as it came. Raises StoreError where something of it is missing or damaged."""
    data = store.read_blob(digest, LIMIT)
    try:
        body = json.loads(data)
        if "manifests" in body:
            images = tuple(rendered(parse_descriptor(one).digest, store) for one in body["manifests"])
            return Rendered(b"", data, (), images=images)
        layers = tuple(_layer(parse_descriptor(one), store) for one in body["layers"])
        return Rendered(store.read_blob(parse_descriptor(body["config"]).digest, _CONFIG_LIMIT), data, layers)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(f"the manifest {digest} in the store is damaged", hint="build or pull the image again") from error


def _layer(descriptor: Descriptor, store: Store) -> tuple[Descriptor, str]:
    store.verify_blob(descriptor.digest)
    return descriptor, store.blob_path(descriptor.digest)
