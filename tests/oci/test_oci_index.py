"""Which image of an index is for a platform."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.oci.digest import Descriptor, Digest
from builder.oci.image import INDEX_TYPE, MANIFEST_TYPE
from builder.oci.index import shown, suited
from builder.oci.platform import Platform

NAMES = (
    "linux/amd64",
    "linux/amd64/v2",
    "linux/386",
    "linux/arm64",
    "linux/arm/v6",
    "linux/arm/v7",
    "windows/amd64",
    "linux/s390x",
)


def one(platform: str, text: str = "", **annotations: str) -> Descriptor:
    parts = (*platform.split("/"), "", "")[:3] if platform else None
    notes = tuple(sorted((key.replace("_", "."), value) for key, value in annotations.items()))
    return Descriptor(MANIFEST_TYPE, Digest.of((platform + text).encode()), 7, notes, parts)  # type: ignore[arg-type]


def chosen(platform: str, *there: str) -> list[str]:
    found = suited([one(name) for name in there], Platform.parse(platform))
    return ["/".join(filter(None, each.platform or ())) for each in found]


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ("linux/amd64", ["linux/arm64", "linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/arm64", "linux/386"], "linux/386"),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], "linux/amd64/v2"),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v5"], "linux/arm/v6"),
        ("linux/arm", ["linux/arm/v6", "linux/arm"], "linux/arm"),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm64"], None),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm64", ["linux/aarch64"], "linux/aarch64"),
        ("linux/386", ["linux/amd64"], None),
        ("windows/amd64", ["linux/amd64"], None),
        ("linux/amd64", ["unknown/unknown", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["unknown/unknown", ""], ""),
    ],
)
def test_what_is_for_a_platform(wanted: str, there: list[str], found: str | None) -> None:
    assert chosen(wanted, *there) == ([] if found is None else [found])


def test_what_says_no_platform_beside_what_does() -> None:
    """It is no image, as a signature, or an index that may hold one."""
    nested = one("")._replace(media_type=INDEX_TYPE)
    assert suited([one("linux/arm64"), one(""), nested], Platform.parse("amd64")) == [nested]
    assert suited([one("", "1"), one("", "2")], Platform.parse("amd64")) == [one("", "1"), one("", "2")]


def test_what_attests_an_image_is_none() -> None:
    note = one("", vnd_docker_reference_type="attestation-manifest")
    assert suited([note, one("")], Platform.parse("amd64")) == [one("")]
    assert shown([note, one("unknown/unknown"), one("linux/arm/v7"), one("linux/arm/v7", "2")]) == "linux/arm/v7"


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.permutations(NAMES))
def test_the_order_of_an_index_does_not_matter(wanted: str, there: list[str]) -> None:
    assert chosen(wanted, *there) == [wanted]
