"""Layers as folders: exact, whatever the place is like; and nothing outside of them, whatever the items say."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import random
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings

from builder.errors import BuildError
from builder.layers.entry import EPOCH, BytesSource, Entry, FileSource, Item, RangeSource, Source, SparseSource
from builder.layers.folder import materialise
from builder.layers.index import Tree
from builder.layers.order import sort_items
from builder.layers.scan import scan
from tests.layers.layers_overlay import TIME, Stack, file, folder, hardlink, look, opaque, seen, symlink, whiteout
from tests.layers.layers_trees import trees

# VFS_CAP_REVISION_2 with the effective bit, CAP_NET_BIND_SERVICE permitted (linux/capability.h).
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
# USER_OBJ rwx, USER 1 rwx, GROUP_OBJ rwx, MASK rwx, OTHER --- (linux/posix_acl_xattr.h).
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [(1, 7, 0xFFFFFFFF), (2, 7, 1), (4, 7, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "layer"
    made.mkdir()
    return made


def below(*items: Item) -> Tree:
    tree = Tree()
    tree.apply([item.entry for item in sort_items(items)], 0)
    return tree


EVERYTHING = [
    Item(Entry(b"dev", "dir", 0o2770, 1, 2, mtime=TIME)),
    Item(Entry(b"dev/c", "char", 0o666, 3, 4, rdev=(5, 1), mtime=TIME)),
    Item(Entry(b"dev/d", "block", 0o660, 0, 6, rdev=(259, 70000), mtime=TIME + 1)),
    Item(Entry(b"dev/p", "fifo", 0o1622, 9, 9, mtime=-5)),
    Item(Entry(b"f", "file", 0o6755, 1000, 1001, 4, "", xattrs=((b"security.capability", CAPABILITY),), mtime=TIME + 999)),
    Item(Entry(b"l", "symlink", 0o777, 7, 8, link=b"../../etc/\xff", mtime=TIME + 2)),
    Item(Entry(b"none", "dir", 0o000, xattrs=((b"user.d", b"1"),), mtime=1)),
    Item(Entry(b"none/e", "file", 0o000, 2**32 - 2, 2**32 - 2, mtime=0, xattrs=((b"user.\xff", b"\0"),))),
    Item(Entry(b"t", "dir", 0o1777, mtime=-(10**9))),
]
EVERYTHING = [
    item._replace(source=BytesSource(b"data"[: item.entry.size])) if item.entry.kind == "file" else item for item in EVERYTHING
]


@pytest.mark.parametrize("place_is", ["plain", "acl", "setgid", "umask"])
def test_metadata_are_the_entries_own(tmp_path: Path, place_is: str) -> None:
    if place_is == "acl":
        os.setxattr(tmp_path, "system.posix_acl_default", ACL)
    if place_is == "setgid":
        os.chown(tmp_path, 0, 33)
        tmp_path.chmod(0o2755)
    place = tmp_path / "layer"
    place.mkdir()
    if place_is == "acl":
        assert "system.posix_acl_default" in os.listxattr(place)
    if place_is == "setgid":
        assert place.stat().st_gid == 33
    before = os.umask(0o777 if place_is == "umask" else 0o022)
    try:
        materialise(EVERYTHING, str(place), Tree())
    finally:
        os.umask(before)
    told: list[str] = []
    assert [item.entry for item in scan(str(place), owners="keep", overlay=True, warn=told.append)] == [
        item.entry for item in EVERYTHING
    ]
    # No ACL anywhere, the root included.
    assert told == []
    assert (stat.S_IMODE(place.stat().st_mode), place.stat().st_gid) == (0o755, 0)
    assert (place / "f").read_bytes() == b"data"


def test_a_large_time_is_the_nearest_that_the_kernel_knows(place: Path) -> None:
    materialise([file("f", mtime=10**40), file("g", mtime=-(10**40))], str(place), Tree())
    assert (place / "f").stat().st_mtime > 2**33
    assert (place / "g").stat().st_mtime < 0


def test_left_out_parents_are_as_below(place: Path) -> None:
    tree = below(folder("a", 0o711, uid=5), folder("a/b", 0o2750, gid=6, xattrs=((b"user.x", b"1"),)), file("a/b/old"))
    assert materialise([file("a/b/new")], str(place), tree)
    assert [item.entry for item in scan(str(place), owners="keep")][:2] == list(tree.walk(b"a"))[:2]


def test_parents_that_nobody_describes_are_plain(place: Path) -> None:
    assert materialise([file("a/b/c")], str(place), Tree())
    assert [item.entry for item in scan(str(place), owners="keep")][:2] == [
        Entry(b"a", "dir", 0o755, mtime=EPOCH * 10**9),
        Entry(b"a/b", "dir", 0o755, mtime=EPOCH * 10**9),
    ]


@pytest.mark.parametrize(
    ("items", "tied"),
    [
        ([file("f")], False),
        ([folder("a"), file("a/f")], False),
        ([folder("", 0o700), file("f")], False),
        ([whiteout("f")], False),
        ([file("a/f")], True),
        ([folder("a"), whiteout("a/f")], True),
        ([folder("a"), opaque("a")], False),
        ([opaque("a")], True),
    ],
)
def test_whether_the_folder_fits_another_base(place: Path, items: list[Item], tied: bool) -> None:
    assert materialise(items, str(place), below(folder("a"), file("a/f"), file("f"))) is tied


def test_the_root_is_its_entrys_or_belows(tmp_path: Path) -> None:
    tree = below(folder("", 0o711, uid=3))
    for name, items, mode, uid in (("a", [file("f")], 0o711, 3), ("b", [folder("", 0o1750, uid=4), file("f")], 0o1750, 4)):
        (tmp_path / name).mkdir()
        materialise(items, str(tmp_path / name), tree)
        status = (tmp_path / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime_ns) == (mode, uid, TIME)


def test_hard_links(place: Path) -> None:
    items = [file("a", b"1"), folder("d"), hardlink("d/b", "a"), hardlink("z", "a")]
    materialise(items, str(place), Tree())
    assert len({(place / name).stat().st_ino for name in ("a", "d/b", "z")}) == 1
    assert (place / "a").stat().st_nlink == 3
    assert (place / "d").stat().st_mtime_ns == TIME


def test_a_mount_shows_what_the_tree_says(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.add(folder("d"), file("d/old"), folder("d/e"), file("d/e/old"), folder("o"), file("o/old"), file("f"), folder("x"))
    stack.add(whiteout("d/old"), file("d/e/new"), opaque("o"), file("o/new"), whiteout("x"), file("f", b"2"), symlink("l", "d"))
    with stack.mounted() as merged:
        shown = look(merged)
    assert shown == seen(stack.tree.walk(b""))
    assert sorted(shown) == [b"d", b"d/e", b"d/e/new", b"d/e/old", b"f", b"l", b"o", b"o/new"]


# Content

BIG = bytes(range(256)) * 1200


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        assert os.stat(made).st_dev != os.stat("/tmp").st_dev
        yield Path(made)


def sources(data: bytes, at: Path) -> list[Source]:
    (at / "plain").write_bytes(data)
    (at / "archive").write_bytes(b"head" + data + b"tail")
    half = len(data) // 2
    return [
        BytesSource(data),
        FileSource(str(at), b"plain"),
        RangeSource(str(at / "archive"), 4, len(data)),
        SparseSource(str(at / "archive"), len(data), ((0, 4, half), (half, 4 + half, len(data) - half))),
    ]


@pytest.mark.parametrize("where", ["here", "other file system", "old kernel"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("data", [b"", b"small", BIG, BIG * 40])
def test_content(
    place: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, known: bool, data: bytes
) -> None:
    if where == "old kernel":
        # What a kernel, or a seccomp filter, without the calls answers.
        monkeypatch.setattr(os, "copy_file_range", _unknown)
        monkeypatch.setattr(os, "sendfile", _unknown)
    digest = hashlib.sha256(data).hexdigest() if known else ""
    items = [
        Item(Entry(b"%d" % number, "file", 0o644, size=len(data), digest=digest), source)
        for number, source in enumerate(sources(data, elsewhere if where == "other file system" else tmp_path))
    ]
    materialise(items, str(place), Tree())
    assert [(place / str(number)).read_bytes() for number in range(4)] == [data] * 4


def _unknown(*_: object) -> NoReturn:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("data", [b"small", BIG, BIG * 40])
@pytest.mark.parametrize("wrong", ["shorter", "longer", "digest"])
def test_content_that_is_not_the_entrys(place: Path, tmp_path: Path, number: int, data: bytes, wrong: str) -> None:
    size = len(data) + {"shorter": 1, "longer": -1, "digest": 0}[wrong]
    digest = hashlib.sha256(b"other").hexdigest() if wrong == "digest" else ""
    item = Item(Entry(b"f", "file", 0o644, size=size, digest=digest), sources(data, tmp_path)[number])
    with pytest.raises(BuildError, match="'f' changed while it was read"):
        materialise([item], str(place), Tree())


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["file", "sparse"])
def test_holes_stay_holes(place: Path, tmp_path: Path, kind: str, known: bool) -> None:
    size = 32 << 20
    with (tmp_path / "holes").open("wb") as made:
        made.write(b"head")
        made.seek(size // 2)
        made.write(b"middle")
        made.truncate(size)
    source: Source = FileSource(str(tmp_path), b"holes")
    if kind == "sparse":
        source = SparseSource(str(tmp_path / "holes"), size, ((0, 0, 4), (size // 2, size // 2, 6)))
    data = (tmp_path / "holes").read_bytes()
    digest = hashlib.sha256(data).hexdigest() if known else ""
    materialise([Item(Entry(b"f", "file", 0o644, size=size, digest=digest), source)], str(place), Tree())
    assert (place / "f").read_bytes() == data
    assert (place / "f").stat().st_blocks * 512 < 1 << 20


@pytest.fixture(scope="module", params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on a file system whose files may share their blocks."""
    image = tmp_path_factory.mktemp("disk") / "image"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([f"mkfs.{request.param}", "-q", image], check=True)
    folder = tmp_path_factory.mktemp("sharing")
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("way", ["ioctl", "copy_file_range"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("holes", [True, False])
def test_blocks_are_shared_where_that_can_be(
    sharing: Path, monkeypatch: pytest.MonkeyPatch, known: bool, holes: bool, way: str
) -> None:
    # Each of them does it.
    monkeypatch.setattr(*((os, "copy_file_range") if way == "ioctl" else (fcntl, "ioctl")), _unknown)
    size = 48 << 20
    with (sharing / "big").open("wb") as made:
        made.write(BIG * 20)
        if holes:
            made.seek(size // 2)
        made.write(random.Random(3).randbytes(size - made.tell()))
    os.sync()
    data = (sharing / "big").read_bytes()
    digest = hashlib.sha256(data).hexdigest() if known else ""
    folder = sharing / f"layer-{known}-{holes}-{way}"
    folder.mkdir()
    free = os.statvfs(sharing).f_bfree
    item = Item(Entry(b"copy", "file", 0o644, size=size, digest=digest), FileSource(str(sharing), b"big"))
    materialise([item], str(folder), Tree())
    os.sync()
    assert (folder / "copy").read_bytes() == data
    assert (free - os.statvfs(sharing).f_bfree) * os.statvfs(sharing).f_bsize < 2 << 20
    # They are two files all the same.
    with (sharing / "big").open("r+b") as changed:
        changed.write(b"changed")
    assert (folder / "copy").read_bytes() == data
    wrong = item._replace(entry=item.entry._replace(path=b"wrong", digest=hashlib.sha256(b"").hexdigest()))
    with pytest.raises(BuildError, match="'wrong' changed while it was read"):
        materialise([wrong], str(folder), Tree())


@pytest.mark.parametrize("way", ["copy_file_range", "pread"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_digest_is_that_of_the_copy(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, when: str
) -> None:
    """Whoever changes the file while it is copied, to the same size: a copy is right or refused."""
    data = random.Random(5).randbytes(9 << 20)
    (tmp_path / "plain").write_bytes(data)
    last = len(data) - 100
    call = getattr(os, way)

    def changing(descriptor: int, *words: int) -> object:
        def change() -> None:
            if os.path.samestat(os.fstat(descriptor), os.stat(tmp_path / "plain")):
                with (tmp_path / "plain").open("r+b") as file:
                    file.seek(last if when == "before" else 0)
                    file.write(b"changed")

        if when == "before":
            change()
        found = call(descriptor, *words)
        if when == "after":
            change()
        return found

    monkeypatch.setattr(os, way, changing)
    if way == "pread":
        monkeypatch.setattr(os, "copy_file_range", _unknown)
        monkeypatch.setattr(os, "sendfile", _unknown)
    item = Item(
        Entry(b"f", "file", 0o644, size=len(data), digest=hashlib.sha256(data).hexdigest()), FileSource(str(tmp_path), b"plain")
    )
    if when == "before":
        with pytest.raises(BuildError, match="'f' changed while it was read"):
            materialise([item], str(place), Tree())
    else:
        materialise([item], str(place), Tree())
        assert (place / "f").read_bytes() == data
    assert (tmp_path / "plain").read_bytes() != data


def test_a_file_that_seems_empty_to_the_kernel_is_read(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").write_bytes(BIG)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    for digest in ("", hashlib.sha256(BIG).hexdigest()):
        item = Item(
            Entry(b"f" + digest.encode()[:1], "file", 0o644, size=len(BIG), digest=digest), FileSource(str(tmp_path), b"plain")
        )
        materialise([item], str(place), Tree())
        assert (place / os.fsdecode(item.entry.path)).read_bytes() == BIG
        os.chmod(place, 0o755)


def test_a_file_of_a_lower_layer(place: Path, tmp_path: Path) -> None:
    (tmp_path / "lower").write_bytes(b"lower")
    item = Item(Entry(b"copy", "file", 0o600, size=5, link=b"the/lower"))
    asked: list[bytes] = []

    def lower_source(path: bytes) -> Source:
        asked.append(path)
        return FileSource(str(tmp_path), b"lower")

    materialise([item], str(place), Tree(), lower_source=lower_source)
    assert (asked, (place / "copy").read_bytes()) == ([b"the/lower"], b"lower")


# Hostile items


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([file("..")], "'..' is no path that a layer can have"),
        ([file("a/../../b")], "'a/../../b' is no path"),
        ([file("/etc/passwd")], "'/etc/passwd' is no path"),
        ([file("a//b")], "'a//b' is no path"),
        ([file("./a")], "'./a' is no path"),
        ([folder("a/")], "'a/' is no path"),
        ([file("a\0b")], "is no path"),
        ([file(".wh.a")], "names that begin with '.wh.'"),
        ([folder("d"), file("d/.wh..wh..opq")], "names that begin with '.wh.'"),
        ([symlink("a", "/tmp"), file("a/b")], "'a' is no folder but holds 'a/b'"),
        ([symlink("a", "/tmp"), whiteout("a/b")], "'a' is no folder but holds 'a/b'"),
        ([symlink("a", "/tmp"), folder("a/b")], "'a' is no folder but holds 'a/b'"),
        ([symlink("a", "/tmp"), opaque("a")], "'a' is no folder"),
        ([file("a"), file("a/b")], "'a' is no folder but holds 'a/b'"),
        ([file("a"), file("a")], "'a' occurs twice"),
        ([folder("a"), folder("a")], "'a' occurs twice"),
        ([folder("a"), file("a")], "'a' occurs twice"),
        ([file("a"), folder("a")], "'a' occurs twice"),
        ([whiteout("a"), file("a")], "'a' occurs twice"),
        ([hardlink("a", "gone")], "'a' is a hard link to 'gone', which is not there"),
        ([hardlink("a", "../../../etc/passwd")], "'../../../etc/passwd' is no path"),
        ([hardlink("a", "/etc/passwd")], "'/etc/passwd' is no path"),
        ([symlink("l", "/etc"), hardlink("a", "l/passwd")], "lies in something that is no folder"),
        ([folder("d"), hardlink("a", "d")], "'a' is a hard link to 'd', which is no file"),
        ([file("a"), hardlink("a", "a")], "'a' occurs twice"),
        ([file("n" * 256)], "is too long"),
        ([symlink("a", "x" * 5000)], "is too long"),
        ([symlink("a", "")], "leads nowhere"),
        ([symlink("a", "b\0c")], "leads nowhere"),
        ([file("a", uid=2**32 - 1)], "the owner 4294967295:0"),
        ([folder("a", gid=2**32)], "the owner 0:4294967296"),
        ([file("a", uid=-1)], "the owner -1:0"),
        ([file("a", xattrs=((b"trusted.overlay.redirect", b"/"),))], "trusted.overlay.redirect"),
        ([folder("a", xattrs=((b"user.overlay.opaque", b"y"),))], "user.overlay.opaque"),
        ([folder("a", xattrs=((b"system.posix_acl_default", ACL),))], "system.posix_acl_default"),
        ([folder("a", xattrs=((b"user." + b"x" * 300, b"1"),))], "the store cannot keep"),
        ([file("a", xattrs=((b"security.capability", b"junk"),))], "the store cannot keep"),
        ([Item(Entry(b"a", "char", 0o600))], "'a' is the device 0:0"),
        ([Item(Entry(b"a", "block", 0o600, rdev=(4096, 0)))], "'a' is the device 4096:0"),
        ([Item(Entry(b"a", "char", 0o600, rdev=(2**40, -1)))], "'a' is the device"),
    ],
)
def test_hostile_items(tmp_path: Path, place: Path, items: list[Item], message: str) -> None:
    with pytest.raises(BuildError) as caught:
        materialise(items, str(place), Tree())
    assert message in caught.value.message
    assert os.listdir(tmp_path) == ["layer"]


# Random trees


@settings(max_examples=100, deadline=None)
@given(trees())
def test_what_is_written_is_what_a_scan_finds(tmp_path_factory: pytest.TempPathFactory, items: list[Item]) -> None:
    place = tmp_path_factory.mktemp("layer")
    place.chmod(0o755)
    materialise(items, str(place), Tree())
    found = scan(str(place), owners="keep", overlay=True)
    assert [item.entry for item in found] == [item.entry for item in items]
    for item in items:
        if isinstance(item.source, BytesSource):
            assert Path(os.fsdecode(os.fsencode(place) + b"/" + item.entry.path)).read_bytes() == item.source.data
