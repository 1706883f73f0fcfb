"""`pybuild doctor --store`: everything in the store compared with its digest, and with what the database says.

All that is looked at counts as in use meanwhile, so that nothing vanishes from under the look; what others add meanwhile is not
looked at. A row whose file is gone is no damage by itself (look-ups pass over it) unless an image needs it.
"""

from __future__ import annotations

import hashlib
import os

from builder.errors import BuildError, StoreError
from builder.layers.compression import decompress
from builder.layers.index import load_index
from builder.oci.digest import Digest
from builder.store.files import read_file
from builder.store.foldercheck import folder_fault, tar_fault
from builder.store.layers import foreign_index
from builder.store.needs import Images
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.layers.entry import Entry
    from builder.store.database import Database
    from builder.store.uses import Uses

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
        self._leftovers: list[str] = []
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
        return Report(tuple(self._problems), tuple(self._leftovers), blobs, len(indexes), snapshots, len(configs))

    def _keep_all(self) -> None:
        blobs = (f"{kind}:{name}" for kind in self._names("blobs") for name in self._names(f"blobs/{kind}"))
        rows = self._database.all(
            "SELECT diff_id FROM layers UNION SELECT diff_id FROM snapshots UNION SELECT config FROM images"
        )
        self._uses.add_all([*blobs, *(row[0] for row in rows)])

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
        return found

    def _check_blobs(self) -> int:
        count = 0
        owners = {row[0]: row[1] for row in self._database.all("SELECT digest, diff_id FROM renderings")}
        owners |= {row[0]: row[1] for row in self._database.all("SELECT digest, diff_id FROM foreign_layers")}
        for kind in sorted(self._names("blobs")):
            for name in sorted(self._names(f"blobs/{kind}")):
                path = os.path.join(self._root, "blobs", kind, name)
                digest = f"{kind}:{name}"
                count += 1
                try:
                    parsed = Digest.parse(digest)
                    good = _hash(path, parsed.algorithm) == parsed.hex
                except (BuildError, OSError):
                    good = False
                if not good:
                    self._bad.add(digest)
                    needed = self._needs.get(digest) or self._needs.get(owners.get(digest, ""), [])
                    self._add(
                        f"blob {digest} is corrupt: its content does not have this digest", digest, _removal(path), needed
                    )
        return count

    def _check_indexes(self) -> dict[str, list[Entry]]:
        """The entries of each index that is good."""
        found: dict[str, list[Entry]] = {}
        rows: dict[str, str] = dict(self._database.all("SELECT diff_id, index_digest FROM layers"))
        for name, digest in sorted(rows.items()):
            path = os.path.join(self._root, "index", name)
            try:
                data = read_file(path)
            except OSError:
                self._leftovers.append(f"the index of layer {name} is gone")
                continue
            try:
                if hashlib.sha256(data).hexdigest() != digest:
                    raise StoreError("its content is not what was put there")
                found[name] = load_index(data)
            except StoreError as error:
                self._bad.add(f"index {name}")
                self._add(f"the index of layer {name} is corrupt: {error.message}", name, _removal(path))
        for name in sorted(set(self._names("index")) - set(rows)):
            self._leftovers.append(f"index/{name} has no row")
        return found

    def _check_snapshots(self, indexes: dict[str, list[Entry]]) -> int:
        rows = self._database.all("SELECT id, diff_id, chain FROM snapshots ORDER BY id")
        count = 0
        for number, diff_id, chain in rows:
            path = os.path.join(self._root, "snapshots", str(number))
            if not os.path.isdir(path):
                self._leftovers.append(f"the folder snapshots/{number} of layer {diff_id} is gone")
                continue
            foreign = str(foreign_index(Digest.parse(chain))) if chain is not None else ""
            entries = indexes.get(foreign)
            ours = "" if entries is not None else diff_id
            if entries is None:
                entries = indexes.get(diff_id)
            if entries is None and {f"index {foreign}", f"index {diff_id}"} & self._bad:
                continue  # It was told.
            if entries is None:
                self._leftovers.append(f"the folder snapshots/{number} of layer {diff_id} has no index")
                continue
            count += 1
            try:
                fault = folder_fault(path, entries, ours)
            except OSError as error:
                fault = f"it cannot be read: {error.strerror}"
            if fault:
                self._bad.add(path)
                self._add(f"the folder snapshots/{number} of layer {diff_id} is corrupt: {fault}", diff_id, _removal(path))
        known = {str(row[0]) for row in rows}
        self._leftovers += [f"snapshots/{name} has no row" for name in sorted(set(self._names("snapshots")) - known)]
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
            if digest in self._bad or digest == diff_id or not os.path.isfile(path):
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
            folders.setdefault(diff_id, []).append(os.path.join(self._root, "snapshots", str(number)))
        told = set()
        for layers in configs.values():
            for diff_id, foreign in layers:
                usable = any(os.path.isdir(path) and path not in self._bad for path in folders.get(diff_id, ()))
                usable = usable or (os.path.isfile(self._blob(diff_id)) and diff_id not in self._bad)
                lacks = "its index" if not (diff_id in indexes or foreign in indexes) else "" if usable else "its files"
                if lacks and diff_id not in told:
                    told.add(diff_id)
                    self._add(
                        f"layer {diff_id} has lost {lacks}", diff_id, "build, import or pull the images that need it again"
                    )

    def _add(self, message: str, id: str, hint: str, images: Sequence[str] | None = None) -> None:
        needed = dict.fromkeys(self._needs.get(id, ()) if images is None else images)
        self._problems.append(Problem(message, id, tuple(needed), hint))

    def _blob(self, digest: str) -> str:
        return os.path.join(self._root, "blobs", *digest.split(":", 1))

    def _names(self, folder: str) -> list[str]:
        return os.listdir(os.path.join(self._root, folder))


def _removal(path: str) -> str:
    return f"remove {path}, then build with --no-cache, import or pull what needs it again"


def _hash(path: str, algorithm: str) -> str:
    """Raises OSError for what is no file, or a link."""
    hasher = hashlib.new(algorithm)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while chunk := os.read(fd, _CHUNK):
            hasher.update(chunk)
    finally:
        os.close(fd)
    return hasher.hexdigest()
