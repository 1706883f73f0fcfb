"""Images of registries, brought into the store: layers come side by side and are unpacked as they come, and the image has its
name only when all of it is there and verified."""

from __future__ import annotations

from contextlib import contextmanager

from builder.cancellation import Cancellation
from builder.engine import foreign
from builder.engine.transfers import Transfers
from builder.errors import BuildError, Interrupted, RegistryError, StoreError
from builder.oci.image import parse_config
from builder.oci.index import shown, suited
from builder.oci.platform import Platform
from builder.registry.client import Client
from builder.registry.manifests import Index, parse
from builder.store.store import Member
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.engine.roots import Roots
    from builder.events import Emit
    from builder.oci.digest import Descriptor
    from builder.oci.reference import Reference
    from builder.registry.access import RegistryAccess
    from builder.registry.manifests import ImageManifest, Raw
    from builder.registry.repository import Repository
    from builder.store.store import ImageRecord, Store

_DEEPEST, _WIDEST = 3, 8
"""Indexes in indexes, and those of one that are looked into where they do not say what they are for."""
_LONGEST = 300
"""Characters of what an index says of itself in a hint."""


class NotThere(RegistryError):
    """The registry has no such image."""


class NoPlatform(RegistryError):
    """The image is there, but not for this platform."""


def pull(
    reference: Reference, access: RegistryAccess, store: Store, roots: Roots, platform: Platform, emit: Emit
) -> ImageRecord:
    """Bring the image into the store, under its name; what is there already is not fetched again. Raises NotThere,
    RegistryError for all else that network, registry and image are to blame for, and UsageError for a damaged file with
    credentials."""
    stop = Cancellation()
    with Client(access._replace(stop=stop)) as client:
        repository = client.repository(reference)
        with naming_faults():
            return _pulled(reference, repository, stop, store, roots, platform, emit)


@contextmanager
def naming_faults() -> Iterator[None]:
    """What is wrong in here is the registry's: what it gave is no image."""
    try:
        yield
    except (RegistryError, StoreError, Interrupted):
        raise
    except BuildError as error:
        raise RegistryError(error.message, hint=error.hint) from error


def _pulled(
    reference: Reference,
    repository: Repository,
    stop: Cancellation,
    store: Store,
    roots: Roots,
    platform: Platform,
    emit: Emit,
) -> ImageRecord:
    raw = top(reference, repository)
    chosen = _for_platform(raw, reference, repository, platform)
    member = bring(chosen, reference, repository, stop, store, roots, emit)
    member = member._replace(source=str(raw.digest))
    name = reference.identity
    # What was pulled of the same index before stays beside it; of another one it is of another day.
    others = [Member(one.config, one.blobs, one.platform, one.source) for one in store.find_images(name) if one.name == name]
    others = [one for one in others if one.source == member.source and one.platform != member.platform]
    store.tag_images(name, [member, *others])
    found = store.find_image(name, platform)
    if found is None:
        raise StoreError(
            f"the image '{reference.familiar}' vanished while it was pulled", hint="another process removed it: try again"
        )
    return found


def bring(
    chosen: Chosen,
    reference: Reference,
    repository: Repository,
    stop: Cancellation,
    store: Store,
    roots: Roots,
    emit: Emit,
) -> Member:
    """Bring an image into the store, without a name yet."""
    manifest = chosen.manifest
    name = reference.familiar
    config = _config(manifest.config, repository, store)
    parsed = parse_config(config)
    foreign.check_layers(name, parsed, manifest.layers)
    wanted = foreign.missing(parsed, manifest.layers, store, roots)

    def fetch(descriptor: Descriptor, count: Callable[[int], object]) -> None:
        fetch_blob(descriptor, repository, store, count)

    with Transfers(f"pulling {name}", wanted, fetch, stop, emit) as transfers:
        blobs = foreign.bring(name, parsed, manifest.layers, store, roots, lambda descriptor: transfers.wait(descriptor.digest))
        transfers.finish()
    store.put_repository([layer.digest for layer in manifest.layers], repository.name)
    image_id, _ = store.put_blob(config)
    return Member(image_id, blobs, str(chosen.platform or parsed.config.platform.normal()))


def fetch_blob(
    descriptor: Descriptor, repository: Repository, store: Store, count: Callable[[int], object] = lambda size: None
) -> None:
    """A blob, unless the store has it; `count` is told of its bytes."""
    if _has(descriptor, store):
        count(descriptor.size)
        return
    with store.blob_writer(descriptor.digest.algorithm) as writer:

        def write(data: bytes) -> None:
            writer.write(data)
            count(len(data))

        repository.blob(descriptor, write)
        writer.commit(descriptor.digest)


def lacking(error: RegistryError, reference: Reference, near: str | None) -> None:
    """Say in `error`, which ended a pull, that the store has no such image either, and that `near` may be meant."""
    if isinstance(error, NotThere):
        error.hint = near or error.hint
        return
    # Who has to log in, or has no network, may have meant what is written.
    error.hint = " if not: ".join(hint for hint in (near, error.hint) if hint) or None
    error.message = f"there is no image '{reference.familiar}' in the store, and it cannot be pulled: {error.message}"


def top(reference: Reference, repository: Repository) -> Raw:
    """What the name stands for. Raises NotThere and RegistryError."""
    raw = repository.manifest(reference.digest or reference.tag)
    if raw is None:
        raise NotThere(f"{reference.domain} has no image '{reference.familiar}'", hint="check its name and tag")
    return raw


class Chosen(NamedTuple):
    """The manifest of one image, and what its index says that it is for; None where nothing says it."""

    manifest: ImageManifest
    platform: Platform | None
    raw: Raw


def _for_platform(
    raw: Raw, reference: Reference, repository: Repository, platform: Platform, said: Platform | None = None, depth: int = 0
) -> Chosen:
    parsed = parse(raw, f"'{reference.familiar}'")
    if not isinstance(parsed, Index):
        return Chosen(parsed, said, raw)
    if depth == _DEEPEST:
        raise RegistryError(f"the indexes of '{reference.familiar}' are nested too deeply")
    found = suited(parsed.manifests, platform)
    lacking: RegistryError | None = None
    # Those that say no platform may be indexes, each of which is looked into; else the first is the image.
    for one in found[:_WIDEST] if found and not found[0].platform else found[:1]:
        chosen = repository.manifest(one.digest)
        if chosen is None:
            raise RegistryError(
                f"{reference.domain} has lost the manifest {one.digest} of '{reference.familiar}'", hint="push it again"
            )
        of = Platform(*one.platform).normal() if one.platform else said
        try:
            return _for_platform(chosen, reference, repository, platform, of, depth + 1)
        except NoPlatform as error:
            lacking = error
    others = shown(parsed.manifests)
    raise lacking or NoPlatform(
        f"the image '{reference.familiar}' is not there for {platform}",
        hint=f"it is for {others}"[:_LONGEST] if others else None,
    )


def _config(descriptor: Descriptor, repository: Repository, store: Store) -> bytes:
    if _has(descriptor, store):
        return store.read_blob(descriptor.digest, foreign.CONFIG_LIMIT)
    return repository.read(descriptor, foreign.CONFIG_LIMIT)


def _has(descriptor: Descriptor, store: Store) -> bool:
    """Whether the blob is in the store, and whole."""
    if not store.has_blob(descriptor.digest):
        return False
    try:
        store.verify_blob(descriptor.digest)
    except StoreError:
        # Damaged: it is fetched anew.
        return False
    return True
