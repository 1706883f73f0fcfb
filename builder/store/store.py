"""The store, as one object: every other part of the builder reaches the disk's state through it (SPEC section 6)."""

from __future__ import annotations

import os

from builder.oci.digest import Digest
from builder.store import layout
from builder.store.ahead import Ahead
from builder.store.blobs import Blobs, BlobWriter
from builder.store.database import Database
from builder.store.durability import Durability, current_boot_id
from builder.store.faults import Faults
from builder.store.hints import FileHints
from builder.store.images import ImageRecord, Images, Member, best
from builder.store.layers import Layers
from builder.store.lease import Lease, Scratch, sweep
from builder.store.locks import Locks
from builder.store.records import Record, Records
from builder.store.uses import Uses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from types import TracebackType

    from builder.errors import StoreError
    from builder.oci.digest import Descriptor
    from builder.oci.platform import Platform
    from builder.store.builds import Build, Builds
    from builder.store.cachemounts import CacheMountRecord, CacheMounts, CacheMountUse, Sharing
    from builder.store.collect import Housekeeping
    from builder.store.failed import FailedStep, FailedSteps
    from builder.store.fetched import Checkout, Download, FetchedThings
    from builder.store.indexfile import IndexFile
    from builder.store.locks import Lock
    from builder.store.verify import Report

__all__ = ["BlobWriter", "ImageRecord", "Member", "Record", "Scratch", "Store"]


class Store:
    """Opens the store at `root`, making it where there is none. Usable from several threads, and by several processes.

    Raises StoreError for a store that is newer, corrupt, another user's or not writable; every method may raise it for a
    full disk or a corrupt database. `boot_id` is the kernel's unless given.
    """

    def __init__(self, root: str, *, boot_id: str | None = None) -> None:
        self.root = os.path.abspath(root)
        faults = Faults(self.root)
        layout.prepare(self.root, faults)
        tmp = os.path.join(self.root, "tmp")
        self._lease = Lease(tmp, faults)
        self._locks = Locks(self.root, faults)
        self._database = Database(os.path.join(self.root, "db.sqlite"), faults)
        self._uses = Uses(self._lease, self._database)
        try:
            boot = boot_id or current_boot_id()
            self._durability = Durability(self.root, self._database, boot)
            with faults:
                if sweep(tmp) or not self._durability.recovered():
                    self._durability.recover(self._lease)
                    self._locks.sweep()
        except BaseException:
            self.close()
            raise
        self._blobs = Blobs(self.root, self._lease, faults, self._uses)
        self._ahead = Ahead(self._database, self._uses)
        self._layers = Layers(self.root, self._database, self._blobs, self._durability, self._lease, self._uses, self._ahead)
        self._records = Records(self._database, self._layers, self._durability, self._uses, self._ahead)
        self._images = Images(self._database)
        self.hints = FileHints(self._database, boot)
        """What was read of the files of contexts."""

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove this process's temporary files and leave the database. Closing twice is harmless."""
        try:
            self._uses.close()
            self._lease.close()
        finally:
            self._database.close()

    def sync(self) -> None:
        """Put all that was recorded on the disk (syncfs, where anything is not there yet)."""
        self._durability.sync()

    def scratch(self, *, stays: bool = False) -> Scratch:
        """``with store.scratch() as folder``: an empty private folder on the store's file system, removed at the end; with
        `stays`, when somebody has time to `tidy`, or the store is closed."""
        return self._lease.scratch(stays=stays)

    def tidy(self) -> None:
        """Remove scratch folders that nobody needs any more: each folder in one takes a quarter of a millisecond."""
        self._lease.tidy()

    def temporary_path(self) -> str:
        """Where nothing is yet, on the store's file system; what is there goes when the store is closed."""
        return self._lease.new_path()

    def is_full(self, needed: int) -> bool:
        """Whether its file system has no room for so many bytes more."""
        return self._lease.lacks(needed)

    def lock(self, name: str, holder: str, *, shared: bool = False) -> Lock:
        """A lock that threads and processes of this store share by its name; `holder` is what those who wait are told."""
        return self._locks.lock(name, holder, shared=shared)

    # Keeping house. All that this object hands out or is given stays until it is closed, whatever is removed beside it.

    def mark_used(self) -> None:
        """Remember that what was looked up and put is in use these days: what was not goes first when space is needed."""
        self._uses.remember()

    @property
    def grew(self) -> bool:
        """Whether anything was made for the store through this object."""
        return self._lease.was_used()

    def housekeeping(self) -> Housekeeping:
        """What lies in the store, and removing what nobody needs (`builder.store.collect`)."""
        from builder.store.collect import Housekeeping  # for those who clean up

        return Housekeeping(self, self._database, self._lease)

    def verify(self) -> Report:
        """Compare everything with its digest (`builder.store.verify`); it takes as long as reading all of it."""
        from builder.store.verify import Verifier  # for `pybuild doctor`

        return Verifier(self.root, self._database, self._uses).run()

    # Blobs.

    def blob_path(self, digest: Digest) -> str:
        """Where the blob is, or would be; a regular file of immutable content."""
        return self._blobs.path(digest)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is there; its content is verified when it is read."""
        return self._blobs.has(digest)

    def read_blob(self, digest: Digest, limit: int) -> bytes:
        """The verified content, of at most `limit` bytes. Raises StoreError where it is missing, larger or corrupt."""
        return self._blobs.read(digest, limit)

    def verify_blob(self, digest: Digest) -> None:
        """Raises StoreError where the blob is missing or corrupt; reads it in pieces."""
        self._blobs.verify(digest)

    def blob_writer(self, algorithm: str = "sha256") -> BlobWriter:
        """``with store.blob_writer() as blob: blob.write(data); digest, size = blob.commit(expected)``. `algorithm=""`: who
        writes hashes the very bytes."""
        return self._blobs.writer(algorithm)

    def put_blob(self, data: bytes) -> tuple[Digest, int]:
        """Store a small blob that is at hand; digest and size."""
        digest = Digest.of(data)
        if self._blobs.holds(digest, data):
            return digest, len(data)
        with self.blob_writer() as blob:
            blob.write(data)
            return blob.commit()

    # Layers.

    def put_layer(self, diff_id: Digest, index: bytes, size: int) -> None:
        """Record a layer: its index (`layers.index.dump_index`) and its uncompressed size in bytes. The first one wins."""
        self._layers.put(diff_id, index, size)

    def has_layer(self, diff_id: Digest) -> bool:
        """Whether the layer's index is there; its forms may be missing."""
        return self._layers.has(diff_id)

    def layer_index(self, diff_id: Digest) -> bytes:
        """The verified index. Raises StoreError where it is missing or corrupt."""
        return self._layers.index(diff_id)

    def layer_entries(self, diff_id: Digest) -> IndexFile:
        """``with store.layer_entries(id) as entries``: those of the index one by one, with few of them in memory. Raises as
        `layer_index`."""
        return self._layers.entries(diff_id)

    def layer_size(self, *names: Digest) -> int:
        """Uncompressed bytes of the first of these layers that is there. Raises StoreError where none is."""
        return self._layers.size(*names)

    def add_snapshot(self, folder: str, diff_id: Digest, chain: Digest | None) -> str:
        """Move `folder` (from a scratch folder) into the store as the layer's folder form, and return its id.

        `chain` is the chain ID of the stack that ends with this layer, or None where the folder is right on any base.
        Where a snapshot of this layer that is right for `chain` is there already, `folder` is removed and that one's id
        returned.
        """
        return self._layers.add_snapshot(folder, diff_id, chain)

    def find_snapshot(self, diff_id: Digest, chain: Digest) -> str | None:
        """The id of a snapshot of the layer that is right for this chain ID, or for any."""
        return self._layers.find_snapshot(diff_id, chain)

    def has_tar(self, diff_id: Digest) -> bool:
        """Whether the layer's tar is there, or a blob that it was compressed into."""
        return self._layers.has_tar(diff_id)

    def packed_tar(self, diff_id: Digest) -> Digest | None:
        """A blob that the layer's tar was compressed into, where one is there."""
        return self._layers.packed_tar(diff_id)

    def is_packed_in(self, diff_id: Digest, blob: Digest) -> bool:
        """Whether a blob of this digest is known to be the layer, be it here or not."""
        return self._layers.is_packed_in(diff_id, blob)

    def formless(self, diff_id: Digest) -> StoreError:
        """The error for a layer without a form that is of use here: it may have one for another kind of sandbox."""
        return self._layers.formless(diff_id)

    def snapshot_path(self, snapshot: str) -> str:
        """The snapshot's folder; short, since mount(2) takes one page of options."""
        return self._layers.snapshot_path(snapshot)

    def rendering(self, diff_id: Digest, form: str) -> tuple[Digest, int] | None:
        """Digest and size of the layer's tar in a compressed form as ``gzip-1/isal-1.9.1``, where its blob is there."""
        return self._layers.rendering(diff_id, form)

    def put_rendering(self, diff_id: Digest, form: str, digest: Digest, size: int) -> None:
        """Record a compressed form; its blob is in the store already."""
        self._layers.put_rendering(diff_id, form, digest, size)

    def foreign(self, diff_id: Digest) -> Descriptor | None:
        """The descriptor under which a foreign layer came: media type, digest and size of its original blob."""
        return self._layers.foreign(diff_id)

    def expect_renderings(self, diff_ids: Sequence[Digest], form: str) -> None:
        """These are going to be asked for, and are read at once."""
        self._ahead.read_renderings(list(map(str, diff_ids)), form)

    def put_foreign(self, diff_id: Digest, descriptor: Descriptor) -> None:
        """Remember a foreign layer's original descriptor; the first one wins. Annotations and platform are not kept."""
        self._layers.put_foreign(diff_id, descriptor)

    # The cache.

    def lookup(self, key: str) -> Record | None:
        """The record of a step's key, as long as its layer has an index and a form (folder, or plain tar)."""
        return self._records.lookup(key)

    def expect_build(self, place: str) -> None:
        """What the last build of this place (`Build.place`) had is going to be looked up, and is read at once."""
        self._ahead.read(self._builds().keys(place))

    def put_record(self, record: Record, *, replace: bool = False) -> Record:
        """Record a step's result and return the one that counts: the first, or with `replace` this one. Put its layer and a
        form of it first."""
        return self._records.put(record, replace=replace)

    def remembered(self, key: str) -> Record | None:
        """The record of a step's key, whatever became of its layer."""
        return self._records.remembered(key)

    def ast(self, key: str) -> bytes | None:
        """A parsed Dockerfile's bytes, by the key under which they were put."""
        return self._records.ast(key)

    def put_ast(self, key: str, data: bytes) -> None:
        """Keep a parsed Dockerfile; the oldest beyond 1,000 go."""
        self._records.put_ast(key, data)

    def has_listing(self, content: str) -> bool:
        """Whether it is known which files a selection with this content digest has."""
        return self._records.has_listing(content)

    def listings(self, contents: Collection[str]) -> dict[str, str]:
        """Which files these selections have (`builder.engine.listings`), as far as it is known."""
        return self._records.listings(contents)

    def put_listing(self, content: str, files: str) -> None:
        """Remember which files a selection has; the oldest are forgotten."""
        self._records.put_listing(content, files)

    # What came from the network.

    def download(self, key: str) -> Download | None:
        """What was downloaded under this key, as long as its blob is there."""
        return self._fetched().download(key)

    def put_download(self, key: str, download: Download) -> None:
        """Remember a download; its blob is in the store already. The last one wins."""
        self._fetched().put_download(key, download)

    def checkout(self, key: str) -> Checkout | None:
        """The files of a commit that were fetched under this key, as long as their blobs are there."""
        return self._fetched().checkout(key)

    def put_checkout(self, key: str, checkout: Checkout) -> None:
        """Remember the files of a commit; their blobs are in the store already."""
        self._fetched().put_checkout(key, checkout)

    def _fetched(self) -> FetchedThings:
        from builder.store.fetched import FetchedThings  # for builds that fetch

        return FetchedThings(self._database, self._blobs)

    # Registries.

    def repositories(self, digest: Digest) -> list[str]:
        """Where the blob was pulled from or pushed to, as `domain/path`."""
        rows = self._database.all("SELECT repository FROM blob_repositories WHERE digest = ? ORDER BY repository", str(digest))
        return [str(row[0]) for row in rows]

    def put_repository(self, digests: Iterable[Digest], repository: str) -> None:
        """Remember that a repository has these blobs."""
        with self._database.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO blob_repositories (digest, repository) VALUES (?, ?)",
                [(str(digest), repository) for digest in digests],
            )

    # Cache mounts.

    def cache_mount(self, id: str, base: str, sharing: Sharing, holder: str) -> CacheMountUse:
        """The folder of a cache mount, to be acquired and released (`cachemounts.CacheMountUse`)."""
        return self._cache_mounts().use(id, base, sharing, holder)

    def cache_mounts(self) -> list[CacheMountRecord]:
        """Every cache mount, the oldest first."""
        return self._cache_mounts().all()

    def cache_mount_size(self, record: CacheMountRecord) -> int:
        """Bytes that it takes on the disk."""
        return self._cache_mounts().size(record)

    def remove_cache_mount(self, record: CacheMountRecord) -> bool:
        """Remove it; False, and nothing happens, while a step uses it."""
        return self._cache_mounts().remove(record)

    def _cache_mounts(self) -> CacheMounts:
        from builder.store.cachemounts import CacheMounts  # for builds that have them

        return CacheMounts(self.root, self._database, self._locks, self._lease)

    # The history of builds.

    def put_build(self, build: Build) -> None:
        """Remember a build; the oldest go."""
        self._builds().put(build)

    def builds(self, limit: int, *, place: str | None = None, path: str | None = None) -> list[Build]:
        """The last builds, the last one first: all, or those of one place or of the Dockerfile at `path`."""
        return self._builds().last(limit, place=place, path=path)

    def _builds(self) -> Builds:
        from builder.store.builds import Builds  # not for those who only list images

        return Builds(self.root, self._database.faults)

    # What failed steps left.

    def keep_failed(self, upper: str, key: str, name: str) -> FailedStep:
        """Move the upper folder of a failed step (from a scratch folder) into the store, where `pybuild shell` finds it by the
        step's key. The last few are kept."""
        return self._failed().keep(upper, key, name)

    def failed_steps(self) -> list[FailedStep]:
        """What failed steps left, the newest first."""
        return self._failed().all()

    def find_failed(self, key: str) -> FailedStep | None:
        """What the step of this key left when it failed last."""
        return self._failed().find(key)

    def failed_path(self, step: FailedStep) -> str:
        """Its folder."""
        return self._failed().path(step.id)

    def failed_in_use(self, step: FailedStep) -> Lock:
        """The lock that keeps it from being removed, not taken yet."""
        return self._failed().in_use(step.id)

    def remove_failed(self, step: FailedStep) -> bool:
        """Remove it; False where somebody looks into it, who keeps it."""
        return self._failed().remove(step)

    def _failed(self) -> FailedSteps:
        from builder.store.failed import FailedSteps  # for builds that fail

        return FailedSteps(self.root, self._database, self._durability, self._lease, self._locks)

    # Images.

    def tag(self, name: str, config: Digest, blobs: Sequence[Descriptor | None] | None = ()) -> None:
        """Name an image by a normalised name, which another image loses (and is kept); an empty one keeps it without a name.

        `blobs` are those that its lowest layers came in (`ImageRecord.blobs`): a base ships as it came, whatever else the store
        has seen. All that was recorded so far is synced before, so that the name never outlives the layers.
        """
        self.tag_images(name, [Member(config, blobs)])

    def tag_images(self, name: str, members: Sequence[Member], index: Iterable[Digest] | None = None) -> None:
        """Let a name stand for images of several platforms; else as `tag`. `index`, of what is part of an index that is here
        whole: the digests of all that it needs, which stays as long as the images."""
        self.sync()
        self._images.put(name, members, index)

    def annotations(self, config: Digest) -> dict[str, str]:
        """What an image's manifest says besides, whenever one is made."""
        return self._images.annotations(config)

    def annotate(self, config: Digest, annotations: Mapping[str, str]) -> None:
        """Let the manifest of an image that is there say this, and nothing that it said before."""
        self._images.annotate(config, annotations)

    def request(self, config: Digest) -> str:
        """What an image says of its build (`builder.plan.recorded`); empty where it says nothing."""
        return self._images.request(config)

    def put_request(self, config: Digest, text: str) -> None:
        """Let an image that is there say this of its build, and nothing that it said before."""
        self._images.put_request(config, text)

    def untag(self, name: str) -> bool:
        """Remove a name; False where there was none. Its content stays."""
        return self._images.untag(name)

    def remove_image(self, config: Digest) -> list[str]:
        """Forget an image and all its names, which are returned ('' for the nameless). Its content stays."""
        return self._images.remove(config)

    def images(self) -> list[ImageRecord]:
        """All images by name; those without a name come first."""
        self._uses.add_all(str(record.config) for record in self._images.all())
        # Again: what was removed meanwhile may have lost its content.
        return self._images.all()

    def find_image(self, wanted: str, platform: Platform | None = None) -> ImageRecord | None:
        """By normalised name, or by four or more of the first digits of the id. UsageError where they are ambiguous. Of what
        stands for several platforms the image that is best for `platform`, or for this machine."""
        found = self.find_images(wanted)
        return best(found, platform) if found else None

    def find_images(self, wanted: str) -> list[ImageRecord]:
        """The same: all images that the name stands for, or the index of this id."""
        found = self._images.find_all(wanted)
        self._uses.add_all(str(one.config) for one in found)
        # Again: they may have been removed before they were in use.
        return self._images.find_all(wanted) if found else []
