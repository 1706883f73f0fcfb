"""An image for `docker load` (`type=docker`): an OCI layout with Docker's own manifest.json beside it, as buildx writes it.

Docker before 25, podman and skopeo's `docker-archive:` read manifest.json (moby image/spec/v1.2.md), newer ones the layout.
"""

from __future__ import annotations

from builder.errors import UsageError
from builder.export.layout import blob_path, layout_files, to_json, write_archive, write_oci_layout
from builder.layers.entry import BytesSource
from builder.oci.digest import Digest
from builder.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.export.layout import Rendered


def write_docker_archive(image: Rendered, dest: str, *, tar: bool = True, stdout: int = 1) -> int:
    """Write the archive to the file `dest`, or to `stdout` for `-`; its bytes. With `tar=False` it is the OCI layout alone.

    Raises UsageError for a destination that cannot be a file, StoreError where a blob is damaged.
    """
    for name in image.names:
        if not Reference.parse(name).tag:
            raise UsageError(f"'{name}' has no tag, which an archive for docker needs", hint="give a name as name:tag")
    if not tar:
        return write_oci_layout(image, dest, tar=False)
    files = layout_files(image, [])
    manifest = to_json(
        [
            {
                "Config": blob_path(Digest.of(image.config)),
                "RepoTags": [Reference.parse(name).familiar for name in dict.fromkeys(image.names)] or None,
                "Layers": [blob_path(descriptor.digest) for descriptor, _ in image.layers],
            }
        ]
    )
    files["manifest.json"] = (None, len(manifest), BytesSource(manifest))
    return write_archive(files, image, dest, stdout=stdout)
