"""Which caches a build reads and writes, and what a place for one can do."""

from __future__ import annotations

from builder.errors import BuildError
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal, Protocol

    from builder.oci.digest import Descriptor, Digest
    from builder.oci.reference import Reference

DEFAULT_TAG = "latest"


class LocalFrom(NamedTuple):
    """One `--cache-from type=local`."""

    src: str
    tag: str = DEFAULT_TAG
    digest: Digest | None = None
    """Of the manifest; it counts before the tag."""

    @property
    def name(self) -> str:
        return f"local {self.src}"


class RegistryFrom(NamedTuple):
    """One `--cache-from type=registry`: a cache, or an image with one inside."""

    reference: Reference

    @property
    def name(self) -> str:
        return f"registry {self.reference.familiar}"


CacheFrom = LocalFrom | RegistryFrom


class LocalTo(NamedTuple):
    """The folder of a `--cache-to type=local`."""

    dest: str
    tag: str = DEFAULT_TAG

    @property
    def name(self) -> str:
        return f"local {self.dest}"


class RegistryTo(NamedTuple):
    """Where a `--cache-to type=registry` goes."""

    reference: Reference

    @property
    def name(self) -> str:
        return f"registry {self.reference.familiar}"


class InlineTo(NamedTuple):
    """`--cache-to type=inline`: the manifest of the image itself."""

    @property
    def name(self) -> str:
        return "inline"


class CacheTo(NamedTuple):
    """One `--cache-to`."""

    place: LocalTo | RegistryTo | InlineTo
    mode: Literal["min", "max"] = "min"
    """`min`: the steps that the image is made of; `max`: all that the build needed."""
    compression: Literal["gzip", "zstd", "uncompressed"] = "zstd"
    ignore_error: bool = False
    mounts: tuple[str, ...] = ()
    """Ids of the cache mounts that come along."""

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def inline(self) -> bool:
        return isinstance(self.place, InlineTo)


class Blob(NamedTuple):
    """A blob to be written: its content, or the file that has it."""

    descriptor: Descriptor
    data: bytes = b""
    path: str = ""


class Lost(BuildError):
    """Nothing more will come from a source: it need not be asked again."""


if TYPE_CHECKING:

    class Source(Protocol):
        """Where a cache is read from. Every method raises BuildError, whose message goes on from "the cache is not used: ";
        `Lost` where it is of no use to go on. `read` and `copy` may be called by several threads, after `manifests`."""

        def warm(self) -> None:
            """Import what the other methods need, before there are threads that would do so at once."""
            ...

        def manifests(self) -> list[bytes]:
            """The manifest that is meant, or those of the images of an index, verified where their digests are known."""
            ...

        def read(self, descriptor: Descriptor, limit: int) -> bytes:
            """A blob of at most `limit` bytes, verified."""
            ...

        def copy(self, descriptor: Descriptor, write: Callable[[bytes], object], again: Callable[[], object]) -> None:
            """Write a blob's content in pieces; what was written counts once this returns. `again` is called where all is
            written anew: what was before counts no more."""
            ...

        def masked(self, text: str) -> str:
            """A message about the cache without the credentials that its source was told, and may have sent back."""
            ...

        def close(self) -> None: ...

    class Sink(Protocol):
        """Where a cache is written to."""

        def publish(self, blobs: Sequence[Blob], manifest: Blob) -> None:
            """Write the blobs, then the manifest: whoever reads sees all of it or what was there before.

            Raises UsageError, StoreError and RegistryError.
            """
            ...
