"""Images to be looked into where they are: in the store, in an archive or a folder, or in a registry. None is brought into the
store; what is read of a layer is compared with its digest and its diff ID."""

from __future__ import annotations

import hashlib

from builder.engine.foreign import CONFIG_LIMIT
from builder.errors import BuildError, RegistryError, UsageError
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.archives.archive import Archive
    from builder.archives.found import Found
    from builder.engine.remoteimages import Looked
    from builder.oci.digest import Descriptor
    from builder.store.store import ImageRecord, Store

    Fetch = Callable[[Descriptor, str], None]
    """Writes a layer's blob to a new file, compared with its digest."""


class Opened(NamedTuple):
    name: str
    """As the user wrote it."""
    where: str
    config: bytes
    manifest: bytes = b""
    """Empty where there is none, and for an image of the store, whose manifest is made when it is needed."""
    listed: bytes = b""
    """The index that it was chosen from."""
    layers: tuple[Descriptor, ...] = ()
    fetch: Fetch | None = None
    """None for an image of the store, which has all of its layers."""
    record: ImageRecord | None = None
    request: str = ""
    """What it says of its build (`builder.plan.recorded`), whatever that may be; empty for nothing."""

    def damaged(self, error: BuildError) -> BuildError:
        """The error that what is wrong with the image's bytes comes to."""
        if type(error) is not BuildError:
            return error
        kind = RegistryError if self.where == "registry" else UsageError
        return kind(f"'{self.name}' is damaged: {error.message}", hint=error.hint)


def of_store(name: str, record: ImageRecord, store: Store) -> Opened:
    config = store.read_blob(record.config, CONFIG_LIMIT)
    return Opened(name, "store", config, record=record, request=store.request(record.config))


def of_archive(name: str, archive: Archive, found: Found) -> Opened:
    def fetch(descriptor: Descriptor, path: str) -> None:
        place = found.places[descriptor.digest]
        hasher = hashlib.new(descriptor.digest.algorithm)
        with open(path, "wb") as file:
            for chunk in archive.chunks(place):
                hasher.update(chunk)
                file.write(chunk)
        if hasher.hexdigest() != descriptor.digest.hex:
            raise archive.wrong(f"the layer '{place}' is not {descriptor.digest}")

    return Opened(name, "archive", found.config, found.manifest, found.listed, found.layers, fetch, request=found.request)


def of_registry(name: str, looked: Looked, fetch: Fetch) -> Opened:
    return Opened(name, "registry", looked.config, looked.manifest, looked.listed, looked.layers, fetch, request=looked.request)
