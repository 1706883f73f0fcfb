"""Portable caches in registries, read and written (`builder.cache`): an artifact under a tag, or an image with one inside.

What a registry gives is hostile as any cache is; here it is compared with the digests and sizes that were asked for. A registry
that fails is asked no more: one that hangs costs a build its timeout once, and not for each layer.
"""

from __future__ import annotations

from builder.cache.format import is_replaceable
from builder.cache.places import Lost
from builder.cancellation import Cancellation
from builder.engine.pushing import file_body, put_blobs
from builder.errors import BuildError, RegistryError, UsageError
from builder.oci.image import MANIFEST_TYPE
from builder.oci.index import suited
from builder.registry.auth import bytes_body
from builder.registry.client import Client
from builder.registry.manifests import Index, is_index, parse
from builder.registry.repository import BadBlob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.cache.places import Blob, RegistryFrom, RegistryTo
    from builder.events import Emit
    from builder.oci.digest import Descriptor
    from builder.oci.platform import Platform
    from builder.registry.access import RegistryAccess
    from builder.registry.http import Body
    from builder.registry.manifests import Raw
    from builder.registry.repository import Repository
    from builder.store.store import Store

_DEEPEST = 3
"""Indexes in indexes."""


class RegistrySource:
    """Of an image for several platforms it is the one for `platform`."""

    def __init__(
        self, place: RegistryFrom, access: Callable[[], RegistryAccess], platform: Platform, stop: Cancellation
    ) -> None:
        self._reference = place.reference
        self._access = access
        self._platform = platform
        self._stop = stop
        self._client: Client | None = None
        self._repository: Repository | None = None

    def warm(self) -> None:
        # What threads would import at once first: Python 3.13 loses that race.

        import urllib3  # noqa: F401  for what they leave behind

    def manifest(self) -> bytes:
        self._client = Client(self._access()._replace(stop=self._stop))
        self._repository = self._client.repository(self._reference)
        raw = self._repository.manifest(self._reference.digest or self._reference.tag)
        for _ in range(_DEEPEST):
            if raw is None:
                raise BuildError("it is not there")
            if not is_index(raw) or is_replaceable(raw.data):
                # BuildKit's caches were indexes: the format says what to do with one.
                return raw.data
            raw = self._of_platform(raw, self._repository)
        raise BuildError("its indexes are nested too deeply")

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        return self._asked().read(descriptor, limit)

    def copy(self, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
        try:
            self._asked().blob(descriptor, write)
        except BadBlob:
            # Others may be good.
            raise
        except RegistryError as error:
            raise Lost(error.message, hint=error.hint) from error

    def masked(self, text: str) -> str:
        return self._client.masked(text) if self._client is not None else text

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _asked(self) -> Repository:
        assert self._repository is not None, "the manifest comes first"
        return self._repository

    def _of_platform(self, raw: Raw, repository: Repository) -> Raw | None:
        index = parse(raw, f"'{self._reference.familiar}'")
        assert isinstance(index, Index)
        found = suited(index.manifests, self._platform)
        if not found:
            raise BuildError(f"it is not there for {self._platform}")
        return repository.manifest(found[0].digest)


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
        with Client(self._access._replace(stop=stop)) as client:
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
