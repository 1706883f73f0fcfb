"""Which caches a build reads and writes, and what a place for one can do."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal, Protocol

    from builder.oci.digest import Descriptor, Digest

DEFAULT_TAG = "latest"


class CacheFrom(NamedTuple):
    """One `--cache-from type=local`."""

    src: str
    tag: str = DEFAULT_TAG
    digest: Digest | None = None
    """Of the manifest; it counts before the tag."""

    @property
    def name(self) -> str:
        return f"local {self.src}"


class CacheTo(NamedTuple):
    """One `--cache-to type=local`."""

    dest: str
    tag: str = DEFAULT_TAG
    mode: Literal["min", "max"] = "min"
    """`min`: the steps that the image is made of; `max`: all that the build needed."""
    compression: Literal["gzip", "zstd", "uncompressed"] = "zstd"
    ignore_error: bool = False
    mounts: tuple[str, ...] = ()
    """Ids of the cache mounts that come along."""

    @property
    def name(self) -> str:
        return f"local {self.dest}"


class Blob(NamedTuple):
    """A blob to be written: its content, or the file that has it."""

    descriptor: Descriptor
    data: bytes = b""
    path: str = ""


if TYPE_CHECKING:

    class Source(Protocol):
        """Where a cache is read from. Every method raises BuildError, whose message goes on from "the cache is not used: "."""

        def manifest(self) -> bytes:
            """The manifest that is meant, verified where its digest is known."""
            ...

        def read(self, descriptor: Descriptor, limit: int) -> bytes:
            """A blob of at most `limit` bytes, verified."""
            ...

        def copy(self, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
            """Write a blob's content in pieces; what was written counts once this returns."""
            ...

    class Sink(Protocol):
        """Where a cache is written to."""

        def publish(self, blobs: Sequence[Blob], manifest: Blob, tag: str) -> None:
            """Write the blobs, then the manifest under `tag`: whoever reads sees all of it or what was there before.

            Raises UsageError and StoreError.
            """
            ...
