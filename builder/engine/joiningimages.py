"""`pybuild index create`: images that lie in registries, joined into an index there. Nothing is unpacked, no store is needed.

What the index names has to lie in its repository: within a registry blobs are taken over, between registries they are copied by
way of temporary files. Images of other registries than the index's may come from their mirrors.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import partial

from builder.cancellation import Cancellation
from builder.engine.origins import Origins
from builder.engine.pulling import below, top
from builder.engine.transfers import Transfers
from builder.errors import RegistryError, UsageError
from builder.events import BuildWarning, Notice
from builder.oci.combine import Part, combine, index_of
from builder.oci.digest import Digest
from builder.oci.image import MANIFEST_TYPE, parse_descriptor
from builder.registry.client import Client
from builder.registry.http import Body
from builder.registry.manifests import Index, parse
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO, Any

    from builder.events import Emit
    from builder.oci.digest import Descriptor
    from builder.oci.reference import Reference
    from builder.registry.access import RegistryAccess
    from builder.registry.manifests import Raw
    from builder.registry.repository import Repository

_CONFIG_LIMIT = 16 << 20
_DEEPEST = 3
_ELSEWHERE = ("application/vnd.docker.image.rootfs.foreign", "application/vnd.oci.image.layer.nondistributable")
"""How media types of layers begin that no registry has to hold."""


class Created(NamedTuple):
    data: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)


class _Source(NamedTuple):
    reference: Reference
    raw: Raw
    origins: Origins


def create(
    sources: Sequence[Reference],
    targets: Sequence[Reference],
    access: RegistryAccess,
    emit: Emit,
    *,
    annotations: Mapping[str, str],
    append: bool = False,
    dry_run: bool = False,
) -> Created:
    """Join `sources` into an index and, unless `dry_run`, put it where `targets` say. With `append` they are added to what the
    first target stands for already, in place of its images for the same platforms.

    Raises UsageError for two images for one platform and for what is no image for any, RegistryError and NotThere.
    """
    stop = Cancellation()

    def warn(message: str) -> None:
        emit(BuildWarning("Registry", message))

    with Client(access._replace(stop=stop, warn=warn, notice=lambda message: emit(Notice(message)))) as client:
        # What lies in a registry that the index goes to is to be found there, whatever its mirrors say.
        own = {target.domain for target in targets}
        found = [_resolve(each, Origins(each, client, warn, mirrors=each.domain not in own)) for each in sources]
        known = _existing(Origins(targets[0], client, warn, mirrors=False), targets[0]) if append else None
        parts = [part for source in found for part in _parts(source)]
        if known is not None:
            parts = [*(part._replace(replaceable=True) for part in _parts(known)), *parts]
        if len(found) == 1 and known is None and not annotations and _is_index(found[0]):
            # The same index under another name keeps its digest.
            made = Created(found[0].raw.data, _media_type(found[0].raw))
        else:
            made = Created(*index_of(combine(parts), annotations))
        if not dry_run:
            holders = {part.digest: source for source in [*found, *([known] if known else [])][::-1] for part in _parts(source)}
            _put(made, holders, targets, client, stop, emit)
        return made


def _resolve(reference: Reference, origins: Origins) -> _Source:
    return _Source(reference, origins.ask(partial(top, reference)), origins)


def _existing(origins: Origins, target: Reference) -> _Source | None:
    raw = origins.ask(lambda place: place.manifest(target.tag))
    return None if raw is None else _Source(target, raw, origins)


def _is_index(source: _Source) -> bool:
    return isinstance(parse(source.raw, f"'{source.reference.familiar}'"), Index)


def _media_type(raw: Raw) -> str:
    return str(json.loads(raw.data).get("mediaType") or raw.media_type or MANIFEST_TYPE)


def _parts(source: _Source) -> list[Part]:
    name = source.reference.familiar
    parsed = parse(source.raw, f"'{name}'")
    if isinstance(parsed, Index):
        return [Part(each, name) for each in json.loads(source.raw.data)["manifests"]]
    config = parsed.config
    descriptor = {
        "mediaType": _media_type(source.raw),
        "digest": str(source.raw.digest),
        "size": len(source.raw.data),
        "platform": _platform(source.origins.ask(lambda place: place.read(config, _CONFIG_LIMIT)), name),
    }
    return [Part(descriptor, name)]


def _platform(config: bytes, name: str) -> dict[str, Any]:
    """What the config says that the image is for, by the names that an index has for it."""
    try:
        body = json.loads(config)
        found = {key: body[key] for key in ("architecture", "os", "variant", "os.version", "os.features") if body.get(key)}
    except (ValueError, TypeError, AttributeError, RecursionError):
        found = {}
    if not (isinstance(found.get("os"), str) and isinstance(found.get("architecture"), str)):
        raise UsageError(f"'{name}' does not say which platform it is for", hint="is it an image? an index is one of images")
    return found


# Putting it there


def _put(
    made: Created,
    holders: Mapping[str, _Source],
    targets: Sequence[Reference],
    client: Client,
    stop: Cancellation,
    emit: Emit,
) -> None:
    by_repository: dict[str, list[Reference]] = {}
    for target in targets:
        by_repository.setdefault(target.name, []).append(target)
    with tempfile.TemporaryDirectory(prefix="pybuild-") as folder:
        for tagged in by_repository.values():
            repository = client.repository(tagged[0])
            copying = _Copying(repository, tagged[0].familiar, folder, stop, emit)
            for one in json.loads(made.data)["manifests"]:
                descriptor = parse_descriptor(one)
                copying.manifest(descriptor.digest, holders[str(descriptor.digest)], 0)
            for reference in tagged:
                repository.put_manifest(reference.tag, made.data, made.media_type)


class _Copying:
    """Of manifests, with all that they name, into one repository."""

    def __init__(self, target: Repository, name: str, folder: str, stop: Cancellation, emit: Emit) -> None:
        self._target = target
        self._name = name
        self._folder = folder
        self._stop = stop
        self._emit = emit

    def manifest(self, digest: Digest, source: _Source, depth: int) -> None:
        name = source.reference.name
        if name == self._target.name:
            return  # It is there, or the registry refuses the index.
        raw = source.origins.ask(partial(below, digest, source.reference))
        if depth == _DEEPEST:
            raise RegistryError(f"the indexes of {name} are nested too deeply")
        parsed = parse(raw, f"'{name}@{digest}'")
        if isinstance(parsed, Index):
            for one in parsed.manifests:
                self.manifest(one.digest, source, depth + 1)
        else:
            layers = [layer for layer in parsed.layers if not layer.media_type.startswith(_ELSEWHERE)]
            self._blobs([parsed.config, *layers], source)
        self._target.put_manifest(digest, raw.data, _media_type(raw))

    def _blobs(self, blobs: Sequence[Descriptor], source: _Source) -> None:
        missing = [blob for blob in dict.fromkeys(blobs) if not self._target.has_blob(blob.digest)]
        if not missing:
            return
        work = partial(self._copy, source)
        with Transfers(f"copying {source.reference.name} to {self._name}", missing, work, self._stop, self._emit) as transfers:
            transfers.finish()

    def _copy(self, source: _Source, blob: Descriptor, count: Callable[[int], object]) -> None:
        path = os.path.join(self._folder, blob.digest.hex)

        def take(place: Repository) -> None:
            with open(f"{path}.new", "wb") as file:
                place.blob(blob, file.write)

        def fetched() -> IO[bytes]:
            # Asked for where the registry does not take it over by itself.
            if not os.path.exists(path):
                source.origins.ask(take)
                os.rename(f"{path}.new", path)
            return open(path, "rb")

        mounted = source.reference.path if source.reference.domain == self._target.domain else ""
        self._target.upload(blob, Body(fetched, blob.size), mounted)
        count(blob.size)
        if os.path.exists(path):
            os.unlink(path)
