"""Joining images, and indexes of images, into one index (OCI image-spec image-index.md). Pure.

What a registry says of an image is kept as it is, fields that nobody here knows too: the objects are those of its JSON.
"""

from __future__ import annotations

from builder.errors import UsageError
from builder.oci.image import DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE, INDEX_TYPE, to_json
from builder.oci.platform import Platform
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_KIND = "vnd.docker.reference.type"
_OF = "vnd.docker.reference.digest"
"""The annotations by which an attestation of BuildKit's says what it is, and of which image."""


class Part(NamedTuple):
    """One descriptor of the new index."""

    descriptor: Mapping[str, Any]
    origin: str
    """What the user named it by."""
    replaceable: bool = False
    """It was in the index before, and gives way to a new image for its platform."""

    @property
    def digest(self) -> str:
        return str(self.descriptor["digest"])


def combine(parts: Iterable[Part]) -> list[Part]:
    """The parts of the index: what comes twice is there once, in the first place. Raises UsageError for two images for one
    platform, of which no client would take the second."""
    found: dict[str, Part] = {}
    by_platform: dict[tuple[str, ...], str] = {}
    for part in parts:
        if part.digest in found:
            continue
        platform = _platform(part.descriptor)
        if platform is not None:
            known = by_platform.get(platform)
            if known is not None and not found[known].replaceable:
                raise UsageError(
                    f"two images are for {shown(part.descriptor)}: {_named(found[known])} and {_named(part)}",
                    hint="leave one of them out",
                )
            if known is not None:
                _drop(known, found)
            by_platform[platform] = part.digest
        found[part.digest] = part
    return list(found.values())


def index_of(parts: Iterable[Part], annotations: Mapping[str, str]) -> tuple[bytes, str]:
    """The index and its media type: Docker's where all that it names is Docker's, and nothing needs the other."""
    descriptors = [dict(part.descriptor) for part in parts]
    docker = not annotations and all(each.get("mediaType") == DOCKER_MANIFEST_TYPE for each in descriptors)
    media_type = DOCKER_INDEX_TYPE if docker else INDEX_TYPE
    body: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, "manifests": descriptors}
    if annotations:
        body["annotations"] = dict(annotations)
    return to_json(body), media_type


def shown(descriptor: Mapping[str, Any]) -> str:
    """Its platform, for a person."""
    platform = descriptor.get("platform") or {}
    name = str(Platform(*(str(platform.get(key) or "") for key in ("os", "architecture", "variant"))))
    version = platform.get("os.version")
    return f"{name} ({version})" if version else name


def _platform(descriptor: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What makes two images ones for the same platform; None for what is no image or says none."""
    platform = descriptor.get("platform")
    if not isinstance(platform, dict) or _KIND in (descriptor.get("annotations") or {}):
        return None
    os, architecture, variant = (str(platform.get(key) or "") for key in ("os", "architecture", "variant"))
    if os in ("", "unknown"):
        return None
    features = platform.get("os.features") or ()
    return (*Platform(os, architecture, variant).normal(), str(platform.get("os.version") or ""), *map(str, features))


def _drop(digest: str, found: dict[str, Part]) -> None:
    """Take an image out, with what attests it."""
    del found[digest]
    for other in [p.digest for p in found.values() if (p.descriptor.get("annotations") or {}).get(_OF) == digest]:
        del found[other]


def _named(part: Part) -> str:
    return f"'{part.origin}' ({part.digest})"
