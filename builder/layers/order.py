"""The canonical order of a layer's items (SPEC section 5). Pure."""

from __future__ import annotations

from builder.errors import BuildError
from builder.layers.entry import Item
from builder.layers.names import member, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.layers.entry import Entry


def sort_items(items: Iterable[Item]) -> list[Item]:
    """Bytewise by member name without a trailing slash (a whiteout of `a/x` sorts as `a/.wh.x`), the root first.

    Where a hard link sorts before the file that it names, the two change places: the first path in order owns the content
    and the others name it. Chains of hard links are shortened. A link to a path that is not among the items is kept.
    Paths are unique; that is the caller's duty. Raises BuildError for hard links that only name each other.
    """
    ordered = sorted(items, key=lambda item: member(item.entry))
    if any(item.entry.kind == "hardlink" for item in ordered):
        _own_links(ordered)
    return ordered


def link_to(owner: Entry, path: bytes) -> Entry:
    """The hard link at `path` that repeats `owner`."""
    return owner._replace(path=path, kind="hardlink", link=owner.path, rdev=(0, 0))


def _own_links(ordered: list[Item]) -> None:
    position = {item.entry.path: index for index, item in enumerate(ordered) if item.entry.kind not in ("whiteout", "opaque")}
    groups: dict[int, list[int]] = {}
    for index, item in enumerate(ordered):
        if item.entry.kind == "hardlink":
            owner = _owner(ordered, position, index)
            if owner >= 0:
                groups.setdefault(owner, []).append(index)
    for owner, links in groups.items():
        first = min(owner, links[0])
        named = ordered[owner]._replace(entry=ordered[owner].entry._replace(path=ordered[first].entry.path))
        for index in (owner, *links):
            ordered[index] = Item(link_to(named.entry, ordered[index].entry.path))
        ordered[first] = named


def _owner(ordered: list[Item], position: dict[bytes, int], index: int) -> int:
    """Where the content of the hard link at `index` is; -1 when it is not among the items."""
    start = ordered[index].entry
    seen = {index}
    while ordered[index].entry.kind == "hardlink":
        index = position.get(ordered[index].entry.link, -1)
        if index < 0:
            return -1
        if index in seen:
            raise BuildError(f"'{show(start.path)}' is a hard link to itself", hint="the archive that it comes from is damaged")
        seen.add(index)
    return index
