"""The annotation of an inline cache: version 1 never changes its meaning (SPEC section 7); anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.cache.format import is_replaceable
from builder.cache.inline import ANNOTATION, annotation, parse, parse_manifest
from builder.errors import BuildError
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import CONFIG_TYPE, manifest

GOLDEN = Path(__file__).parents[1] / "golden" / "cache"
DIFF_IDS = tuple(Digest("sha256", digit * 64) for digit in "abc")
LAYERS = tuple(Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", diff_id, 10) for diff_id in DIFF_IDS)
RECORDS = (("2" * 64, DIFF_IDS[1]), ("1" * 64, None), ("3" * 64, DIFF_IDS[2]))
CONFIG = json.dumps({"rootfs": {"diff_ids": list(map(str, DIFF_IDS))}}).encode()


def image(text: object = None, name: str = ANNOTATION, **changes: Any) -> bytes:
    """The manifest of an image of three layers."""
    value = annotation(RECORDS) if text is None else text
    body = json.loads(manifest(Descriptor(CONFIG_TYPE, Digest.of(CONFIG), len(CONFIG)), LAYERS))
    return json.dumps({**body, "annotations": {"other": "x", name: value}, **changes}).encode()


def refused(data: bytes, config: bytes = CONFIG) -> str:
    with pytest.raises(BuildError) as error:
        found = parse_manifest(data)
        assert found is not None
        parse(found, config)
    return error.value.message


def test_the_golden_annotation() -> None:
    assert annotation(RECORDS) == (GOLDEN / "inline.json").read_text().rstrip("\n")
    assert annotation(reversed(RECORDS)) == annotation(RECORDS)


def test_it_is_read_as_it_was_written() -> None:
    found = parse_manifest(image())
    assert found is not None
    cache = parse(found, CONFIG)
    assert {key: step.diff_id for key, step in cache.steps.items()} == dict(RECORDS)
    assert (cache.layers, cache.mounts) == (dict(zip(DIFF_IDS, LAYERS)), {})


def test_images_without_one() -> None:
    assert parse_manifest(image(annotations=None)) is None
    assert parse_manifest(image(annotations=[])) is None
    assert parse_manifest(image(name="vnd.pybuild.cash.v1")) is None
    assert not is_replaceable(image()) and not is_replaceable(b'{"config":{}}')


def test_the_documents_that_are_refused() -> None:
    assert refused(image(name="vnd.pybuild.cache.v2")) == (
        "its inline cache is 'vnd.pybuild.cache.v2', and this pybuild reads 'vnd.pybuild.cache.v1'"
    )
    assert refused(image(7)) == "the manifest of its image is damaged"
    assert refused(image(layers=7)) == "the manifest of its image is damaged"
    assert "a descriptor is not" in refused(image(layers=[7]))
    assert refused(image("{")) == "its inline cache is not JSON"
    assert refused(image("\ud800")) == "its inline cache is not JSON"
    assert refused(image("{}")) == "its inline cache lacks the records"
    assert refused(image(layers=[])) == "the config of its image names 3 layers, its manifest 0"
    assert "an image config is not valid" in refused(image(), b"[]")
    others = json.dumps({"rootfs": {"diff_ids": [*map(str, DIFF_IDS[:2]), "sha256:" + "f" * 64]}}).encode()
    assert refused(image(), others) == f"the layer of its record {'3' * 12} is not in its image"
    for record in ({"key": "1" * 64}, {"key": "x" * 64, "diff_id": None}, {"key": "1", "diff_id": None}, 7):
        assert refused(image(json.dumps({"records": [record]}))) == "one of its records is malformed"
    assert refused(image(json.dumps({"records": [{"key": "1" * 64, "diff_id": "sha256:1"}]}))) == "'sha256:1' is not a digest"
    other = json.dumps({"records": [{"key": "1" * 64, "diff_id": "sha512:" + "1" * 128}]})
    assert refused(image(other)) == "one of its diff IDs is malformed"


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(str(DIFF_IDS[0]))
NAMES = st.sampled_from(["records", "key", "diff_id", "annotations", ANNOTATION, "config", "digest", "size", "layers"])
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10)


@settings(max_examples=200, deadline=None)
@given(change=st.dictionaries(NAMES, JSON), text=JSON, config=st.dictionaries(st.just("rootfs"), JSON))
def test_whatever_stands_there_is_read_or_refused(change: dict[str, Any], text: Any, config: Any) -> None:
    for data in (image(json.dumps(text), **change), image(text), json.dumps(text).encode()):
        try:
            found = parse_manifest(data)
            if found is not None:
                parse(found, json.dumps(config).encode())
                parse(found, CONFIG)
        except BuildError:
            continue
