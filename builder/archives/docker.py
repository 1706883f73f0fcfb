"""Docker's archives: `manifest.json` lists images, with the members that hold config and layers (moby image/spec/v1.2.md).

Docker, podman, skopeo and Buildah write layers uncompressed; kaniko, jib, ko and Bazel's rules compressed. Docker until 24 has
a folder for each layer, and a symlink where two are the same. And skopeo's `dir:`, which podman calls docker-dir.
"""

from __future__ import annotations

from builder.archives.found import (
    CONFIG_LIMIT,
    LIST_LIMIT,
    MANIFEST_LIMIT,
    MOST_LAYERS,
    Found,
    descriptor_of,
    name_of,
    read_image,
)
from builder.layers.decompression import sniff
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import LAYER_TYPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from builder.archives.archive import Archive

_HEX = "0123456789abcdef"


def docker_images(archive: Archive) -> list[Found]:
    """Raises UsageError."""
    listed = archive.json("manifest.json", LIST_LIMIT)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise archive.wrong("its 'manifest.json' is no list of images")
    if not listed:
        raise archive.wrong("it has no image")
    digests: dict[str, Digest] = {}
    return [_image(archive, one, digests) for one in listed]


def _image(archive: Archive, listed: dict[str, Any], digests: dict[str, Digest]) -> Found:
    place, layers, tags = listed.get("Config"), listed.get("Layers") or [], listed.get("RepoTags") or []
    if not isinstance(place, str) or not (isinstance(layers, list) and isinstance(tags, list)):
        raise archive.wrong("its 'manifest.json' names no config, or no layers")
    place = _plain(place)
    config = archive.read(place, CONFIG_LIMIT)
    stem = place.rpartition("/")[2].removesuffix(".json").removeprefix("sha256:")
    if len(stem) == 64 and not stem.strip(_HEX) and Digest.of(config).hex != stem:
        raise archive.wrong(f"the config '{place}' has another digest than its name says")
    diff_ids = read_image(archive, config, f"the config '{place}'").diff_ids
    if len(layers) != len(diff_ids) or not all(isinstance(layer, str) for layer in layers):
        raise archive.wrong(f"it lists {len(layers)} layers of '{place}', whose config has {len(diff_ids)}")
    blobs = []
    places = {}
    for name, diff_id in zip(map(_plain, layers), diff_ids, strict=True):
        blob = _layer(archive, name, diff_id, digests)
        blobs.append(blob)
        places[blob.digest] = name
    names = dict.fromkeys(name_of(archive, tag) for tag in tags)
    return Found(config, tuple(blobs), places, tuple(names), packs=True)


def _layer(archive: Archive, name: str, diff_id: Digest, digests: dict[str, Digest]) -> Descriptor:
    """A plain layer's digest is its diff ID; that of another has to be found out."""
    form = sniff(archive.head(name))
    if not form:
        return Descriptor(LAYER_TYPE, diff_id, archive.size(name))
    if name not in digests:
        digests[name] = archive.digest(name)
    return Descriptor(f"{LAYER_TYPE}+{form}", digests[name], archive.size(name))


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def directory_image(archive: Archive) -> list[Found]:
    """The one image of a `dir:`: its manifest, and blobs by the digits of their digests. Raises UsageError."""
    data = archive.read("manifest.json", MANIFEST_LIMIT)
    manifest = archive.json("manifest.json", MANIFEST_LIMIT)
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        raise archive.wrong("its 'manifest.json' is no manifest of an image", "an index of several platforms is not read here")
    config = descriptor_of(archive, manifest.get("config"), "the config")
    blobs = tuple(descriptor_of(archive, layer, "a layer") for layer in layers)
    content = archive.read(config.digest.hex, CONFIG_LIMIT)
    if Digest.of(content) != config.digest:
        raise archive.wrong("the config has another digest than its manifest says")
    return [Found(content, blobs, {blob.digest: blob.digest.hex for blob in blobs}, manifest=data)]
