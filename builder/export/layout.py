"""An image as an OCI image layout, tar or folder (OCI image-spec image-layout.md), with the annotations that buildx writes."""

from __future__ import annotations

import os

from builder import canonical
from builder.errors import BuildError, StoreError, UsageError
from builder.export.destination import Destination
from builder.layers import tarwriter
from builder.layers.entry import BytesSource, Entry, FileSource, Item
from builder.layers.order import sort_items
from builder.oci.digest import Digest
from builder.oci.image import INDEX_TYPE, MANIFEST_TYPE, REQUEST_ANNOTATION
from builder.oci.reference import Reference
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from builder.layers.entry import Source
    from builder.oci.digest import Descriptor

    Files = Mapping[str, tuple[Digest | None, int, Source]]
    """By path: the digest where it is known, size and content."""

NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"
CREATED_ANNOTATION = "org.opencontainers.image.created"

_INDEX_LIMIT = 4 << 20


class Rendered(NamedTuple):
    """An image ready to be written: its blobs, and what it is called."""

    config: bytes
    manifest: bytes
    layers: tuple[tuple[Descriptor, str], ...]
    """Each layer's descriptor, as in the manifest, and the file of the host that holds its blob; bottom first."""
    names: tuple[str, ...] = ()
    """Normalised: `docker.io/library/name:tag`."""
    created: str = ""
    """RFC 3339; an annotation of the index where it is not empty."""
    request: str = ""
    """What it says of its build; an annotation of the index where it is not empty."""
    images: tuple[Rendered, ...] = ()
    """Those that it names where it is an index: `manifest` is the index then, and there is neither config nor layer."""

    @property
    def all(self) -> tuple[Rendered, ...]:
        """What has blobs: the image itself, or the images of an index before it."""
        return (*(each for image in self.images for each in image.all), self)


def write_oci_layout(image: Rendered, dest: str, *, tar: bool = True, stdout: int = 1) -> int:
    """Write an image layout to the file `dest` (`-`: to `stdout`), or into the folder `dest` for `tar=False`; its bytes.

    A folder that holds a layout already keeps its other images. Raises UsageError for a destination that cannot be
    written so, StoreError where a blob is damaged.
    """
    return write_oci_layouts((image,), dest, tar=tar, stdout=stdout)


def write_oci_layouts(images: Sequence[Rendered], dest: str, *, tar: bool = True, stdout: int = 1) -> int:
    """The same with several images in one layout."""
    if tar:
        return write_archive(layout_files(images, []), images, dest, stdout=stdout)
    return write_files(layout_files(images, _others(images, dest)), images, dest)


def write_files(files: Files, images: Sequence[Rendered], dest: str) -> int:
    """Write files into a folder; their bytes. Raises as `write_oci_layout`."""
    try:
        from builder.export.directory import write_local  # for those who want no archive

        return write_local(_items(files), dest)
    except BuildError as error:
        raise _diagnosed(error, images) from error


def write_archive(files: Files, images: Sequence[Rendered], dest: str, *, stdout: int) -> int:
    """Write files as a canonical tar; its bytes. Raises as `write_oci_layout`."""
    with Destination(dest, stdout=stdout) as out:
        write_tar_of(files, images, out.write)
    return out.size


def write_tar_of(files: Files, images: Sequence[Rendered], write: Callable[[bytes], object]) -> None:
    """The same to whatever takes it."""
    try:
        tarwriter.write_archive(_items(files), write)
    except BuildError as error:
        raise _diagnosed(error, images) from error


def layout_files(images: Sequence[Rendered], others: list[dict[str, Any]]) -> dict[str, tuple[Digest | None, int, Source]]:
    """The files of the layout: path -> known digest, size and content. `others` are further descriptors of the index."""
    descriptors = [descriptor for image in images for descriptor in _descriptors(image)]
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*others, *descriptors]}
    files: dict[str, tuple[Digest | None, int, Source]] = {}
    every = [each for image in images for each in image.all]
    for data in (data for each in every for data in (each.config, each.manifest) if data):
        digest = Digest.of(data)
        files[blob_path(digest)] = (digest, len(data), BytesSource(data))
    for descriptor, path in (layer for each in every for layer in each.layers):
        files[blob_path(descriptor.digest)] = (descriptor.digest, descriptor.size, file_at(path))
    for name, data in (("index.json", to_json(index)), ("oci-layout", to_json({"imageLayoutVersion": "1.0.0"}))):
        files[name] = (None, len(data), BytesSource(data))
    return files


def file_at(path: str) -> FileSource:
    folder, name = os.path.split(os.path.abspath(path))
    return FileSource(folder, os.fsencode(name))


def blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def to_json(value: object) -> bytes:
    """The same bytes for the same value."""
    return canonical.dumps(value, ascii_only=False).encode()


def _descriptors(image: Rendered) -> list[dict[str, Any]]:
    """The index's descriptors of the image: one for each name, one for an image without."""
    manifest = canonical.loads(image.manifest.decode())
    base = {
        "mediaType": manifest.get("mediaType") or MANIFEST_TYPE,
        "digest": str(Digest.of(image.manifest)),
        "size": len(image.manifest),
    }
    annotations = {CREATED_ANNOTATION: image.created} if image.created else {}
    if image.request:
        annotations[REQUEST_ANNOTATION] = image.request
    named = [
        # OCI's reference name is the tag alone; containerd's annotation has the whole name.
        {**annotations, NAME_ANNOTATION: name, REF_ANNOTATION: Reference.parse(name).tag}
        for name in dict.fromkeys(image.names)
    ]
    return [{**base, "annotations": each} if each else base for each in named or [annotations]]


def _items(files: Mapping[str, tuple[Digest | None, int, Source]]) -> list[Item]:
    folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
    items = [Item(Entry(folder.encode(), "dir", 0o755)) for folder in folders]
    for name, (digest, size, source) in files.items():
        known = digest.hex if digest is not None and digest.algorithm == "sha256" else ""
        mode = 0o444 if digest is not None else 0o644
        items.append(Item(Entry(name.encode(), "file", mode, size=size, digest=known), source))
    return sort_items(items)


def _others(images: Sequence[Rendered], dest: str) -> list[dict[str, Any]]:
    """The descriptors of other images in the layout at `dest`; none where there is no layout yet."""
    try:
        if not os.path.lexists(os.path.join(dest, "oci-layout")):
            if os.listdir(dest):
                raise UsageError(f"the folder '{dest}' is not empty and no OCI layout", hint="choose a new or empty folder")
            return []
        fd = os.open(os.path.join(dest, "index.json"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        # `write_local` says what is wrong with a destination that is no folder.
        return []
    with open(fd, "rb") as file:
        text = file.read(_INDEX_LIMIT + 1)
    try:
        found = canonical.loads(text.decode())["manifests"]
        if len(text) > _INDEX_LIMIT or not all(isinstance(one, dict) for one in found):
            raise TypeError
        return [one for one in found if not any(_is_replaced(one, image) for image in images)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError(
            f"the index.json of the OCI layout '{dest}' is damaged", hint="choose another folder, or remove this one"
        ) from None


def _is_replaced(descriptor: Mapping[str, Any], image: Rendered) -> bool:
    annotations = descriptor.get("annotations") or {}
    name = annotations.get(NAME_ANNOTATION)
    if name is not None:
        return name in image.names
    # Without a full name (umoci's and skopeo's layouts) the tag is all that there is.
    tag = annotations.get(REF_ANNOTATION)
    if tag is not None:
        return tag in {Reference.parse(each).tag for each in image.names}
    return bool(descriptor.get("digest") == str(Digest.of(image.manifest)))


def _diagnosed(error: BuildError, images: Sequence[Rendered]) -> BuildError:
    """The same error, or what is behind it: a blob of the store whose content is not its digest's."""
    for descriptor, path in (layer for image in images for each in image.all for layer in each.layers):
        try:
            import hashlib  # for what went wrong

            with open(path, "rb") as file:
                damaged = hashlib.file_digest(file, descriptor.digest.algorithm).hexdigest() != descriptor.digest.hex
        except OSError:
            # The error says already that it cannot be read.
            continue
        if damaged:
            return StoreError(
                f"blob {descriptor.digest} is corrupt: its content does not have this digest",
                hint=f"remove {path}, then build, import or pull the image that needs it again",
            )
    return error
