"""OCI image layouts in an archive or a folder (OCI image-spec image-layout.md), with the names that annotations give."""

from __future__ import annotations

import hashlib
import json
import string

from builder.archives.found import CONFIG_LIMIT, MANIFEST_LIMIT, MOST_LAYERS, Found, descriptor_of, name_of
from builder.errors import UsageError
from builder.oci.image import DOCKER_INDEX_TYPE, INDEX_TYPE, REQUEST_ANNOTATION
from builder.oci.index import suited
from builder.oci.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from builder.archives.archive import Archive
    from builder.oci.digest import Descriptor

_NAME = "io.containerd.image.name"
_REF = "org.opencontainers.image.ref.name"
_DEEPEST = 3
_TAG = string.ascii_letters + string.digits
_INDEXES = (INDEX_TYPE, DOCKER_INDEX_TYPE)


def oci_images(archive: Archive, platform: Platform, *, asked: bool, docker: bool) -> list[Found]:
    """As `images.images`; `docker` tells that the archive has Docker's form as well. Raises UsageError."""
    listed = _manifests(archive, _object(archive, "index.json", archive.read("index.json", MANIFEST_LIMIT)), "its index.json")
    groups: dict[str, list[Descriptor]] = {}
    for number, descriptor in enumerate(listed):
        name, tag = _called(archive, descriptor)
        # What has no name is one image of several platforms, or several images that have nothing to do with each other.
        lone = "platform" if descriptor.platform else f"number {number}"
        groups.setdefault(name or (f"tag {tag}" if tag else lone), []).append(descriptor)
    found: dict[object, Found] = {}
    for group in groups.values():
        image = _image(archive, group, platform, asked=asked)._replace(packs=docker)
        known = found.get(image.manifest)
        found[image.manifest] = image if known is None else known._replace(names=(*known.names, *image.names))
    if not found:
        raise archive.wrong("it has no image")
    return list(found.values())


def _image(archive: Archive, group: list[Descriptor], platform: Platform, *, asked: bool) -> Found:
    name, tag = _called(archive, group[0])
    shown = name or tag or "an image"
    index = b""
    chosen = _suited(archive, group, platform, shown, asked=asked)
    said: Platform | None = None
    for _ in range(_DEEPEST):
        said = Platform(*chosen.platform).normal() if chosen.platform and any(chosen.platform) else said
        data = _blob(archive, chosen, MANIFEST_LIMIT)
        raw = _object(archive, str(chosen.digest), data)
        kind = raw.get("mediaType") or chosen.media_type
        if kind in _INDEXES or ("manifests" in raw and "layers" not in raw):
            inner = _manifests(archive, raw, f"the index {chosen.digest}")
            chosen = _suited(archive, inner, platform, shown, asked=asked)
            index = index or data
            continue
        layers = raw.get("layers")
        if not isinstance(layers, list) or len(layers) > MOST_LAYERS or raw.get("schemaVersion") == 1:
            raise archive.wrong(f"{chosen.digest} is no manifest of an image")
        config = _blob(archive, descriptor_of(archive, raw.get("config"), "the config"), CONFIG_LIMIT)
        blobs = tuple(descriptor_of(archive, layer, "a layer") for layer in layers)
        for blob in blobs:
            _check_size(archive, blob)
        places = {blob.digest: _place(blob) for blob in blobs}
        names = (name,) if name else ()
        request = dict(group[0].annotations).get(REQUEST_ANNOTATION, "")
        return Found(config, blobs, places, names, "" if name else tag, data, index, said, request)
    raise archive.wrong("its indexes are nested too deeply")


def _suited(archive: Archive, listed: list[Descriptor], platform: Platform, shown: str, *, asked: bool) -> Descriptor:
    # Attestations are for a platform that is called unknown.
    real = [d for d in listed if d.platform is None or d.platform[0] != "unknown"]
    found = suited(real, platform) or ([] if asked or len(real) != 1 else real)
    if not found:
        others = dict.fromkeys(str(Platform(*d.platform)) for d in real if d.platform)
        raise UsageError(
            f"'{archive.shown}' has {shown} not for {platform}",
            hint=f"choose by --platform: it is for {', '.join([*others][:20])}" if others else None,
        )
    return found[0]


def _called(archive: Archive, descriptor: Descriptor) -> tuple[str, str]:
    """The whole name that the annotations give, else the tag: umoci has tags alone, skopeo whatever it was told."""
    annotations = dict(descriptor.annotations)
    if annotations.get(_NAME):
        return name_of(archive, annotations[_NAME], descriptor.digest), ""
    ref = annotations.get(_REF, "")
    if ":" in ref or "/" in ref:
        return name_of(archive, ref, descriptor.digest), ""
    # A text that is no tag says nothing.
    return "", ref if not ref.replace(".", "").replace("-", "").replace("_", "").strip(_TAG) and len(ref) <= 128 else ""


def _manifests(archive: Archive, raw: dict[str, Any], what: str) -> list[Descriptor]:
    listed = raw.get("manifests")
    if not isinstance(listed, list):
        raise archive.wrong(f"{what} has no manifests")
    return [descriptor_of(archive, one, what) for one in listed]


def _blob(archive: Archive, descriptor: Descriptor, limit: int) -> bytes:
    _check_size(archive, descriptor)
    data = archive.read(_place(descriptor), limit)
    if hashlib.new(descriptor.digest.algorithm, data).hexdigest() != descriptor.digest.hex:
        raise archive.wrong(f"the blob {descriptor.digest} has another digest")
    return data


def _check_size(archive: Archive, descriptor: Descriptor) -> None:
    place = _place(descriptor)
    if place not in archive:
        raise archive.wrong(f"the blob {descriptor.digest} is missing")
    if archive.size(place) != descriptor.size:
        raise archive.wrong(f"the blob {descriptor.digest} has {archive.size(place)} bytes, not {descriptor.size}")


def _place(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"


def _object(archive: Archive, what: str, data: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        raise archive.wrong(f"{what} is no JSON") from None
    if not isinstance(raw, dict):
        raise archive.wrong(f"{what} is no JSON object")
    return raw
