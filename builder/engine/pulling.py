"""Images of registries, brought into the store: layers come side by side and are unpacked as they come, and the image has its
name only when all of it is there and verified."""

from __future__ import annotations

from builder.cancellation import Cancellation
from builder.engine import foreign
from builder.engine.transfers import Transfers
from builder.errors import BuildError, Interrupted, RegistryError, StoreError
from builder.oci.image import parse_config
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
    reference: Reference, access: RegistryAccess, store: Store, roots: Roots, platform: Platform, emit: Emit
) -> ImageRecord:
    """Bring the image into the store, under its name; what is there already is not fetched again. Raises NotThere,
    RegistryError for all else that network, registry and image are to blame for, and UsageError for a damaged file with
    credentials."""
    stop = Cancellation()
    with Client(access._replace(stop=stop)) as client:
        repository = client.repository(reference)
        try:
            return _pulled(reference, repository, stop, store, roots, platform, emit)
        except (RegistryError, StoreError, Interrupted):
            raise
        except BuildError as error:
            # What the registry gave is no image.
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
    manifest = image_manifest(reference, repository, platform)
    shown = reference.familiar
    config = _config(manifest.config, repository, store)
    parsed = parse_config(config)
    foreign.check_layers(shown, parsed, manifest.layers)
    wanted = foreign.missing(parsed, manifest.layers, store, roots)

    def fetch(descriptor: Descriptor, count: Callable[[int], object]) -> None:
        if _has(descriptor, store):
            count(descriptor.size)
            return
        with store.blob_writer(descriptor.digest.algorithm) as writer:

            def write(data: bytes) -> None:
                writer.write(data)
                count(len(data))

            repository.blob(descriptor, write)
            writer.commit(descriptor.digest)

    with Transfers(f"pulling {shown}", wanted, fetch, stop, emit) as transfers:
        blobs = foreign.bring(
            shown, parsed, manifest.layers, store, roots, lambda descriptor: transfers.wait(descriptor.digest)
        )
        transfers.finish()
    store.put_repository([layer.digest for layer in manifest.layers], repository.name)
    image_id, _ = store.put_blob(config)
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


def image_manifest(reference: Reference, repository: Repository, platform: Platform) -> ImageManifest:
    """The manifest of the image for `platform`. Raises NotThere and RegistryError."""
    raw = repository.manifest(reference.digest or reference.tag)
    if raw is None:
        raise NotThere(f"{reference.domain} has no image '{reference.familiar}'", hint="check its name and tag")
    return chosen_manifest(raw, reference, repository, platform)[1]


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
