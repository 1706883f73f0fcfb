"""Images taken to registries: blobs side by side, each only where it is missing, then the manifest, tag after tag."""

from __future__ import annotations

import json
from functools import partial

from builder.cancellation import Cancellation
from builder.engine.referring import put_request, request_blobs
from builder.engine.transfers import Transfers
from builder.errors import RegistryError, UsageError
from builder.events import Notice
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import CONFIG_TYPE, MANIFEST_TYPE
from builder.registry.auth import bytes_body
from builder.registry.client import Client
from builder.registry.http import Body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

    from builder.engine.transfers import Work
    from builder.events import Emit
    from builder.export.layout import Rendered
    from builder.oci.reference import Reference
    from builder.registry.access import RegistryAccess
    from builder.registry.repository import Repository
    from builder.store.store import Store


def push(
    image: Rendered,
    names: Sequence[Reference],
    access: RegistryAccess,
    store: Store,
    emit: Emit,
    *,
    with_request: bool = False,
) -> int:
    """Take the image to all of `names`; its bytes, compressed. `with_request`: and what it says of its build, as an artifact
    that refers to it. Raises RegistryError, StoreError for a damaged blob, and UsageError for a damaged file with credentials
    and for an image that says nothing."""
    if with_request and not image.request:
        raise UsageError(
            "the image says nothing of its build, and has no request to push",
            hint="leave it out; an image that pybuild built for one platform has one: pybuild inspect shows BuildRequest",
        )
    blobs = _blobs(image)
    said = request_blobs(image.request) if with_request else {}
    repositories: dict[str, list[Reference]] = {}
    for name in names:
        repositories.setdefault(name.name, []).append(name)
    stop = Cancellation()
    with Client(access._replace(stop=stop, notice=lambda message: emit(Notice(message)))) as client:
        for tagged in repositories.values():
            repository = client.repository(tagged[0])
            put_blobs(f"pushing {tagged[0].familiar}", {**blobs, **said}, repository, stop, store, emit)
            for each in image.all[:-1]:
                # An index is taken when all that it names is there.
                _put_manifest(repository, Digest.of(each.manifest), each.manifest)
            for name in tagged:
                _put_manifest(repository, name.tag, image.manifest)
            if with_request:
                put_request(image.request, image.manifest, repository)
            store.put_repository(blobs_of(image), repository.name)
            _remember(image, repository.name, store)
    return sum(descriptor.size for descriptor in blobs) + sum(len(each.manifest) for each in image.all)


def _remember(image: Rendered, repository: str, store: Store) -> None:
    """What its images are called there by digest: Docker's RepoDigests."""
    for each in image.all:
        if each.config:
            digests = dict.fromkeys((Digest.of(image.manifest), Digest.of(each.manifest)))
            for digest in digests:
                store.put_repository([Digest.of(each.config)], f"{repository}@{digest}")


def blobs_of(image: Rendered) -> list[Digest]:
    """The digests of the layers, which other images may share."""
    return [descriptor.digest for each in image.all for descriptor, _ in each.layers]


def _put_manifest(repository: Repository, tag: str | Digest, data: bytes) -> None:
    repository.put_manifest(tag, data, json.loads(data).get("mediaType") or MANIFEST_TYPE)


def _blobs(image: Rendered) -> dict[Descriptor, Body]:
    """Each blob once, with how to read it."""
    layers = (layer for each in image.all for layer in each.layers)
    blobs = {layer.digest: (layer, file_body(path, layer.size)) for layer, path in layers}
    for config in (each.config for each in image.all if each.config):
        descriptor = Descriptor(CONFIG_TYPE, Digest.of(config), len(config))
        blobs[descriptor.digest] = (descriptor, bytes_body(config))
    return dict(blobs.values())


def file_body(path: str, size: int) -> Body:
    """A file of so many bytes."""
    return Body(partial(_opened, path), size)


def _opened(path: str) -> IO[bytes]:
    return open(path, "rb")


def put_blobs(
    what: str, blobs: dict[Descriptor, Body], repository: Repository, stop: Cancellation, store: Store, emit: Emit
) -> None:
    """Take those there that are missing; `what` goes on, for a person. Raises RegistryError, and StoreError for a damaged
    blob."""
    missing: set[Digest] = set()

    def look(descriptor: Descriptor, _: Callable[[int], object]) -> None:
        if not repository.has_blob(descriptor.digest):
            missing.add(descriptor.digest)

    def take(descriptor: Descriptor, count: Callable[[int], object]) -> None:
        try:
            body = _counted(blobs[descriptor], count)
            if not repository.upload(descriptor, body, _source(descriptor.digest, repository, store)):
                count(descriptor.size)
        except RegistryError:
            # The registry compares it with its digest, and may be right.
            if store.has_blob(descriptor.digest):
                store.verify_blob(descriptor.digest)
            raise

    _all(what, list(blobs), look, stop, lambda _: None)
    _all(what, [descriptor for descriptor in blobs if descriptor.digest in missing], take, stop, emit)


def _all(what: str, descriptors: list[Descriptor], work: Work, stop: Cancellation, emit: Emit) -> None:
    with Transfers(what, descriptors, work, stop, emit) as transfers:
        transfers.finish()


def _source(digest: Digest, repository: Repository, store: Store) -> str:
    """Another repository of the same registry that has the blob; empty where none is known."""
    start = f"{repository.domain}/"
    names = store.repositories(digest)
    # Of a config it is also known what its manifests were called.
    known = (name for name in names if name.startswith(start) and name != repository.name and "@" not in name)
    return next(known, "").removeprefix(start)


def _counted(body: Body, count: Callable[[int], object]) -> Body:
    """What is read counts; what is read again does not."""
    furthest = 0

    def told(position: int) -> None:
        nonlocal furthest
        if position > furthest:
            count(position - furthest)
            furthest = position

    return body._replace(told=told)
