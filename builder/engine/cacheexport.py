"""The records and layers of a build, written to a portable cache (`--cache-to`), or told to its image."""

from __future__ import annotations

from builder.cache.format import CONFIG_TYPE, CachedStep, config_blob, manifest_blob
from builder.cache.inline import ANNOTATION, annotation
from builder.cache.places import Blob
from builder.engine.rendering import layer_blob
from builder.oci.artifact import EMPTY, EMPTY_DESCRIPTOR
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import MANIFEST_TYPE
from builder.plan.steps import BaseStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.cache.format import CachedMount
    from builder.cache.places import CacheTo, Sink
    from builder.engine.executor import Result
    from builder.engine.roots import Roots
    from builder.engine.scheduler import Outcome
    from builder.events import Emit
    from builder.plan.steps import Plan
    from builder.store.store import Store


def export_cache(
    to: CacheTo, sink: Sink, plans: Sequence[Plan], outcome: Outcome, store: Store, roots: Roots, emit: Emit, *, threads: int
) -> tuple[Digest, int]:
    """Write the cache of what was built, for one platform or several, to `sink`; its manifest's digest, and the bytes of all
    its blobs. Raises UsageError, StoreError, RegistryError, and BuildError for cache mounts that cannot be packed."""
    wanted = [step for plan in plans for step in _chain(plan)] if to.mode == "min" else sorted(outcome.results)
    results = [outcome.results[step] for step in wanted]
    steps: dict[str, CachedStep] = {}
    layers: dict[Digest, Blob] = {}
    for result in results:
        if result.key is None or result.key.hex in steps:
            continue
        steps[result.key.hex] = _step(result, store)
        if result.diff_id is not None and result.diff_id not in layers:
            descriptor, path = layer_blob(result.root.layers[-1], to.compression, store, roots, threads)
            layers[result.diff_id] = Blob(descriptor, path=path)
    if not to.mounts:
        return _publish(sink, steps, layers, {})
    from builder.engine.packedmounts import pack

    with store.scratch() as scratch:
        return _publish(sink, steps, layers, pack(to.mounts, store, scratch, emit, threads=threads))


def inline_annotations(plan: Plan, outcome: Outcome) -> dict[str, str]:
    """What the manifest of an image says of the steps that it is made of (`--cache-to type=inline`)."""
    results = [outcome.results[step] for step in _chain(plan)]
    return {ANNOTATION: annotation((result.key.hex, result.diff_id) for result in results if result.key is not None)}


def _publish(
    sink: Sink, steps: Mapping[str, CachedStep], layers: Mapping[Digest, Blob], mounts: Mapping[CachedMount, Blob]
) -> tuple[Digest, int]:
    named = {mount: blob.descriptor for mount, blob in mounts.items()}
    config = _small(CONFIG_TYPE, config_blob(steps.values(), layers, named))
    # Two cache mounts may hold the same, and empty ones often do.
    blobs = [*layers.values(), *{blob.descriptor: blob for blob in mounts.values()}.values()]
    manifest = _small(MANIFEST_TYPE, manifest_blob(config.descriptor, (blob.descriptor for blob in blobs)))
    blobs = [*(blobs or [Blob(EMPTY_DESCRIPTOR, EMPTY)]), config]
    sink.publish(blobs, manifest)
    return manifest.descriptor.digest, _size((*blobs, manifest))


def _chain(plan: Plan) -> list[int]:
    """The steps that the target's file system is made of, the lowest first."""
    found = []
    step = plan.steps[plan.target]
    while not isinstance(step, BaseStep):
        found.append(step.id)
        step = plan.steps[step.parent]
    return found[::-1]


def _step(result: Result, store: Store) -> CachedStep:
    assert result.key is not None
    known = store.lookup(result.key.hex)
    # Another build may have replaced the record meanwhile; what this one used is what counts.
    return CachedStep(result.key.hex, result.key.preimage, result.diff_id, known.created if known is not None else 0)


def _small(media_type: str, data: bytes) -> Blob:
    return Blob(Descriptor(media_type, Digest.of(data), len(data)), data)


def _size(blobs: Iterable[Blob]) -> int:
    return sum(blob.descriptor.size for blob in blobs)
