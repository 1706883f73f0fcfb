"""The bytes of a portable cache: version 1 never changes its meaning (SPEC section 7); anything else is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.cache.format import (
    CONFIG_TYPE,
    CachedMount,
    CachedStep,
    config_blob,
    manifest_blob,
    parse_config,
    parse_manifest,
)
from builder.errors import BuildError
from builder.oci.digest import Descriptor, Digest
from builder.plan import keys

GOLDEN = Path(__file__).parents[1] / "golden" / "cache"
LAYERS = (
    Descriptor("application/vnd.oci.image.layer.v1.tar+zstd", Digest("sha256", "1" * 64), 10),
    Descriptor("application/vnd.oci.image.layer.v1.tar", Digest("sha256", "2" * 64), 20),
)
DIFF_IDS = (Digest("sha256", "a" * 64), Digest("sha256", "b" * 64))


def step(preimage: bytes, diff_id: Digest | None) -> CachedStep:
    return CachedStep(keys.hex_of(preimage), preimage, diff_id, 1700000000)


# Keys as sha256sum has them, of `pybuild-key-v1`, a NUL and the preimage.
STEPS = (step(b'{"op":"run"}', DIFF_IDS[0]), step(b'{"op":"copy","x":"\\u00e9"}', DIFF_IDS[1]), step(b'{"op":"workdir"}', None))


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes().rstrip(b"\n")


MANIFEST = parse_manifest(golden("manifest.json"))


def test_the_golden_documents() -> None:
    config = config_blob(STEPS, DIFF_IDS)
    assert config == golden("config.json")
    descriptor = Descriptor(CONFIG_TYPE, Digest.of(config), len(config))
    assert manifest_blob(descriptor, LAYERS) == golden("manifest.json")
    assert manifest_blob(descriptor, ()) == golden("manifest-empty.json")


def test_they_are_read_as_they_were_written() -> None:
    manifest = parse_manifest(golden("manifest.json"))
    assert manifest.layers == LAYERS
    assert manifest.config.digest.hex == hashlib.sha256(golden("config.json")).hexdigest()
    cache = parse_config(golden("config.json"), manifest, keys.hex_of)
    assert cache.steps == {each.key: each for each in STEPS}
    assert cache.layers == dict(zip(DIFF_IDS, LAYERS, strict=True))
    assert parse_manifest(golden("manifest-empty.json")).layers == ()
    assert parse_config(config_blob(STEPS[2:], ()), parse_manifest(golden("manifest-empty.json")), keys.hex_of).layers == {}


def test_what_may_be_added_is_passed_over() -> None:
    manifest = json.loads(golden("manifest.json"))
    manifest["layers"].insert(1, {"mediaType": "text/plain", "digest": str(DIFF_IDS[0]), "size": 1})
    manifest["annotations"] = {"a": "b"}
    assert parse_manifest(json.dumps(manifest).encode()).layers == LAYERS
    config = json.loads(golden("config.json")) | {"more": [1]}
    config["records"][0]["more"] = 1
    assert len(parse_config(json.dumps(config).encode(), MANIFEST, keys.hex_of).steps) == 3


def test_cache_mounts_come_along_where_they_are_named() -> None:
    blob = Descriptor("application/vnd.pybuild.cache.mount.v1.tar+zstd", Digest("sha256", "3" * 64), 30)
    mounts = {CachedMount("b", "0700 1:1"): blob, CachedMount("a", ""): blob}
    config = config_blob(STEPS, DIFF_IDS, mounts)
    assert config == golden("config-mounts.json")
    manifest = manifest_blob(Descriptor(CONFIG_TYPE, Digest.of(config), len(config)), (*LAYERS, blob))
    assert manifest == golden("manifest-mounts.json")
    assert parse_config(config, parse_manifest(manifest), keys.hex_of).mounts == mounts
    with pytest.raises(BuildError, match="one of its cache mounts is malformed"):
        parse_config(config, MANIFEST, keys.hex_of)


def test_the_order_of_steps_does_not_count() -> None:
    assert config_blob(reversed(STEPS), DIFF_IDS) == golden("config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"artifactType": "application/vnd.pybuild.cache.v2"}, "its format is 'application/vnd.pybuild.cache.v2'"),
        ({"artifactType": "application/vnd.buildkit.cacheconfig.v0"}, "its manifest is not that of a pybuild cache"),
        ({"artifactType": None}, "its manifest is not that of a pybuild cache"),
        ({"layers": {}}, "its manifest has no layers"),
        ({"layers": [1]}, "a descriptor is not an object"),
        ({"config": None}, "a descriptor is not an object"),
        ({"config": {"mediaType": "text/plain", "digest": str(DIFF_IDS[0]), "size": 1}}, "has another type"),
        ({"config": {"mediaType": CONFIG_TYPE, "digest": "sha256:0", "size": 1}}, "not a digest"),
        ({"config": {"mediaType": CONFIG_TYPE, "digest": str(DIFF_IDS[0]), "size": -1}}, "it has no size"),
    ],
)
def test_manifests_that_are_refused(change: dict[str, Any], message: str) -> None:
    value = json.loads(golden("manifest.json")) | change
    with pytest.raises(BuildError) as refused:
        parse_manifest(json.dumps(value).encode())
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"records": None}, "lacks the layers or the records"),
        ({"layers": [str(DIFF_IDS[0])]}, "names 1 layers, its manifest 2"),
        ({"layers": ["sha512:" + "a" * 128, str(DIFF_IDS[0])]}, "one of its diff IDs is malformed"),
        ({"layers": [1, 2]}, "one of its diff IDs is malformed"),
        ({"records": [1]}, "one of its records is malformed"),
        ({"records": [{**json.loads(golden("config.json"))["records"][0], "key": "0" * 64}]}, "is not what its key says"),
        ({"records": [{**json.loads(golden("config.json"))["records"][0], "preimage": "{}"}]}, "is not what its key says"),
        ({"records": [{**json.loads(golden("config.json"))["records"][0], "preimage": "\ud800"}]}, "is not what its key says"),
        ({"records": [{**json.loads(golden("config.json"))["records"][0], "created": -1}]}, "a time out of range"),
        ({"records": [{**json.loads(golden("config.json"))["records"][0], "diff_id": "sha256:" + "f" * 64}]}, "is in no blob"),
    ],
)
def test_configs_that_are_refused(change: dict[str, Any], message: str) -> None:
    value = json.loads(golden("config.json")) | change
    with pytest.raises(BuildError) as refused:
        parse_config(json.dumps(value).encode(), MANIFEST, keys.hex_of)
    assert message in refused.value.message


FIELDS = st.sampled_from(["layers", "records", "config", "artifactType"])
NAMES = st.sampled_from(["layers", "records", "key", "preimage", "diff_id", "created", "config", "size", "digest"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(str(DIFF_IDS[0]))
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10)


@settings(max_examples=200, deadline=None)
@given(change=st.dictionaries(FIELDS, JSON), raw=st.binary(max_size=20))
def test_whatever_stands_there_is_read_or_refused(change: dict[str, Any], raw: bytes) -> None:
    for name, parse in (
        ("manifest.json", parse_manifest),
        ("config.json", lambda data: parse_config(data, MANIFEST, keys.hex_of)),
    ):
        for data in (json.dumps(json.loads(golden(name)) | change).encode(), raw, golden(name)[: len(raw)]):
            try:
                parse(data)
            except BuildError:
                continue
