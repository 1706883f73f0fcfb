"""The database's tables and their versions (`user_version`, sqlite.org/pragma.html)."""

from __future__ import annotations

import os

from builder.store import sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.store.faults import Faults

    Step = Sequence[str]
    """The statements that lead from one version to the next."""

_FIRST: Step = (
    # Facts about the store itself: `boot` is the boot id of the last recovery.
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # `index_digest` is the sha256 of the file index/<diff_id>.
    "CREATE TABLE layers (diff_id TEXT PRIMARY KEY, size INTEGER NOT NULL, index_digest TEXT NOT NULL) WITHOUT ROWID",
    # `chain` is NULL for a snapshot that is valid on any base. The id is the folder's name.
    "CREATE TABLE snapshots (id INTEGER PRIMARY KEY AUTOINCREMENT, diff_id TEXT NOT NULL, chain TEXT)",
    "CREATE INDEX snapshots_of_layer ON snapshots (diff_id)",
    # `diff_id` is NULL for a step that changed nothing. `created` is in seconds since 1970.
    "CREATE TABLE records (key TEXT PRIMARY KEY, preimage BLOB NOT NULL, diff_id TEXT, created INTEGER NOT NULL)",
    "CREATE TABLE renderings (diff_id TEXT, form TEXT, digest TEXT NOT NULL, size INTEGER NOT NULL,"
    " PRIMARY KEY (diff_id, form)) WITHOUT ROWID",
    "CREATE TABLE foreign_layers (diff_id TEXT PRIMARY KEY, media_type TEXT NOT NULL, digest TEXT NOT NULL,"
    " size INTEGER NOT NULL) WITHOUT ROWID",
    # A nameless image has the name ''.
    "CREATE TABLE images (name TEXT, config TEXT NOT NULL, created INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX image_by_name ON images (name) WHERE name <> ''",
    "CREATE UNIQUE INDEX image_by_config ON images (config, name)",
    "CREATE TABLE asts (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, data BLOB NOT NULL)",
    # What is in the database but not surely on the disk: `kind` is record, layer, snapshot or failed.
    "CREATE TABLE unsynced (id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL)",
)

_BLOBS_OF_IMAGES: Step = (
    # The blobs that an image's lowest layers came in: JSON, a [media type, digest, size] or null for each; NULL for unknown.
    "ALTER TABLE images ADD COLUMN blobs TEXT",
)

_FETCHED: Step = (
    # `key` is a hash, of a URL without its credentials: the store keeps no secret that a URL may hold. `mtime` is in ns.
    "CREATE TABLE downloads (key TEXT PRIMARY KEY, digest TEXT NOT NULL, name TEXT NOT NULL, etag TEXT NOT NULL,"
    " modified TEXT NOT NULL, mtime INTEGER NOT NULL) WITHOUT ROWID",
    # `key` is a hash of a commit and of what is taken from it.
    "CREATE TABLE checkouts (key TEXT PRIMARY KEY, entries TEXT NOT NULL, contents TEXT NOT NULL) WITHOUT ROWID",
)

_CACHE_MOUNTS: Step = (
    # The number is the folder's name. `base` is what a new one begins with; times are in seconds since 1970.
    "CREATE TABLE cache_mounts (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, base TEXT NOT NULL,"
    " created INTEGER NOT NULL, used INTEGER NOT NULL)",
    "CREATE INDEX cache_mount_by_id ON cache_mounts (id, base)",
)

_FAILED: Step = (
    # What failed steps left, in the folder failed/<id>. `key` is the step's.
    "CREATE TABLE failed (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, name TEXT NOT NULL,"
    " created INTEGER NOT NULL)",
)

_HOUSEKEEPING: Step = (
    # When something was used last, in seconds since 1970: a digest, or the key of a record (`builder.store.uses`).
    "CREATE TABLE used (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
    # Bytes that a snapshot takes on the disk: it never changes, and to look costs a walk.
    "CREATE TABLE snapshot_sizes (id INTEGER PRIMARY KEY, bytes INTEGER NOT NULL)",
)

_HINTS: Step = (
    # Folders that were contexts, by the boot in which they were; `used` grows with each write.
    "CREATE TABLE hinted (id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, root BLOB NOT NULL, used INTEGER NOT NULL,"
    " UNIQUE (boot, root))",
    # What was read of their files, by the folder below: see `builder.context.hints`.
    "CREATE TABLE hints (place INTEGER NOT NULL, folder BLOB NOT NULL, files BLOB NOT NULL, PRIMARY KEY (place, folder))",
)

_REPOSITORIES: Step = (
    # Where a blob was pulled from or pushed to, as `domain/path`: from there a registry can mount it elsewhere.
    "CREATE TABLE blob_repositories (digest TEXT, repository TEXT, PRIMARY KEY (digest, repository)) WITHOUT ROWID",
)

_ANNOTATIONS: Step = (
    # What the manifest of an image says besides, whenever one is made: a JSON object. `config` is the image's id.
    "CREATE TABLE annotations (config TEXT PRIMARY KEY, annotations TEXT NOT NULL) WITHOUT ROWID",
)

_OWNERS: Step = (
    # How the files of a snapshot say whose they are (`builder.layers.ownerform`).
    "ALTER TABLE snapshots ADD COLUMN owners TEXT NOT NULL DEFAULT ''",
)

_INDEXES: Step = (
    # A name may stand for images of several platforms: a row each. `platform` is '' where nobody asked for one. `source` is the
    # digest of the index, or manifest, that the name stood for; '' for what was not made or pulled as part of one.
    "ALTER TABLE images ADD COLUMN platform TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE images ADD COLUMN source TEXT NOT NULL DEFAULT ''",
    "DROP INDEX image_by_name",
    "DROP INDEX image_by_config",
    "CREATE UNIQUE INDEX image_by_name ON images (name, platform) WHERE name <> ''",
    "CREATE UNIQUE INDEX image_by_config ON images (config, name, platform)",
    "CREATE INDEX image_by_source ON images (source)",
    # Indexes that are here whole, byte for byte, with the digests of all that they need, as JSON.
    "CREATE TABLE indexes (digest TEXT PRIMARY KEY, blobs TEXT NOT NULL) WITHOUT ROWID",
)

_REQUESTS: Step = (
    # What an image says of its build. `config` is the image's id.
    "CREATE TABLE requests (config TEXT PRIMARY KEY, request TEXT NOT NULL) WITHOUT ROWID",
)

_LISTINGS: Step = (
    # Which files a selection of a build context has, by its content digest (`builder.plan.listing`).
    "CREATE TABLE listings (id INTEGER PRIMARY KEY, content TEXT NOT NULL UNIQUE, files TEXT NOT NULL)",
)

STEPS: Sequence[Step] = (
    *(_FIRST, _BLOBS_OF_IMAGES, _FETCHED, _CACHE_MOUNTS, _FAILED, _HOUSEKEEPING, _HINTS, _REPOSITORIES),
    *(_ANNOTATIONS, _OWNERS, _INDEXES, _REQUESTS, _LISTINGS),
)
"""STEPS[n] leads from version n to n + 1; version 0 is an empty database."""

VERSION = len(STEPS)

BUSY_SECONDS = 60.0
"""How long a statement waits for another process."""

_MAGIC = b"SQLite format 3\0"


def peek(path: str, faults: Faults, newest: int = VERSION) -> int:
    """The version of the database file, read without opening it as a database, so that nothing is made or locked.

    0 where there is no file or an empty one. Raises StoreError for a newer version than `newest` and for a file that is
    no database. `upgrade` leaves no version in the write-ahead log, hence the header is right (sqlite.org/fileformat.html).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        header = os.read(fd, 100)
    finally:
        os.close(fd)
    if not header:
        return 0
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise faults.corrupt("file is not a database")
    version = int.from_bytes(header[60:64], "big", signed=True)
    check(version, faults, newest)
    return version


def check(version: int, faults: Faults, newest: int = VERSION) -> None:
    """Raises StoreError for a version that a later pybuild wrote."""
    if not 0 <= version <= newest:
        raise faults.newer()


def upgrade(path: str, faults: Faults, steps: Sequence[Step] = STEPS) -> None:
    """Make the database at `path`, or lead an older one to version `len(steps)`, in one transaction.

    The caller holds the store's lock. Raises StoreError; the database is then as it was.
    """
    peek(path, faults, len(steps))
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    with faults:
        connection = sqlite.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                check(version, faults, len(steps))
                for number, step in enumerate(steps[version:], version + 1):
                    for statement in step:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={number}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            # The version must be in the file itself: `peek` does not read the log.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
