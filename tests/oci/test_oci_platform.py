"""Platforms: the normalisation of containerd (github.com/containerd/platforms)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.oci.platform import Platform


@pytest.mark.parametrize(
    ("text", "platform", "shown"),
    [
        ("linux/amd64", Platform("linux", "amd64"), "linux/amd64"),
        ("Linux/AMD64", Platform("linux", "amd64"), "linux/amd64"),
        ("linux/x86_64", Platform("linux", "amd64"), "linux/amd64"),
        ("linux/x86-64", Platform("linux", "amd64"), "linux/amd64"),
        ("linux/amd64/v1", Platform("linux", "amd64"), "linux/amd64"),
        ("linux/amd64/v3", Platform("linux", "amd64", "v3"), "linux/amd64/v3"),
        ("linux/arm64", Platform("linux", "arm64"), "linux/arm64"),
        ("linux/arm64/v8", Platform("linux", "arm64"), "linux/arm64"),
        ("linux/arm64/8", Platform("linux", "arm64"), "linux/arm64"),
        ("linux/aarch64", Platform("linux", "arm64"), "linux/arm64"),
        ("linux/arm64/v9", Platform("linux", "arm64", "v9"), "linux/arm64/v9"),
        ("linux/arm", Platform("linux", "arm", "v7"), "linux/arm/v7"),
        ("linux/arm/7", Platform("linux", "arm", "v7"), "linux/arm/v7"),
        ("linux/arm/v6", Platform("linux", "arm", "v6"), "linux/arm/v6"),
        ("linux/arm/5", Platform("linux", "arm", "v5"), "linux/arm/v5"),
        ("linux/armhf", Platform("linux", "arm", "v7"), "linux/arm/v7"),
        ("linux/armel", Platform("linux", "arm", "v6"), "linux/arm/v6"),
        ("linux/i386", Platform("linux", "386"), "linux/386"),
        ("linux/386/sse2", Platform("linux", "386"), "linux/386"),
        ("linux/s390x", Platform("linux", "s390x"), "linux/s390x"),
        ("windows/amd64", Platform("windows", "amd64"), "windows/amd64"),
        ("amd64", Platform("linux", "amd64"), "linux/amd64"),
        ("aarch64", Platform("linux", "arm64"), "linux/arm64"),
        ("armhf", Platform("linux", "arm", "v7"), "linux/arm/v7"),
        ("riscv64", Platform("linux", "riscv64"), "linux/riscv64"),
    ],
)
def test_platforms(text: str, platform: Platform, shown: str) -> None:
    assert Platform.parse(text) == platform
    assert str(platform) == shown
    assert Platform.parse(shown) == platform


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "linux",
        "darwin",
        "foo",
        "linux/",
        "/amd64",
        "linux//v7",
        "linux/arm/v7/x",
        "linux/am d64",
        "linux/amd64\n",
        "lin,ux/a",
    ],
)
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(BuildError) as caught:
        Platform.parse(text)
    assert caught.value.message == f"'{text}' is not a platform"
    assert caught.value.hint == "a platform looks like linux/amd64 or linux/arm/v7"


@pytest.mark.parametrize(
    ("machine", "shown"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("i686", "linux/386"),
        ("ppc64le", "linux/ppc64le"),
    ],
)
def test_machines_as_uname_names_them(machine: str, shown: str) -> None:
    assert str(Platform.of_machine(machine)) == shown


@settings(max_examples=100, deadline=None)
@given(st.text("linuxarm64/v8. \n", max_size=12))
def test_any_text_is_a_platform_that_stays_itself_or_an_error(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except BuildError:
        return
    assert Platform.parse(str(platform)) == platform


@pytest.mark.parametrize(
    ("text", "compatible"),
    [
        ("linux/amd64", "linux/amd64 linux/386"),
        ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
        ("linux/amd64/odd", "linux/amd64/odd linux/386"),
        ("linux/386", "linux/386"),
        ("linux/arm/v7", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm/v5", "linux/arm/v5"),
        ("linux/arm/odd", "linux/arm/odd"),
        ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm64/v8.1", "linux/arm64/v8.1 linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm64/odd", "linux/arm64/odd"),
        ("linux/s390x", "linux/s390x"),
        ("windows/amd64", "windows/amd64 windows/386"),
    ],
)
def test_what_a_platform_runs_besides(text: str, compatible: str) -> None:
    """In containerd's order (compare.go, platformVector, with its cases of compare_test.go)."""
    assert " ".join(map(str, Platform.parse(text).compatible())) == compatible


def test_newer_arm64_runs_what_older_does() -> None:
    found = list(map(str, Platform.parse("linux/arm64/v9.1").compatible()))
    assert found[:4] == ["linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64/v8.5"]
    assert found[7:10] == ["linux/arm64/v8.1", "linux/arm64", "linux/arm/v8"]


@pytest.mark.parametrize(
    ("text", "other", "runs"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/amd64/v2", False),
        ("linux/amd64/v2", "linux/amd64", True),
        # What runs, but is another architecture, is another image.
        ("linux/amd64", "linux/386", False),
        ("linux/arm64", "linux/arm/v7", False),
        ("linux/arm/v7", "linux/arm/v6", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64", "windows/amd64", False),
    ],
)
def test_images_that_are_for_a_platform(text: str, other: str, *, runs: bool) -> None:
    assert Platform.parse(text).runs(Platform.parse(other)) is runs


@settings(deadline=None)
@given(st.sampled_from(["linux", "windows"]), st.sampled_from(["amd64", "arm64", "arm", "386", "x"]), st.text(max_size=6))
def test_any_variant_is_compatible_with_itself(os: str, architecture: str, variant: str) -> None:
    """What images say of themselves is not normalised, and may be anything."""
    found = Platform(os, architecture, variant)
    compatible = found.compatible()
    assert compatible[0] == found.normal()
    assert len(set(compatible)) == len(compatible) <= 40
    assert found.runs(found)
