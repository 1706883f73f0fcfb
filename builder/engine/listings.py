"""Which files a selection of a context has, kept by its content digest: what an image says of its build takes them from there.

The listing is a matter of the content alone, so a build that finds all in the cache need not look at the files for it.
"""

from __future__ import annotations

from builder import canonical
from builder.layers.names import show
from builder.plan.listing import FILES, listing, mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.engine.selection import Picked
    from builder.store.store import Store


def keep(
    store: Store,
    content: str,
    picked: Sequence[Picked],
    *,
    owners: bool = True,
    modes: bool = True,
) -> None:
    """Remember what a selection with this content digest holds; the flags are those of the digest
    (`builder.engine.selection.content_digest`). Nothing happens where it is too much to be listed."""
    if sum(len(one.items) for one in picked) > FILES:
        return
    marks = {}
    for one in picked:
        read: dict[bytes, str] = {}
        for entry, _ in one.items:
            if entry.kind == "dir" and not entry.path:
                continue
            path, kind, mode, uid, gid, _, digest, link, rdev, xattrs, _ = entry
            read[path] = digest = digest or (read[link] if kind == "hardlink" else "")
            # Which of two names owns a hard link depends on both: what one of them holds is told by its digest.
            kind, link = ("file", b"") if kind == "hardlink" else (kind, link)
            known = (kind, mode if modes and kind != "symlink" else 0, (uid, gid) if owners else (), digest, link, rdev, xattrs)
            # A file that is mounted has no name of its own.
            name = one.name + b"/" * bool(one.name and path) + path or b"."
            marks[show(name)] = mark(repr(known).encode())
    rows = listing(marks)
    if rows:
        store.put_listing(content, canonical.dumps(rows))
