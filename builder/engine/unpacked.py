"""The tars of layers, made of their blobs: compared with the diff IDs that the config says, beside the download of others."""

from __future__ import annotations

import hashlib
import os
import threading

from builder.cancellation import NEVER
from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from builder.cancellation import Cancellation
    from builder.oci.digest import Descriptor, Digest
    from builder.store.store import Store

# A layer that grows by more is made to fill the disk: what people pack seldom shrinks to a tenth. Zeros shrink to a thousandth,
# hence the allowance for a large empty file.
GROWS, RATIO = 4 << 30, 100
_AHEAD = 3
"""Tars that wait at once to be unpacked into folders: they take room that blobs do not."""
# No wait is longer: a Ctrl-C that comes just before it begins is not lost.
_POLL = 0.2
_PATIENCE = 1.0


def make_tar(descriptor: Descriptor, diff_id: Digest, store: Store, path: str, stop: Cancellation = NEVER) -> None:
    """Write what the layer's blob in the store holds, decompressed, to the file `path`. Raises as `unpack_blob`."""
    unpack_blob(store.blob_path(descriptor.digest), descriptor, diff_id, path, stop)


def unpack_blob(blob: str, descriptor: Descriptor, diff_id: Digest, path: str, stop: Cancellation = NEVER) -> None:
    """The same of a blob that lies anywhere. Raises UsageError when its content is not `diff_id`, and BuildError for a damaged
    one."""
    from builder.layers.decompression import decompress

    digest = hashlib.new(diff_id.algorithm)
    with open(path, "wb") as file:

        def write(data: bytes) -> None:
            stop.check()
            digest.update(data)
            file.write(data)

        limit = GROWS + RATIO * descriptor.size
        decompress(blob, write, limit=limit, name=str(descriptor.digest))
    if digest.hexdigest() != diff_id.hex:
        raise UsageError(
            f"the layer {descriptor.digest} is not what the image's config says: {diff_id}",
            hint="the image is damaged or hostile: fetch or make it again",
        )


class Unpacked:
    """``with Unpacked(...) as tars: tars.take(descriptor, diff_id)``: makes the tars of `layers`, in their order, on a thread
    that ends with the one that takes them. `ready` waits for a layer's blob; what it raises, and what is wrong with a layer, is
    raised by `take`."""

    def __init__(
        self,
        layers: Sequence[tuple[Descriptor, Digest]],
        ready: Callable[[Descriptor], object],
        store: Store,
        scratch: str,
        stop: Cancellation,
    ) -> None:
        self._layers = list(layers)
        self._ready = ready
        self._store = store
        self._scratch = scratch
        self._stop = stop
        self._changed = threading.Condition()
        self._tars: dict[int, str] = {}
        self._made = self._taken = 0
        """How many of the layers have been made, or passed over, and taken."""
        self._failed: BaseException | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Unpacked:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        if kind is not None:
            self._stop.cancel()
        self._thread.join(_PATIENCE)

    def take(self, descriptor: Descriptor, diff_id: Digest) -> str:
        """The tar, which is the caller's now; empty where it was taken before."""
        try:
            number = self._layers.index((descriptor, diff_id), self._taken)
        except ValueError:
            return ""
        with self._changed:
            # What is passed over came from another process meanwhile: its tar goes with the scratch folder.
            self._taken = number
            self._changed.notify_all()
            while number >= self._made:
                if self._failed is not None:
                    raise self._failed
                self._changed.wait(_POLL)
            self._taken = number + 1
            self._changed.notify_all()
            return self._tars.pop(number)

    def _run(self) -> None:
        try:
            for number, (descriptor, diff_id) in enumerate(self._layers):
                with self._changed:
                    while number - self._taken >= _AHEAD and not self._over:
                        self._changed.wait(_POLL)
                    if self._over:
                        return
                self._ready(descriptor)
                path = os.path.join(self._scratch, str(number))
                make_tar(descriptor, diff_id, self._store, path, self._stop)
                with self._changed:
                    self._tars[number] = path
                    self._made = number + 1
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits
            with self._changed:
                self._failed = error
                self._changed.notify_all()
