"""Random trees, as canonical items."""

from __future__ import annotations

from hypothesis import strategies as st

from builder.layers.entry import BytesSource, Entry, Item
from builder.layers.order import sort_items

NAMES = st.sampled_from([b"a", b"b", b"a.d", b"\xff", b"Z"])
ATTRIBUTES = st.sampled_from([(), ((b"user.a", b""),), ((b"user.a", b"\xff\0"), (b"user.b", b"2"))])
IDS = st.integers(0, 2**32 - 2)
# What ext4 can say.
TIMES = st.integers(-(2**30) * 10**9, 2**33 * 10**9)


@st.composite
def trees(draw: st.DrawFn) -> list[Item]:
    """Canonical items with every parent."""
    made: dict[bytes, Item] = {}
    for _ in range(draw(st.integers(0, 10))):
        folders = [b"", *(path for path, item in made.items() if item.entry.kind == "dir")]
        parent = draw(st.sampled_from(folders))
        path = parent + b"/" + draw(NAMES) if parent else draw(NAMES)
        if path in made:
            continue
        entry = Entry(path, "dir", draw(st.integers(0, 0o7777)), draw(IDS), draw(IDS), mtime=draw(TIMES))
        files = [item.entry for item in made.values() if item.entry.kind == "file"]
        match draw(st.sampled_from(["dir", "dir", "file", "file", "symlink", "fifo", "char", "block", "hardlink"])):
            case "file":
                data = draw(st.binary(max_size=600))
                entry = entry._replace(kind="file", size=len(data), xattrs=draw(ATTRIBUTES))
                made[path] = Item(entry, BytesSource(data))
            case "symlink":
                made[path] = Item(
                    entry._replace(kind="symlink", mode=0o777, link=draw(st.sampled_from([b"a", b"/", b"\xff/.."])))
                )
            case "fifo":
                made[path] = Item(entry._replace(kind="fifo"))
            case "char":
                made[path] = Item(
                    entry._replace(kind="char", rdev=(draw(st.integers(1, 4095)), draw(st.integers(0, 2**20 - 1))))
                )
            case "block":
                made[path] = Item(entry._replace(kind="block", rdev=(0, draw(st.integers(0, 255)))))
            case "hardlink" if files:
                owner = draw(st.sampled_from(files))
                made[path] = Item(owner._replace(path=path, kind="hardlink", link=owner.path))
            case _:
                made[path] = Item(entry._replace(xattrs=draw(ATTRIBUTES)))
    return sort_items(made.values())
