"""Cache mounts in a portable cache: the folders that `--cache-to ...,mounts=` names, packed and unpacked.

They are no layers: their files keep their times (to the second), which build tools go by. A folder is packed while nobody
uses it. What is unpacked is hostile until it is checked, and becomes a cache mount of the store only where that has none like
it.
"""

from __future__ import annotations

import hashlib
import os

from builder.cache.format import MOUNT_TYPE, CachedMount
from builder.cache.places import Blob
from builder.engine.cachebases import elsewhere, here
from builder.errors import BuildError, did_you_mean
from builder.events import BuildWarning, Debug
from builder.layers.compression import decompress, zstd_file
from builder.layers.folder import materialise
from builder.layers.index import Tree
from builder.layers.scan import scan
from builder.layers.tarreader import read_tar
from builder.layers.tarwriter import write_layer
from builder.oci.digest import Descriptor, Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.cache.places import Source
    from builder.events import Emit
    from builder.store.store import Store

    Stoppable = Callable[[Callable[[bytes], object]], Callable[[bytes], object]]


def pack(ids: Sequence[str], store: Store, scratch: str, emit: Emit, *, threads: int) -> dict[CachedMount, Blob]:
    """The cache mounts with these ids as blobs, whose files lie in the folder `scratch`. Of several that the store has for the
    same use (`sharing=private`) it is one. Warns of an id that there is none of. Raises BuildError for a file that no archive
    of ours can hold."""
    known = [record for record in store.cache_mounts() if elsewhere(record.base) is not None]
    for id in ids:
        if not any(record.id == id for record in known):
            hint = did_you_mean(id, {record.id for record in known})
            message = f"there is no cache mount '{id}' to write to the cache" + (f" ({hint})" if hint else "")
            emit(BuildWarning("CacheExport", message))
    packed = {}
    for number, (id, base) in enumerate(sorted({(record.id, record.base) for record in known if record.id in ids})):
        use = store.cache_mount(id, base, "locked", f"process {os.getpid()}, which writes it to a cache")
        waits = _Waits(id, emit)
        use.acquire(_leave, waits.tell)
        try:
            blob = _packed(use.path, os.path.join(scratch, f"mount-{number}"), emit, threads)
        except BuildError as error:
            if type(error) is BuildError:
                error.message = f"the cache mount '{id}' cannot be written to a cache: {error.message}"
            raise
        finally:
            use.release()
        packed[CachedMount(id, elsewhere(base) or "")] = blob
    return packed


def unpack(mount: CachedMount, blob: Descriptor, source: Source, store: Store, stoppable: Stoppable, *, limit: int) -> int:
    """Make the cache mount of what `source` has; the bytes that were fetched. Nothing happens where the store has one. It may
    unpack to `limit` bytes. Raises BuildError and ValueError for what is damaged, missing, or not written as `pack` does."""
    base = here(mount.base)
    if any((record.id, record.base) == (mount.id, base) for record in store.cache_mounts()):
        return 0
    with store.scratch() as scratch:
        packed, tar = os.path.join(scratch, "packed"), os.path.join(scratch, "mount.tar")
        with open(packed, "ab") as file:
            source.copy(blob, stoppable(file.write), lambda: file.truncate(0))
        with open(tar, "wb") as file:
            decompress(packed, stoppable(file.write), limit=limit, name=mount.id)
        items = list(read_tar(tar, whiteouts=False, name=mount.id))
        # What has another order, or names twice, is none of ours: the writer refuses it.
        write_layer(items, None, mtime=None)
        # `private` waits for nobody: where another made one meanwhile, and uses it, there are two.
        use = store.cache_mount(mount.id, base, "private", f"process {os.getpid()}, which takes it from a cache")
        use.acquire(lambda folder: materialise(items, folder, Tree()))
        use.release()
    return blob.size


def _packed(folder: str, path: str, emit: Emit, threads: int) -> Blob:
    def tell(message: str) -> None:
        emit(Debug(f"a cache mount in the cache: {message}"))

    items = scan(folder, owners="ours", warn=tell)
    tar = f"{path}.tar"
    with open(tar, "wb") as file:
        write_layer(items, file.write, mtime=None)
    with open(path, "wb") as file:
        zstd_file(tar, file.write, threads=threads)
    os.unlink(tar)
    digest, size = _digest(path)
    return Blob(Descriptor(MOUNT_TYPE, digest, size), path=path)


def _digest(path: str) -> tuple[Digest, int]:
    with open(path, "rb") as file:
        return Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest()), os.fstat(file.fileno()).st_size


def _leave(_folder: str) -> None:
    """A mount whose folder just vanished is empty."""


class _Waits:
    """Says once who has a cache mount."""

    def __init__(self, id: str, emit: Emit) -> None:
        self._id = id
        self._emit = emit
        self._told = False

    def tell(self, holder: str) -> None:
        if not self._told:
            self._told = True
            self._emit(Debug(f"waiting for the cache mount '{self._id}', which {holder or 'others'} has"))
