"""What a registry calls a manifest: OCI's and Docker's image manifests and indexes; all else is refused by its name. Pure."""

from __future__ import annotations

import json

from builder.errors import BuildError, RegistryError
from builder.oci.image import DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE, INDEX_TYPE, MANIFEST_TYPE, parse_descriptor
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from builder.oci.digest import Descriptor, Digest

ACCEPTED = (MANIFEST_TYPE, DOCKER_MANIFEST_TYPE, INDEX_TYPE, DOCKER_INDEX_TYPE)
LIMIT = 4 << 20
"""Bytes of a manifest, as registries have it."""

_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_INDEXES = (INDEX_TYPE, DOCKER_INDEX_TYPE)
_LAYERS = 1000
"""More than any kernel stacks."""


class ImageManifest(NamedTuple):
    digest: Digest
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(NamedTuple):
    digest: Digest
    manifests: tuple[Descriptor, ...]


class Raw(NamedTuple):
    """A manifest as it came, its digest verified."""

    data: bytes
    media_type: str
    digest: Digest


def is_index(raw: Raw) -> bool:
    """Whether `parse` finds an index, or says what is wrong with it."""
    body = _body(raw)
    return isinstance(body, dict) and _kind(body, raw) in _INDEXES


def parse(raw: Raw, shown: str) -> ImageManifest | Index:
    """Raises RegistryError for what is neither; `shown` is what the image is called."""
    body = _body(raw)
    if not isinstance(body, dict):
        raise RegistryError(f"the manifest of {shown} is no JSON object", hint=_DAMAGED)
    kind = _kind(body, raw)
    if kind in _SCHEMA_1 or body.get("schemaVersion") == 1:
        raise RegistryError(
            f"the manifest of {shown} is of Docker's schema 1, which was given up in 2017",
            hint="push the image again with a newer tool: skopeo copy, or docker pull and push",
        )
    try:
        if kind in _INDEXES:
            return Index(raw.digest, _descriptors(body, "manifests"))
        if kind in (MANIFEST_TYPE, DOCKER_MANIFEST_TYPE):
            return ImageManifest(raw.digest, parse_descriptor(body.get("config")), _descriptors(body, "layers"))
    except BuildError as error:
        raise RegistryError(f"the manifest of {shown} is damaged: {error.message}", hint=_DAMAGED) from error
    raise RegistryError(f"the manifest of {shown} is of the unknown type '{str(kind)[:100]}'", hint="is it an image at all?")


_DAMAGED = "push the image again"


def _body(raw: Raw) -> object:
    """None for what is no JSON."""
    try:
        return json.loads(raw.data)
    except (ValueError, RecursionError):
        return None


def _kind(body: dict[str, Any], raw: Raw) -> object:
    """Its type, as far as it says one."""
    kind = body.get("mediaType") or raw.media_type
    if kind in ACCEPTED or kind in _SCHEMA_1 or not _says_nothing(kind):
        return kind
    # Registries that do not know a type call it JSON or octets.
    return INDEX_TYPE if "manifests" in body else MANIFEST_TYPE if "layers" in body else kind


def _says_nothing(kind: object) -> bool:
    return not isinstance(kind, str) or kind in ("", "application/json", "application/octet-stream", "text/plain")


def _descriptors(body: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    found = body.get(key)
    if not isinstance(found, list):
        raise BuildError(f"it has no {key}")
    if key == "layers" and len(found) > _LAYERS:
        raise BuildError(f"it has {len(found)} layers")
    return tuple(parse_descriptor(each) for each in found)
