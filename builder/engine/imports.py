"""Results of steps that other stores had: what `--cache-from` names is asked when the store does not know a key.

Nothing is fetched that no step needs. What comes is hostile: a blob must be its digest's, its tar the diff ID's, and the
layer one that our writer would make of the same entries, in a place where they fit. What is wrong is told once, as a
warning, and the step is done as if there were no cache. Usable from several threads.
"""

from __future__ import annotations

import hashlib
import os
from _thread import allocate_lock, start_new_thread

from builder import canonical
from builder.cache import inline
from builder.cache.format import CONFIG_LIMIT, parse_config, parse_manifest
from builder.cache.places import Lost
from builder.engine import foreign
from builder.errors import BuildError, Interrupted, StoreError
from builder.events import BuildWarning, CacheImported
from builder.layers.compression import decompress
from builder.layers.index import load_index
from builder.layers.names import show
from builder.layers.tarreader import read_tar
from builder.layers.tarwriter import write_layer
from builder.oci.digest import Digest
from builder.plan import keys
from builder.store.store import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from builder.cache.format import Cache, CachedMount
    from builder.cache.places import Source
    from builder.cancellation import Cancellation
    from builder.engine.roots import Root, Roots
    from builder.events import Emit
    from builder.layers.entry import Entry
    from builder.layers.index import Tree
    from builder.oci.digest import Descriptor
    from builder.plan.steps import RunStep
    from builder.store.store import Store

_POLL = 0.2
"""Seconds after which those who wait look whether they still should."""
_LONGEST = 1000
"""Characters of a reason, which may be made of what a cache says."""
_GROWS, _RATIO = 4 << 30, 100
"""A layer may unpack to so many bytes, and so many times its size, as one of an image may."""


class Imports:
    """The caches of one build, asked in the order of the command line."""

    def __init__(
        self, sources: Iterable[tuple[str, Source]], store: Store, roots: Roots, emit: Emit, stop: Cancellation
    ) -> None:
        """`sources` with what messages call them. Close it."""
        self._store = store
        self._roots = roots
        self._emit = emit
        self._stop = stop
        self._caches = [_Opened(name, source, emit, stop) for name, source in sources]

    def warm(self) -> None:
        """Read in the background what the caches know: to ask a registry takes a while, in which the Dockerfile is parsed."""
        for cache in self._caches:
            cache.begin()

    def close(self) -> None:
        for cache in self._caches:
            cache.source.close()

    def find(self, key: keys.Key, root: Root) -> tuple[Record, str] | None:
        """The record of a key, now in the store with its layer, and the name of the cache that had it; None where none has.
        `root` is what the layer will lie on. Raises StoreError, Interrupted, and OSError for the store's disk."""
        for cache in self._caches:
            found = cache.ask(key.hex)
            if found is None:
                continue
            diff_id, blob = found
            try:
                size = 0 if diff_id is None or blob is None else self._take(cache.source, diff_id, blob, key, root)
            except (StoreError, Interrupted):
                raise
            except (BuildError, ValueError) as error:
                cache.refuse(diff_id, error, f"layer {diff_id}")
                continue
            cache.fetched(size, steps=1)
            return self._store.put_record(Record(key.hex, key.preimage, diff_id)), f"cache {cache.name}"
        return None

    def bring_mounts(self, step: RunStep) -> None:
        """See to it that the store has the cache mounts of a step that is about to run, where a cache has some. Raises as
        `find`."""
        from builder.plan.mounts import CacheMount

        ids = {mount.id for mount in step.mounts if isinstance(mount, CacheMount)}
        for cache in self._caches if ids else ():
            for mount, blob in cache.mounts(ids):
                from builder.engine.packedmounts import unpack

                try:
                    cache.fetched(unpack(mount, blob, cache.source, self._store, self._stoppable, limit=limit(blob.size)))
                except (StoreError, Interrupted):
                    raise
                except (BuildError, ValueError) as error:
                    cache.refuse(blob.digest, error, f"cache mount '{mount.id}'")

    def tell(self) -> None:
        """Say what came from each cache."""
        for cache in self._caches:
            self._emit(CacheImported(f"cache {cache.name}", cache.steps, cache.size))

    def _take(self, source: Source, diff_id: Digest, blob: Descriptor, key: keys.Key, root: Root) -> int:
        """See to it that the store has the layer; the bytes that were fetched. Raises BuildError and ValueError for one that
        cannot be the result of this step."""
        below = self._roots.tree(root)
        chain = root.on_top(diff_id).layers[-1].chain
        if self._store.has_layer(diff_id) and (
            self._store.has_tar(diff_id) or self._store.find_snapshot(diff_id, chain) is not None
        ):
            _check_place(load_index(self._store.layer_index(diff_id)), key, below)
            return 0
        with self._store.scratch() as scratch:
            packed, tar = os.path.join(scratch, "packed"), os.path.join(scratch, "layer.tar")
            with open(packed, "ab") as file:
                source.copy(blob, self._stoppable(file.write), lambda: file.truncate(0))
            with open(tar, "wb") as file:
                digest = _unpacked(packed, self._stoppable(file.write), str(diff_id), limit(blob.size))
            os.unlink(packed)
            if digest != diff_id:
                raise BuildError("its content does not have this diff ID")
            with self._store.blob_writer() as writer:
                items = read_tar(tar, whiteouts=True, name=str(diff_id))
                summary = write_layer(items, self._stoppable(writer.write))
                if summary.diff_id != diff_id:
                    raise BuildError("it is not written as pybuild writes layers")
                _check_place(list(summary.entries), key, below)
                writer.commit(diff_id)
        self._store.put_layer(diff_id, summary.entries.dump(), summary.entries.size)
        return blob.size

    def _stoppable(self, write: Callable[[bytes], object]) -> Callable[[bytes], object]:
        def checked(data: bytes) -> None:
            self._stop.check()
            write(data)

        return checked


class _Opened:
    """One cache: read when it is first asked, or before, and not at all in a build whose steps the store knows."""

    def __init__(self, name: str, source: Source, emit: Emit, stop: Cancellation) -> None:
        self.name = name
        self.source = source
        self.steps = self.size = 0
        self._emit = emit
        self._stop = stop
        self._lock = allocate_lock()
        self._begun = False
        self._unread = allocate_lock()
        """Held until it was read."""
        self._unread.acquire()
        self._failed: Exception | None = None
        """Why it was not; to be told when it is asked."""
        self._cache: Cache | None = None
        self._refused: set[Digest | None] = set()

    def begin(self) -> None:
        """Read it on a thread of its own: a network may be silent for long, and Ctrl-C is heard by those who wait here."""
        with self._lock:
            if not self._begun:
                self._begun = True
                self.source.warm()
                start_new_thread(self._read, ())

    def _read(self) -> None:
        try:
            self._cache = _load(self.source)
        except Exception as error:  # noqa: BLE001  it is raised, or told, where somebody waits
            self._failed = error
        finally:
            self._unread.release()

    def ask(self, key: str) -> tuple[Digest | None, Descriptor | None] | None:
        """The diff ID of a step and the blob of its layer; None for a step that it does not know. Raises Interrupted."""
        self._wait()
        with self._lock:
            cache = self._opened()
            step = cache.steps.get(key) if cache is not None else None
            if cache is None or step is None or step.diff_id in self._refused:
                return None
            return step.diff_id, None if step.diff_id is None else cache.layers[step.diff_id]

    def mounts(self, ids: set[str]) -> list[tuple[CachedMount, Descriptor]]:
        """The cache mounts that it has of these, and their blobs. Raises Interrupted."""
        self._wait()
        with self._lock:
            cache = self._opened()
            found = cache.mounts.items() if cache is not None else ()
            return [(mount, blob) for mount, blob in found if mount.id in ids and blob.digest not in self._refused]

    def refuse(self, digest: Digest | None, error: BuildError | ValueError, what: str) -> None:
        """Never ask for this layer or mount again, and say why."""
        with self._lock:
            if digest not in self._refused:
                self._refused.add(digest)
                reason = error.message if isinstance(error, BuildError) else str(error)
                if isinstance(error, Lost):
                    if self._cache is None:
                        return  # Another thread was first.
                    self._cache = None
                self._warn(f"{what}: {reason}")

    def fetched(self, size: int, *, steps: int = 0) -> None:
        with self._lock:
            self.steps += steps
            self.size += size

    def _wait(self) -> None:
        self.begin()
        while not self._unread.acquire(timeout=_POLL):
            self._stop.check()
        self._unread.release()

    def _opened(self) -> Cache | None:
        """What was read; that it could not be is told once."""
        failed, self._failed = self._failed, None
        if isinstance(failed, BuildError) and not isinstance(failed, Interrupted):
            self._warn(failed.message)
        elif failed is not None:
            raise failed
        return self._cache

    def _warn(self, reason: str) -> None:
        reason = self.source.masked(reason)
        if len(reason) > _LONGEST:
            reason = reason[:_LONGEST] + "…"
        self._emit(BuildWarning("CacheImport", f"the cache {self.name} is not used: {reason}"))


def limit(packed: int) -> int:
    """Bytes that a blob of so many may unpack to."""
    return _GROWS + _RATIO * packed


def _load(source: Source) -> Cache:
    found = source.manifests()
    # Of an index's images some may have none inside.
    images = [image for data in found if (image := inline.parse_manifest(data)) is not None]
    if images:
        return inline.joined([inline.parse(image, source.read(image.config, foreign.CONFIG_LIMIT)) for image in images])
    manifest = parse_manifest(found[0])
    return parse_config(source.read(manifest.config, CONFIG_LIMIT), manifest, keys.hex_of)


def _unpacked(packed: str, write: Callable[[bytes], object], name: str, limit: int) -> Digest:
    """Write what the file holds once decompressed; the digest of that."""
    digest = hashlib.sha256()

    def both(data: bytes) -> None:
        digest.update(data)
        write(data)

    decompress(packed, both, limit=limit, name=name)
    return Digest("sha256", digest.hexdigest())


def _check_place(entries: Sequence[Entry], key: keys.Key, below: Tree) -> None:
    """Raise BuildError for a layer that cannot lie where the step would put it: an entry in what is no folder. A copy onto
    nothing (`--link`) is put on any base, and has all its folders itself."""
    body = canonical.loads(key.preimage.decode())
    alone = body["op"] == "copy" and body["root"] is None
    own = {entry.path: entry.kind for entry in entries if entry.kind != "whiteout"}
    for entry in entries:
        folder = entry.path.rpartition(b"/")[0]
        while folder:
            kind: str | None = own.get(folder)
            if kind is None and not alone:
                lower = below.lookup(folder)
                if lower is None:
                    folder = folder.rpartition(b"/")[0]
                    continue
                kind = lower.kind
            if kind != "dir":
                raise BuildError(f"'{show(entry.path)}' lies in what is no folder")
            break
