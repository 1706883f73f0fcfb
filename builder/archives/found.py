"""An image as an archive has it."""

from __future__ import annotations

from builder.errors import BuildError
from builder.oci.image import parse_config, parse_descriptor
from builder.oci.reference import Reference
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from builder.archives.archive import Archive
    from builder.oci.digest import Descriptor, Digest
    from builder.oci.image import ParsedImage
    from builder.oci.platform import Platform

MANIFEST_LIMIT = 4 << 20
"""Bytes of an index or a manifest, as registries have it."""
LIST_LIMIT = 16 << 20
"""Bytes of Docker's manifest.json, which lists all images of an archive."""
CONFIG_LIMIT = 16 << 20
MOST_LAYERS = 1000


class Found(NamedTuple):
    config: bytes
    layers: tuple[Descriptor, ...]
    places: Mapping[Digest, str]
    """The member that holds each layer's blob."""
    names: tuple[str, ...] = ()
    """Normalised."""
    tag: str = ""
    """The tag of an image that is called by nothing else."""
    manifest: bytes = b""
    """Empty where the archive has none."""
    listed: bytes = b""
    """The index that the manifest was chosen from."""
    platform: Platform | None = None
    """That an index says it is for."""
    request: str = ""
    """What the archive's index says of its build; whatever that may be."""
    packs: bool = False
    """Whether uncompressed layers are so because of the archive's form alone: they are compressed when they go elsewhere."""


def read_image(archive: Archive, config: bytes, what: str) -> ParsedImage:
    try:
        parsed = parse_config(config)
    except BuildError as error:
        raise archive.wrong(f"{what}: {error.message}") from error
    if len(parsed.diff_ids) > MOST_LAYERS:
        raise archive.wrong(f"{what} has {len(parsed.diff_ids)} layers")
    return parsed


def name_of(archive: Archive, text: object, digest: Digest | None = None) -> str:
    """The normalised name of an image. One that has a digest is believed where the image's is `digest`: what is called so must
    be what a registry would give. Raises UsageError."""
    try:
        if not isinstance(text, str):
            raise TypeError
        reference = Reference.parse(text)
    except (BuildError, TypeError) as error:
        reason = error.message if isinstance(error, BuildError) else "a name is no text"
        raise archive.wrong(f"an image has a name that is none: {reason}") from error
    if reference.digest is not None and reference.digest != digest:
        raise archive.wrong(f"an image is called {reference.identity}, and has another digest")
    return reference.identity


def descriptor_of(archive: Archive, raw: Any, what: str) -> Descriptor:
    try:
        return parse_descriptor(raw)
    except BuildError as error:
        raise archive.wrong(f"{what}: {error.message}") from error
