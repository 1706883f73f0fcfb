"""Folders of the host as items: what is there, in order, and nothing else."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.layers.entry import Entry, FileSource, Item
from builder.layers.scan import scan
from tests.layers.layers_overlay import TIME, names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    made.chmod(0o755)
    return made


def test_every_kind(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"12345")
    os.setxattr(root / "d" / "f", "user.b", b"2")
    os.setxattr(root / "d" / "f", "user.a", b"\x00\xff")
    os.setxattr(root / "d", "user.d", b"")
    (root / "l").symlink_to("/etc/passwd")
    os.mkfifo(root / "p")
    os.mknod(root / "c", 0o600 | stat.S_IFCHR, os.makedev(5, 1))
    os.mknod(root / "b", 0o600 | stat.S_IFBLK, os.makedev(8, 17))
    modes = {"d": 0o2750, "d/f": 0o4711, "p": 0o622, "c": 0o620, "b": 0o660}
    for number, (path, mode) in enumerate(modes.items()):
        os.chown(root / path, 1000 + number, 2**32 - 2 - number)
        os.chmod(root / path, mode)
    for path in ("d/f", "d", "l", "p", "c", "b"):
        os.utime(root / path, ns=(0, TIME), follow_symlinks=False)
    os.utime(root / "p", ns=(0, -1_500_000_000))
    assert scan(str(root), owners="keep") == [
        Item(Entry(b"b", "block", 0o660, 1004, 2**32 - 6, rdev=(8, 17), mtime=TIME)),
        Item(Entry(b"c", "char", 0o620, 1003, 2**32 - 5, rdev=(5, 1), mtime=TIME)),
        Item(Entry(b"d", "dir", 0o2750, 1000, 2**32 - 2, xattrs=((b"user.d", b""),), mtime=TIME)),
        Item(
            Entry(b"d/f", "file", 0o4711, 1001, 2**32 - 3, 5, xattrs=((b"user.a", b"\x00\xff"), (b"user.b", b"2")), mtime=TIME),
            FileSource(str(root), b"d/f"),
        ),
        Item(Entry(b"l", "symlink", 0o777, link=b"/etc/passwd", mtime=TIME)),
        Item(Entry(b"p", "fifo", 0o622, 1002, 2**32 - 4, mtime=-1_500_000_000)),
    ]
    owners = {(item.entry.uid, item.entry.gid) for item in scan(str(root), owners="root")}
    assert owners == {(0, 0)}


def test_order_is_bytewise_by_whole_path(root: Path) -> None:
    for path in ("a", "a.d", "a/b", "b", "B", "\udcff", "é"):
        (root / path).mkdir()
    assert [item.entry.path for item in scan(str(root), owners="keep")] == [
        b"B", b"a", b"a.d", b"a/b", b"b", "é".encode(), b"\xff",
    ]  # fmt: skip


def test_the_first_path_owns_a_hard_link(root: Path, tmp_path: Path) -> None:
    (root / "d").mkdir()
    (root / "z").write_bytes(b"1")
    os.link(root / "z", root / "d" / "m")
    os.link(root / "z", root / "b")
    # A name outside of the folder does not count, nor do two names of a symlink.
    (root / "alone").write_bytes(b"2")
    os.link(root / "alone", tmp_path / "outside")
    (root / "s").symlink_to("z")
    os.link(root / "s", root / "t", follow_symlinks=False)
    items = scan(str(root), owners="root")
    assert names(items) == ["alone", "b", "d", "d/m -> b", "s", "t", "z -> b"]
    link = next(item for item in items if item.entry.path == b"z")
    owner = next(item for item in items if item.entry.path == b"b")
    assert link == Item(owner.entry._replace(path=b"z", kind="hardlink", link=b"b"))


def test_the_root_is_an_item_when_it_is_not_plain(root: Path) -> None:
    assert scan(str(root), owners="keep") == []
    os.chown(root, 7, 0)
    assert scan(str(root), owners="root") == []
    root.chmod(0o700)
    [item] = scan(str(root), owners="keep")
    assert (item.entry.path, item.entry.kind, item.entry.mode, item.entry.uid) == (b"", "dir", 0o700, 7)


def test_what_no_layer_carries_is_told(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(root):
        made.bind("s")
    (root / "f").touch()
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry)
        for entry in [(1, 6, 0xFFFFFFFF), (2, 4, 9), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF)]
    )
    os.setxattr(root / "f", "system.posix_acl_access", acl)
    os.setxattr(root / "f", "trusted.overlay.redirect", b"/etc")
    os.setxattr(root / "f", "user.overlay.opaque", b"y")
    told: list[str] = []
    [item] = scan(str(root), owners="keep", warn=told.append)
    assert item.entry.xattrs == ()
    assert sorted(told) == [
        "'s' is a socket and is left out",
        "the extended attribute system.posix_acl_access of 'f' is left out",
    ]


def test_overlays_form(root: Path) -> None:
    (root / "d").mkdir()
    (root / "o").mkdir()
    os.setxattr(root / "o", "user.overlay.opaque", b"y")
    (root / "o" / "f").touch()
    os.mknod(root / "d" / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.link(root / "d" / "gone", root / "too")
    assert names(scan(str(root), owners="root", overlay=True)) == ["- too", "d", "- d/gone", "o", "! o", "o/f"]


@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq", "d/.wh.y"])
def test_names_that_mean_deletions_are_errors(root: Path, name: str) -> None:
    (root / "d").mkdir()
    (root / name).touch()
    with pytest.raises(BuildError) as caught:
        scan(str(root), owners="root")
    assert caught.value.message == f"'{name}' cannot be in a layer: names that begin with '.wh.' mean deleted files there"


def test_what_vanishes_is_told_by_name(root: Path) -> None:
    _sockets(root, "a", "b", "c")

    def remove_others(told: str) -> None:
        for name in "abc":
            if told != f"'{name}' is a socket and is left out":
                (root / name).unlink()

    with pytest.raises(BuildError, match=r"'[abc]' changed while it was read"):
        scan(str(root), owners="root", warn=remove_others)


@pytest.mark.parametrize("becomes", ["nothing", "file", "link"])
def test_a_folder_that_becomes_something_else_is_told(root: Path, tmp_path: Path, becomes: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "a").mkdir()
    (root / "b").mkdir()
    _sockets(root, "a/s", "b/s")
    swapped = []

    def swap_other(told: str) -> None:
        # Both were seen as folders; the one that is not open is another thing before its turn comes.
        other = root / ("b" if told.startswith("'a/s'") else "a")
        (other / "s").unlink()
        other.rmdir()
        if becomes == "file":
            other.touch()
        elif becomes == "link":
            other.symlink_to(outside)
        swapped.append(other.name)

    with pytest.raises(BuildError) as caught:
        scan(str(root), owners="root", warn=swap_other)
    assert [f"'{name}' changed while it was read" for name in swapped] == [caught.value.message]


def _sockets(root: Path, *paths: str) -> None:
    for path in paths:
        with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(root):
            made.bind(path)


NAMES = st.binary(min_size=1, max_size=8).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..") and not name.startswith(b".wh.")
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3).map(b"/".join), st.binary(max_size=20)), max_size=8))
def test_any_names(tmp_path_factory: pytest.TempPathFactory, files: list[tuple[bytes, bytes]]) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("any"))
    os.chmod(root, 0o755)
    made: dict[bytes, int] = {}
    for path, data in files:
        try:
            os.makedirs(os.path.dirname(root + b"/" + path), exist_ok=True)
            with open(root + b"/" + path, "wb") as opened:
                opened.write(data)
        except OSError:
            # A file is where a folder should be, or the other way round.
            continue
        made[path] = len(data)
    items = scan(os.fsdecode(root), owners="root")
    paths = [item.entry.path for item in items]
    assert paths == sorted(paths)
    assert {item.entry.path: item.entry.size for item in items if item.entry.kind == "file"} == made
    folders = {path.rsplit(b"/", depth)[0] for path in made for depth in range(1, path.count(b"/") + 1)}
    assert {item.entry.path for item in items if item.entry.kind == "dir"} >= folders
