"""Indexes joined of images and of other indexes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import UsageError
from builder.oci.combine import Part, combine, index_of
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE, INDEX_TYPE, MANIFEST_TYPE, index

NAMES = ("linux/amd64", "linux/386", "linux/arm64", "windows/amd64", "linux/s390x")


def test_the_bytes_of_an_index() -> None:
    """For one set of manifests there is one index, whoever makes it."""
    digest = Digest("sha256", "1" * 64)
    manifests = [Descriptor(MANIFEST_TYPE, digest, 7, (), ("linux", "arm", "v7"))]
    expected = (
        b'{"manifests":[{"digest":"sha256:' + b"1" * 64 + b'","mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"platform":{"architecture":"arm","os":"linux","variant":"v7"},"size":7}],'
        b'"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}'
    )
    assert index(manifests) == expected
    part = Part(
        {
            "size": 7,
            "digest": str(digest),
            "mediaType": MANIFEST_TYPE,
            "platform": json.loads(expected)["manifests"][0]["platform"],
        },
        "x",
    )
    assert index_of([part], {})[0] == expected


def part(platform: str, text: str = "", *, of: str = "", media_type: str = MANIFEST_TYPE, replaceable: bool = False) -> Part:
    os, _, architecture = platform.partition("/")
    descriptor: dict[str, Any] = {"mediaType": media_type, "digest": str(Digest.of((platform + text).encode())), "size": 1}
    descriptor["platform"] = {"os": os, "architecture": architecture}
    if of:
        descriptor["annotations"] = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of}
    return Part(descriptor, f"{platform}{text}", replaceable)


def test_what_is_joined_keeps_its_order_and_unknown_fields() -> None:
    odd = part("linux/arm64")
    odd = odd._replace(
        descriptor={**odd.descriptor, "data": "eA==", "platform": {**odd.descriptor["platform"], "os.version": "1"}}
    )
    note = part("unknown/unknown", of=odd.digest)
    data, media_type = index_of(combine([part("linux/amd64"), odd, part("linux/amd64"), note]), {})
    assert media_type == INDEX_TYPE
    body = json.loads(data)
    assert body == {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [part("linux/amd64").descriptor, odd.descriptor, note.descriptor],
    }


def test_two_for_one_platform() -> None:
    with pytest.raises(UsageError) as caught:
        combine([part("linux/arm64"), part("linux/aarch64", "b")])
    digests = [part("linux/arm64").digest, part("linux/aarch64", "b").digest]
    assert caught.value.message == (
        f"two images are for linux/aarch64: 'linux/arm64' ({digests[0]}) and 'linux/aarch64b' ({digests[1]})"
    )
    # Of Windows there are several versions.
    first, second = part("windows/amd64"), part("windows/amd64", "b")
    second = second._replace(descriptor={**second.descriptor, "platform": {**second.descriptor["platform"], "os.version": "2"}})
    assert combine([first, second]) == [first, second]


def test_what_is_replaced_takes_its_attestation_along() -> None:
    old = part("linux/arm64", "old", replaceable=True)
    note = part("unknown/unknown", of=old.digest, replaceable=True)
    kept, new = part("linux/amd64", replaceable=True), part("linux/arm64", "new")
    assert combine([old, note, kept, new]) == [kept, new]


def test_docker_s_types_stay_docker_s() -> None:
    docker = part("linux/arm64", media_type=DOCKER_MANIFEST_TYPE)
    assert index_of([docker], {})[1] == DOCKER_INDEX_TYPE
    assert index_of([docker], {"a": "b"})[1] == INDEX_TYPE
    assert index_of([docker, part("linux/amd64")], {})[1] == INDEX_TYPE


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from("ab"), st.booleans())))
def test_whatever_is_joined_has_one_image_for_a_platform(given_parts: list[tuple[str, str, bool]]) -> None:
    old = [part(name, text, replaceable=True) for name, text, is_old in given_parts if is_old]
    new = [part(name, text) for name, text, is_old in given_parts if not is_old]
    try:
        found = combine([*old, *new])
    except UsageError:
        by_platform: dict[str, set[str]] = {}
        for each in new:
            by_platform.setdefault(each.origin[:-1], set()).add(each.digest)
        assert any(len(digests) > 1 for digests in by_platform.values())
        return
    names = [each.origin[:-1] for each in found]
    assert len(set(names)) == len(names)
    assert set(names) == {name for name, _, _ in given_parts}
