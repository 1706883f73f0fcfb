"""An OCI image layout on disk (OCI image-spec image-layout.md), a hostile input: every blob is checked by its digest."""

from __future__ import annotations

import hashlib
import json
import os
import stat

from builder.errors import UsageError
from builder.oci.image import DOCKER_INDEX_TYPE, INDEX_TYPE, parse_descriptor
from builder.oci.index import shown, suited
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from builder.oci.digest import Descriptor, Digest
    from builder.oci.platform import Platform

JSON_LIMIT = 4 << 20
"""Bytes of an index or manifest, as registries have it."""

_AGAIN = "make the layout again"

REF_NAME = "org.opencontainers.image.ref.name"


class Manifest(NamedTuple):
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Place(NamedTuple):
    """Where an image lies: the layout's folder, and which of its images is meant when there are several."""

    path: str
    tag: str = ""
    digest: Digest | None = None


class Layout:
    """Raises UsageError for what is no layout."""

    def __init__(self, place: Place) -> None:
        self.path, self._tag, self._digest = place
        if not os.path.isfile(os.path.join(self.path, "oci-layout")):
            raise UsageError(f"'{self.path}' is no OCI layout: it has no file 'oci-layout'", hint="give the folder of an image")

    def manifest(self, platform: Platform) -> Manifest:
        """The manifest of the image that was asked for, or of the only one."""
        index = self._json_file(os.path.join(self.path, "index.json"))
        descriptor = self._choose(self._manifests(index), platform)
        for _ in range(8):
            raw = self._json(self.read(descriptor, JSON_LIMIT), f"the manifest {descriptor.digest}")
            if raw.get("mediaType", descriptor.media_type) not in (INDEX_TYPE, DOCKER_INDEX_TYPE):
                layers = raw.get("layers")
                if not isinstance(layers, list):
                    raise UsageError(f"the manifest {descriptor.digest} of '{self.path}' has no layers")
                return Manifest(parse_descriptor(raw.get("config")), tuple(parse_descriptor(layer) for layer in layers))
            descriptor = self._for_platform(self._manifests(raw), platform)
        raise UsageError(f"the indexes of '{self.path}' are nested too deeply")

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob, checked."""
        if descriptor.size > limit:
            raise UsageError(f"the blob {descriptor.digest} of '{self.path}' is larger than {limit} bytes")
        parts: list[bytes] = []
        self.copy(descriptor, parts.append)
        return b"".join(parts)

    def copy(self, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
        """Write a blob's content, checking size and digest. Raises UsageError when it is missing, truncated or corrupt."""
        path = os.path.join(self.path, "blobs", descriptor.digest.algorithm, descriptor.digest.hex)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise UsageError(f"the blob {descriptor.digest} is missing from '{self.path}'", hint=_AGAIN) from error
        digest = hashlib.new(descriptor.digest.algorithm)
        size = 0
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise UsageError(f"the blob {descriptor.digest} of '{self.path}' is no file", hint="make the layout again")
            while size <= descriptor.size and (chunk := os.read(file, 1 << 20)):
                size += len(chunk)
                digest.update(chunk)
                write(chunk)
        finally:
            os.close(file)
        if size != descriptor.size or digest.hexdigest() != descriptor.digest.hex:
            what = "truncated" if size < descriptor.size else "corrupt"
            raise UsageError(f"the blob {descriptor.digest} of '{self.path}' is {what}", hint=_AGAIN)

    def _choose(self, manifests: list[Descriptor], platform: Platform) -> Descriptor:
        if self._digest is not None:
            found = [d for d in manifests if d.digest == self._digest]
            if not found:
                raise UsageError(f"'{self.path}' has no image {self._digest}")
            return found[0]
        if self._tag:
            names = [dict(d.annotations).get(REF_NAME, "") for d in manifests]
            found = [d for d, name in zip(manifests, names, strict=True) if self._tag in (name, name.rpartition(":")[2])]
            if not found:
                known = ", ".join(name for name in names if name)
                raise UsageError(
                    f"'{self.path}' has no image with the tag '{self._tag}'", hint=f"it has: {known}" if known else None
                )
            manifests = found
        return self._for_platform(manifests, platform)

    def _for_platform(self, manifests: list[Descriptor], platform: Platform) -> Descriptor:
        """The one manifest for `platform`: those that name it come before those that name none."""
        found = suited(manifests, platform)
        if not found:
            there = shown(manifests)
            raise UsageError(f"'{self.path}' has no image for {platform}", hint=f"it is for {there}" if there else None)
        if len({d.digest for d in found}) > 1:
            raise UsageError(f"'{self.path}' has {len(found)} images", hint="say which by its tag: oci-layout://FOLDER:TAG")
        return found[0]

    def _manifests(self, index: dict[str, Any]) -> list[Descriptor]:
        manifests = index.get("manifests")
        if not isinstance(manifests, list):
            raise UsageError(f"an index of '{self.path}' has no manifests")
        return [parse_descriptor(raw) for raw in manifests]

    def _json_file(self, path: str) -> dict[str, Any]:
        try:
            with open(path, "rb") as file:
                data = file.read(JSON_LIMIT + 1)
        except FileNotFoundError as error:
            raise UsageError(f"'{self.path}' is no OCI layout: it has no index.json") from error
        if len(data) > JSON_LIMIT:
            raise UsageError(f"the index.json of '{self.path}' is larger than {JSON_LIMIT} bytes")
        return self._json(data, "the index.json")

    def _json(self, data: bytes, what: str) -> dict[str, Any]:
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{what} of '{self.path}' is not JSON", hint=_AGAIN) from error
        if not isinstance(raw, dict):
            raise UsageError(f"{what} of '{self.path}' is no JSON object", hint=_AGAIN)
        return raw
