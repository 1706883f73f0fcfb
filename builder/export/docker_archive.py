"""Images for `docker load` (`type=docker`): an OCI layout with Docker's own manifest.json beside it, as buildx writes it.

Docker before 25, podman and skopeo's `docker-archive:` read manifest.json (moby image/spec/v1.2.md), newer ones the layout. And
skopeo's `dir:`, which podman calls docker-dir.
"""

from __future__ import annotations

import json

from builder.errors import UsageError
from builder.export.layout import blob_path, file_at, layout_files, to_json, write_archive, write_files, write_oci_layout
from builder.layers.entry import BytesSource
from builder.oci.digest import Digest
from builder.oci.image import DOCKER_MANIFEST_TYPE
from builder.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from builder.export.layout import Rendered
    from builder.layers.entry import Source

DOCKER_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def write_docker_archive(image: Rendered, dest: str, *, tar: bool = True, stdout: int = 1) -> int:
    """Write the archive to the file `dest`, or to `stdout` for `-`; its bytes. With `tar=False` it is the OCI layout alone.

    Raises UsageError for a destination that cannot be a file, StoreError where a blob is damaged.
    """
    if not tar:
        check_names(image)
        return write_oci_layout(image, dest, tar=False)
    return write_archive(archive_files((image,)), (image,), dest, stdout=stdout)


def write_docker_archives(images: Sequence[Rendered], dest: str, *, stdout: int = 1) -> int:
    """The same with several images, as `docker save` writes them: with the file `repositories` for the oldest readers."""
    files = archive_files(images)
    tops: dict[str, dict[str, str]] = {}
    for image in images:
        for name in map(Reference.parse, image.names):
            if image.layers:
                repository = name._replace(tag="").familiar
                tops.setdefault(repository, {})[name.tag] = image.layers[-1][0].digest.hex
    if tops:
        files["repositories"] = _bytes(to_json(tops))
    return write_archive(files, images, dest, stdout=stdout)


def check_names(image: Rendered) -> None:
    """Raises UsageError for a name without a tag."""
    for name in image.names:
        if not Reference.parse(name).tag:
            raise UsageError(f"'{name}' has no tag, which an archive for docker needs", hint="give a name as name:tag")


def archive_files(images: Sequence[Rendered]) -> dict[str, tuple[Digest | None, int, Source]]:
    """The files of an archive, as `layout_files`. Raises UsageError."""
    for image in images:
        check_names(image)
    files = layout_files(images, [])
    files["manifest.json"] = _bytes(manifest_json(images))
    return files


def manifest_json(images: Sequence[Rendered]) -> bytes:
    """Docker's list of images."""
    return to_json(
        [
            {
                "Config": blob_path(Digest.of(image.config)),
                "RepoTags": [Reference.parse(name).familiar for name in dict.fromkeys(image.names)] or None,
                "Layers": [blob_path(descriptor.digest) for descriptor, _ in image.layers],
            }
            for image in images
        ]
    )


def write_docker_dir(image: Rendered, dest: str) -> int:
    """Write the image into the folder `dest` as skopeo's `dir:` has it, with a manifest of Docker's schema 2; its bytes. Raises
    UsageError for layers that this schema does not know, and as `write_docker_archive`."""
    manifest = json.loads(image.manifest)
    manifest["mediaType"] = DOCKER_MANIFEST_TYPE
    manifest["config"]["mediaType"] = DOCKER_CONFIG_TYPE
    files: dict[str, tuple[Digest | None, int, Source]] = {}
    for layer, (descriptor, path) in zip(manifest["layers"], image.layers, strict=True):
        layer["mediaType"] = _docker_type(layer)
        files[descriptor.digest.hex] = (descriptor.digest, descriptor.size, file_at(path))
    files["manifest.json"] = _bytes(to_json(manifest))
    files["version"] = _bytes(b"Directory Transport Version: 1.1\n")
    files[Digest.of(image.config).hex] = _bytes(image.config)
    return write_files(files, (image,), dest)


def _docker_type(layer: dict[str, Any]) -> str:
    form = str(layer["mediaType"]).partition("+")[2]
    if form not in ("", "gzip"):
        raise UsageError(
            f"the layer {layer['digest']} is compressed with {form}, which Docker's schema 2 does not know",
            hint="save it as --format=oci-dir",
        )
    return f"{_DOCKER_LAYER}.gzip" if form else _DOCKER_LAYER


def _bytes(data: bytes) -> tuple[None, int, Source]:
    return None, len(data), BytesSource(data)
