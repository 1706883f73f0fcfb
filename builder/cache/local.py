"""Reading a portable cache from a folder: an OCI image layout (OCI image-spec image-layout.md), a hostile input.

Every blob is checked by size and digest, no link of the last component is followed, and only regular files are read.
"""

from __future__ import annotations

import hashlib
import os
import stat

from builder import canonical
from builder.cache.format import MANIFEST_LIMIT, is_replaceable
from builder.errors import BuildError
from builder.oci.image import DOCKER_INDEX_TYPE, INDEX_TYPE, parse_descriptor
from builder.oci.index import suited_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from builder.cache.places import LocalFrom
    from builder.oci.digest import Descriptor
    from builder.oci.platform import Platform

REF_NAME = "org.opencontainers.image.ref.name"
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How the files of a layout are opened: neither a link nor a fifo leads anywhere."""
_CHUNK = 1 << 20
_DEEPEST = 3
"""Indexes in indexes."""


class LocalSource:
    """Of an image for several platforms those count that are for `platforms`."""

    def __init__(self, place: LocalFrom, platforms: Sequence[Platform]) -> None:
        self._place = place
        self._platforms = platforms

    def warm(self) -> None:
        """Nothing is imported late."""

    def manifests(self) -> list[bytes]:
        return self._images(self._choose(), 0)

    def _images(self, descriptor: Descriptor, depth: int) -> list[bytes]:
        data = self.read(descriptor, MANIFEST_LIMIT)
        if descriptor.media_type not in (INDEX_TYPE, DOCKER_INDEX_TYPE) or is_replaceable(data):
            # BuildKit's caches were indexes: the format says what to do with one.
            return [data]
        if depth == _DEEPEST:
            raise BuildError("its indexes are nested too deeply")
        found = suited_each([parse_descriptor(one) for one in manifests(data)], self._platforms)
        if not found:
            raise BuildError(f"it is not there for {', '.join(map(str, self._platforms))}")
        return [data for one in found for data in self._images(one, depth + 1)]

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        if descriptor.size > limit:
            raise BuildError(f"its blob {descriptor.digest} is larger than {limit} bytes")
        parts: list[bytes] = []
        self.copy(descriptor, parts.append, parts.clear)
        return b"".join(parts)

    def copy(self, descriptor: Descriptor, write: Callable[[bytes], object], again: Callable[[], object]) -> None:
        digest = descriptor.digest
        hasher, size = hashlib.new(digest.algorithm), 0
        for chunk in self._chunks(f"blobs/{digest.algorithm}/{digest.hex}", f"its blob {digest}"):
            size += len(chunk)
            if size > descriptor.size:
                break
            hasher.update(chunk)
            write(chunk)
        if size != descriptor.size or hasher.hexdigest() != digest.hex:
            raise BuildError(f"its blob {digest} is {'truncated' if size < descriptor.size else 'corrupt'}")

    def masked(self, text: str) -> str:
        """A folder is told nothing."""
        return text

    def close(self) -> None:
        """Each file is closed when it was read."""

    def _choose(self) -> Descriptor:
        _, tag, digest = self._place
        if not os.path.isdir(self._place.src):
            raise BuildError("it is not there" if not os.path.lexists(self._place.src) else "it is no folder")
        data = b""
        for chunk in self._chunks("index.json", "its index.json"):
            data += chunk
            if len(data) > MANIFEST_LIMIT:
                raise BuildError(f"its index.json is larger than {MANIFEST_LIMIT} bytes")
        for raw in manifests(data):
            if digest is not None:
                if raw.get("digest") == str(digest):
                    return parse_descriptor(raw)
            elif tag_of(raw) == tag:
                return parse_descriptor(raw)
        raise BuildError(f"it has no manifest {digest}" if digest else f"it has no tag '{tag}'")

    def _chunks(self, name: str, what: str) -> Iterator[bytes]:
        try:
            fd = os.open(os.path.join(self._place.src, name), READ)
        except FileNotFoundError as error:
            raise BuildError(f"{what} is missing") from error
        except OSError as error:
            raise BuildError(f"{what} cannot be read: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BuildError(f"{what} is no file")
            while True:
                try:
                    chunk = os.read(fd, _CHUNK)
                except OSError as error:
                    raise BuildError(f"{what} cannot be read: {error.strerror}") from error
                if not chunk:
                    return
                yield chunk
        finally:
            os.close(fd)


def manifests(data: bytes) -> list[dict[str, Any]]:
    found = json_object(data).get("manifests")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise BuildError("its index.json has no manifests")
    return found


def tag_of(descriptor: dict[str, Any]) -> object:
    annotations = descriptor.get("annotations")
    return annotations.get(REF_NAME) if isinstance(annotations, dict) else None


def json_object(data: bytes) -> dict[str, Any]:
    try:
        raw = canonical.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise BuildError("its index.json is not JSON") from error
    if not isinstance(raw, dict):
        raise BuildError("its index.json is no JSON object")
    return raw
