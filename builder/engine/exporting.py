"""Outputs: from an image in the store to files of the user."""

from __future__ import annotations

from builder.engine.rendering import flatten, render
from builder.engine.roots import stored
from builder.errors import UsageError
from builder.events import Notice
from builder.export.directory import write_local, write_tar
from builder.export.docker_archive import write_docker_archive
from builder.export.layout import write_oci_layout
from builder.oci.digest import Digest
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from builder.engine.rendering import Blobs, Form
    from builder.engine.roots import Root, Roots
    from builder.events import Emit
    from builder.export.layout import Rendered
    from builder.oci.reference import Reference
    from builder.store.store import Store

    Push = Callable[[Rendered, Sequence[Reference]], int]
    HandOver = Callable[[bytes, Blobs, Sequence[Reference], str], int]


class Output(NamedTuple):
    """One `-o`: what to write where (`-`: to standard output)."""

    type: Literal["oci", "docker", "local", "tar", "image", "registry", "engine"]
    dest: str
    """Of `registry` the names, for people; of `engine` its socket, empty where there is none."""
    tar: bool = True
    compression: Form = "gzip"
    names: tuple[Reference, ...] = ()


class Export:
    """The outputs of one image. `manifest` is the digest of the last manifest that was made."""

    def __init__(
        self,
        config: bytes,
        root: Root,
        blobs: Blobs,
        store: Store,
        roots: Roots,
        *,
        threads: int,
        created: str,
        push: Push | None = None,
        hand_over: HandOver | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """`push` takes an image to registries, under the names that it is given; its bytes. `hand_over` gives config, base
        blobs and names to the Docker engine at a socket; the bytes that moved. `annotations` are the manifest's."""
        self._config = config
        self._blobs = blobs
        self._root = root
        self._store = store
        self._roots = roots
        self._threads = threads
        self._created = created
        self._push = push
        self._hand_over = hand_over
        self._annotations = annotations
        self.manifest: Digest | None = None

    def write(self, output: Output) -> int:
        """Write one output; its bytes. Raises UsageError for a destination that cannot be, StoreError for a damaged layer."""
        match output.type:
            case "oci":
                return write_oci_layout(self._rendered(output), output.dest, tar=output.tar)
            case "docker":
                return write_docker_archive(self._rendered(output), output.dest, tar=output.tar)
            case "local":
                with stored():
                    return write_local(flatten(self._root, self._roots), output.dest, mtime=None)
            case "tar":
                with stored():
                    return write_tar(flatten(self._root, self._roots), output.dest, mtime=None)
            case "image":
                # `build` puts every image into the store; compressed blobs are made when one is written or pushed.
                return self._roots.size(self._root)
            case "registry":
                if self._push is None:
                    raise UsageError("registries are not reached here")
                return self._push(self._rendered(output), output.names)
            case "engine":
                if self._hand_over is None:
                    raise UsageError("engines are not reached here")
                return self._hand_over(self._config, self._blobs, output.names, output.dest)

    def _rendered(self, output: Output) -> Rendered:
        rendered = render(
            self._config,
            self._root,
            self._blobs,
            output.compression,
            self._store,
            self._roots,
            threads=self._threads,
            annotations=self._annotations,
        )
        self.manifest = Digest.of(rendered.manifest)
        return rendered._replace(names=tuple(str(name) for name in output.names), created=self._created)


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
