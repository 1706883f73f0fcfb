"""Image layouts and archives: their bytes by the documents, and real tools that take them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder.errors import StoreError, UsageError
from builder.export.docker_archive import write_docker_archive
from builder.export.layout import Rendered, write_oci_layout
from builder.oci.digest import Descriptor, Digest

NAME = "docker.io/library/hello:latest"
OTHER = "registry.example:5000/team/app:1.2"


def a_layer(folder: Path, name: str, content: bytes) -> tuple[bytes, bytes]:
    """A layer with one file: its tar and its blob."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue(), gzip.compress(buffer.getvalue(), mtime=0)


def an_image(folder: Path, *names: str, text: bytes = b"hello\n") -> Rendered:
    folder.mkdir(exist_ok=True)
    layers, diff_ids = [], []
    for name, content in (("greeting", text), ("second", b"2" * 3_000_000)):
        tar, blob = a_layer(folder, name, content)
        digest = Digest.of(blob)
        (folder / digest.hex).write_bytes(blob)
        diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
        layers.append((Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest, len(blob)), str(folder / digest.hex)))
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/greeting"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(Digest.of(config)),
            "size": len(config),
        },
        "layers": [{"mediaType": d.media_type, "digest": str(d.digest), "size": d.size} for d, _ in layers],
    }
    return Rendered(config, json.dumps(manifest).encode(), tuple(layers), names)


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def blobs_of(image: Rendered) -> set[str]:
    return {Digest.of(image.config).hex, Digest.of(image.manifest).hex, *(d.digest.hex for d, _ in image.layers)}


def index_of(layout: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((layout / "index.json").read_text())
    return found


def unpacked(layout: Path, tag: str, place: Path) -> Path:
    run("umoci", "unpack", "--rootless", "--image", f"{layout}:{tag}", place)
    return place / "rootfs"


def test_the_tar_is_canonical(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", NAME)
    size = write_oci_layout(image, str(tmp_path / "out.tar"))
    assert size == (tmp_path / "out.tar").stat().st_size
    with tarfile.open(tmp_path / "out.tar") as tar:
        members = tar.getmembers()
        layout = tar.extractfile("oci-layout")
        assert layout is not None
        assert json.load(layout) == {"imageLayoutVersion": "1.0.0"}
    names = [member.name for member in members]
    assert names == sorted(names)
    blobs = {f"blobs/sha256/{name}" for name in blobs_of(image)}
    assert set(names) == {"blobs", "blobs/sha256", "index.json", "oci-layout"} | blobs
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(315619200, 0, 0, "", "")}
    assert {m.name: m.mode for m in members if m.name not in blobs} == {
        "blobs": 0o755,
        "blobs/sha256": 0o755,
        "index.json": 0o644,
        "oci-layout": 0o644,
    }
    assert {m.mode for m in members if m.name in blobs} == {0o444}


def test_equal_images_are_equal_bytes(tmp_path: Path) -> None:
    written = []
    for place in ("one", "two"):
        before = os.umask(0o077 if place == "two" else 0o022)
        try:
            image = an_image(tmp_path / place, NAME)
            write_oci_layout(image, str(tmp_path / f"{place}.tar"))
            write_docker_archive(image, str(tmp_path / f"{place}.docker"))
        finally:
            os.umask(before)
        written.append(((tmp_path / f"{place}.tar").read_bytes(), (tmp_path / f"{place}.docker").read_bytes()))
    assert written[0] == written[1]


def test_the_index_names_the_image_as_buildx_does(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", NAME, OTHER)._replace(created="1980-01-02T00:00:00Z")
    write_oci_layout(image, str(tmp_path / "layout"), tar=False)

    def descriptor(name: str, tag: str) -> dict[str, Any]:
        return {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": str(Digest.of(image.manifest)),
            "size": len(image.manifest),
            "annotations": {
                "io.containerd.image.name": name,
                "org.opencontainers.image.created": "1980-01-02T00:00:00Z",
                "org.opencontainers.image.ref.name": tag,
            },
        }

    assert index_of(tmp_path / "layout") == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor(NAME, "latest"), descriptor(OTHER, "1.2")],
    }


def test_an_image_without_a_name_has_one_plain_descriptor(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store")
    write_oci_layout(image, str(tmp_path / "layout"), tar=False)
    [descriptor] = index_of(tmp_path / "layout")["manifests"]
    assert set(descriptor) == {"mediaType", "digest", "size"}
    assert json.loads(run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout")) == json.loads(image.manifest)


def test_skopeo_and_umoci_take_the_tar(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", NAME)
    write_oci_layout(image, str(tmp_path / "out.tar"))
    source = f"oci-archive:{tmp_path}/out.tar:latest"
    assert run("skopeo", "inspect", "--raw", source).encode() == image.manifest
    assert run("skopeo", "inspect", "--config", "--raw", source).encode() == image.config
    run("skopeo", "copy", source, f"oci:{tmp_path}/copied:tag")
    rootfs = unpacked(tmp_path / "copied", "tag", tmp_path / "bundle")
    assert (rootfs / "greeting").read_bytes() == b"hello\n"
    assert (rootfs / "second").stat().st_size == 3_000_000


def test_skopeo_and_umoci_take_the_folder(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", NAME)
    write_oci_layout(image, str(tmp_path / "layout"), tar=False)
    assert run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout:latest").encode() == image.manifest
    rootfs = unpacked(tmp_path / "layout", "latest", tmp_path / "bundle")
    assert (rootfs / "greeting").read_bytes() == b"hello\n"


def test_a_folder_keeps_its_other_images(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    first = an_image(tmp_path / "store", OTHER)
    write_oci_layout(first, str(layout), tar=False)
    second = an_image(tmp_path / "store", NAME, text=b"second\n")
    for _ in range(2):
        write_oci_layout(second, str(layout), tar=False)
    third = an_image(tmp_path / "store", NAME, text=b"third\n")
    write_oci_layout(third, str(layout), tar=False)
    found = [(d["annotations"]["io.containerd.image.name"], d["digest"]) for d in index_of(layout)["manifests"]]
    assert found == [(OTHER, str(Digest.of(first.manifest))), (NAME, str(Digest.of(third.manifest)))]
    for tag, text in (("1.2", b"hello\n"), ("latest", b"third\n")):
        assert (unpacked(layout, tag, tmp_path / f"bundle-{tag}") / "greeting").read_bytes() == text


def test_a_folder_of_another_tool_is_joined(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:latest")
    run("umoci", "new", "--image", f"{layout}:theirs")
    image = an_image(tmp_path / "store", NAME)
    write_oci_layout(image, str(layout), tar=False)
    tags = [d["annotations"]["org.opencontainers.image.ref.name"] for d in index_of(layout)["manifests"]]
    assert tags == ["theirs", "latest"]
    assert run("skopeo", "inspect", "--raw", f"oci:{layout}:latest").encode() == image.manifest


def test_a_folder_that_is_no_layout_is_refused(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", NAME)
    place = tmp_path / "home"
    place.mkdir()
    (place / "letter").write_text("dear")
    with pytest.raises(UsageError, match="not empty and no OCI layout"):
        write_oci_layout(image, str(place), tar=False)
    with pytest.raises(UsageError, match="is not a folder"):
        write_oci_layout(image, str(place / "letter"), tar=False)
    assert os.listdir(place) == ["letter"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"manifests": 1}', '{"manifests": [1]}', "{" * 100000, '{"manifests": [{"annotations": 3}]}']
)
def test_a_damaged_index_is_told(tmp_path: Path, text: str) -> None:
    image = an_image(tmp_path / "store", NAME)
    write_oci_layout(image, str(tmp_path / "layout"), tar=False)
    (tmp_path / "layout" / "index.json").write_text(text)
    with pytest.raises(UsageError, match=r"index\.json of the OCI layout .* is damaged"):
        write_oci_layout(image, str(tmp_path / "layout"), tar=False)


def test_a_layer_that_occurs_twice_is_written_once(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", NAME)
    image = image._replace(layers=(*image.layers, image.layers[0]))
    write_oci_layout(image, str(tmp_path / "out.tar"))
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 4 + 4


# Docker.


def test_docker_finds_its_manifest_beside_the_layout(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", NAME, OTHER)
    size = write_docker_archive(image, str(tmp_path / "out.tar"))
    assert size == (tmp_path / "out.tar").stat().st_size
    with tarfile.open(tmp_path / "out.tar") as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        manifest = json.load(file)
        assert {"index.json", "oci-layout"} <= set(tar.getnames())
    assert manifest == [
        {
            "Config": f"blobs/sha256/{hashlib.sha256(image.config).hexdigest()}",
            "RepoTags": ["hello:latest", "registry.example:5000/team/app:1.2"],
            "Layers": [f"blobs/sha256/{descriptor.digest.hex}" for descriptor, _ in image.layers],
        }
    ]


def test_skopeo_takes_the_docker_archive(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", NAME, OTHER)
    write_docker_archive(image, str(tmp_path / "out.tar"))
    archive = f"docker-archive:{tmp_path}/out.tar"
    assert run("skopeo", "inspect", "--config", "--raw", archive).encode() == image.config
    assert json.loads(run("skopeo", "list-tags", archive))["Tags"] == ["hello:latest", "registry.example:5000/team/app:1.2"]
    for name in ("hello:latest", "registry.example:5000/team/app:1.2"):
        run("skopeo", "copy", f"{archive}:{name}", f"oci:{tmp_path}/copied:tag")
        rootfs = unpacked(tmp_path / "copied", "tag", tmp_path / name.replace("/", "-").replace(":", "-"))
        assert (rootfs / "greeting").read_bytes() == b"hello\n"
    # The same file is an OCI layout.
    assert run("skopeo", "inspect", "--raw", f"oci-archive:{tmp_path}/out.tar:1.2").encode() == image.manifest


def test_an_image_without_a_name_may_be_an_archive(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store")
    write_docker_archive(image, str(tmp_path / "out.tar"))
    assert run("skopeo", "inspect", "--config", "--raw", f"docker-archive:{tmp_path}/out.tar").encode() == image.config


def test_a_name_without_a_tag_is_refused(tmp_path: Path) -> None:
    image = an_image(tmp_path / "store", f"docker.io/library/hello@{Digest.of(b'')}")
    with pytest.raises(UsageError, match="has no tag"):
        write_docker_archive(image, str(tmp_path / "out.tar"))
    assert not (tmp_path / "out.tar").exists()


# Damage.


def flip(path: str) -> None:
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)


def cut(path: str) -> None:
    os.truncate(path, os.path.getsize(path) - 1)


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_blob_is_told_and_no_archive_stays(tmp_path: Path, damage: Any, number: int) -> None:
    image = an_image(tmp_path / "store", NAME)
    out = tmp_path / "out"
    out.mkdir()
    descriptor, path = image.layers[number]
    damage(path)
    for write in (write_oci_layout, write_docker_archive):
        with pytest.raises(StoreError, match=f"blob {descriptor.digest} is corrupt") as caught:
            write(image, str(out / "file"))
        assert f"remove {path}" in (caught.value.hint or "")
    assert os.listdir(out) == []
    with pytest.raises(StoreError, match=f"blob {descriptor.digest} is corrupt"):
        write_oci_layout(image, str(out / "layout"), tar=False)
    assert not (out / "layout" / "index.json").exists()
