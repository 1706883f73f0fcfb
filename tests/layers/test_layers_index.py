"""The merged tree against the kernel's own path resolution and a plain model, and the index's bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError, StoreError
from builder.layers import codec
from builder.layers.entry import BytesSource, Entry, Item
from builder.layers.index import Tree, dump_index, load_index
from builder.layers.names import member
from builder.layers.order import sort_items

ROOT = Entry(b"", "dir", 0o755)


def folder(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path, "dir", mode)


def file(path: bytes, text: str = "") -> Entry:
    return Entry(path, "file", 0o644, size=len(text), digest=hashlib.sha256(text.encode()).hexdigest())


def link(path: bytes, target: bytes) -> Entry:
    return Entry(path, "symlink", 0o777, link=target)


def gone(path: bytes) -> Entry:
    return Entry(path, "whiteout")


def merged(*layers: list[Entry]) -> Tree:
    tree = Tree()
    for number, entries in enumerate(layers):
        tree.apply(sorted(entries, key=member), number)
    return tree


def everything(tree: Tree) -> dict[bytes, Entry]:
    entries = list(tree.walk(b""))
    assert [entry.path for entry in entries] == sorted(entry.path for entry in entries)
    for entry in entries:
        assert tree.lookup(entry.path) == entry
        names = tree.children(entry.path)
        assert names == sorted(names)
        prefix = entry.path + b"/" if entry.path else b""
        assert {prefix + name for name in names} == {
            other.path for other in entries if other.path and other.path.rpartition(b"/")[0] == entry.path
        }
    return {entry.path: entry for entry in entries}


def test_an_empty_tree_is_a_root() -> None:
    tree = Tree()
    assert everything(tree) == {b"": ROOT}
    assert (tree.layer_of(b""), tree.children(b""), tree.lookup(b"x"), tree.resolve(b"/")) == (-1, [], None, b"")
    with pytest.raises(KeyError):
        tree.layer_of(b"x")
    with pytest.raises(KeyError):
        tree.walk(b"x")


def test_layers_on_top_of_each_other() -> None:
    tree = merged(
        [folder(b"a"), file(b"a/x", "1"), file(b"a/y", "1"), folder(b"b"), file(b"b/z", "1"), file(b"a-b", "1")],
        [folder(b"a", 0o700), gone(b"a/y"), file(b"a/x", "2"), folder(b"a/y2")],
        [Entry(b"", "dir", 0o711), gone(b"b"), gone(b"never")],
    )
    assert everything(tree) == {
        b"": Entry(b"", "dir", 0o711),
        b"a": folder(b"a", 0o700),
        b"a-b": file(b"a-b", "1"),
        b"a/x": file(b"a/x", "2"),
        b"a/y2": folder(b"a/y2"),
    }
    assert [tree.layer_of(path) for path in (b"", b"a", b"a-b", b"a/x", b"a/y2")] == [2, 1, 0, 1, 1]
    assert list(tree.walk(b"a")) == [folder(b"a", 0o700), file(b"a/x", "2"), folder(b"a/y2")]
    assert list(tree.walk(b"a-b")) == [file(b"a-b", "1")]


def test_a_file_over_a_folder_and_back() -> None:
    base = [folder(b"a"), folder(b"a/b"), file(b"a/b/c"), file(b"ab")]
    tree = merged(base, [file(b"a", "now")])
    assert set(everything(tree)) == {b"", b"a", b"ab"}
    tree.apply([folder(b"a"), file(b"a/d")], 2)
    assert set(everything(tree)) == {b"", b"a", b"a/d", b"ab"}


def test_whiteout_and_recreate_in_one_layer() -> None:
    base = [folder(b"a"), file(b"a/old"), file(b"b", "1")]
    tree = merged(base, [gone(b"a"), folder(b"a", 0o700), file(b"a/new"), gone(b"b"), file(b"b", "2")])
    assert everything(tree) == {b"": ROOT, b"a": folder(b"a", 0o700), b"a/new": file(b"a/new"), b"b": file(b"b", "2")}


def test_opaque_hides_lower_layers_alone() -> None:
    base = [folder(b"a"), folder(b"a/sub"), file(b"a/sub/old"), file(b"b")]
    # The mark's own name, `a/.wh..wh..opq`, stands after `a/!new` and before `a/sub`: where it stands does not matter.
    tree = merged(base, [file(b"a/!new"), Entry(b"a", "opaque"), file(b"a/sub")])
    assert set(everything(tree)) == {b"", b"a", b"a/!new", b"a/sub", b"b"}
    tree.apply([Entry(b"", "opaque"), file(b"c")], 2)
    assert set(everything(tree)) == {b"", b"c"}
    tree.apply([Entry(b"nowhere", "opaque")], 3)
    assert set(everything(tree)) == {b"", b"c"}


def test_parents_left_out_are_folders_of_root() -> None:
    tree = merged([file(b"a/b/c")])
    assert everything(tree) == {b"": ROOT, b"a": folder(b"a"), b"a/b": folder(b"a/b"), b"a/b/c": file(b"a/b/c")}
    assert tree.layer_of(b"a/b") == 0


@pytest.mark.parametrize(
    "entries",
    [
        [file(b"a"), file(b"a/b")],
        [link(b"a", b"/"), file(b"a/b")],
        [Entry(b"", "fifo")],
        [Entry(b"a", "hardlink", link=b"b")],
        [folder(b"a"), Entry(b"b", "hardlink", link=b"a")],
        [Entry(b"b", "hardlink", link=b"b")],
    ],
)
def test_entries_that_are_not_canonical(entries: list[Entry]) -> None:
    with pytest.raises(ValueError):
        merged(entries)


def hard(path: bytes, owner: Entry) -> Entry:
    return owner._replace(path=path, kind="hardlink", link=owner.path)


def test_hard_links_outlive_the_path_that_owned_them() -> None:
    a = file(b"a", "1")
    base = [a, hard(b"b", a), folder(b"d"), hard(b"d/c", a), hard(b"e", a)]
    assert everything(merged(base))[b"e"] == hard(b"e", a)
    b = file(b"b", "1")
    assert everything(merged(base, [file(b"a", "2")])) == {
        b"": ROOT,
        b"a": file(b"a", "2"),
        b"b": b,
        b"d": folder(b"d"),
        b"d/c": hard(b"d/c", b),
        b"e": hard(b"e", b),
    }
    tree = merged(base, [gone(b"a"), gone(b"b")])
    c = file(b"d/c", "1")
    assert everything(tree) == {b"": ROOT, b"d": folder(b"d"), b"d/c": c, b"e": hard(b"e", c)}
    assert tree.layer_of(b"e") == 0
    tree.apply([gone(b"d")], 2)
    assert everything(tree) == {b"": ROOT, b"e": file(b"e", "1")}
    assert everything(merged(base, [gone(b"e"), gone(b"d")], [gone(b"a")])) == {b"": ROOT, b"b": b}


def test_a_hard_link_to_a_hard_link_names_the_owner() -> None:
    a = file(b"a", "1")
    tree = merged([a, hard(b"b", a), hard(b"c", file(b"b", "1"))])
    assert tree.lookup(b"c") == hard(b"c", a)


def test_hard_linked_symlinks_are_followed() -> None:
    a = link(b"a", b"d")
    tree = merged([a, hard(b"b", a), folder(b"d")])
    assert tree.resolve(b"b/x") == b"d/x"


RESOLVE = merged(
    [
        folder(b"usr"),
        folder(b"usr/bin"),
        file(b"usr/bin/sh"),
        link(b"bin", b"usr/bin"),
        link(b"abs", b"/usr/../usr/./bin//"),
        link(b"out", b"../../../../etc"),
        folder(b"etc"),
        link(b"etc/self", b"."),
        link(b"usr/up", b".."),
        link(b"loop", b"loop2"),
        link(b"loop2", b"/loop"),
        link(b"dangling", b"nowhere/here"),
        *[link(b"n%02d" % n, b"n%02d" % (n + 1)) for n in range(45)],
    ]
)


@pytest.mark.parametrize(
    ("path", "follow", "found"),
    [
        (b"", True, b""),
        (b"/", True, b""),
        (b"..", True, b""),
        (b"/../../usr", True, b"usr"),
        (b"bin/sh", True, b"usr/bin/sh"),
        (b"bin", True, b"usr/bin"),
        (b"bin", False, b"bin"),
        (b"bin/", False, b"bin"),
        (b"bin/.", False, b"bin"),
        (b"bin/..", False, b"usr"),
        (b"abs/sh", True, b"usr/bin/sh"),
        (b"out/passwd", True, b"etc/passwd"),
        (b"etc/self/self/self/x", True, b"etc/x"),
        (b"usr/up/usr/up/bin/sh", True, b"usr/bin/sh"),
        (b"bin/../..", True, b""),
        (b"dangling", True, b"nowhere/here"),
        (b"dangling/x", False, b"nowhere/here/x"),
        (b"new/sub/../x", True, b"new/x"),
        (b"new/../bin/x", True, b"usr/bin/x"),
        (b"usr/bin/sh/x", True, b"usr/bin/sh/x"),
        (b"./usr//bin/", True, b"usr/bin"),
        (b"n05", True, b"n45"),
        (b"loop", False, b"loop"),
    ],
)
def test_resolve(path: bytes, follow: bool, found: bytes) -> None:
    assert RESOLVE.resolve(path, follow_last=follow) == found


@pytest.mark.parametrize("path", [b"loop", b"loop/x", b"loop2", b"n04"])
def test_too_many_links(path: bytes) -> None:
    with pytest.raises(BuildError, match=f"'{path.decode()}' leads through too many symbolic links"):
        RESOLVE.resolve(path)


NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
TARGETS = st.lists(st.sampled_from([b"a", b"b", b"c", b"..", b".", b""]), min_size=1, max_size=4).map(b"/".join).filter(bool)


@st.composite
def layers(draw: st.DrawFn) -> list[list[Entry]]:
    """Random canonical layers: whiteouts, files, folders and links with parents, nothing below what is no folder."""
    out = []
    for number in range(draw(st.integers(1, 3))):
        entries: dict[bytes, Entry] = {}
        for path in draw(st.lists(PATHS, max_size=5, unique=True).map(sorted)):
            parents = [path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"]
            if any(entries.get(parent, ROOT).kind != "dir" for parent in parents):
                continue
            entries |= {parent: folder(parent) for parent in parents if parent not in entries}
            kind = draw(st.sampled_from(["file", "dir", "symlink", "whiteout"]))
            target = draw(TARGETS)
            entries[path] = {
                "file": file(path, f"{number}"),
                "dir": folder(path, 0o700 + number),
                "symlink": link(path, target),
                "whiteout": gone(path),
            }[kind]
        out.append(sorted(entries.values(), key=member))
    return out


def unpack(root: Path, entries: list[Entry]) -> None:
    """What an unpacker does with one layer on disk, by real system calls: whiteouts first, then the rest."""
    for entry in sorted(entries, key=lambda entry: entry.kind != "whiteout"):
        path = root / os.fsdecode(entry.path)
        parents = [root, *(root / parent for parent in reversed(path.relative_to(root).parents))]
        if any(parent.is_symlink() or not parent.is_dir() for parent in parents):
            # Never through a link: it could lead out of the root.
            assert entry.kind == "whiteout"
            continue
        is_folder = path.is_dir() and not path.is_symlink()
        if is_folder and entry.kind != "dir":
            shutil.rmtree(path)
        elif not is_folder:
            path.unlink(missing_ok=True)
        if entry.kind == "symlink":
            path.symlink_to(os.fsdecode(entry.link))
        elif entry.kind != "whiteout":
            path.mkdir(exist_ok=True) if entry.kind == "dir" else path.touch()
            path.chmod(entry.mode)


def kernel_finds(root: Path, path: bytes, follow: bool) -> int | None:
    """The inode that a process whose root is `root` finds at the path; None where it finds nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chroot(root)
            os.write(writer, b"%d" % os.stat(b"/" + path, follow_symlinks=follow).st_ino)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return int(answer) if answer else None


@settings(max_examples=60, deadline=None)
@given(layers=layers(), paths=st.lists(st.one_of(PATHS, TARGETS), min_size=3, max_size=8))
def test_a_tree_is_what_the_kernel_has(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Entry]], paths: list[bytes]
) -> None:
    root = tmp_path_factory.getbasetemp() / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    tree = Tree()
    for number, entries in enumerate(layers):
        tree.apply(entries, number)
        unpack(root, entries)
    found = {}
    for parent, folders, files in os.walk(os.fsencode(root)):
        for path in (os.path.join(parent, name) for name in folders + files):
            target = os.readlink(path) if os.path.islink(path) else b""
            kind = "symlink" if target else "dir" if os.path.isdir(path) else "file"
            found[os.path.relpath(path, os.fsencode(root))] = (kind, os.lstat(path).st_mode & 0o7777, target)
    assert found == {path: (entry.kind, entry.mode, entry.link) for path, entry in everything(tree).items() if path}
    for path in paths:
        for follow in (True, False):
            inode = kernel_finds(root, path, follow)
            if inode is not None and (follow or path.rpartition(b"/")[2] not in (b"", b".")):
                ours = tree.resolve(path, follow_last=follow)
                assert os.lstat(os.fsencode(root) + b"/" + ours).st_ino == inode


BASIC = st.builds(
    Entry,
    st.binary(max_size=12).filter(lambda path: b"\0" not in path),
    st.sampled_from(["file", "dir", "symlink", "hardlink", "fifo", "char", "block", "whiteout", "opaque"]),
    st.integers(0, 0o7777),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 63) - 1),
    st.one_of(st.just(""), st.binary(min_size=32, max_size=32).map(bytes.hex)),
    st.binary(max_size=12).filter(lambda path: b"\0" not in path),
    st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1)),
    st.lists(st.tuples(st.binary(min_size=1, max_size=5), st.binary(max_size=9)), max_size=2).map(tuple),
    st.integers(-(1 << 63), (1 << 63) - 1),
)


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(BASIC, max_size=6))
def test_an_index_comes_back(entries: list[Entry]) -> None:
    data = dump_index(entries)
    assert load_index(data) == entries
    assert dump_index(iter(entries)) == data


@settings(max_examples=100, deadline=None)
@given(entries=st.lists(BASIC, max_size=9), some=st.integers(1, 4))
def test_an_index_that_is_packed_piece_by_piece_is_the_same(entries: list[Entry], some: int) -> None:
    whole = dump_index(entries)
    with mock.patch.object(codec, "_ROWS", some), mock.patch.object(codec, "_PIECE", some):
        assert load_index(whole) == entries
        columns = codec.Columns()
        for entry in entries:
            columns.add(entry._replace(digest=""), entry.digest)
        assert len(columns) == len(entries)
        assert columns.dump() == whole
        assert list(columns) == entries
    assert columns.size == sum(entry.size for entry in entries if entry.kind == "file")


def test_the_bytes_of_an_index_are_pinned() -> None:
    entries = [
        Entry(b"d", "dir", 0o755, 1, 2, xattrs=((b"user.a", b"v"),), mtime=-2),
        Entry(b"f", "file", 0o644, size=3, digest="ab" * 32, mtime=5),
        Entry(b"n", "char", 0o666, rdev=(1, 3)),
    ]
    sections = [
        b"d\0f\0n",
        b"dfc",
        struct.pack("<3H", 0o755, 0o644, 0o666),
        struct.pack("<3I", 1, 0, 0),
        struct.pack("<3I", 2, 0, 0),
        struct.pack("<3Q", 0, 3, 0),
        b"\xab" * 32,
        b"\0\1\0",
        b"\0\0",
        struct.pack("<3q", -2, 5, 0),
        struct.pack("<QII", 2, 1, 3),
        struct.pack("<QII", 0, 6, 1) + b"user.a" + b"v",
    ]
    body = struct.pack("<Q", 3) + b"".join(struct.pack("<Q", len(section)) + section for section in sections)
    assert dump_index(entries) == b"pybuild-index-1\n" + hashlib.sha256(body).digest() + body


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"a\0b", "file"),
        Entry(b"a", "symlink", link=b"\0"),
        Entry(b"a", "file", digest="abc"),
        Entry(b"a", "file", digest="ab"),
        Entry(b"a", "file", uid=1 << 32),
        Entry(b"a", "file", size=-1),
    ],
)
def test_entries_that_an_index_cannot_hold(entry: Entry) -> None:
    with pytest.raises(ValueError):
        dump_index([entry])


def test_times_that_an_index_cannot_hold_are_the_nearest_it_can() -> None:
    times = (1 << 63, 5, -(1 << 70))
    found = load_index(dump_index(Entry(b"%d" % number, "file", mtime=time) for number, time in enumerate(times)))
    assert [entry.mtime for entry in found] == [(1 << 63) - 1, 5, -(1 << 63)]


SAMPLE = dump_index([Entry(b"d", "dir"), Entry(b"f", "char", rdev=(1, 2), xattrs=((b"user.a", b"b"),), digest="00" * 32)])


def sealed(body: bytes) -> bytes:
    return b"pybuild-index-1\n" + hashlib.sha256(body).digest() + body


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(SAMPLE) - 1), byte=st.integers(1, 255), length=st.integers(0, len(SAMPLE)))
def test_damage_is_a_store_error(at: int, byte: int, length: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[at] ^= byte
    for data in (bytes(damaged), SAMPLE[:length] if length < len(SAMPLE) else SAMPLE + b"x"):
        with pytest.raises(StoreError, match="a layer's index in the store is damaged"):
            load_index(data)
    # Even with a right checksum nothing but entries or a StoreError comes out.
    for body in (bytes(damaged[48:]), SAMPLE[48:][:length]):
        try:
            assert all(isinstance(entry, Entry) for entry in load_index(sealed(body)))
        except StoreError as error:
            assert error.exit_code == 7


def test_an_index_of_another_version() -> None:
    with pytest.raises(StoreError, match="it has another format"):
        load_index(b"pybuild-index-2\n" + SAMPLE[16:])


def test_items_of_a_sorted_layer_apply() -> None:
    data = BytesSource(b"x")
    items = sort_items(
        [Item(Entry(b"a", "hardlink", 0o644, size=1, link=b"z")), Item(Entry(b"z", "file", 0o644, size=1), data)]
    )
    tree = merged([item.entry for item in items])
    assert tree.lookup(b"a") == Entry(b"a", "file", 0o644, size=1)
    assert tree.lookup(b"z") == Entry(b"z", "hardlink", 0o644, size=1, link=b"a")
