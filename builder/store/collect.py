"""Removing what nobody needs: `pybuild prune`, and the collection of garbage after builds (docs/store.md has the policy).

Nothing that an image needs is removed, and nothing that a living process uses (`builder.store.uses` has the protocol). What to
remove is chosen at leisure, and looked at once more when nobody can change it.
"""

from __future__ import annotations

import os
import time

from builder.store.files import move_folder
from builder.store.inventory import take
from builder.store.needs import Images
from builder.store.usage import measure, tree_size
from builder.store.uses import Gate, in_use
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from builder.store import sqlite
    from builder.store.database import Database
    from builder.store.inventory import Kind, Thing
    from builder.store.lease import Lease
    from builder.store.store import Store
    from builder.store.usage import Sized

CACHE: frozenset[Kind] = frozenset(("build-cache", "compressed", "download", "failed-step", "temporary"))
"""What can be made again, or is of passing use."""
ALL_CACHE: frozenset[Kind] = CACHE | {"cache-mount"}

_FORGOTTEN = 90 * 86400
"""Seconds after which nobody cares when something was used last: its file is older still."""


class Rule(NamedTuple):
    """What to remove: all that fits every field; with `keep`, `free` or `reserve` the least recently used of it, and no more
    than needed."""

    kinds: frozenset[Kind] = CACHE
    ids: tuple[str, ...] = ()
    """Ids, or how they begin, with or without `sha256:`; empty for any."""
    unused_for: int = 0
    """Seconds since the last use, at least."""
    keep: int | None = None
    """Bytes of all cache that may stay."""
    free: int = 0
    """Bytes that are to be free on the file system, as far as removing can do it."""
    reserve: int = 0
    """Bytes of cache that stay whatever `keep` and `free` say."""
    nameless: bool = False
    """Forget images without a name, too, that were kept so long ago."""


class Housekeeping:
    """Of one store. For one thread; other processes, and other threads of this one, go on meanwhile."""

    def __init__(self, store: Store, database: Database, lease: Lease) -> None:
        self._store = store
        self._root = store.root
        self._tmp = os.path.join(store.root, "tmp")
        self._database = database
        self._lease = lease
        self._images = Images(store.root)

    def collected(self) -> int:
        """When garbage was collected last, in seconds since 1970; 0 for never."""
        row = self._database.one("SELECT value FROM meta WHERE name = 'collected'")
        return int(row[0]) if row is not None else 0

    def collect(self, rules: Sequence[Rule]) -> list[Sized]:
        """Remove what the rules say, one after the other, and remember when. What was removed."""
        removed = self.remove(rules)
        with self._database.write() as connection:
            now = int(time.time())
            connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('collected', ?)", (str(now),))
            connection.execute("DELETE FROM used WHERE at < ?", (now - _FORGOTTEN,))
            connection.execute("DELETE FROM snapshot_sizes WHERE id NOT IN (SELECT id FROM snapshots)")
        return removed

    def remove(self, rules: Sequence[Rule], *, dry_run: bool = False) -> list[Sized]:
        """Remove what the rules say, one after the other; what was removed, or would be, with its sizes."""
        now = int(time.time())
        dropped = self._nameless(rules, now, in_use(self._tmp))
        left = self._sized(dropped)
        victims: list[Sized] = []
        for rule in rules:
            chosen = choose(left, rule, now, self._free() + sum(one.size for one in victims))
            victims += chosen
            gone = {_name(sized.thing) for sized in chosen}
            left = [sized for sized in left if _name(sized.thing) not in gone]
        if dry_run or not (victims or dropped):
            return victims
        removed = self._remove_files({_name(sized.thing) for sized in victims}, dropped)
        removed |= self._remove_folders({_name(sized.thing) for sized in victims})
        return [sized for sized in victims if _name(sized.thing) in removed]

    def _free(self) -> int:
        space = os.statvfs(self._root)
        return space.f_bavail * space.f_frsize

    def _nameless(self, rules: Sequence[Rule], now: int, uses: Collection[str]) -> frozenset[str]:
        """The configs of the images to be forgotten."""
        ages = [rule.unused_for for rule in rules if rule.nameless]
        if not ages:
            return frozenset()
        rows = self._database.all(
            "SELECT config, created, coalesce((SELECT at FROM used WHERE used.name = config), 0) FROM images WHERE name = ''"
        )
        old = [config for config, *times in rows if now - max(times) >= min(ages) and config not in uses]
        ids = [id for rule in rules if rule.nameless for id in rule.ids]
        return frozenset(config for config in old if not ids or any(_is_called(config, id) for id in ids))

    def _sized(self, dropped: Collection[str]) -> list[Sized]:
        things = take(self._root, self._database, self._images, in_use(self._tmp), dropped=dropped)
        return measure(self._root, things, self._snapshot_sizes(things))

    def _snapshot_sizes(self, things: Iterable[Thing]) -> dict[str, int]:
        known = {str(number): size for number, size in self._database.all("SELECT id, bytes FROM snapshot_sizes")}
        new = {}
        for thing in things:
            for name in thing.snapshots:
                if name not in known:
                    new[name] = tree_size(f"{self._root}/snapshots/{name}", set())
        if new:
            with self._database.write() as connection:
                connection.executemany("INSERT OR REPLACE INTO snapshot_sizes (id, bytes) VALUES (?, ?)", list(new.items()))
        return known | new

    def _remove_files(self, victims: Collection[tuple[Kind, str]], dropped: Collection[str]) -> set[tuple[Kind, str]]:
        with self._lease.scratch() as grave:
            gate = Gate(self._tmp)
            try:
                with self._database.write() as connection:
                    gate.shut()
                    uses = in_use(self._tmp)
                    forgotten = frozenset(config for config in dropped if config not in uses)
                    things = take(self._root, self._database, self._images, uses, dropped=forgotten)
                    doomed = [t for t in things if _name(t) in victims and not (t.images or t.in_use)]
                    for config in forgotten:
                        connection.execute("DELETE FROM images WHERE config = ? AND name = ''", (config,))
                    connection.execute("DELETE FROM indexes WHERE digest NOT IN (SELECT source FROM images)")
                    for thing in doomed:
                        _delete_rows(connection, thing)
                # The rows are gone for good; a process that is killed here leaves files that belong to nobody.
                paths = [path for thing in doomed if thing.kind not in ("cache-mount", "failed-step") for path in thing.paths()]
                for number, path in enumerate(paths):
                    _bury(os.path.join(self._root, path), os.path.join(grave, str(number)))
            finally:
                gate.open()
        return {_name(thing) for thing in doomed}

    def _remove_folders(self, victims: Collection[tuple[Kind, str]]) -> set[tuple[Kind, str]]:
        """What has locks of its own: a step may be using it."""
        removed: set[tuple[Kind, str]] = set()
        kinds = {kind for kind, _ in victims}
        if "cache-mount" in kinds:
            for mount in self._store.cache_mounts():
                name: tuple[Kind, str] = ("cache-mount", str(mount.number))
                if name in victims and self._store.remove_cache_mount(mount):
                    removed.add(name)
        if "failed-step" in kinds:
            for step in self._store.failed_steps():
                name = ("failed-step", str(step.id))
                if name in victims and self._store.remove_failed(step):
                    removed.add(name)
        return removed


def choose(sized: Sequence[Sized], rule: Rule, now: int, free: int) -> list[Sized]:
    """What a rule removes of all that lies in the store, the least recently used first. `free` is what the file system has."""
    fits = [
        one
        for one in sized
        if one.thing.kind in rule.kinds
        and not (one.thing.images or one.thing.in_use)
        and now - one.thing.used >= rule.unused_for
        # What takes no space is of use and goes with age alone.
        and (one.size or rule.unused_for or rule.ids or rule.nameless)
        and (not rule.ids or any(_is_called(one.thing.id, id) for id in rule.ids))
    ]
    fits.sort(key=lambda one: (one.thing.used, one.thing.id))
    total = cache_size(sized)
    limit = _limit(rule, total, free)
    if limit is None:
        return fits
    chosen = []
    for one in fits:
        if total <= limit:
            break
        total -= one.size
        chosen.append(one)
    return chosen


def _limit(rule: Rule, total: int, free: int) -> int | None:
    """Bytes of cache that may stay of `total`; None where none need to."""
    if rule.keep is None and not rule.free:
        return rule.reserve or None
    limit = total if rule.keep is None else rule.keep
    if rule.free > free:
        limit = min(limit, total - (rule.free - free))
    return max(limit, rule.reserve)


def cache_size(sized: Iterable[Sized]) -> int:
    """Bytes of all that no image needs, in use or not; what processes are working on is no cache yet."""
    things = (one for one in sized if one.thing.kind in ALL_CACHE)
    return sum(one.size for one in things if not (one.thing.kind == "temporary" and one.thing.in_use))


def _is_called(name: str, id: str) -> bool:
    return name.startswith(id) or name.removeprefix("sha256:").startswith(id)


def _name(thing: Thing) -> tuple[Kind, str]:
    """What it is known by when it is looked at again; of a download the first of its keys, since two may share a blob."""
    return thing.kind, thing.fetched[0] if thing.fetched else thing.id


def _delete_rows(connection: sqlite.Connection, thing: Thing) -> None:
    def delete(sql: str, values: Iterable[str]) -> None:
        connection.executemany(sql, [(value,) for value in values])

    match thing.kind:
        case "compressed":
            delete("DELETE FROM renderings WHERE digest = ?", [thing.id])
        case "download":
            delete("DELETE FROM downloads WHERE key = ?", thing.fetched)
            delete("DELETE FROM checkouts WHERE key = ?", thing.fetched)
        case "build-cache":
            delete("DELETE FROM records WHERE key = ?", thing.records)
            delete("DELETE FROM layers WHERE diff_id = ?", thing.indexes)
            for table in ("snapshots", "renderings", "foreign_layers"):
                delete(f"DELETE FROM {table} WHERE diff_id = ?", [thing.id])
    delete("DELETE FROM blob_repositories WHERE digest = ?", [thing.id, *thing.blobs])
    delete("DELETE FROM used WHERE name = ?", [thing.id, *thing.blobs, *thing.indexes, *thing.records])


def _bury(path: str, grave: str) -> None:
    try:
        move_folder(path, grave)
    except FileNotFoundError:
        return  # Another process, which recovers the store, was first.
