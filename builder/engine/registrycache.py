"""Reading a portable cache from a registry (`builder.cache`), or its mirrors: an artifact under a tag, or an image with one
inside.

What a registry gives is hostile as any cache is; here it is compared with the digests and sizes that were asked for. A registry
that fails is asked no more: one that hangs costs a build its timeout once, and not for each layer. A build that asks no cache
does not import what speaks to one.
"""

from __future__ import annotations

import time

from builder.cache.places import Lost
from builder.errors import BuildError, RegistryError
from builder.events import BuildWarning, Notice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.cache.places import RegistryFrom
    from builder.cancellation import Cancellation
    from builder.engine.origins import Origins
    from builder.events import Emit
    from builder.oci.digest import Descriptor
    from builder.oci.platform import Platform
    from builder.registry.access import RegistryAccess
    from builder.registry.client import Client
    from builder.registry.manifests import Raw
    from builder.registry.repository import Repository

_DEEPEST = 3
"""Indexes in indexes."""
_SLOWEST = 1000
"""Bytes a second, on the average."""


class RegistrySource:
    """Of an image for several platforms those count that are for `platforms`."""

    def __init__(
        self,
        place: RegistryFrom,
        access: Callable[[], RegistryAccess],
        platforms: Sequence[Platform],
        stop: Cancellation,
        emit: Emit,
    ) -> None:
        self._reference = place.reference
        self._access = access
        self._platforms = platforms
        self._stop = stop
        self._emit = emit
        self._patience = 0.0
        """Seconds of a download that nobody counts."""
        self._client: Client | None = None
        self._origins: Origins | None = None

    def warm(self) -> None:
        # What threads would import at once: Python 3.13 loses that race.
        import collections.abc  # noqa: F401  for what it leaves behind, as the next ones
        import urllib.parse  # noqa: F401

        import urllib3  # noqa: F401

        from builder.engine import origins  # noqa: F401
        from builder.registry import client  # noqa: F401

    def manifests(self) -> list[bytes]:
        from builder.engine.origins import Origins
        from builder.registry.client import Client

        access = self._access()._replace(stop=self._stop, warn=self._warn, notice=lambda message: self._emit(Notice(message)))
        self._patience = access.limits.idle
        self._client = Client(access)
        self._origins = Origins(self._reference, self._client, self._warn)
        return self._origins.ask(self._found)

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        if descriptor.size > limit:
            raise BuildError(f"its blob {descriptor.digest} is larger than {limit} bytes")
        parts: list[bytes] = []
        self.copy(descriptor, parts.append, parts.clear)
        return b"".join(parts)

    def copy(self, descriptor: Descriptor, write: Callable[[bytes], object], again: Callable[[], object]) -> None:
        from builder.registry.repository import BadBlob

        assert self._origins is not None, "the manifest comes first"
        begun = False

        def bring(place: Repository) -> None:
            nonlocal begun
            if begun:
                again()
            begun = True
            place.blob(descriptor, self._paced(place, write))

        try:
            self._origins.ask(bring)
        except BadBlob:
            # Others may be good.
            raise
        except RegistryError as error:
            raise Lost(error.message, hint=error.hint) from error

    def masked(self, text: str) -> str:
        return self._client.masked(BuildError(text)).message if self._client is not None else text

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _warn(self, message: str) -> None:
        self._emit(BuildWarning("Registry", message))

    def _found(self, place: Repository) -> list[bytes]:
        return self._images(place.manifest(self._reference.digest or self._reference.tag), place, 0)

    def _images(self, raw: Raw | None, place: Repository, depth: int) -> list[bytes]:
        from builder.cache.format import is_replaceable
        from builder.oci.index import suited_each
        from builder.registry.manifests import Index, is_index, parse

        if raw is None:
            raise RegistryError("it is not there")
        if not is_index(raw) or is_replaceable(raw.data):
            # BuildKit's caches were indexes: the format says what to do with one.
            return [raw.data]
        if depth == _DEEPEST:
            raise RegistryError("its indexes are nested too deeply")
        index = parse(raw, f"'{self._reference.familiar}'")
        assert isinstance(index, Index)
        found = suited_each(index.manifests, self._platforms)
        if not found:
            raise RegistryError(f"it is not there for {', '.join(map(str, self._platforms))}")
        return [data for one in found for data in self._images(place.manifest(one.digest), place, depth + 1)]

    def _paced(self, place: Repository, write: Callable[[bytes], object]) -> Callable[[bytes], object]:
        """The same, but a registry that keeps us waiting byte by byte is given up: to do the step is quicker."""
        begun, size = 0.0, 0

        def checked(data: bytes) -> None:
            nonlocal begun, size
            # From the first byte on: what a registry asks us to wait for is no slowness.
            begun = begun or time.monotonic()
            size += len(data)
            if time.monotonic() - begun > self._patience + size / _SLOWEST:
                raise RegistryError(f"{place.domain} sends less than {_SLOWEST} bytes a second")
            write(data)

        return checked
