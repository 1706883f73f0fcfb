"""An image of the store, handed to a Docker engine (`--load`): only the layers that it misses.

Docker's own store knows a layer by its chain ID and opens the layer's member of an archive only where it does not know it
(moby, image/tarexport/load.go). So members of layers that it is known to have are left out; should one be gone meanwhile, it
says so, and gets the whole archive. Podman, and Docker with images in containerd, get the whole archive at once.
"""

from __future__ import annotations

import os

from builder.docker.client import DockerClient, Refused
from builder.engine.roots import Root
from builder.engine.saving import PlainLayers
from builder.events import Transfer
from builder.export.docker_archive import archive_files, manifest_json
from builder.export.layout import Rendered, blob_path, file_at, write_tar_of
from builder.layers.entry import BytesSource
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import LAYER_TYPE, parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from builder.engine.rendering import Blobs
    from builder.engine.roots import Roots
    from builder.events import Emit
    from builder.export.layout import Files
    from builder.layers.entry import Source
    from builder.oci.reference import Reference
    from builder.store.store import Store

_MOST_ASKED = 300
"""Images of the engine that are asked for their layers, the newest first."""


def hand_over(
    config: bytes, blobs: Blobs, names: Sequence[Reference], path: str, store: Store, roots: Roots, emit: Emit
) -> int:
    """Give the engine at `path` an image under `names`; the bytes that moved. `blobs` are those that its layers came in. Raises
    RegistryError, StoreError."""
    client = DockerClient(path)
    engine = client.engine()
    id = str(Digest.of(config))
    root = Root.of(parse_config(config).diff_ids)
    known: set[Digest] = set()
    if engine.keeps_layers:
        if client.layers(id) is not None:
            for name in names:
                client.tag(id, name.name, name.tag)
            return 0
        known = _known(client, root)
    with store.scratch() as scratch:
        plain = PlainLayers(scratch, store, roots)
        called = tuple(map(str, names))
        shown = f"loading into {engine.name}"
        if known:
            try:
                return _send(client, *_missing(config, blobs, called, root, known, plain), shown, emit)
            except Refused:
                pass  # Somebody removed an image whose layers this one was to share.
        image = plain.image(config, blobs, called)
        return _send(client, archive_files((image,)), image, shown, emit)


def _known(client: DockerClient, root: Root) -> set[Digest]:
    """The chain IDs of `root` that are there because an image of the engine has them."""
    wanted = {layer.chain for layer in root.layers}
    known: set[Digest] = set()
    for id in client.images()[:_MOST_ASKED]:
        if root.layers and root.layers[-1].chain in known:
            break
        same = 0
        for theirs, ours in zip(client.layers(id) or [], root.layers, strict=False):
            if theirs != str(ours.diff_id):
                break
            same += 1
        known.update(layer.chain for layer in root.layers[:same])
    return known & wanted


def _missing(
    config: bytes, blobs: Blobs, names: tuple[str, ...], root: Root, known: Collection[Digest], plain: PlainLayers
) -> tuple[Files, Rendered]:
    """The files of an archive without the layers whose chain IDs are `known`. Its list names them all."""
    files: dict[str, tuple[Digest | None, int, Source]] = {}
    layers = []
    for layer, blob in plain.with_blobs(root, blobs):
        path = "" if layer.chain in known else plain.path(layer, blob)
        size = os.stat(path).st_size if path else 0
        layers.append((Descriptor(LAYER_TYPE, layer.diff_id, size), path))
        if path:
            files[blob_path(layer.diff_id)] = (layer.diff_id, size, file_at(path))
    image = Rendered(config, b"", tuple(layers), names)
    id, manifest = Digest.of(config), manifest_json((image,))
    files[blob_path(id)] = (id, len(config), BytesSource(config))
    files["manifest.json"] = (None, len(manifest), BytesSource(manifest))
    return files, image


def _send(client: DockerClient, files: Files, image: Rendered, shown: str, emit: Emit) -> int:
    total = sum(size for _, size, _ in files.values())
    moved = told = 0
    emit(Transfer(shown, 0, total))

    def counted(write: Callable[[bytes], object]) -> None:
        def count(data: bytes) -> None:
            nonlocal moved, told
            write(data)
            moved += len(data)
            if moved - told > total // 50:
                told = moved
                emit(Transfer(shown, min(moved, total), total))

        write_tar_of(files, (image,), count)

    client.load(counted)
    emit(Transfer(shown, total, total))
    return moved
