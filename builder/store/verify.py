"""`pybuild doctor --store`: everything in the store compared with its digest, and with what the database says.

All that is there at the beginning counts as in use from then on, so that nothing vanishes from under the look; what others add
meanwhile is not looked at. What looks left over may be what others are just adding or removing: that is looked at once more
when nobody can. A row whose file is gone is no damage by itself (look-ups pass over it) unless an image needs it.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial

from builder import canonical
from builder.errors import BuildError, StoreError
from builder.layers.compression import decompress
from builder.layers.index import load_index
from builder.layers.ownerform import form
from builder.oci.digest import Digest
from builder.store.files import read_file
from builder.store.foldercheck import folder_fault, tar_fault
from builder.store.layers import foreign_index
from builder.store.needs import Images
from builder.store.uses import Gate
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from builder.layers.entry import Entry
    from builder.store.database import Database
    from builder.store.uses import Uses

    Table = Literal["layers", "snapshots"]
_CHUNK = 1 << 20


class Problem(NamedTuple):
    message: str
    id: str
    """The digest of the blob, layer or config that it is about; empty for the database."""
    images: tuple[str, ...]
    """Names, or ids, of the images that need it."""
    hint: str


class Report(NamedTuple):
    problems: tuple[Problem, ...]
    leftovers: tuple[str, ...]
    """What is of no use and does no harm; `prune` removes it."""
    blobs: int
    indexes: int
    snapshots: int
    images: int
    """How many of each were looked at."""


class Verifier:
    def __init__(self, root: str, database: Database, uses: Uses) -> None:
        self._root = root
        self._database = database
        self._uses = uses
        self._problems: list[Problem] = []
        self._blobs: frozenset[str] = frozenset()
        self._layers: frozenset[str] = frozenset()
        """Digests of the blobs, and names of the layers and indexes, that were there at the beginning."""
        self._leftovers: dict[str, Callable[[], bool]] = {}
        """With the question whether it is still so."""
        self._needs: dict[str, list[str]] = {}
        self._bad: set[str] = set()

    def run(self) -> Report:
        """Look at everything. Raises StoreError where the database cannot be read."""
        self._keep_all()
        self._check_database()
        configs = self._check_images()
        blobs = self._check_blobs()
        indexes = self._check_indexes()
        snapshots = self._check_snapshots(indexes)
        self._check_tars(indexes)
        self._check_completeness(configs, indexes)
        return Report(tuple(self._problems), self._left_over(), blobs, len(indexes), snapshots, len(configs))

    def _keep_all(self) -> None:
        names = (f"{kind}:{name}" for kind in self._names("blobs") for name in self._names(f"blobs/{kind}"))
        self._blobs = frozenset(names)
        rows = self._database.all("SELECT diff_id FROM layers UNION SELECT diff_id FROM snapshots")
        self._layers = frozenset(row[0] for row in rows)
        configs = self._database.all("SELECT config FROM images")
        self._uses.add_all((*self._blobs, *self._layers, *(row[0] for row in configs)))

    def _check_database(self) -> None:
        for (line,) in self._database.all("PRAGMA integrity_check(10)"):
            if line != "ok":
                self._add(f"the database is damaged: {line}", "", "copy db.sqlite to a safe place, and try 'sqlite3 .recover'")

    def _check_images(self) -> dict[str, list[tuple[str, str]]]:
        """By config, what its layers are: see `Images.layers`."""
        images = Images(self._root)
        found: dict[str, list[tuple[str, str]]] = {}
        for name, config in self._database.all("SELECT name, config FROM images ORDER BY name"):
            shown = name or config
            self._needs.setdefault(config, []).append(shown)
            try:
                layers = list(images.layers(config))
            except StoreError as error:
                self._add(error.message, config, error.hint or "")
                continue
            found[config] = layers
            for layer in layers:
                for digest in layer:
                    self._needs.setdefault(digest, []).append(shown)
        self._check_image_indexes()
        return found

    def _check_image_indexes(self) -> None:
        """Indexes that are here whole, as they say."""
        for index, blobs, name in self._database.all(
            "SELECT digest, indexes.blobs, max(name) FROM indexes JOIN images ON source = digest GROUP BY digest"
        ):
            for digest in dict.fromkeys([index, *canonical.loads(blobs)]):
                self._needs.setdefault(digest, []).append(name or index)
                if digest not in self._blobs:
                    self._add(
                        f"the index {index} has lost {digest}", digest, "build or pull it again: pybuild pull --all-platforms"
                    )

    def _check_blobs(self) -> int:
        count = 0
        owners = {row[0]: row[1] for row in self._database.all("SELECT digest, diff_id FROM renderings")}
        owners |= {row[0]: row[1] for row in self._database.all("SELECT digest, diff_id FROM foreign_layers")}
        for digest in sorted(self._blobs):
            path = self._blob(digest)
            try:
                parsed = Digest.parse(digest)
                good = _hash(path, parsed.algorithm) == parsed.hex
            except FileNotFoundError:
                continue  # It went before it was in use.
            except (BuildError, OSError):
                good = False
            count += 1
            if not good:
                self._bad.add(digest)
                needed = self._needs.get(digest) or self._needs.get(owners.get(digest, ""), [])
                self._add(f"blob {digest} is corrupt: its content does not have this digest", digest, _removal(path), needed)
        return count

    def _check_indexes(self) -> dict[str, list[Entry]]:
        """The entries of each index that is good."""
        found: dict[str, list[Entry]] = {}
        rows: dict[str, str] = dict(self._database.all("SELECT diff_id, index_digest FROM layers"))
        for name, digest in sorted(rows.items()):
            if name not in self._layers:
                continue
            path = self._index(name)
            try:
                data = read_file(path)
            except OSError:
                self._leftovers[f"the index of layer {name} is gone"] = partial(self._is_lost, "layers", name, path)
                continue
            try:
                if hashlib.sha256(data).hexdigest() != digest:
                    raise StoreError("its content is not what was put there")
                found[name] = load_index(data)
            except StoreError as error:
                self._bad.add(f"index {name}")
                self._add(f"the index of layer {name} is corrupt: {error.message}", name, _removal(path))
        for name in sorted(set(self._names("index")) - set(rows)):
            self._leftovers[f"index/{name} has no row"] = partial(self._is_nobodys, "layers", name, self._index(name))
        return found

    def _check_snapshots(self, indexes: dict[str, list[Entry]]) -> int:
        rows = self._database.all("SELECT id, diff_id, chain, owners FROM snapshots ORDER BY id")
        count = 0
        for number, diff_id, chain, owners in rows:
            # A folder whose owners mean nothing here is one for another sandbox of this machine.
            if diff_id not in self._layers or owners != form():
                continue
            path = self._snapshot(number)
            folder = f"the folder snapshots/{number} of layer {diff_id}"
            if not os.path.isdir(path):
                self._leftovers[f"{folder} is gone"] = partial(self._is_lost, "snapshots", number, path)
                continue
            foreign = str(foreign_index(Digest.parse(chain))) if chain is not None else ""
            entries = indexes.get(foreign)
            ours = "" if entries is not None else diff_id
            if entries is None:
                entries = indexes.get(diff_id)
            if entries is None and {f"index {foreign}", f"index {diff_id}"} & self._bad:
                continue  # It was told.
            if entries is None:
                self._leftovers[f"{folder} has no index"] = partial(self._is_useless, number, (foreign, diff_id))
                continue
            count += 1
            try:
                fault = folder_fault(path, entries, ours)
            except OSError as error:
                fault = f"it cannot be read: {error.strerror}"
            if fault:
                self._bad.add(path)
                self._add(f"{folder} is corrupt: {fault}", diff_id, _removal(path))
        known = {str(row[0]) for row in rows}
        for name in sorted(set(self._names("snapshots")) - known):
            self._leftovers[f"snapshots/{name} has no row"] = partial(self._is_nobodys, "snapshots", name, self._snapshot(name))
        return count

    def _check_tars(self, indexes: dict[str, list[Entry]]) -> None:
        """Plain tars against their indexes, compressed ones against the diff ID that they are to give."""
        for diff_id, entries in sorted(indexes.items()):
            path = self._blob(diff_id)
            if diff_id not in self._bad and os.path.isfile(path) and (fault := tar_fault(path, entries, diff_id)):
                self._add(f"layer {diff_id} is corrupt: {fault}", diff_id, _removal(path))
        rows = self._database.all(
            "SELECT diff_id, digest FROM renderings UNION SELECT diff_id, digest FROM foreign_layers ORDER BY 1, 2"
        )
        for diff_id, digest in rows:
            path = self._blob(digest)
            if digest in self._bad or digest == diff_id or digest not in self._blobs or not os.path.isfile(path):
                continue
            wanted = Digest.parse(diff_id)
            hasher = hashlib.new(wanted.algorithm)
            try:
                decompress(path, hasher.update, name=digest)
                good = hasher.hexdigest() == wanted.hex
            except BuildError:
                good = False
            if not good:
                self._add(f"blob {digest} is not the layer {diff_id} that it stands for", diff_id, _removal(path))

    def _check_completeness(self, configs: dict[str, list[tuple[str, str]]], indexes: dict[str, list[Entry]]) -> None:
        """Every image has each of its layers, with an index and a form that a build or an output can use."""
        folders: dict[str, list[str]] = {}
        for number, diff_id in self._database.all("SELECT id, diff_id FROM snapshots"):
            folders.setdefault(diff_id, []).append(self._snapshot(number))
        packed: dict[str, list[str]] = {}
        for diff_id, digest in self._database.all("SELECT diff_id, digest FROM renderings"):
            packed.setdefault(diff_id, []).append(digest)
        told = set()
        for layers in configs.values():
            for diff_id, foreign in layers:
                usable = any(os.path.isdir(path) and path not in self._bad for path in folders.get(diff_id, ()))
                tars = (diff_id, *packed.get(diff_id, ()))
                usable = usable or any(os.path.isfile(self._blob(tar)) and tar not in self._bad for tar in tars)
                lacks = "its index" if not (diff_id in indexes or foreign in indexes) else "" if usable else "its files"
                if lacks and diff_id not in told:
                    told.add(diff_id)
                    self._add(
                        f"layer {diff_id} has lost {lacks}", diff_id, "build, import or pull the images that need it again"
                    )

    def _left_over(self) -> tuple[str, ...]:
        """What looked so and is so still, while nobody else adds or removes anything (`builder.store.uses`)."""
        if not self._leftovers:
            return ()
        gate = Gate(os.path.join(self._root, "tmp"))
        try:
            with self._database.write():
                gate.shut()
                return tuple(text for text, still_so in self._leftovers.items() if still_so())
        finally:
            gate.open()

    def _is_lost(self, table: Table, name: str, path: str) -> bool:
        return self._has_row(table, name) and not os.path.lexists(path)

    def _is_nobodys(self, table: Table, name: str, path: str) -> bool:
        return not self._has_row(table, name) and os.path.lexists(path)

    def _is_useless(self, number: str, indexes: Sequence[str]) -> bool:
        """Whether it is a folder that has none of the indexes."""
        usable = any(self._has_row("layers", name) and os.path.isfile(self._index(name)) for name in indexes)
        return not usable and self._has_row("snapshots", number)

    def _has_row(self, table: Table, name: str) -> bool:
        column = "diff_id" if table == "layers" else "id"
        return self._database.one(f"SELECT 1 FROM {table} WHERE {column} = ?", name) is not None

    def _add(self, message: str, id: str, hint: str, images: Sequence[str] | None = None) -> None:
        needed = dict.fromkeys(self._needs.get(id, ()) if images is None else images)
        self._problems.append(Problem(message, id, tuple(needed), hint))

    def _blob(self, digest: str) -> str:
        return os.path.join(self._root, "blobs", *digest.split(":", 1))

    def _index(self, name: str) -> str:
        return os.path.join(self._root, "index", name)

    def _snapshot(self, number: str) -> str:
        return os.path.join(self._root, "snapshots", str(number))

    def _names(self, folder: str) -> list[str]:
        try:
            return os.listdir(os.path.join(self._root, folder))
        except NotADirectoryError:
            return []  # A file that somebody put beside the folders of blobs.


def _removal(path: str) -> str:
    return f"remove {path}, then build with --no-cache, import or pull what needs it again"


def _hash(path: str, algorithm: str) -> str:
    """Raises OSError for what is no file, or a link."""
    hasher = hashlib.new(algorithm)
    # A pipe must not make anybody wait: it has no content.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while chunk := os.read(fd, _CHUNK):
            hasher.update(chunk)
    finally:
        os.close(fd)
    return hasher.hexdigest()
