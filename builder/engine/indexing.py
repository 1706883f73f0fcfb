"""The index of a layer that others packed: its members as canonical entries, with the digests of their content."""

from __future__ import annotations

from builder.layers.settle import fill, settle
from builder.layers.tarwriter import digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.cancellation import Cancellation
    from builder.layers.entry import Item, Source
    from builder.layers.index import Tree


def indexed(found: Iterable[Item], below: Tree, content: Callable[[bytes], Source], stop: Cancellation) -> list[Item]:
    """What the members of a layer's tar, in its order, do to `below`. `content` says where that of a path of `below` is. Raises
    BuildError as `read_tar` and `settle`."""
    items = fill(settle(found, below).items, content)
    # The writer knows no opaque marks, and a mark has its folder's path.
    plain = [item for item in items if item.entry.kind != "opaque"]
    entries = iter(digested(plain, stop=stop))
    return [item if item.entry.kind == "opaque" else item._replace(entry=next(entries)) for item in items]
