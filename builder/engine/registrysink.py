"""Writing a portable cache to a registry: blobs that it lacks, side by side, then the manifest."""

from __future__ import annotations

from builder.cache.format import is_replaceable
from builder.cancellation import Cancellation
from builder.engine.pushing import file_body, put_blobs
from builder.errors import UsageError
from builder.events import Notice
from builder.oci.image import MANIFEST_TYPE
from builder.registry.auth import bytes_body
from builder.registry.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.cache.places import Blob, RegistryTo
    from builder.events import Emit
    from builder.registry.access import RegistryAccess
    from builder.registry.http import Body
    from builder.registry.repository import Repository
    from builder.store.store import Store


class RegistrySink:
    def __init__(self, place: RegistryTo, access: RegistryAccess, store: Store, emit: Emit) -> None:
        self._reference = place.reference
        self._access = access
        self._store = store
        self._emit = emit

    def publish(self, blobs: Sequence[Blob], manifest: Blob) -> None:
        """Blobs that the registry has do not move. Of two at the same time the last one's manifest stays, and its blobs do."""
        stop = Cancellation()
        shown = self._reference.familiar
        bodies = {blob.descriptor: _body(blob) for blob in blobs}
        access = self._access._replace(stop=stop, notice=lambda message: self._emit(Notice(message)))
        with Client(access) as client:
            repository = client.repository(self._reference)
            self._refuse_others(repository)
            put_blobs(f"writing the cache {shown}", bodies, repository, stop, self._store, self._emit)
            repository.put_manifest(self._reference.tag, manifest.data, MANIFEST_TYPE)
            self._store.put_repository([blob.descriptor.digest for blob in blobs if blob.path], repository.name)

    def _refuse_others(self, repository: Repository) -> None:
        """A tag of an image keeps it: what is no cache is not replaced by one."""
        present = repository.manifest(self._reference.tag, push=True)
        if present is not None and not is_replaceable(present.data):
            raise UsageError(
                f"the cache cannot be written to '{self._reference.familiar}': there is something else under this name",
                hint="choose another tag, as in ref=registry.example/name:cache",
            )


def _body(blob: Blob) -> Body:
    return file_body(blob.path, blob.descriptor.size) if blob.path else bytes_body(blob.data)
