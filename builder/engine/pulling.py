"""Images of registries, brought into the store: layers come side by side and are unpacked as they come, and the image has its
name only when all of it is there and verified."""

from __future__ import annotations

import os

from builder.cancellation import Cancellation
from builder.engine import foreign
from builder.engine.origins import Origins
from builder.engine.transfers import Transfers
from builder.engine.unpacked import Unpacked
from builder.errors import BuildError, Interrupted, RegistryError, StoreError
from builder.events import BuildWarning, Notice
from builder.oci.image import CONFIG_TYPES, parse_config
from builder.oci.index import suited
from builder.oci.platform import Platform
from builder.registry.client import Client
from builder.registry.manifests import Index, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.engine.roots import Roots
    from builder.events import Emit
    from builder.oci.digest import Descriptor
    from builder.oci.reference import Reference
    from builder.registry.access import RegistryAccess
    from builder.registry.manifests import ImageManifest, Raw
    from builder.registry.repository import Repository
    from builder.store.store import ImageRecord, Store

_DEEPEST = 3
"""Indexes in indexes."""
_LONGEST = 300
"""Characters of what an index says of itself in a hint."""


class NotThere(RegistryError):
    """The registry has no such image."""


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

    def warn(message: str) -> None:
        emit(BuildWarning("Registry", message))

    with Client(access._replace(stop=stop, warn=warn, notice=lambda message: emit(Notice(message)))) as client:
        origins = Origins(reference, client, warn)
        try:
            return _pulled(reference, origins, stop, store, roots, platform, emit)
        except (RegistryError, StoreError, Interrupted):
            raise
        except BuildError as error:
            if error is origins.unusable:
                raise
            # What the registry gave is no image.
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
    repository, raw, manifest = origins.ask(lambda place: _found(reference, place, platform))
    shown = reference.familiar
    config = _config(manifest.config, origins, store)
    parsed = parse_config(config)
    foreign.check_layers(shown, parsed, manifest.layers)
    wanted = foreign.missing(parsed, manifest.layers, store, roots)
    diff_ids = dict(zip((layer.digest for layer in manifest.layers), parsed.diff_ids, strict=True))

    def fetch(descriptor: Descriptor, count: Callable[[int], object]) -> None:
        # Another image that is pulled, here or by another process, may have the same layer.
        lock = store.lock(descriptor.digest.hex, f"process {os.getpid()}, pulling {shown}")
        lock.acquire(lambda _: stop.check())
        try:
            if _has(descriptor, store):
                count(descriptor.size)
            else:
                download(descriptor, count)
        finally:
            lock.release()

    def download(descriptor: Descriptor, count: Callable[[int], object]) -> None:
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

    layers = [(layer, diff_ids[layer.digest]) for layer in wanted]
    with store.scratch() as scratch, Transfers(f"pulling {shown}", wanted, fetch, stop, emit) as transfers:
        with Unpacked(layers, lambda layer: transfers.wait(layer.digest), store, scratch, stop) as tars:
            blobs = foreign.bring(shown, parsed, manifest.layers, store, roots, tars.take)
        transfers.finish()
    store.put_repository([layer.digest for layer in manifest.layers], repository.name)
    image_id, _ = store.put_blob(config)
    for digest in (raw.digest, manifest.digest):
        store.put_repository([image_id], f"{reference.name}@{digest}")
    name = reference.identity
    store.tag(name, image_id, blobs)
    found = store.find_image(name)
    if found is None:
        raise StoreError(f"the image '{shown}' vanished while it was pulled", hint="another process removed it: try again")
    return found


def lacking(error: RegistryError, reference: Reference, near: str | None) -> None:
    """Say in `error`, which ended a pull, that the store has no such image either, and that `near` may be meant."""
    if isinstance(error, NotThere):
        error.hint = near or error.hint
        return
    # Who has to log in, or has no network, may have meant what is written.
    error.hint = " if not: ".join(hint for hint in (near, error.hint) if hint) or None
    error.message = f"there is no image '{reference.familiar}' in the store, and it cannot be pulled: {error.message}"


def _found(reference: Reference, repository: Repository, platform: Platform) -> tuple[Repository, Raw, ImageManifest]:
    raw = repository.manifest(reference.digest or reference.tag)
    if raw is None:
        raise NotThere(f"{repository.domain} has no image '{reference.familiar}'", hint="check its name and tag")
    _, manifest = chosen_manifest(raw, reference, repository, platform)
    kind = manifest.config.media_type
    # What says nothing may be one.
    if kind.startswith("application/vnd.") and kind not in CONFIG_TYPES:
        hint = "other tools read it" if "cache" not in kind else "caches are for --cache-from"
        raise RegistryError(f"'{reference.familiar}' is no image, but of the type '{kind[:100]}'", hint=hint)
    return repository, raw, manifest


def chosen_manifest(raw: Raw, reference: Reference, repository: Repository, platform: Platform) -> tuple[Raw, ImageManifest]:
    """The manifest that `raw` is, or that it, an index, has for `platform`. Raises RegistryError."""
    for _ in range(_DEEPEST):
        parsed = parse(raw, f"'{reference.familiar}'")
        if not isinstance(parsed, Index):
            return raw, parsed
        found = suited(parsed.manifests, platform)
        if not found:
            others = [str(Platform(*one.platform)) for one in parsed.manifests if one.platform and one.platform[0] != "unknown"]
            raise RegistryError(
                f"the image '{reference.familiar}' is not there for {platform}",
                hint=f"it is for {', '.join(dict.fromkeys(others))}"[:_LONGEST] if others else None,
            )
        chosen = repository.manifest(found[0].digest)
        if chosen is None:
            raise RegistryError(
                f"{reference.domain} has lost the manifest {found[0].digest} of '{reference.familiar}'", hint="push it again"
            )
        raw = chosen
    raise RegistryError(f"the indexes of '{reference.familiar}' are nested too deeply")


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
