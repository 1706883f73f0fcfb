"""OCI layouts that others wrote: which image is meant, and every way in which they can be wrong."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.context.oci_layout import REF_NAME, Layout, Manifest, Place
from builder.errors import BuildError, UsageError
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import CONFIG_TYPE, INDEX_TYPE, LAYER_TYPE, MANIFEST_TYPE
from builder.oci.platform import Platform

AMD64 = Platform("linux", "amd64")


class Folder:
    """A layout in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data: bytes, media_type: str = LAYER_TYPE, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    def json(self, value: object, media_type: str, **more: Any) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), media_type, **more)

    def image(self, name: str, **more: Any) -> dict[str, Any]:
        config, layer = self.blob(b"config " + name.encode(), CONFIG_TYPE), self.blob(b"layer " + name.encode())
        body = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}
        return self.json(body, MANIFEST_TYPE, **more)

    def index(self, *manifests: object, **more: Any) -> Folder:
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(manifests), **more}))
        return self

    def open(self, tag: str = "", digest: Digest | None = None) -> Layout:
        return Layout(Place(str(self.path), tag, digest))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "layout")


def platform(os_: str, architecture: str, variant: str = "") -> dict[str, Any]:
    return {"platform": {"os": os_, "architecture": architecture, **({"variant": variant} if variant else {})}}


def tagged(name: str) -> dict[str, Any]:
    return {"annotations": {REF_NAME: name}}


def chosen(layout: Layout, wanted: Platform = AMD64) -> str:
    manifest = layout.manifest(wanted)
    return layout.read(manifest.config, 1000).decode().removeprefix("config ")


def refused(layout: Layout, wanted: Platform = AMD64) -> str:
    with pytest.raises(UsageError) as caught:
        layout.manifest(wanted)
    return caught.value.message.replace(layout.path, "PATH")


def test_the_only_image(folder: Folder) -> None:
    layout = folder.index(folder.image("one")).open()
    config, layer = b"config one", b"layer one"
    assert layout.manifest(AMD64) == Manifest(
        Descriptor(CONFIG_TYPE, Digest.of(config), len(config)), (Descriptor(LAYER_TYPE, Digest.of(layer), len(layer)),)
    )
    assert layout.read(layout.manifest(AMD64).layers[0], 100) == layer
    # Without a platform it may be for any.
    assert chosen(layout, Platform("linux", "s390x")) == "one"


def test_by_tag_and_by_digest(folder: Folder) -> None:
    images = [
        folder.image("one", **tagged("v1")),
        folder.image("two", **tagged("docker.io/library/x:v2")),
        folder.image("three"),
    ]
    folder.index(*images)
    assert chosen(folder.open("v1")) == "one"
    assert chosen(folder.open("v2")) == "two"
    assert chosen(folder.open("docker.io/library/x:v2")) == "two"
    assert chosen(folder.open("", Digest.parse(images[2]["digest"]))) == "three"
    assert refused(folder.open("v3")) == "'PATH' has no image with the tag 'v3'"
    assert refused(folder.open()) == "'PATH' has 3 images"
    absent = Digest("sha256", "0" * 64)
    assert refused(folder.open("", absent)) == f"'PATH' has no image {absent}"
    with pytest.raises(UsageError) as caught:
        folder.open("v3").manifest(AMD64)
    assert caught.value.hint == "it has: v1, docker.io/library/x:v2"


def test_one_image_under_several_tags_is_one_image(folder: Folder) -> None:
    folder.index(folder.image("one", **tagged("a")), folder.image("one", **tagged("b")))
    assert chosen(folder.open()) == "one"


def test_by_platform(folder: Folder) -> None:
    amd, arm6, arm7 = (platform("linux", "amd64"), platform("linux", "arm", "v6"), platform("linux", "arm", "v7"))
    attestation = folder.image("attestation", **platform("unknown", "unknown"))
    folder.index(folder.image("amd", **amd), attestation, folder.image("arm6", **arm6), folder.image("arm7", **arm7))
    assert chosen(folder.open()) == "amd"
    assert chosen(folder.open(), Platform.parse("linux/arm/v7")) == "arm7"
    assert chosen(folder.open(), Platform.parse("linux/arm/v6")) == "arm6"
    # A v7 runs what is for a v6, and no v5 does.
    assert chosen(folder.open(), Platform.parse("linux/arm64")) == "arm7"
    assert refused(folder.open(), Platform.parse("linux/arm/v5")) == "'PATH' has no image for linux/arm/v5"
    assert refused(folder.open(), Platform.parse("linux/s390x")) == "'PATH' has no image for linux/s390x"


def test_a_variant_alone_does_not_hide_the_only_image(folder: Folder) -> None:
    folder.index(folder.image("arm", **platform("linux", "arm64", "v8")))
    assert chosen(folder.open(), Platform.parse("linux/arm64")) == "arm"


def test_two_images_for_one_platform_are_not_guessed(folder: Folder) -> None:
    amd = platform("linux", "amd64")
    folder.index(folder.image("one", **amd, **tagged("a")), folder.image("two", **amd, **tagged("b")))
    assert refused(folder.open()) == "'PATH' has 2 images"
    assert chosen(folder.open("b")) == "two"


def test_an_index_in_the_index(folder: Folder) -> None:
    inner = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            folder.image("amd", **platform("linux", "amd64")),
            folder.image("arm", **platform("linux", "arm64")),
            folder.image("attestation", **platform("unknown", "unknown")),
        ],
    }
    nested = folder.json(inner, INDEX_TYPE, **tagged("v1"))
    folder.index(nested)
    assert chosen(folder.open("v1")) == "amd"
    assert chosen(folder.open(), Platform.parse("arm64")) == "arm"
    # The type in the descriptor is enough.
    del inner["mediaType"]
    folder.index(folder.json(inner, INDEX_TYPE))
    assert chosen(folder.open()) == "amd"


def test_indexes_without_end(folder: Folder) -> None:
    descriptor = folder.image("one")
    for _ in range(8):
        descriptor = folder.json({"mediaType": INDEX_TYPE, "manifests": [descriptor]}, INDEX_TYPE)
    assert refused(folder.index(descriptor).open()) == "the indexes of 'PATH' are nested too deeply"


def test_what_is_no_layout(tmp_path: Path, folder: Folder) -> None:
    for place in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="is no OCI layout: it has no file 'oci-layout'"):
            Layout(Place(str(place)))
    assert refused(folder.open()) == "'PATH' is no OCI layout: it has no index.json"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("", "the index.json of 'PATH' is not JSON"),
        ("[" * 100_000, "the index.json of 'PATH' is not JSON"),
        ("\xff", "the index.json of 'PATH' is not JSON"),
        ("[]", "the index.json of 'PATH' is no JSON object"),
        ("{}", "an index of 'PATH' has no manifests"),
        ('{"manifests":{}}', "an index of 'PATH' has no manifests"),
        ('{"manifests":[]}', "'PATH' has no image for linux/amd64"),
        (" " * ((4 << 20) + 1), "the index.json of 'PATH' is larger than 4194304 bytes"),
    ],
)
def test_wrong_indexes(folder: Folder, index: str, message: str) -> None:
    (folder.path / "index.json").write_bytes(index.encode("latin-1"))
    assert refused(folder.open()) == message


def test_wrong_manifests(folder: Folder) -> None:
    for body, message in (
        ({"layers": []}, "a descriptor is not an object"),
        ({"config": {}, "layers": []}, "a descriptor is not valid: it has no size"),
        ({"config": folder.blob(b"c"), "layers": {}}, "has no layers"),
        ({"config": folder.blob(b"c")}, "has no layers"),
        ({"config": folder.blob(b"c"), "layers": [5]}, "a descriptor is not an object"),
        ([], "is no JSON object"),
    ):
        layout = folder.index(folder.json(body, MANIFEST_TYPE)).open()
        with pytest.raises(BuildError) as caught:
            layout.manifest(AMD64)
        assert message in caught.value.message


def test_wrong_blobs(folder: Folder) -> None:
    good = folder.image("one")
    layout = folder.index(good).open()
    path = folder.path / "blobs" / "sha256" / good["digest"].removeprefix("sha256:")
    data = path.read_bytes()
    digest = good["digest"]
    for wrong, message in (
        (data[:-1], "truncated"),
        (b"", "truncated"),
        (data + b" ", "corrupt"),
        (data.replace(b"m", b"n", 1), "corrupt"),
        (data * 1000, "corrupt"),
    ):
        path.write_bytes(wrong)
        assert refused(layout) == f"the blob {digest} of 'PATH' is {message}"
    path.unlink()
    assert refused(layout) == f"the blob {digest} is missing from 'PATH'"
    # Nothing that would hang, or that is no file at all.
    os.mkfifo(path)
    assert refused(layout) == f"the blob {digest} of 'PATH' is no file"
    path.unlink()
    path.mkdir()
    assert refused(layout) == f"the blob {digest} of 'PATH' is no file"


def test_a_size_is_a_promise(folder: Folder) -> None:
    good = folder.image("one")
    assert refused(folder.index({**good, "size": good["size"] - 1}).open()) == f"the blob {good['digest']} of 'PATH' is corrupt"
    assert (
        refused(folder.index({**good, "size": good["size"] + 1}).open()) == f"the blob {good['digest']} of 'PATH' is truncated"
    )
    large = folder.index({**good, "size": (4 << 20) + 1}).open()
    assert refused(large) == f"the blob {good['digest']} of 'PATH' is larger than 4194304 bytes"


def test_other_digest_algorithms(folder: Folder) -> None:
    data = b'{"config": 5}'
    digest = hashlib.sha512(data).hexdigest()
    (folder.path / "blobs" / "sha512").mkdir()
    (folder.path / "blobs" / "sha512" / digest).write_bytes(data)
    layout = folder.index().open()
    assert layout.read(Descriptor("", Digest("sha512", digest), len(data)), 100) == data


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["manifests", "digest", "size", "layers"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values, values)
def test_any_index_and_any_manifest(folder: Folder, index: object, manifest: object) -> None:
    (folder.path / "index.json").write_text(json.dumps(index))
    with pytest.raises(BuildError):
        folder.open().manifest(AMD64)
    folder.index(folder.json(manifest, MANIFEST_TYPE))
    with pytest.raises(BuildError):
        folder.open().manifest(AMD64)
