"""Trying the ladder, in the store whose commands will use it, and keeping what came of it."""

from __future__ import annotations

import os
from contextlib import suppress

from builder.cli.isolation import Known, dump, load
from builder.errors import StoreError
from builder.sandbox import ladder, subids
from builder.store import layout
from builder.store.faults import Faults
from builder.store.files import write_file
from builder.store.lease import Lease


def probe(root: str, fingerprint: str, path: str) -> Known | None:
    """Raises StoreError for a store whose files have other owners than a sandbox would have now. None where the store cannot
    be used at all, which it says itself."""
    faults = Faults(root)
    try:
        layout.prepare(root, faults)
    except StoreError:
        return None
    before = load(root)
    lease = Lease(os.path.join(root, "tmp"), faults)
    try:
        with lease.scratch() as folder:
            found = ladder.climb(folder, path)
        known = Known(found.verdicts, found.maps, found.own, found.passing)
        _check_same_owners(root, before[1] if before else None, known)
        _keep(root, lease.new_path(), dump(fingerprint, known))
    finally:
        lease.close()
    return known


def _check_same_owners(root: str, before: Known | None, now: Known) -> None:
    """The files of a store belong to the ids that its maps had when they were made."""
    if before is None or before.maps is None or not os.listdir(os.path.join(root, "snapshots")):
        return
    if now.maps is None:
        # Nothing is entered, and what needs the owners says so; the maps come back with the namespace.
        return
    if not (subids.keeps(before.maps.uids, now.maps.uids) and subids.keeps(before.maps.gids, now.maps.gids)):
        raise StoreError(
            f"the files of the store {root} belong to other subordinate ids than you have now (/etc/subuid, /etc/subgid)",
            hint="put the old lines back, or use another store (--root) and let root remove this one",
        )


def _keep(root: str, temporary: str, data: bytes) -> None:
    # A store that cannot keep it can still be read; the ladder is tried again the next time.
    with suppress(OSError):
        write_file(temporary, data, sync=False)
        os.rename(temporary, os.path.join(root, "rungs"))
