"""What a portable cache is made of: an OCI artifact of records and layers (OCI image-spec manifest.md, "artifacts"). Pure.

The manifest has `artifactType` `application/vnd.pybuild.cache.v1`. Its config is canonical JSON of the type
`application/vnd.pybuild.cache.v1+json`::

    {"layers": [diff ID of each layer of the manifest, in its order],
     "records": [{"key": ..., "preimage": ..., "diff_id": ... or null, "created": seconds}, ... by key]}

Where the user named cache mounts there is `"mounts": [{"id": ..., "base": ..., "digest": of the blob}, ...]` besides, and the
blobs are among the manifest's layers with the type `application/vnd.pybuild.cache.mount.v1.tar+zstd`.

Its layers are else layers as images have them. The number in the types is the version: what it means never changes
(SPEC section 7), and what a reader does not know is passed over. What it knows is parsed whole or refused: a record that does
not fit its key makes all others doubtful.
"""

from __future__ import annotations

from builder import canonical
from builder.errors import BuildError
from builder.oci.artifact import EMPTY_DESCRIPTOR
from builder.oci.digest import Digest
from builder.oci.image import CONFIG_TYPES as IMAGE_CONFIGS
from builder.oci.image import LAYER_TYPE, MANIFEST_TYPE, descriptor_json, parse_descriptor
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from builder.oci.digest import Descriptor

_FAMILY = "application/vnd.pybuild.cache."
ARTIFACT_TYPE = f"{_FAMILY}v1"
CONFIG_TYPE = f"{ARTIFACT_TYPE}+json"
MOUNT_TYPE = f"{_FAMILY}mount.v1.tar+zstd"
MANIFEST_LIMIT = 4 << 20
"""Bytes, as registries have it."""
CONFIG_LIMIT = 64 << 20

_LAYER_TYPES = (LAYER_TYPE, f"{LAYER_TYPE}+gzip", f"{LAYER_TYPE}+zstd")
_BUILDKIT_TYPE = "application/vnd.buildkit.cacheconfig.v0"
"""The config of BuildKit's caches (moby/buildkit, `cache/remotecache/v1/spec.go`)."""
_LATEST = 1 << 40
"""Seconds since 1970; no record is younger."""
_LONGEST = 100
"""Characters of a foreign name in a message."""


class CachedStep(NamedTuple):
    """The result of a step."""

    key: str
    preimage: bytes
    """The text that `key` is the hash of."""
    diff_id: Digest | None
    """None: the step changed no file."""
    created: int
    """Seconds since 1970."""


class CachedMount(NamedTuple):
    """A cache mount, as a store knows it: its id, and what a new one begins with."""

    id: str
    base: str


class Cache(NamedTuple):
    steps: Mapping[str, CachedStep]
    """By their keys."""
    layers: Mapping[Digest, Descriptor]
    """The blob of each diff ID that a step names."""
    mounts: Mapping[CachedMount, Descriptor]


class Manifest(NamedTuple):
    config: Descriptor
    layers: tuple[Descriptor, ...]
    mounts: tuple[Descriptor, ...]


def config_blob(
    steps: Iterable[CachedStep], diff_ids: Iterable[Digest], mounts: Mapping[CachedMount, Descriptor] | None = None
) -> bytes:
    """The config of a cache whose manifest has the layers `diff_ids`, and `mounts`; the same steps give the same bytes."""
    records = [
        {
            "created": step.created,
            "diff_id": None if step.diff_id is None else str(step.diff_id),
            "key": step.key,
            "preimage": step.preimage.decode(),
        }
        for step in sorted(steps)
    ]
    body: dict[str, object] = {"layers": [str(diff_id) for diff_id in diff_ids], "records": records}
    if mounts:
        body["mounts"] = [
            {"base": mount.base, "digest": str(blob.digest), "id": mount.id} for mount, blob in sorted(mounts.items())
        ]
    return canonical.dumps(body).encode()


def manifest_blob(config: Descriptor, layers: Iterable[Descriptor]) -> bytes:
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": descriptor_json(config),
        "layers": [descriptor_json(layer) for layer in layers] or [descriptor_json(EMPTY_DESCRIPTOR)],
    }
    return canonical.dumps(body).encode()


def parse_manifest(data: bytes) -> Manifest:
    """Raises BuildError for what is no cache, or one of another version."""
    raw = json_object(data, "manifest")
    kind = raw.get("artifactType")
    if kind != ARTIFACT_TYPE:
        if isinstance(kind, str) and kind.startswith(_FAMILY):
            raise BuildError(f"its format is '{kind[:_LONGEST]}', and this pybuild reads '{ARTIFACT_TYPE}'")
        raise BuildError(_other(raw))
    layers = raw.get("layers")
    if not isinstance(layers, list):
        raise BuildError("its manifest has no layers")
    config = parse_descriptor(raw.get("config"))
    if config.media_type != CONFIG_TYPE:
        raise BuildError("the config of its manifest has another type")
    # The empty descriptor is none, nor are blobs of kinds that may be added within this version.
    blobs = [parse_descriptor(each) for each in layers]
    return Manifest(
        config,
        tuple(blob for blob in blobs if blob.media_type in _LAYER_TYPES),
        tuple(blob for blob in blobs if blob.media_type == MOUNT_TYPE),
    )


def is_replaceable(data: bytes) -> bool:
    """Whether a manifest may be replaced by a cache's: that of a cache, pybuild's of any version or BuildKit's, or damaged."""
    try:
        raw = json_object(data, "manifest")
    except BuildError:
        return True
    kind = raw.get("artifactType")
    return (isinstance(kind, str) and kind.startswith(_FAMILY)) or _is_buildkits(raw)


def _other(raw: dict[str, Any]) -> str:
    """What a manifest is that is no cache's."""
    if _is_buildkits(raw):
        return "it is a cache of BuildKit, whose records are made of other keys"
    if _media_type(raw.get("config")) in IMAGE_CONFIGS:
        return "it is an image without a cache inside (--cache-to type=inline puts one there)"
    return "its manifest is not that of a pybuild cache"


def _is_buildkits(raw: dict[str, Any]) -> bool:
    # It was an index of layers and config, and is an image's manifest by now.
    inner = raw.get("manifests")
    return _BUILDKIT_TYPE in (_media_type(raw.get("config")), *map(_media_type, inner if isinstance(inner, list) else ()))


def _media_type(descriptor: object) -> object:
    return descriptor.get("mediaType") if isinstance(descriptor, dict) else None


def parse_config(data: bytes, manifest: Manifest, key_of: Callable[[bytes], str]) -> Cache:
    """`manifest` is the one that names it; `key_of` gives the key of a preimage. Raises BuildError."""
    raw = json_object(data, "config")
    diff_ids, records = raw.get("layers"), raw.get("records")
    if not isinstance(diff_ids, list) or not isinstance(records, list):
        raise BuildError("its config lacks the layers or the records")
    if len(diff_ids) != len(manifest.layers):
        raise BuildError(f"its config names {len(diff_ids)} layers, its manifest {len(manifest.layers)}")
    blobs = dict(zip(map(parse_diff_id, diff_ids), manifest.layers, strict=True))
    steps = [_step(record, key_of) for record in records]
    for step in steps:
        if step.diff_id is not None and step.diff_id not in blobs:
            raise BuildError(f"the layer of its record {step.key[:12]} is in no blob")
    return Cache({step.key: step for step in steps}, blobs, _mounts(raw.get("mounts", []), manifest))


def _mounts(raw: object, manifest: Manifest) -> dict[CachedMount, Descriptor]:
    blobs = {str(blob.digest): blob for blob in manifest.mounts}
    found = {}
    for each in raw if isinstance(raw, list) else [raw]:
        match each:
            case {"id": str(id), "base": str(base), "digest": str(digest)} if digest in blobs and "\0" not in id + base:
                found[CachedMount(id, base)] = blobs[digest]
            case _:
                raise BuildError("one of its cache mounts is malformed")
    return found


def _step(raw: object, key_of: Callable[[bytes], str]) -> CachedStep:
    match raw:
        case {"key": str(key), "preimage": str(preimage), "diff_id": None | str() as diff_id, "created": int(created)}:
            # JSON may hold halves of surrogate pairs, which are no text.
            text = preimage.encode("utf-8", "surrogatepass")
            if key_of(text) != key:
                raise BuildError(f"its record '{key[:12]}' is not what its key says")
            if not 0 <= created < _LATEST:
                raise BuildError(f"its record {key[:12]} has a time out of range")
            return CachedStep(key, text, None if diff_id is None else parse_diff_id(diff_id), created)
    raise BuildError("one of its records is malformed")


def parse_diff_id(raw: object) -> Digest:
    """Raises BuildError."""
    digest = Digest.parse(raw) if isinstance(raw, str) else None
    if digest is None or digest.algorithm != "sha256":
        raise BuildError("one of its diff IDs is malformed")
    return digest


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """The object that `data` is, which messages call `what`. Raises BuildError."""
    try:
        raw = canonical.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise BuildError(f"its {what} is not JSON") from error
    if not isinstance(raw, dict):
        raise BuildError(f"its {what} is no JSON object")
    return raw
