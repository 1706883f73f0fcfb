"""Artifacts: manifests of what is no image, and those that belong to an image, its referrers. Pure.

OCI image-spec 1.1 manifest.md ("Guidelines for Artifact Usage", "subject"), distribution-spec 1.1 ("Listing Referrers",
"Referrers Tag Schema").
"""

from __future__ import annotations

from builder import canonical
from builder.errors import BuildError
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import INDEX_TYPE, MANIFEST_TYPE, descriptor_json, parse_descriptor, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EMPTY = b"{}"
"""Where a config or a layer must be and there is none (image-spec manifest.md, "Guidance for an Empty Descriptor")."""
EMPTY_DESCRIPTOR = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(EMPTY), len(EMPTY))
REQUEST_TYPE = "application/vnd.pybuild.request.v1+json"
"""The artifact that has the request of an image's build, and its only layer."""


def artifact(kind: str, blob: bytes, subject: Descriptor) -> bytes:
    """The manifest of an artifact that refers to `subject`; its layer is the blob, of the same type."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": kind,
        "config": descriptor_json(EMPTY_DESCRIPTOR),
        "layers": [descriptor_json(Descriptor(kind, Digest.of(blob), len(blob)))],
        "subject": descriptor_json(subject),
    }
    return to_json(manifest)


def artifact_layer(manifest: bytes, kind: str, subject: Digest) -> Descriptor:
    """The layer of such an artifact. Raises BuildError for a manifest that is no artifact of this kind, or another's."""
    body = _object(manifest)
    if body.get("artifactType") != kind or parse_descriptor(body.get("subject")).digest != subject:
        raise BuildError("an artifact is not what its list says")
    layers = body.get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        raise BuildError("an artifact has not one layer")
    return parse_descriptor(layers[0])


def tag_of(subject: Digest) -> str:
    """The tag of the index that lists the referrers, in registries that do not list them."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def listed(index: bytes, kind: str) -> tuple[Descriptor, ...]:
    """Those of a kind in a list of referrers. Raises BuildError for what is no such list."""
    return tuple(parse_descriptor(each) for each in _entries(index) if each.get("artifactType") == kind)


def with_listed(index: bytes | None, manifest: bytes, kind: str) -> bytes | None:
    """The list with one more; None where it has that one. Raises as `listed`."""
    entries = _entries(index) if index is not None else []
    digest = Digest.of(manifest)
    if any(each.get("digest") == str(digest) for each in entries):
        return None
    one = {**descriptor_json(Descriptor(MANIFEST_TYPE, digest, len(manifest))), "artifactType": kind}
    return to_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*entries, one]})


def _entries(index: bytes) -> list[dict[str, Any]]:
    entries = _object(index).get("manifests")
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise BuildError("the list of referrers has no manifests")
    return entries


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = canonical.loads(data.decode())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BuildError("it is no JSON object")
    return found
