"""Making room where the disk is so full that not even the database can be written: a few files go, and their rows stay.

Look-ups pass over a row whose file is gone, so that the store is as valid as before; the removal that follows takes the rows.
"""

from __future__ import annotations

import os
import time

from builder.errors import StoreError
from builder.store.collect import choose
from builder.store.database import Database
from builder.store.faults import Faults
from builder.store.inventory import take
from builder.store.layout import is_current
from builder.store.needs import Images
from builder.store.schema import VERSION, peek
from builder.store.usage import measure
from builder.store.uses import Gate, in_use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.store.collect import Rule
    from builder.store.usage import Sized

ENOUGH = 4 << 20
"""Bytes with which the database and its log can work."""


def is_full(root: str) -> bool:
    """Whether so little is free that this may be why the store cannot be opened."""
    space = os.statvfs(root)
    return space.f_bavail * space.f_frsize < ENOUGH


def make_room(root: str, rule: Rule) -> list[Sized]:
    """Remove as many blobs that `rule` would remove as give `ENOUGH` bytes; what they belonged to. Writes nothing at all.

    Raises StoreError for a store that cannot even be read.
    """
    faults = Faults(root)
    database_file = os.path.join(root, "db.sqlite")
    if not is_current(root) or peek(database_file, faults) != VERSION:
        return []
    # The attempt to open the store has left an empty log, and nobody can fill it now.
    database = Database(database_file, faults, read_only=True, frozen=True)
    tmp = os.path.join(root, "tmp")
    gate = Gate(tmp)
    freed: list[Sized] = []
    try:
        # As in every removal nobody names anything meanwhile; who opens the store now and begins to write finds it full.
        gate.shut()
        sized = measure(root, take(root, database, Images(root), in_use(tmp)))
        for one in choose(sized, rule, int(time.time()), 0):
            paths = [os.path.join(root, "blobs", *name.split(":", 1)) for name in one.thing.blobs]
            size = sum(os.lstat(path).st_blocks * 512 for path in paths)
            for path in paths:
                os.unlink(path)
            if size:
                freed.append(one._replace(size=size))
            if sum(one.size for one in freed) >= ENOUGH:
                break
    finally:
        gate.open()
        database.close()
    return freed


def explained(error: StoreError) -> StoreError:
    """The same error, for a disk on which nothing could be removed."""
    return StoreError(error.message, hint="nothing that prune may remove could make room: free some space by other means")
