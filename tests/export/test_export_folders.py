"""Folders, tars of a file system, and where outputs go."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError, UsageError
from builder.export.destination import Destination
from builder.export.directory import write_local, write_tar
from builder.layers.entry import BytesSource, Entry, FileSource, Item
from builder.layers.scan import scan

EPOCH = 315619200


def a_file(path: str, content: bytes = b"content", mode: int = 0o644, uid: int = 0, gid: int = 0) -> Item:
    return Item(Entry(os.fsencode(path), "file", mode, uid, gid, len(content)), BytesSource(content))


def a_folder(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Item:
    return Item(Entry(os.fsencode(path), "dir", mode, uid, gid))


def a_link(path: str, target: str) -> Item:
    return Item(Entry(os.fsencode(path), "symlink", 0o777, link=os.fsencode(target)))


def a_tree() -> list[Item]:
    return [
        a_folder("", 0o700),
        a_folder("bin", 0o755),
        a_file("bin/tool", b"tool", 0o4755, 1, 2),
        a_folder("closed", 0o500, 3, 4),
        a_file("closed/file", b""),
        Item(Entry(b"closed/hard", "hardlink", 0o4755, 1, 2, 4, link=b"bin/tool")),
        a_link("lib", "/usr/lib"),
        Item(Entry(b"null", "char", 0o666, rdev=(1, 3))),
        Item(Entry(b"pipe", "fifo", 0o600, 5, 6)),
        a_file("implied/parent/file", b"deep"),
        Item(Entry(b"tagged", "file", 0o644, size=1, xattrs=((b"user.note", b"yes"),)), BytesSource(b"x")),
        a_file(os.fsdecode(b"\xff\n"), b"any name"),
    ]


def seen(root: Path, path: str) -> tuple[int, int, int, int]:
    info = os.lstat(root / path)
    assert info.st_mtime == EPOCH, path
    return (stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)


def test_a_tree_comes_out_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    for umask in (0o022, 0o077):
        before = os.umask(umask)
        try:
            # Twice: an earlier output is written over.
            assert write_local(a_tree(), str(out)) == len("tool" + "" + "deep" + "x" + "any name")
        finally:
            os.umask(before)
        assert seen(out, "bin") == (stat.S_IFDIR, 0o755, 0, 0)
        assert seen(out, "bin/tool") == (stat.S_IFREG, 0o4755, 1, 2)
        assert seen(out, "closed") == (stat.S_IFDIR, 0o500, 3, 4)
        assert seen(out, "closed/file") == (stat.S_IFREG, 0o644, 0, 0)
        assert seen(out, "lib")[0] == stat.S_IFLNK and os.readlink(out / "lib") == "/usr/lib"
        assert seen(out, "null") == (stat.S_IFCHR, 0o666, 0, 0) and os.stat(out / "null").st_rdev == os.makedev(1, 3)
        assert seen(out, "pipe") == (stat.S_IFIFO, 0o600, 5, 6)
        assert stat.S_IMODE((out / "implied" / "parent").stat().st_mode) == 0o755
        assert os.getxattr(out / "tagged", "user.note") == b"yes"
        assert os.lstat(out / "closed/hard").st_ino == os.lstat(out / "bin/tool").st_ino
        assert os.lstat(out / "bin/tool").st_nlink == 2
        assert Path(os.fsdecode(os.fsencode(out) + b"/\xff\n")).read_bytes() == b"any name"
        assert len(list(out.rglob("*"))) == 13


def test_the_destination_keeps_its_own_metadata_and_what_the_image_does_not_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "bin").mkdir(parents=True)
    out.chmod(0o751)
    (out / "bin" / "mine").write_text("mine")
    (out / "letter").write_text("dear")
    (out / "bin" / "tool").write_text("old")
    os.link(out / "bin" / "tool", out / "other-name")
    (out / "lib").mkdir()
    (out / "implied").mkdir(0o711)
    write_local(a_tree(), str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o751
    assert ((out / "bin" / "mine").read_text(), (out / "letter").read_text()) == ("mine", "dear")
    # Replaced, not written into: the other name of the old file keeps the old content.
    assert ((out / "bin" / "tool").read_text(), (out / "other-name").read_text()) == ("tool", "old")
    assert os.readlink(out / "lib") == "/usr/lib"
    assert stat.S_IMODE((out / "implied").stat().st_mode) == 0o711
    assert not [name for name in os.listdir(out) if name.startswith(".")]


def test_no_link_in_the_destination_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "tool").write_text("outside")
    out = tmp_path / "out"
    out.mkdir()
    os.symlink(outside, out / "bin")
    os.symlink(outside, out / "implied")
    os.symlink(outside / "tool", out / "tagged")
    os.symlink("/dev/null", out / "null")
    write_local(a_tree(), str(out))
    assert os.listdir(outside) == ["tool"]
    assert (outside / "tool").read_text() == "outside"
    assert (out / "bin" / "tool").read_text() == "tool"
    assert (out / "tagged").read_text() == "x"


def test_a_link_of_the_image_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = [a_link("a", str(outside)), a_file("a/file")]
    with pytest.raises(BuildError, match="'a' is no folder but holds other names"):
        write_local(hostile, str(tmp_path / "out"))
    assert os.listdir(outside) == []


def test_a_path_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    for number, twice in enumerate(([a_file("a"), a_file("a")], [a_folder("a"), a_folder("a")], [a_folder("a"), a_file("a")])):
        with pytest.raises(BuildError, match="'a' occurs twice"):
            write_local(twice, str(tmp_path / str(number)))


@pytest.mark.parametrize("path", ["../file", "a/../../file", "/file", "a//b", "./a", ".wh.a"])
def test_a_path_that_is_none_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(BuildError):
        write_local([a_file(path)], str(tmp_path / "out" / "in"))
    assert [name for _, _, files in os.walk(tmp_path) for name in files] == []


def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    for target in (b"nothing", b"../outside"):
        (tmp_path / "outside").touch()
        with pytest.raises(BuildError):
            write_local([Item(Entry(b"name", "hardlink", link=target))], str(tmp_path / "out"))
        assert os.listdir(tmp_path / "out") == []


def test_a_full_folder_in_the_way_of_a_file_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "src").mkdir(parents=True)
    (out / "src" / "work").write_text("of years")
    with pytest.raises(UsageError, match="'src' is a folder in the destination and none in the image"):
        write_local([a_file("src")], str(out))
    assert (out / "src" / "work").read_text() == "of years"
    assert os.listdir(out) == ["src"]


def test_a_destination_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for dest in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="is not a folder"):
            write_local(a_tree(), str(dest))
    with pytest.raises(UsageError, match="standard output"):
        write_local(a_tree(), "-")
    assert (tmp_path / "file").read_text() == "text"


def test_content_that_changed_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"longer than it was")
    item = Item(Entry(b"file", "file", 0o644, size=3), FileSource(str(source), b"file"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").write_text("old")
    with pytest.raises(BuildError, match="changed while it was read"):
        write_local([item], str(out))
    assert os.listdir(out) == ["file"]
    assert (out / "file").read_text() == "old"


AS_A_USER = """
import os, sys
from builder.export.directory import write_local
from builder.layers.entry import BytesSource, Entry, Item
os.setgroups([]); os.setgid(1234); os.setuid(1234)
capability = (b"security.capability", b"\\1\\0\\0\\2" + bytes(16))
items = [
    Item(Entry(b"closed", "dir", 0o555, 7, 7)),
    Item(Entry(b"closed/file", "file", 0o444, 7, 7, 1), BytesSource(b"x")),
    Item(Entry(b"null", "char", 0o666, rdev=(1, 3))),
    Item(Entry(b"null2", "hardlink", 0o666, link=b"null")),
    Item(Entry(b"ping", "file", 0o755, size=1, xattrs=(capability,)), BytesSource(b"x")),
]
for _ in range(2):
    write_local(items, "out", warn=print)
"""


def test_a_user_who_is_not_root_gets_what_is_possible_and_is_told_of_the_rest() -> None:
    # Not tmp_path: another user cannot reach what is below root's folders.
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, 1234, 1234)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-c", AS_A_USER]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        told = (
            "the device 'null' is left out: only root can make it\n"
            "the attribute security.capability of 'ping' is left out: Operation not permitted\n"
        )
        assert (done.stderr, done.stdout) == ("", told * 2)
        out = Path(home, "out")
        assert sorted(os.listdir(out)) == ["closed", "ping"]
        assert seen(out, "closed") == (stat.S_IFDIR, 0o555, 1234, 1234)
        assert seen(out, "closed/file") == (stat.S_IFREG, 0o444, 1234, 1234)


NAMES = st.sampled_from([b"a", b"b", b"a.b", b"\xff"])
NODES = st.one_of(
    st.tuples(st.just("dir"), st.sampled_from([0o755, 0o500, 0o1777]), st.just(b"")),
    st.tuples(st.just("file"), st.sampled_from([0o644, 0o4711, 0]), st.binary(max_size=20)),
    st.tuples(st.just("symlink"), st.just(0o777), st.sampled_from([b"a", b"/", b"../../x"])),
    st.tuples(st.just("fifo"), st.just(0o600), st.just(b"")),
)


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map(tuple), NODES, max_size=10), old=st.booleans())
def test_any_tree_is_read_back(tree: dict[tuple[bytes, ...], tuple[str, int, bytes]], old: bool) -> None:
    items: dict[bytes, Item] = {}
    for names, (kind, mode, data) in sorted(tree.items()):
        parents = [b"/".join(names[:depth]) for depth in range(1, len(names))]
        if any(parent in items and items[parent].entry.kind != "dir" for parent in parents):
            continue
        for parent in parents:
            items.setdefault(parent, Item(Entry(parent, "dir", 0o711, 9, 9)))
        path = b"/".join(names)
        match kind:
            case "file":
                items[path] = Item(Entry(path, "file", mode, 8, 8, len(data)), BytesSource(data))
            case "symlink":
                items[path] = Item(Entry(path, "symlink", mode, 8, 8, link=data))
            case "dir":
                items[path] = Item(Entry(path, "dir", mode, 8, 8))
            case _:
                items[path] = Item(Entry(path, "fifo", mode, 8, 8))
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as outside:
        for number, path in enumerate(path for path in items if old and b"/" not in path):
            # What another output left.
            place = os.path.join(os.fsencode(out), path)
            [lambda p: os.symlink(outside, p), os.mkdir, os.mkfifo][number % 3](place)
        write_local(items.values(), out)
        found = {item.entry.path: item for item in scan(out, owners="keep") if item.entry.path}
        assert {path: item.entry._replace(mtime=0, digest="") for path, item in found.items()} == {
            path: item.entry for path, item in items.items()
        }
        for path, item in items.items():
            if isinstance(item.source, BytesSource):
                assert Path(os.fsdecode(os.path.join(os.fsencode(out), path))).read_bytes() == item.source.data
        assert os.listdir(outside) == []


# Tar, and where it goes.


def test_a_tar_of_a_tree_is_one_that_tar_reads(tmp_path: Path) -> None:
    size = write_tar(reversed(a_tree()), str(tmp_path / "out.tar"))
    assert size == (tmp_path / "out.tar").stat().st_size
    listed = subprocess.run(
        ["tar", "--utc", "--numeric-owner", "-tvf", str(tmp_path / "out.tar")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert listed[:3] == [
        "drwx------ 0/0               0 1980-01-02 00:00 ./",
        "drwxr-xr-x 0/0               0 1980-01-02 00:00 bin/",
        "-rwsr-xr-x 1/2               4 1980-01-02 00:00 bin/tool",
    ]
    assert "hrwsr-xr-x 1/2               0 1980-01-02 00:00 closed/hard link to bin/tool" in listed
    assert len(listed) == len(a_tree())


def test_standard_output_gets_the_same_bytes(tmp_path: Path) -> None:
    write_tar(a_tree(), str(tmp_path / "file"))
    read, write = os.pipe()
    found: list[bytes] = []

    def drain() -> None:
        with open(read, "rb") as pipe:
            found.append(pipe.read())

    reader = threading.Thread(target=drain)
    reader.start()
    write_tar(a_tree(), "-", stdout=write)
    os.close(write)
    reader.join()
    assert found == [(tmp_path / "file").read_bytes()]


def test_a_terminal_is_spared() -> None:
    main, terminal = os.openpty()
    try:
        with pytest.raises(UsageError, match="not written to a terminal"):
            write_tar(a_tree(), "-", stdout=terminal)
    finally:
        os.close(main)
        os.close(terminal)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    before = os.umask(0o027)
    try:
        with Destination(str(path)) as out:
            out.write(b"new ")
            assert path.read_text() == "old"
            out.write(b"content")
        assert out.size == 11
    finally:
        os.umask(before)
    assert path.read_text() == "new content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out"]


def test_an_output_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), Destination(str(path)) as out:
        out.write(b"new")
        raise KeyboardInterrupt
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["out"])


def test_a_link_named_by_the_user_leads_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink("real/file", tmp_path / "link")
    with Destination(str(tmp_path / "link")) as out:
        out.write(b"text")
    assert (tmp_path / "real" / "file").read_text() == "text"
    assert os.path.islink(tmp_path / "link")


def test_a_device_is_written_and_stays_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with Destination(str(tmp_path / "pipe")) as out:
        out.write(b"text")
    reader.join()
    assert found == [b"text"]
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    with pytest.raises(OSError) as caught, Destination("/dev/full") as out:
        out.write(b"text")
    assert caught.value.errno == errno.ENOSPC


def test_a_pipe_without_a_name_is_written(tmp_path: Path) -> None:
    """What /dev/stdout is in a pipeline, and what a shell makes of >(...)."""
    reader, writer = os.pipe()
    with Destination(f"/dev/fd/{writer}") as out:
        out.write(b"text")
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b"text"


def test_a_destination_that_cannot_be_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for dest, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "x", "is not there"),
        (tmp_path / "file" / "x", "is not there"),
    ):
        with pytest.raises(UsageError, match=message), Destination(str(dest)):
            pytest.fail("not opened")
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        big = [a_file("big", os.urandom(200_000))]
        for write in (write_tar, write_local):
            with pytest.raises(OSError) as caught:
                write(big, str(disk / "out"))
            assert caught.value.errno == errno.ENOSPC
        assert [name for _, _, files in os.walk(disk) for name in files] == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
