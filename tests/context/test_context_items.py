"""What a COPY takes of a folder of the host, in the order of a layer."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.context.directory import DirectoryContext
from builder.context.ignoring import NothingIgnored
from builder.context.items import FolderItems, described
from builder.layers.entry import FileSource

# Around the slash, whose place in the order matters.
NAMES = st.text("a.-0~", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
LATE = 12 * 10**18
"""Nanoseconds: the year 2350. 63 bits hold those up to 2262, and ext4 ends in 2446."""


def folder(root: Path) -> DirectoryContext:
    return DirectoryContext(str(root), NothingIgnored(), pytest.fail)


@settings(max_examples=60, deadline=None)
@given(paths=st.lists(PATHS, max_size=12), start=st.sampled_from(["", "top"]), links=st.booleans())
def test_they_are_all_there_is_bytewise_by_path(paths: list[str], start: str, links: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, start) if start else Path(name)
        root.mkdir(exist_ok=True)
        for number, path in enumerate(paths):
            place = root / path
            if not any(above.is_file() for above in (place, *place.parents)) and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(str(number // 2))
                if links and not (root / f"{path}~").exists():
                    os.link(place, root / f"{path}~")
        expected = sorted(os.fsencode(path.relative_to(root)) for path in root.rglob("*"))
        context = folder(Path(name))
        items = FolderItems(os.fsencode(start), context, context.digest_of)
        assert [item.entry.path for item in items] == [b"", *expected]
        for owners, modes in ((True, True), (False, True), (True, False)):
            lines = items.rows(owners=owners, modes=modes)
            assert lines is not None
            whole = b"".join(described(entry, owners=owners, modes=modes) for entry, _ in items)
            assert b"".join(line for some in lines for line in some) == whole
        assert (len(items), items.longest) == (len(expected) + 1, max(map(len, expected), default=0))
        seen: dict[int, bytes] = {}
        for entry, source in list(items)[1:]:
            info = (root / os.fsdecode(entry.path)).lstat()
            assert (entry.mode, entry.size, entry.mtime) == (
                stat.S_IMODE(info.st_mode),
                0 if stat.S_ISDIR(info.st_mode) else info.st_size,
                info.st_mtime_ns,
            )
            if stat.S_ISREG(info.st_mode):
                owner = seen.setdefault(info.st_ino, entry.path)
                assert entry.digest == hashlib.sha256((root / os.fsdecode(entry.path)).read_bytes()).hexdigest()
                if owner == entry.path:
                    assert (entry.kind, source) == (
                        "file",
                        FileSource(name, os.fsencode(start) + b"/" * bool(start) + entry.path),
                    )
                else:
                    assert (entry.kind, entry.link, source) == ("hardlink", owner, None)
        assert items.has_links == (len(seen) < sum(path.is_file() for path in root.rglob("*")))


def test_what_is_not_read_has_no_digest_until_somebody_reads_it(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name * 3)
    (tmp_path / "link").symlink_to("a")
    context = folder(tmp_path)
    items = FolderItems(b"", context, None)
    assert (items.unread, items.unread_bytes) == (3, 9)
    assert {item.entry.digest for item in items} == {""}
    context.digest_of(b"b")
    assert [item.entry.path for item in items if item.entry.digest] == [b"b"]
    again = FolderItems(b"", context, None)
    assert (again.unread, again.unread_bytes) == (2, 6)
    # The same items each time, and what they are made from stays where it is.
    assert list(items) == list(items) == list(again)


def test_a_hard_link_has_the_digest_of_its_file_as_soon_as_that_was_read(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "b").write_text("text")
    os.link(tmp_path / "b", tmp_path / "d" / "a")
    os.link(tmp_path / "b", tmp_path / "z")
    context = folder(tmp_path)
    items = FolderItems(b"", context, None)
    assert items.unread == 3
    # Which name is read matters: the others say nothing of the one that comes first.
    context.digest_of(b"z")
    assert {entry.digest for entry, _ in items} == {""}
    assert FolderItems(b"", context, None).unread == 2
    read = context.digest_of(b"b")
    assert [(entry.path, entry.kind, entry.digest) for entry, _ in items] == [
        (b"", "dir", ""),
        (b"b", "file", read),
        (b"d", "dir", ""),
        (b"d/a", "hardlink", read),
        (b"z", "hardlink", read),
    ]


def test_times_that_fit_no_row(tmp_path: Path) -> None:
    for name, time in (("early", -(10**9)), ("late", LATE), ("other", 5)):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, ns=(time, time))
    assert (tmp_path / "late").stat().st_mtime_ns == LATE, "the file system of the tests keeps such times"
    context = folder(tmp_path)
    items = FolderItems(b"", context, context.digest_of)
    assert [(entry.path, entry.mtime) for entry, _ in list(items)[1:]] == [
        (b"early", -(10**9)),
        (b"late", LATE),
        (b"other", 5),
    ]
    late = context.lookup(b"late")
    assert late is not None and late.mtime == LATE
