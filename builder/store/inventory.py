"""What lies in the store, as things that are kept or removed as a whole, and which of them images need.

A layer is one thing, whatever forms it has: its indexes, folders and tars come and go together. Only what an output compressed
is a thing of its own, since it can be made again from the others byte for byte.
"""

from __future__ import annotations

import os

from builder import canonical
from builder.layers.ownerform import form
from builder.oci.digest import Digest
from builder.store.layers import foreign_index
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Literal

    from builder.store.database import Database
    from builder.store.needs import Images

    Kind = Literal["image", "build-cache", "compressed", "download", "cache-mount", "failed-step", "temporary", "store"]

KINDS: tuple[Kind, ...] = (
    "image",
    "build-cache",
    "compressed",
    "download",
    "cache-mount",
    "failed-step",
    "temporary",
    "store",
)
FOREIGN_FORM = "foreign "
"""How the form of a rendering begins that others made: it is an original, not a copy."""


class Thing(NamedTuple):
    """What is kept or removed as a whole. Names of files, and keys of rows; see `paths`."""

    kind: Kind
    id: str
    """A digest; of other things the number or name by which it is known."""
    description: str
    blobs: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    """Keys, of the cache's records."""
    fetched: tuple[str, ...] = ()
    """Keys, of downloads and checkouts."""
    folder: str = ""
    """Below the root, for what is neither blob, index nor snapshot."""
    images: tuple[str, ...] = ()
    """Names, or ids, of the images that need it."""
    in_use: bool = False
    """A living process has named it."""
    created: int = 0
    """Seconds since 1970; 0 where nothing says it. So is `used`, the time of last use."""
    used: int = 0

    def paths(self) -> list[str]:
        """Its files and folders, below the root."""
        blobs = (f"blobs/{name.replace(':', '/', 1)}" for name in self.blobs)
        indexes = (f"index/{name}" for name in self.indexes)
        snapshots = (f"snapshots/{name}" for name in self.snapshots)
        return [*blobs, *indexes, *snapshots, *((self.folder,) if self.folder else ())]


def take(root: str, database: Database, images: Images, uses: Collection[str], *, dropped: Collection[str] = ()) -> list[Thing]:
    """All that lies in the store but its own files. `uses` is what living processes have named; images without a name that are
    `dropped` (config digests) count as if they had no row. Raises StoreError where the config of an image cannot be read."""
    return _Taking(root, database, images, uses, dropped).all()


def is_original(form: str) -> bool:
    """Whether a rendering came so from elsewhere, or is the plain tar: nothing that an output compressed."""
    return form.startswith(FOREIGN_FORM) or form == "uncompressed"


class _Taking:
    def __init__(self, root: str, database: Database, images: Images, uses: Collection[str], dropped: Collection[str]) -> None:
        self._root = root
        self._all = database.all
        self._images = images
        self._uses = uses
        self._needs: dict[str, list[str]] = {}
        self._held: set[str] = set(uses)
        self._used: dict[str, int] = dict(self._all("SELECT name, at FROM used"))
        self._blobs = {f"{kind}:{name}" for kind in _names(root, "blobs") for name in _names(root, f"blobs/{kind}")}
        self._indexes = set(_names(root, "index"))
        self._folders = set(_names(root, "snapshots"))
        self._taken: set[str] = set()
        rows = self._all("SELECT name, config, blobs, created, source FROM images")
        indexes: dict[str, str] = dict(self._all("SELECT digest, blobs FROM indexes"))
        # One that was given a name since it was chosen is not forgotten.
        self._rows = [row for row in rows if row[0] or row[1] not in dropped]
        self._find_needs(indexes)

    def _find_needs(self, indexes: Mapping[str, str]) -> None:
        """By digest, the images that need it: configs, diff IDs, indexes, the blobs that their bases came in, and all of an
        image index that is here whole."""
        for name, config, blobs, _, source in self._rows:
            shown = name or config
            needed = [config]
            for layer in self._images.layers(config):
                needed += layer
            needed += [blob[1] for blob in canonical.loads(blobs) if blob] if blobs else []
            needed += [source, *canonical.loads(indexes[source])] if source in indexes else []
            for digest in dict.fromkeys(needed):
                self._needs.setdefault(digest, []).append(shown)
        for name in self._uses:
            if name in self._blobs and self._images.may_be(name):
                for layer in self._images.layers(name):
                    self._held.update(layer)

    def all(self) -> list[Thing]:
        return [
            *self._configs(),
            *self._layers(),
            *self._fetched(),
            *self._rest(),
            *self._records_alone(),
            *self._cache_mounts(),
            *self._failed(),
        ]

    def _configs(self) -> Iterable[Thing]:
        names: dict[str, list[str]] = {}
        created: dict[str, int] = {}
        for name, config, _, when, _ in self._rows:
            names.setdefault(config, []).append(name)
            created[config] = when
        for config, all_names in names.items():
            description = ", ".join(sorted(filter(None, all_names))) or "an image without a name"
            yield self._thing("image", config, description, blobs=[config], created=created[config])

    def _layers(self) -> Iterable[Thing]:
        rows: dict[str, _Layer] = {}

        def of(diff_id: str) -> _Layer:
            return rows.setdefault(diff_id, _Layer([], [], [], [], [], []))

        indexes = {row[0]: row[1] for row in self._all("SELECT diff_id, size FROM layers")}
        # A foreign index is named by its stack: by those of the snapshots, and of the images.
        stacks = {index: diff_id for config in {row[1] for row in self._rows} for diff_id, index in self._images.layers(config)}
        for number, diff_id, chain, owners in self._all("SELECT id, diff_id, chain, owners FROM snapshots"):
            of(diff_id).snapshots.append(str(number))
            if owners == form():
                of(diff_id).usable.append(str(number))
            if chain is not None:
                stacks[str(foreign_index(Digest.parse(chain)))] = diff_id
        for diff_id, name, digest in self._all("SELECT diff_id, form, digest FROM renderings"):
            (of(diff_id).originals if is_original(name) else of(diff_id).compressed).append(digest)
        for diff_id, digest in self._all("SELECT diff_id, digest FROM foreign_layers"):
            of(diff_id).originals.append(digest)
        records = self._all("SELECT key, diff_id, created FROM records WHERE diff_id IS NOT NULL")
        for key, diff_id, _ in records:
            of(diff_id).records.append(key)
        for index in indexes:
            of(stacks.get(index, index)).indexes.append(index)
        for diff_id, layer in rows.items():
            yield from self._forms(diff_id, layer)

    def _forms(self, diff_id: str, layer: _Layer) -> Iterable[Thing]:
        originals = [diff_id, *layer.originals]
        usable = any(name in self._folders for name in layer.usable)
        alone = not usable and not any(digest in self._blobs for digest in originals)
        if alone:
            # The only form that is left is no copy of anything.
            originals += layer.compressed
        description = "a layer that others packed" if any(name != diff_id for name in layer.indexes) else "a layer"
        yield self._thing(
            "build-cache",
            diff_id,
            description,
            blobs=originals,
            indexes=layer.indexes,
            snapshots=layer.snapshots,
            records=layer.records,
            names=[diff_id, *layer.indexes, *originals],
        )
        if not alone:
            for digest in layer.compressed:
                if digest in self._blobs and digest not in self._taken:
                    # An image needs it where an index names it: that is kept byte for byte.
                    yield self._thing("compressed", digest, f"of the layer {diff_id}", blobs=[digest])

    def _fetched(self) -> Iterable[Thing]:
        for key, digest, name in self._all("SELECT key, digest, name FROM downloads"):
            yield self._thing("download", digest, name or "a file", blobs=[digest], fetched=[key])
        for key, entries, contents in self._all("SELECT key, entries, contents FROM checkouts"):
            yield self._thing("download", contents, "files of a commit", blobs=[entries, contents], fetched=[key])

    def _rest(self) -> Iterable[Thing]:
        """What nothing names: configs of forgotten images, and what killed processes left."""
        for digest in sorted(self._blobs - self._taken):
            yield self._thing("build-cache", digest, "a blob that nothing names", blobs=[digest])
        known = {str(row[0]) for row in self._all("SELECT id FROM snapshots")}
        for name in sorted(self._folders - known):
            yield Thing("temporary", f"snapshots/{name}", "a folder that nothing names", folder=f"snapshots/{name}")
        indexes = {row[0] for row in self._all("SELECT diff_id FROM layers")}
        for name in sorted(self._indexes - indexes):
            yield Thing("temporary", f"index/{name}", "an index that nothing names", folder=f"index/{name}")

    def _records_alone(self) -> Iterable[Thing]:
        for key, created in self._all("SELECT key, created FROM records WHERE diff_id IS NULL"):
            used = max(created, self._used.get(key, 0))
            yield Thing("build-cache", key, "a step that changed no file", records=(key,), created=created, used=used)

    def _cache_mounts(self) -> Iterable[Thing]:
        for number, id, created, used in self._all("SELECT number, id, created, used FROM cache_mounts"):
            if os.path.isdir(f"{self._root}/mounts/{number}"):
                yield Thing("cache-mount", str(number), id, folder=f"mounts/{number}", created=created, used=used)

    def _failed(self) -> Iterable[Thing]:
        for number, name, created in self._all("SELECT id, name, created FROM failed"):
            if os.path.isdir(f"{self._root}/failed/{number}"):
                yield Thing("failed-step", str(number), name, folder=f"failed/{number}", created=created, used=created)

    def _thing(
        self,
        kind: Kind,
        id: str,
        description: str,
        *,
        blobs: Iterable[str] = (),
        indexes: Iterable[str] = (),
        snapshots: Iterable[str] = (),
        records: Iterable[str] = (),
        fetched: Iterable[str] = (),
        names: Iterable[str] | None = None,
        created: int = 0,
    ) -> Thing:
        """With what else is known of it. A blob that another thing has already is not this one's, too."""
        own = [digest for digest in dict.fromkeys(blobs) if digest in self._blobs and digest not in self._taken]
        self._taken.update(own)
        names = list(dict.fromkeys([id] if names is None else names))
        images = tuple(dict.fromkeys(image for name in names for image in self._needs.get(name, ())))
        files = [f"index/{name}" for name in indexes] + [f"blobs/{name.replace(':', '/', 1)}" for name in own]
        made = created or _made(self._root, files)
        used = max(made, *(self._used.get(name, 0) for name in (*names, *records)))
        return Thing(
            "image" if images else kind,
            id,
            description,
            tuple(own),
            tuple(indexes),
            tuple(snapshots),
            tuple(records),
            tuple(fetched),
            "",
            images,
            any(name in self._held for name in (*names, *own)),
            made,
            used,
        )


class _Layer(NamedTuple):
    snapshots: list[str]
    usable: list[str]
    """Those whose owners mean something in this kind of sandbox."""
    originals: list[str]
    compressed: list[str]
    records: list[str]
    indexes: list[str]


def _names(root: str, folder: str) -> list[str]:
    try:
        return os.listdir(os.path.join(root, folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _made(root: str, paths: list[str]) -> int:
    """When the first of the files that is there was written; nothing writes them again."""
    for path in paths:
        try:
            return int(os.lstat(os.path.join(root, path)).st_mtime)
        except FileNotFoundError:
            continue
    return 0
