"""Where the tar of a layer goes while it is made: into the store, and through the compressor that an output will ask for.

What an output needs is then there when the last step ends, and nothing is read again: compression runs beside the making,
on the other processors.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from builder.engine.roots import Items, Root
    from builder.layers.compression import GzipStream
    from builder.layers.tarwriter import LayerSum
    from builder.oci.digest import Digest
    from builder.store.blobs import BlobWriter
    from builder.store.store import Store


class Packing:
    """``with Packing(store, tar=True, gzip=2) as packing: ...; packing.commit(diff_id)``, then `record` once the store knows
    the layer. `tar`: the tar is kept as it is; `gzip`: threads that compress it, 0 for none."""

    def __init__(self, store: Store, *, tar: bool, gzip: int) -> None:
        self._store = store
        self._tar: BlobWriter | None = store.blob_writer("") if tar else None
        self._packed: BlobWriter | None = store.blob_writer() if gzip else None
        self._threads = gzip
        self._gzip: GzipStream | None = None
        self._stack = ExitStack()
        self._rendering: tuple[Digest, Digest, int] | None = None

    def __enter__(self) -> Packing:
        with ExitStack() as stack:
            if self._tar is not None:
                stack.enter_context(self._tar)
            if self._packed is not None:
                from builder.layers.compression import GzipStream  # for those who ask for an output

                stack.enter_context(self._packed)
                self._gzip = GzipStream(self._packed.write, threads=self._threads)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._gzip is not None:
                self._gzip.close()
        finally:
            self._stack.__exit__(kind, error, trace)

    @property
    def write(self) -> Callable[[bytes], object] | None:
        """What takes the tar, piece by piece; None where nobody wants it."""
        return self._write if self._tar is not None or self._gzip is not None else None

    def _write(self, data: bytes) -> None:
        if self._tar is not None:
            self._tar.write(data)
        if self._gzip is not None:
            self._gzip.add(data)

    def commit(self, diff_id: Digest) -> None:
        """All was written, and has this digest."""
        if self._tar is not None and not self._store.has_blob(diff_id):
            self._tar.commit(diff_id)
        if self._gzip is not None and self._packed is not None:
            self._gzip.end()
            self._rendering = (diff_id, *self._packed.commit())

    def record(self) -> None:
        """Say what the compressed blob is a form of."""
        if self._rendering is not None:
            from builder.layers.forms import GZIP_FORM

            diff_id, digest, size = self._rendering
            self._store.put_rendering(diff_id, GZIP_FORM, digest, size)


class Written:
    """``with roots.written(items, use, folder) as layer: layer.write() ... layer.keep(root)``. What is not kept is gone at the
    end."""

    def __init__(self, packing: Packing, write: Callable[[], LayerSum], added: Callable[[Root, LayerSum, Items], Root]) -> None:
        self._packing = packing
        self._write = write
        self._added = added

    def __enter__(self) -> Written:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._packing.__exit__(kind, error, trace)

    def write(self) -> None:
        """To be called once, and first. Raises StoreError where there is no room; what took it is gone then."""
        self._packing.__enter__()
        try:
            self._summary = self._write()
        except BaseException:
            self._packing.__exit__(*sys.exc_info())
            raise

    def keep(self, root: Root, again: Items) -> Root:
        """Put it on `root`; `again` gives its items once more, for one that is to be a folder."""
        self._packing.commit(self._summary.diff_id)
        return self._added(root, self._summary, again)
