"""An inline cache: records in the manifest of the image that they made, for `--cache-to type=inline`. Pure.

They are an annotation of the manifest, `vnd.pybuild.cache.v1`, whose value is canonical JSON::

    {"records": [{"key": ..., "diff_id": ... or null}, ... by key]}

The layers are the image's own, found by the diff IDs of its config. So the image id, which is the config's digest, is the
same with a cache and without; the manifest's is not. There are no times, so that the same build gives the same manifest, and no
preimages, which would be read with every pull of the image: a reader has those of its own keys. The number in the name is the
version, as in `builder.cache.format`.
"""

from __future__ import annotations

from builder import canonical
from builder.cache.format import Cache, CachedStep, json_object, parse_diff_id
from builder.errors import BuildError
from builder.oci.image import parse_config, parse_descriptor
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from builder.oci.digest import Descriptor, Digest

_FAMILY = "vnd.pybuild.cache."
ANNOTATION = f"{_FAMILY}v1"


class InlineManifest(NamedTuple):
    """An image's manifest, with the text of its annotation."""

    text: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


def annotation(records: Iterable[tuple[str, Digest | None]]) -> str:
    """The value for the keys of steps and the layers that they gave; the same steps give the same text."""
    known = sorted(dict(records).items())
    return canonical.dumps({"records": [{"diff_id": diff_id and str(diff_id), "key": key} for key, diff_id in known]})


def parse_manifest(data: bytes) -> InlineManifest | None:
    """None for a manifest without an inline cache. Raises BuildError for one of another version, and for what is damaged."""
    raw = json_object(data, "manifest")
    annotations = raw.get("annotations")
    names = sorted(name for name in annotations if name.startswith(_FAMILY)) if isinstance(annotations, dict) else []
    if not names:
        return None
    if ANNOTATION not in names:
        raise BuildError(f"its inline cache is '{names[0][:100]}', and this pybuild reads '{ANNOTATION}'")
    text, layers = raw["annotations"][ANNOTATION], raw.get("layers")
    if not isinstance(text, str) or not isinstance(layers, list):
        raise BuildError("the manifest of its image is damaged")
    return InlineManifest(text, parse_descriptor(raw.get("config")), tuple(map(parse_descriptor, layers)))


def parse(manifest: InlineManifest, config: bytes) -> Cache:
    """`config` is the image's own. Raises BuildError."""
    diff_ids = parse_config(config).diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise BuildError(f"the config of its image names {len(diff_ids)} layers, its manifest {len(manifest.layers)}")
    blobs = dict(zip(diff_ids, manifest.layers, strict=True))
    records = json_object(manifest.text.encode("utf-8", "surrogatepass"), "inline cache").get("records")
    if not isinstance(records, list):
        raise BuildError("its inline cache lacks the records")
    steps = [_step(record) for record in records]
    for step in steps:
        if step.diff_id is not None and step.diff_id not in blobs:
            raise BuildError(f"the layer of its record {step.key[:12]} is not in its image")
    return Cache({step.key: step for step in steps}, blobs, {})


def joined(caches: Sequence[Cache]) -> Cache:
    """What the images of one index know: each those of its platform, and all what is the same for all."""
    steps = {key: step for cache in caches for key, step in cache.steps.items()}
    return Cache(steps, {diff_id: blob for cache in caches for diff_id, blob in cache.layers.items()}, {})


def _step(raw: Any) -> CachedStep:
    match raw:
        case {"key": str(key), "diff_id": None | str() as diff_id} if len(key) == 64 and not key.strip("0123456789abcdef"):
            return CachedStep(key, b"", None if diff_id is None else parse_diff_id(diff_id), 0)
    raise BuildError("one of its records is malformed")
