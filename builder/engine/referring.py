"""What an image says of its build, in a registry: an artifact that refers to it (`oci.artifact`)."""

from __future__ import annotations

from builder.errors import BuildError, RegistryError
from builder.oci.artifact import (
    EMPTY,
    EMPTY_DESCRIPTOR,
    REQUEST_TYPE,
    artifact,
    artifact_layer,
    listed,
    tag_of,
    with_listed,
)
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import INDEX_TYPE, MANIFEST_TYPE
from builder.plan.recorded import LIMIT
from builder.registry.auth import bytes_body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.registry.http import Body
    from builder.registry.repository import Repository

_MOST = 50
"""Requests of one image that are looked at; it has as many as there are ways to ask for it."""


def request_blobs(text: str) -> dict[Descriptor, Body]:
    """What has to be there before `put_request`, with how to read it."""
    data = text.encode()
    return {
        EMPTY_DESCRIPTOR: bytes_body(EMPTY),
        Descriptor(REQUEST_TYPE, Digest.of(data), len(data)): bytes_body(data),
    }


def put_request(text: str, manifest: bytes, repository: Repository) -> None:
    """Let the repository's image of this manifest have the request. Raises RegistryError."""
    subject = Descriptor(MANIFEST_TYPE, Digest.of(manifest), len(manifest))
    data = artifact(REQUEST_TYPE, text.encode(), subject)
    if repository.put_manifest(Digest.of(data), data, MANIFEST_TYPE):
        return
    # The registry lists no referrers: a tag does.
    tag = tag_of(subject.digest)
    there = repository.manifest(tag, push=True)
    try:
        index = with_listed(there.data if there else None, data, REQUEST_TYPE)
    except BuildError as error:
        raise _damaged(tag, repository, error) from error
    if index is not None:
        repository.put_manifest(tag, index, INDEX_TYPE)


def request_of(manifest: bytes, place: Repository) -> str:
    """The request of the image with this manifest, the last that was put there; empty for none. Raises RegistryError."""
    subject = Digest.of(manifest)
    index = place.referrers(subject)
    if index is None:
        raw = place.manifest(tag_of(subject))
        index = raw.data if raw else None
    if index is None:
        return ""
    try:
        found = listed(index, REQUEST_TYPE)[-_MOST:]
        for each in reversed(found):
            raw = place.manifest(each.digest)
            if raw is not None:
                return place.read(artifact_layer(raw.data, REQUEST_TYPE, subject), LIMIT).decode()
    except (BuildError, UnicodeDecodeError) as error:
        if isinstance(error, RegistryError):
            raise
        raise _damaged(f"the request of {subject}", place, error) from error
    return ""


def _damaged(what: str, place: Repository, error: Exception) -> RegistryError:
    message = error.message if isinstance(error, BuildError) else "it is no text"
    return RegistryError(f"{what} in {place.name} is damaged: {message}", hint="push the image again with --request")
