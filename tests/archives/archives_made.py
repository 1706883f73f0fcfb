"""Archives of one image as each tool writes them, made by hand from the same two layers."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Mapping

import zstandard

from tests.registry.registry_images import tar_of

Members = dict[str, bytes | str]
"""Contents by names; a text is what a symlink leads to."""

LAYERS = [tar_of({"etc/os": b"one\n", "bin/tool": b"#!/bin/sh\n"}), tar_of({"etc/os": b"two\n"})]
DIFF_IDS = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in LAYERS]
NAME = "registry.example/team/app:1.2"

PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def hex_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of(diff_ids: list[str] | None = None, **more: object) -> bytes:
    rootfs = {"type": "layers", "diff_ids": DIFF_IDS if diff_ids is None else diff_ids}
    return json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/tool"]}, "rootfs": rootfs, **more}
    ).encode()


CONFIG = config_of()
ID = "sha256:" + hex_of(CONFIG)


def archive(members: Members, *, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def listed(config: str, layers: list[str], tags: list[str] | None) -> bytes:
    return json.dumps([{"Config": config, "RepoTags": tags, "Layers": layers}]).encode()


def old_docker(tags: list[str] | None = None) -> Members:
    """Docker until 24."""
    places = [f"{number:064x}/layer.tar" for number in (1, 2)]
    members: Members = {}
    for place, layer in zip(places, LAYERS, strict=True):
        folder = place.partition("/")[0]
        members |= {f"{folder}/VERSION": b"1.0", f"{folder}/json": b"{}", place: layer}
    name = f"{ID[7:]}.json"
    return members | {name: CONFIG, "manifest.json": listed(name, places, tags or [NAME]), "repositories": b"{}"}


def with_links() -> Members:
    """The same with a layer that occurs twice, for which Docker has a symlink."""
    members = old_docker()
    third = f"{3:064x}/layer.tar"
    config = config_of([*DIFF_IDS, DIFF_IDS[0]])
    name = f"{hex_of(config)}.json"
    places = [f"{number:064x}/layer.tar" for number in (1, 2, 3)]
    del members[f"{ID[7:]}.json"]
    return members | {third: f"../{1:064x}/layer.tar", name: config, "manifest.json": listed(name, places, [NAME])}


def skopeo_docker() -> Members:
    places = [f"{diff_id[7:]}.tar" for diff_id in DIFF_IDS]
    return {**dict(zip(places, LAYERS, strict=True)), f"{ID[7:]}.json": CONFIG,
            "manifest.json": listed(f"{ID[7:]}.json", places, [NAME])}  # fmt: skip


def kaniko() -> Members:
    """go-containerregistry's, which ko and crane write as well: compressed layers."""
    blobs = [gzip.compress(layer, mtime=0) for layer in LAYERS]
    places = [f"{hex_of(blob)}.tar.gz" for blob in blobs]
    return {ID: CONFIG, **dict(zip(places, blobs, strict=True)), "manifest.json": listed(ID, places, [NAME])}


def jib() -> Members:
    blobs = [gzip.compress(layer, mtime=0) for layer in LAYERS]
    places = [f"{hex_of(blob)}.tar.gz" for blob in blobs]
    return {
        **dict(zip(places, blobs, strict=True)),
        "config.json": CONFIG,
        "manifest.json": listed("config.json", places, [NAME]),
    }


def dotted() -> Members:
    """Some scripts pack `.`, and name members of it."""
    return {f"./{name}": content for name, content in old_docker().items()}


def oci(annotations: Mapping[str, str] | None = None, *, compress: bool = True) -> Members:
    blobs = [gzip.compress(layer, mtime=0) if compress else layer for layer in LAYERS]
    kind = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": {"mediaType": f"{kind}.config.v1+json", "digest": ID, "size": len(CONFIG)},
            "layers": [
                {
                    "mediaType": f"{kind}.layer.v1.tar{'+gzip' if compress else ''}",
                    "digest": f"sha256:{hex_of(blob)}",
                    "size": len(blob),
                }
                for blob in blobs
            ],
        }
    ).encode()
    named = (
        {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "1.2"} if annotations is None else annotations
    )
    index = {"schemaVersion": 2, "manifests": [described(manifest) | {"annotations": dict(named)}]}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{f"blobs/sha256/{hex_of(blob)}": blob for blob in [manifest, CONFIG, *blobs]},
    }


def described(manifest: bytes, kind: str = "manifest") -> dict[str, object]:
    media_type = f"application/vnd.oci.image.{kind}.v1+json"
    return {"mediaType": media_type, "digest": f"sha256:{hex_of(manifest)}", "size": len(manifest)}


def new_docker() -> Members:
    """Docker from 25 on: both in one."""
    members = oci(compress=False)
    places = [f"blobs/sha256/{diff_id[7:]}" for diff_id in DIFF_IDS]
    return members | {"manifest.json": listed(f"blobs/sha256/{ID[7:]}", places, [NAME])}


def skopeo_dir() -> Members:
    members = oci()
    manifest = next(data for data in members.values() if isinstance(data, bytes) and b'"layers"' in data)
    blobs = {name.rpartition("/")[2]: data for name, data in members.items() if name.startswith("blobs/")}
    return {**blobs, "manifest.json": manifest, "version": b"Directory Transport Version: 1.1\n"}


FORMS: Mapping[str, Callable[[], Members]] = {
    "docker-24": old_docker,
    "docker-25": new_docker,
    "skopeo": skopeo_docker,
    "kaniko": kaniko,
    "jib": jib,
    "dotted": dotted,
    "oci": oci,
    "oci-plain": lambda: oci(compress=False),
}
