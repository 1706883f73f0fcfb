"""Where the tar of a layer goes while it is made: into the store, and through the compressors that outputs will ask for.

What an output needs is then there when the last step ends, and nothing is read again: compression runs beside the making,
on the other processors.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from builder.engine.roots import Items, Root
    from builder.layers.compression import Stream
    from builder.layers.forms import Form
    from builder.layers.tarwriter import LayerSum
    from builder.oci.digest import Digest
    from builder.store.blobs import BlobWriter
    from builder.store.store import Store


class Packing:
    """``with Packing(store, tar=True, forms=["gzip"], threads=2, size=size) as packing: ...; packing.commit(diff_id)``, then
    `record` once the store knows the layer. `tar`: the tar is kept as it is; `forms`: what it is compressed to, each by so many
    threads; `size` gives the tar's bytes, for forms that begin with them."""

    def __init__(self, store: Store, *, tar: bool, forms: Collection[Form], threads: int, size: Callable[[], int]) -> None:
        self._store = store
        self._tar: BlobWriter | None = store.blob_writer("") if tar else None
        self._forms = forms
        self._threads = threads
        self._size = size
        self._streams: dict[Form, tuple[Stream, BlobWriter]] = {}
        self._stack = ExitStack()
        self._renderings: list[tuple[Form, Digest, Digest, int]] = []

    def __enter__(self) -> Packing:
        with ExitStack() as stack:
            if self._tar is not None:
                stack.enter_context(self._tar)
            for form in sorted(self._forms):
                writer = stack.enter_context(self._store.blob_writer())
                stream = self._stream(form, writer.write)
                stack.callback(stream.close)
                self._streams[form] = stream, writer
            self._stack = stack.pop_all()
        return self

    def _stream(self, form: Form, write: Callable[[bytes], object]) -> Stream:
        from builder.layers.compression import GzipStream, ZstdStream  # for those who ask for an output

        threads = self._threads
        return GzipStream(write, threads=threads) if form == "gzip" else ZstdStream(write, size=self._size(), threads=threads)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def write(self) -> Callable[[bytes], object] | None:
        """What takes the tar, piece by piece; None where nobody wants it."""
        return self._write if self._tar is not None or self._streams else None

    def _write(self, data: bytes) -> None:
        if self._tar is not None:
            self._tar.write(data)
        for stream, _ in self._streams.values():
            stream.add(data)

    def commit(self, diff_id: Digest) -> None:
        """All was written, and has this digest."""
        if self._tar is not None and not self._store.has_blob(diff_id):
            self._tar.commit(diff_id)
        for form, (stream, writer) in self._streams.items():
            stream.end()
            # What it holds goes now, and not with the step.
            stream.close()
            self._renderings.append((form, diff_id, *writer.commit()))

    def record(self) -> None:
        """Say what the compressed blobs are forms of."""
        from builder.layers.forms import NAMES

        for form, diff_id, digest, size in self._renderings:
            self._store.put_rendering(diff_id, NAMES[form], digest, size)


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
