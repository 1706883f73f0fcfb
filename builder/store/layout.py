"""The store's folder: what lies in it, its format version, making it and refusing what is not one."""

from __future__ import annotations

import fcntl
import os

from builder.errors import StoreError
from builder.store import schema
from builder.store.faults import Faults
from builder.store.files import make_folder, sync_folder, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
"""The version of the folder's layout, in the file VERSION. The database's own version is `schema.VERSION`."""

_FOLDERS = ("blobs", "blobs/sha256", "snapshots", "index", "tmp")
_DATABASE = {"db.sqlite", "db.sqlite-wal", "db.sqlite-shm", "db.sqlite-journal"}
_LATER = {"locks", "mounts", "failed", "builds"}
"""Folders that are made when the first thing is put into them."""
_NAMES = {"VERSION", "VERSION.new", "rungs", "blobs", "snapshots", "index", "tmp", "gc"} | _LATER | _DATABASE
FOREIGN = {"lost+found"}
"""What a fresh file system has by itself: a store may be the root of one."""


def prepare(root: str, faults: Faults) -> None:
    """Check the store at `root`, making it where there is none.

    Raises StoreError, with nothing touched, for a store of a newer version, one that belongs to another user, one on a
    read-only file system, or a folder that holds something else.
    """
    with faults:
        # First: another's files can often not even be read.
        if os.path.isdir(root):
            _check_owner(root)
        if is_current(root):
            if not os.access(root, os.W_OK | os.X_OK):
                raise faults.read_only()
            if schema.peek(_database(root), faults) != schema.VERSION:
                _locked(root, _upgrade, faults)
            for name in _FOLDERS:
                # Somebody may have removed one to free space: what lay in it counts as gone, thing by thing.
                if not os.path.isdir(os.path.join(root, name)):
                    make_folder(os.path.join(root, name))
        else:
            _check_usable(root)
            try:
                os.makedirs(root, 0o700, exist_ok=True)
            except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
                # A file system that takes no folders, as /proc; a home that is not the user's own.
                raise StoreError(
                    f"the store {root} cannot be made: {error.strerror}",
                    hint="choose another folder with --root or PYBUILD_ROOT",
                ) from error
            _locked(root, _create, faults)


def is_current(root: str) -> bool:
    """True for a store of our format, False where VERSION is missing."""
    try:
        fd = os.open(os.path.join(root, "VERSION"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        text = os.read(fd, 100).strip()
    finally:
        os.close(fd)
    if not text.isdigit():
        raise StoreError(
            f"{root}/VERSION is not the version of a store",
            hint="the folder is damaged or no store: choose another with --root",
        )
    if int(text) > FORMAT:
        raise Faults(root).newer()
    return True


def _check_owner(root: str) -> None:
    # Root that works in a user's folder would follow whatever links that user puts there.
    owner = os.stat(root).st_uid
    if owner != os.geteuid():
        raise StoreError(
            f"the store {root} belongs to user {owner}, not to user {os.geteuid()}",
            hint="run pybuild as its owner, or choose another place with --root",
        )


def _check_usable(root: str) -> None:
    try:
        found = set(os.listdir(root))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise StoreError(f"the store {root} is not a folder", hint="choose another place with --root") from None
    strangers = sorted(found - _NAMES - FOREIGN)
    if strangers:
        raise StoreError(f"{root} is not a store: it holds '{strangers[0]}'", hint="choose an empty or new folder with --root")


def _create(root: str, faults: Faults) -> None:
    """Make a whole store, or end what a killed process began: VERSION is written last."""
    if is_current(root):
        return _upgrade(root, faults)
    make_folder(root)
    for name in _FOLDERS:
        make_folder(os.path.join(root, name))
    schema.upgrade(_database(root), faults)
    new = os.path.join(root, "VERSION.new")
    if os.path.lexists(new):
        os.unlink(new)
    write_file(new, b"%d\n" % FORMAT, sync=True)
    for name in ("blobs", "."):
        sync_folder(os.path.join(root, name))
    os.rename(new, os.path.join(root, "VERSION"))
    return sync_folder(root)


def _upgrade(root: str, faults: Faults) -> None:
    schema.upgrade(_database(root), faults)


def _locked(root: str, act: Callable[[str, Faults], None], faults: Faults) -> None:
    """Run `act` while no other process creates or upgrades this store."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        act(root, faults)
    finally:
        os.close(folder)


def _database(root: str) -> str:
    return os.path.join(root, "db.sqlite")
