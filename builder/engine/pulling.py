"""Images of registries, brought into the store: layers come side by side and are unpacked as they come, and the image has its
name only when all of it is there and verified."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager

from builder.cancellation import Cancellation
from builder.engine import foreign
from builder.engine.origins import Origins
from builder.engine.transfers import Transfers
from builder.engine.unpacked import Unpacked
from builder.errors import BuildError, Interrupted, RegistryError, StoreError
from builder.events import BuildWarning, Notice
from builder.oci.image import CONFIG_TYPES, parse_config
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
    from builder.oci.digest import Descriptor, Digest
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
    reference: Reference,
    access: RegistryAccess,
    store: Store,
    roots: Roots,
    platform: Platform,
    emit: Emit,
    stop: Cancellation | None = None,
) -> ImageRecord:
    """Bring the image into the store, under its name; what is there already is not fetched again. `stop` ends it, and is
    cancelled when it fails. Raises NotThere, RegistryError for all else that network, registry and image are to blame for, and
    UsageError for a damaged file with credentials."""
    stop = stop or Cancellation()
    with opened(reference, access, stop, emit) as origins:
        return _pulled(reference, origins, stop, store, roots, platform, emit)


def resolve(reference: Reference, access: RegistryAccess, platform: Platform, emit: Emit) -> tuple[Digest, Digest]:
    """What the name stands for, without bringing it: the digests of the image's manifest and config. Raises as `pull`."""
    with opened(reference, access, Cancellation(), emit) as origins:
        _, _, chosen = origins.ask(lambda place: _found(reference, place, platform))
        return chosen.raw.digest, chosen.manifest.config.digest


@contextmanager
def opened(reference: Reference, access: RegistryAccess, stop: Cancellation, emit: Emit) -> Iterator[Origins]:
    """Where the image is asked for. What is wrong inside of the block is the registry's: what it gave is no image."""

    def warn(message: str) -> None:
        emit(BuildWarning("Registry", message))

    with Client(access._replace(stop=stop, warn=warn, notice=lambda message: emit(Notice(message)))) as client:
        origins = Origins(reference, client, warn)
        try:
            yield origins
        except (RegistryError, StoreError, Interrupted):
            raise
        except BuildError as error:
            if error is origins.unusable:
                raise
            raise RegistryError(error.message, hint=error.hint) from error


def _pulled(
    reference: Reference,
    origins: Origins,
    stop: Cancellation,
    store: Store,
    roots: Roots,
    platform: Platform,
    emit: Emit,
) -> ImageRecord:
    # Resolved once: whatever becomes of the tag meanwhile, the rest is fetched by digest.
    repository, raw, chosen = origins.ask(lambda place: _found(reference, place, platform))
    member = bring(chosen, reference, repository, origins, stop, store, roots, emit)
    # What the name stood for comes first; `bring` adds the image's own, where that was an index.
    store.put_repository([member.config], f"{reference.name}@{raw.digest}")
    member = member._replace(source=str(raw.digest))
    name = reference.identity
    # Another process may pull the image for another platform.
    lock = store.lock(hashlib.sha256(name.encode()).hexdigest(), f"process {os.getpid()}, naming {reference.familiar}")
    lock.acquire(lambda _: stop.check())
    try:
        # What was pulled of the same index before stays beside it; of another one it is of another day.
        known = [one for one in store.find_images(name) if one.name == name]
        others = [one for one in known if one.source == member.source and one.platform != member.platform]
        store.tag_images(name, [member, *(Member(one.config, one.blobs, one.platform, one.source) for one in others)])
    finally:
        lock.release()
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
    origins: Origins,
    stop: Cancellation,
    store: Store,
    roots: Roots,
    emit: Emit,
) -> Member:
    """Bring an image into the store, without a name yet. `repository` gave its manifest."""
    manifest = chosen.manifest
    name = reference.familiar
    config = _config(manifest.config, origins, store)
    parsed = parse_config(config)
    foreign.check_layers(name, parsed, manifest.layers)
    wanted = foreign.missing(parsed, manifest.layers, store, roots)
    diff_ids = dict(zip((layer.digest for layer in manifest.layers), parsed.diff_ids, strict=True))

    def fetch(descriptor: Descriptor, count: Callable[[int], object]) -> None:
        # Another image that is pulled, here or by another process, may have the same layer.
        lock = store.lock(descriptor.digest.hex, f"process {os.getpid()}, pulling {name}")
        lock.acquire(lambda _: stop.check())
        try:
            fetch_blob(descriptor, origins, store, count)
        finally:
            lock.release()

    layers = [(layer, diff_ids[layer.digest]) for layer in wanted]
    with store.scratch() as scratch, Transfers(f"pulling {name}", wanted, fetch, stop, emit) as transfers:
        with Unpacked(layers, lambda layer: transfers.wait(layer.digest), store, scratch, stop) as tars:
            blobs = foreign.bring(name, parsed, manifest.layers, store, roots, tars.take)
        transfers.finish()
    store.put_repository([layer.digest for layer in manifest.layers], repository.name)
    image_id, _ = store.put_blob(config)
    store.put_repository([image_id], f"{reference.name}@{chosen.raw.digest}")
    return Member(image_id, blobs, str(chosen.platform or parsed.config.platform.normal()))


def fetch_blob(
    descriptor: Descriptor, origins: Origins, store: Store, count: Callable[[int], object] = lambda size: None
) -> None:
    """A blob, unless the store has it; `count` is told of its bytes."""
    if _has(descriptor, store):
        count(descriptor.size)
        return
    furthest = 0

    def bring(place: Repository) -> None:
        nonlocal furthest
        size = 0
        with store.blob_writer(descriptor.digest.algorithm) as writer:

            def write(data: bytes) -> None:
                nonlocal furthest, size
                writer.write(data)
                size += len(data)
                # What another one begins anew does not count again.
                count(max(0, size - furthest))
                furthest = max(furthest, size)

            place.blob(descriptor, write)
            writer.commit(descriptor.digest)

    origins.ask(bring)


def lacking(error: RegistryError, reference: Reference, near: str | None) -> None:
    """Say in `error`, which ended a pull, that the store has no such image either, and that `near` may be meant."""
    if isinstance(error, NotThere):
        error.hint = near or error.hint
        return
    # Who has to log in, or has no network, may have meant what is written.
    if near and not near.endswith("?"):
        near += ";"
    error.hint = " if not: ".join(hint for hint in (near, error.hint) if hint) or None
    error.message = f"there is no image '{reference.familiar}' in the store, and it cannot be pulled: {error.message}"


def top(reference: Reference, repository: Repository) -> Raw:
    """What the name stands for. Raises NotThere and RegistryError."""
    raw = repository.manifest(reference.digest or reference.tag)
    if raw is None:
        raise NotThere(f"{repository.domain} has no image '{reference.familiar}'", hint="check its name and tag")
    return raw


def below(digest: Digest, reference: Reference, repository: Repository) -> Raw:
    """A manifest that an index of the image names. Raises RegistryError where it is not there."""
    raw = repository.manifest(digest)
    if raw is None:
        raise RegistryError(
            f"{repository.domain} has lost the manifest {digest} of '{reference.familiar}'", hint="push it again"
        )
    return raw


class Chosen(NamedTuple):
    """The manifest of one image, and what its index says that it is for; None where nothing says it."""

    manifest: ImageManifest
    platform: Platform | None
    raw: Raw


def _found(reference: Reference, repository: Repository, platform: Platform) -> tuple[Repository, Raw, Chosen]:
    raw = top(reference, repository)
    chosen = choose(raw, reference, repository, platform)
    kind = chosen.manifest.config.media_type
    # What says nothing may be one.
    if kind.startswith("application/vnd.") and kind not in CONFIG_TYPES:
        hint = "other tools read it" if "cache" not in kind else "caches are for --cache-from"
        raise RegistryError(f"'{reference.familiar}' is no image, but of the type '{kind[:100]}'", hint=hint)
    return repository, raw, chosen


def choose(
    raw: Raw, reference: Reference, repository: Repository, platform: Platform, said: Platform | None = None, depth: int = 0
) -> Chosen:
    """The manifest that `raw` is, or that it, an index, has for `platform`. Raises RegistryError."""
    parsed = parse(raw, f"'{reference.familiar}'")
    if not isinstance(parsed, Index):
        return Chosen(parsed, said, raw)
    if depth == _DEEPEST:
        raise RegistryError(f"the indexes of '{reference.familiar}' are nested too deeply")
    found = suited(parsed.manifests, platform)
    lacking: RegistryError | None = None
    # Those that say no platform may be indexes, each of which is looked into; else the first is the image.
    for one in found[:_WIDEST] if found and not found[0].platform else found[:1]:
        chosen = below(one.digest, reference, repository)
        of = Platform(*one.platform).normal() if one.platform else said
        try:
            return choose(chosen, reference, repository, platform, of, depth + 1)
        except NoPlatform as error:
            lacking = error
    others = shown(parsed.manifests)
    raise lacking or NoPlatform(
        f"the image '{reference.familiar}' is not there for {platform}",
        hint=f"it is for {others}"[:_LONGEST] if others else None,
    )


def _config(descriptor: Descriptor, origins: Origins, store: Store) -> bytes:
    if _has(descriptor, store):
        return store.read_blob(descriptor.digest, foreign.CONFIG_LIMIT)
    return origins.ask(lambda place: place.read(descriptor, foreign.CONFIG_LIMIT))


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
