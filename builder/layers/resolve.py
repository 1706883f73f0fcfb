"""Paths through symbolic links, resolved inside a tree of entries and never on the host. Pure."""

from __future__ import annotations

from builder.errors import BuildError
from builder.layers.names import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.layers.entry import Entry

MAX_LINKS = 40
"""The kernel's own limit of symlinks in one resolution (path_resolution(7))."""


def resolve(path: bytes, lookup: Callable[[bytes], Entry | None], *, follow_last: bool = True) -> bytes:
    """The canonical path that `path` leads to, as a process whose root is the tree of `lookup` would find it.

    Links, absolute or not, stay inside; `..` stops at the root. What is not there counts as a plain name. With
    `follow_last=False` a link at the end is not followed. Raises BuildError after more than `MAX_LINKS` links.
    """
    left = path.split(b"/")
    left.reverse()
    at = b""
    links = 0
    while left:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            at = at.rpartition(b"/")[0]
            continue
        here = at + b"/" + name if at else name
        entry = lookup(here)
        if entry is not None and entry.kind == "hardlink":
            entry = lookup(entry.link)
        if entry is None or entry.kind != "symlink" or not (follow_last or any(part not in (b"", b".") for part in left)):
            at = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise BuildError(
                f"'{show(path)}' leads through too many symbolic links", hint="one of the links leads back to itself"
            )
        if entry.link.startswith(b"/"):
            at = b""
        left.extend(reversed(entry.link.split(b"/")))
    return at
