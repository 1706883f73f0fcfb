"""Outputs: from an image in the store, or from images for several platforms, to files of the user."""

from __future__ import annotations

from builder.engine.rendering import flatten, render
from builder.engine.roots import stored
from builder.errors import UsageError
from builder.events import Notice
from builder.export.layout import Rendered, write_oci_layout
from builder.layers.entry import EPOCH, Entry, Item
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import MANIFEST_TYPE, index
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal, Protocol

    from builder.engine.rendering import Blobs
    from builder.engine.roots import BuiltImage, Roots
    from builder.events import Emit
    from builder.layers.forms import Form
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference
    from builder.store.store import Store

    class Push(Protocol):
        def __call__(self, image: Rendered, names: Sequence[Reference], *, with_request: bool) -> int: ...

    HandOver = Callable[[bytes, Blobs, Sequence[Reference], str], int]


class Output(NamedTuple):
    """One `-o`: what to write where (`-`: to standard output)."""

    type: Literal["oci", "docker", "local", "tar", "image", "registry", "engine"]
    dest: str
    """Of `registry` the names, for people; of `engine` its socket, empty where there is none."""
    tar: bool = True
    compression: Form = "gzip"
    names: tuple[Reference, ...] = ()
    with_request: bool = False
    """Of `registry`: what the image says of its build goes there, too."""


class Export:
    """The outputs of one image, or of images for several platforms, which an index joins. `manifest` is the digest of the last
    manifest, or index, that was made."""

    def __init__(
        self,
        images: Sequence[BuiltImage],
        store: Store,
        roots: Roots,
        *,
        threads: int,
        created: str,
        push: Push | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        """`push` takes an image to registries, under the names that it is given; its bytes. `hand_over` gives config, base
        blobs and names to the Docker engine at a socket; the bytes that moved."""
        self._images = images
        self._store = store
        self._roots = roots
        self._threads = threads
        self._created = created
        self._push = push
        self._hand_over = hand_over
        self._last: Rendered | None = None
        self.manifest: Digest | None = None

    def write(self, output: Output) -> int:
        """Write one output; its bytes. Raises UsageError for a destination that cannot be, StoreError for a damaged layer."""
        match output.type:
            case "oci":
                return write_oci_layout(self._rendered(output), output.dest, tar=output.tar)
            case "docker":
                from builder.export.docker_archive import write_docker_archive  # each for those who want it

                return write_docker_archive(self._rendered(output), output.dest, tar=output.tar)
            case "local":
                from builder.export.directory import write_local

                with stored():
                    return write_local(self._files(), output.dest, mtime=None)
            case "tar":
                from builder.export.directory import write_tar

                with stored():
                    return write_tar(self._files(), output.dest, mtime=None)
            case "image":
                # `build` puts every image into the store; compressed blobs are made when one is written or pushed.
                return sum(self._roots.size(image.root) for image in self._images)
            case "registry":
                if self._push is None:
                    raise UsageError("registries are not reached here")
                return self._push(self._rendered(output), output.names, with_request=output.with_request)
            case "engine":
                if self._hand_over is None:
                    raise UsageError("engines are not reached here")
                if len(self._images) > 1:
                    raise UsageError("an engine takes an image for one platform", hint="build for one: --platform")
                return self._hand_over(self._images[0].config, self._images[0].blobs, output.names, output.dest)

    def keep_index(self, names: Sequence[Reference]) -> Digest:
        """Put the index and its images into the store, under these names; its digest. It is the last that an output had, else
        one of gzip layers."""
        from builder.engine.indexes import keep

        rendered = self._last or self._render("gzip")
        keep(rendered, self._images, names, self._store)
        return Digest.of(rendered.manifest)

    def _files(self) -> list[Item]:
        """What ships; of several platforms each in a folder of its own, as with buildx."""
        if len(self._images) == 1:
            return flatten(self._images[0].root, self._roots)
        items = []
        for image in self._images:
            folder = str(image.platform).replace("/", "_").encode()
            items.append(Item(Entry(folder, "dir", 0o755, mtime=EPOCH * 10**9)))
            items += [_below(folder, item) for item in flatten(image.root, self._roots) if item.entry.path]
        return items

    def _rendered(self, output: Output) -> Rendered:
        self._last = self._render(output.compression)
        names = tuple(str(name) for name in output.names)
        return self._last._replace(names=names, created=self._created, request=self._images[0].request)

    def _render(self, form: Form) -> Rendered:
        rendered = [
            render(
                image.config,
                image.root,
                image.blobs,
                form,
                self._store,
                self._roots,
                threads=self._threads,
                annotations=image.annotations,
            )
            for image in self._images
        ]
        found = rendered[0] if len(rendered) == 1 else joined(rendered, [image.platform for image in self._images])
        self.manifest = Digest.of(found.manifest)
        return found


def joined(images: Sequence[Rendered], platforms: Sequence[Platform]) -> Rendered:
    """The index of images for several platforms, ready to be written with them."""
    manifests = [
        Descriptor(MANIFEST_TYPE, Digest.of(image.manifest), len(image.manifest), (), (os, architecture, variant))
        for image, (os, architecture, variant) in zip(images, platforms, strict=True)
    ]
    return Rendered(b"", index(manifests), (), images=tuple(images))


def _below(folder: bytes, item: Item) -> Item:
    entry = item.entry
    link = b"%s/%s" % (folder, entry.link) if entry.kind == "hardlink" else entry.link
    return item._replace(entry=entry._replace(path=b"%s/%s" % (folder, entry.path), link=link))


def handing(store: Store, roots: Roots, emit: Emit) -> HandOver:
    """What gives images to an engine."""

    def take(config: bytes, blobs: Blobs, names: Sequence[Reference], path: str) -> int:
        from builder.engine.handover import hand_over  # for those who have an engine

        return hand_over(config, blobs, names, path, store, roots, emit)

    return take


def no_engine(output: Output) -> Notice:
    """What is said instead where there is none."""
    name = output.names[0].familiar if output.names else "IMAGE"
    take = f"pybuild save {name} | podman load"
    return Notice(f"no Docker engine here: the image is in pybuild's own store; podman takes it by: {take}")
