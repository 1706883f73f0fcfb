"""Foreign archives: what GNU tar and Python's tarfile write, what the specs allow, and what an attacker would send."""

from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.layers.entry import BytesSource, Entry, Item, RangeSource, SparseSource
from builder.layers.order import sort_items
from builder.layers.source import open_source
from builder.layers.tarreader import read_tar
from builder.layers.tarwriter import write_layer

END = bytes(1024)


def block(
    name: bytes = b"f",
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    devices: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    """A header field by field; `rest` is what stands at offset 345."""
    length = size if isinstance(size, bytes) else b"%011o\0" % size
    head = name.ljust(100, b"\0") + mode + uid + b"0000000\0" + length + mtime
    tail = kind + link.ljust(100, b"\0") + magic + bytes(64) + devices.ljust(16, b"\0") + rest
    tail = tail.ljust(356, b"\0")
    assert len(head) == 148 and len(tail) == 356
    return head + b"%06o\0 " % (sum(head) + 256 + sum(tail)) + tail


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return block(b"PaxHeader", kind=kind, size=len(records)) + padded(records)


def record(keyword: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (keyword, value)
    return next(b"%d%b" % (n, rest) for n in range(len(rest), len(rest) + 9) if len(str(n)) + len(rest) == n)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Item]]:
    def reader(data: bytes, *, whiteouts: bool = True, warnings: list[str] | None = None) -> list[Item]:
        path = tmp_path / "layer.tar"
        path.write_bytes(data)
        return list(read_tar(str(path), whiteouts=whiteouts, warn=None if warnings is None else warnings.append))

    return reader


def content(item: Item) -> bytes:
    assert item.source is not None
    return b"".join(open_source(item.source))


Read = Callable[..., list[Item]]

# Names that tars and kernels make trouble of; parents are put in by the test.
NAME = st.one_of(
    st.sampled_from(
        [b"a", b"b", b"a-b", b"a.b", b"\xff", "ü".encode(), b"n" * 255, b" ", b"\n", b"x" * 101, b".whx", b"a.wh.b"]
    ),
    st.binary(min_size=1, max_size=8).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..") and not name.startswith(b".wh.")
    ),
)
PATH = st.lists(NAME, min_size=1, max_size=5).map(b"/".join)
XATTRS = st.dictionaries(
    st.one_of(
        st.just(b"security.capability"),
        st.binary(min_size=1, max_size=6)
        .filter(lambda name: b"\0" not in name and b"=" not in name)
        .map(lambda name: b"user." + name),
    ),
    st.binary(max_size=40),
    max_size=2,
).map(lambda pairs: tuple(sorted(pairs.items())))
ID = st.one_of(st.integers(0, 5), st.sampled_from([2097151, 2097152, 4294967294]))
NUMBERS = {"mode": st.integers(0, 0o7777), "uid": ID, "gid": ID}


@st.composite
def layer_items(draw: st.DrawFn) -> list[Item]:
    """A random layer in canonical order, without duplicates, no entry below one that is no folder."""
    items: dict[bytes, Item] = {}
    paths = draw(st.lists(PATH, max_size=8, unique=True))
    for path in sorted(paths):
        parts = path.split(b"/")
        parents = [b"/".join(parts[:count]) for count in range(1, len(parts))]
        if path in items or any(parent in items and items[parent].entry.kind != "dir" for parent in parents):
            continue
        items |= {p: Item(Entry(p, "dir", 0o755)) for p in parents if p not in items}
        items[path] = draw(an_item(path, [known for known, item in items.items() if item.entry.kind == "file"]))
    return sort_items(items.values())


@st.composite
def an_item(draw: st.DrawFn, path: bytes, files: list[bytes]) -> Item:
    kind = draw(st.sampled_from(["file", "file", "dir", "symlink", "fifo", "char", "block", "whiteout", "hardlink"]))
    entry = Entry(path, "file", **{key: draw(numbers) for key, numbers in NUMBERS.items()})  # type: ignore[arg-type]  # ints
    if kind == "file" or (kind == "hardlink" and not files):
        data = draw(st.one_of(st.binary(max_size=20), st.integers(500, 1100).map(bytes)))
        return Item(entry._replace(size=len(data), xattrs=draw(XATTRS)), BytesSource(data))
    if kind == "hardlink":
        return Item(Entry(path, "hardlink", link=draw(st.sampled_from(files))))
    if kind == "symlink":
        target = draw(st.one_of(PATH, st.integers(90, 200).map(lambda n: b"t" * n), st.just(b"/..//")))
        return Item(entry._replace(kind="symlink", mode=0o777, link=target))
    if kind in ("char", "block"):
        rdev = (draw(st.integers(1, 4095)), draw(st.integers(0, (1 << 20) - 1)))
        return Item(entry._replace(kind="char" if kind == "char" else "block", rdev=rdev))
    if kind == "whiteout":
        return Item(Entry(path, "whiteout"))
    if kind == "dir":
        pairs = tuple(pair for pair in draw(XATTRS) if pair[0] != b"security.capability")
        return Item(entry._replace(kind="dir", xattrs=pairs))
    return Item(entry._replace(kind="fifo"))


@settings(max_examples=200, deadline=None)
@given(items=layer_items(), mtime=st.sampled_from([0, 315619200, -7, 1 << 33]))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, items: list[Item], mtime: int) -> None:
    path = tmp_path_factory.getbasetemp() / "round.tar"
    with path.open("wb") as out:
        layer = write_layer(items, out.write, mtime=mtime)
    got = list(read_tar(str(path), whiteouts=True))
    time = mtime * 10**9
    assert [item.entry for item in got] == [
        entry._replace(digest="", mtime=0 if entry.kind == "whiteout" else time) for entry in layer.entries
    ]
    digests = [hashlib.sha256(content(item)).hexdigest() for item in got if item.source is not None]
    assert digests == [entry.digest for entry in layer.entries if entry.kind == "file"]
    # And Python's reader sees the same archive.
    with tarfile.open(path, errors="surrogateescape") as archive:
        assert len(archive.getmembers()) == len(items)
    # Written again, nothing changes.
    again = write_layer(got, None, mtime=mtime)
    assert (again.diff_id, again.size) == (layer.diff_id, layer.size)
    assert list(again.entries) == [entry._replace(mtime=0 if entry.kind == "whiteout" else time) for entry in layer.entries]


@settings(max_examples=200, deadline=None)
@given(
    items=layer_items(),
    cuts=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 1 << 20),
    fix=st.booleans(),
)
def test_damaged_archives_end_in_items_or_a_build_error(
    tmp_path_factory: pytest.TempPathFactory, items: list[Item], cuts: list[tuple[int, int]], length: int, fix: bool
) -> None:
    out = io.BytesIO()
    write_layer(items, out.write)
    data = bytearray(out.getvalue())
    for at, byte in cuts:
        at %= len(data)
        data[at] = byte
        start = at - at % 512
        if fix and data[start + 257 : start + 262] == b"ustar":
            # With the checksum right again the damage reaches what lies behind it.
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    drain(tmp_path_factory, bytes(data[: length % (len(data) + 1)]) if length % 3 == 0 else bytes(data))


KINDS = st.sampled_from([bytes([kind]) for kind in b"\x0001234567xgLKSDX"])
FIELD = st.sampled_from(
    [b"00000000\0\0\0\0", b"777777777777", b"\x80" + bytes(10) + b"\x05", b"\xff" * 12, b"        7 \0 ", b"8" * 12]
)


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.one_of(
            st.builds(
                block,
                st.one_of(PATH.map(lambda path: path[:100]), st.binary(max_size=100)),
                kind=KINDS,
                size=st.one_of(FIELD, st.integers(0, 3000)),
                mtime=FIELD,
                link=st.binary(max_size=100),
                magic=st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8)]),
                devices=st.binary(max_size=16),
                rest=st.binary(max_size=155),
            ),
            st.lists(
                st.builds(
                    record,
                    st.sampled_from(
                        [
                            b"path",
                            b"linkpath",
                            b"size",
                            b"uid",
                            b"mtime",
                            b"GNU.sparse.map",
                            b"GNU.sparse.major",
                            b"GNU.sparse.minor",
                        ]
                        + [b"GNU.sparse.realsize", b"GNU.sparse.offset", b"GNU.sparse.numbytes", b"SCHILY.xattr.user.a"]
                    ),
                    st.one_of(
                        st.sampled_from([b"1", b"0", b"-1", b"0,1,2,3", b"9" * 30, b".5", b"1.5"]), st.binary(max_size=12)
                    ),
                ),
                max_size=4,
            ).map(lambda records: pax(b"".join(records))),
            st.binary(max_size=60).map(pax),
            st.binary(max_size=1024).map(padded),
        ),
        max_size=6,
    )
)
def test_hostile_archives_end_in_items_or_a_build_error(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    drain(tmp_path_factory, b"".join(parts) + END)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=2000))
def test_any_bytes_end_in_items_or_a_build_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    drain(tmp_path_factory, data)
    drain(tmp_path_factory, data + END)


def drain(factory: pytest.TempPathFactory, data: bytes) -> None:
    path = factory.getbasetemp() / "hostile.tar"
    path.write_bytes(data)
    for whiteouts in (True, False):
        try:
            items = list(read_tar(str(path), whiteouts=whiteouts, name="layer"))
        except BuildError as error:
            assert error.message.startswith("'layer' is not a tar archive that can be read: ")
            continue
        for item in items:
            entry, source = item
            parts = entry.path.split(b"/")
            assert entry.path == b"" or not {b"", b".", b".."} & set(parts)
            assert b"\0" not in entry.path + entry.link
            assert (source is not None) == (entry.kind == "file")
            if source is not None:
                assert not isinstance(source, RangeSource) or source.offset + source.size <= len(data)
                if entry.size < 1 << 20:
                    assert sum(map(len, open_source(source))) == entry.size


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_gnu_tar_archives(tmp_path: Path, form: str) -> None:
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir" / "file").write_bytes(b"hello")
    (tree / "empty").touch()
    os.link(tree / "dir" / "file", tree / "dir" / "link")
    (tree / "sym").symlink_to("dir/file")
    os.chmod(tree / "dir", 0o2751)
    os.chmod(tree / "dir" / "file", 0o4711)
    os.chown(tree / "empty", 1234, 5678)
    os.utime(tree / "empty", ns=(0, 1234567890_123456789))
    if form != "v7":
        os.mkfifo(tree / "fifo")
        os.mknod(tree / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(tree / "disk", 0o660 | stat.S_IFBLK, os.makedev(7, 130))
    if form not in ("v7", "ustar"):
        deep = tree / ("d" * 200)
        deep.mkdir()
        (deep / ("n" * 200)).write_bytes(b"long")
        (deep / "sym").symlink_to("t" * 300)
        (deep / "é").write_bytes(b"accent")
        os.link(deep / ("n" * 200), deep / "zz")
    elif form == "ustar":
        deep = tree / ("d" * 90)
        deep.mkdir()
        (deep / ("n" * 90)).write_bytes(b"prefix")
    archive = tmp_path / "a.tar"
    subprocess.run(["tar", "-c", f"--format={form}", "--sort=name", "-f", archive, "-C", tree, "."], check=True)
    got = {item.entry.path: item for item in read_tar(str(archive), whiteouts=False)}
    # Not Path.rglob: that of Python 3.11.2 follows the dangling link with the long target, and fails.
    found = [Path(folder, name) for folder, folders, files in os.walk(tree) for name in (*folders, *files)]
    assert set(got) == {os.fsencode(path.relative_to(tree)) for path in found} | {b""}
    for path, (entry, source) in got.items():
        status = os.lstat(os.path.join(os.fsencode(tree), path))
        assert (entry.mode, entry.uid, entry.gid) == (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        grain = 1 if form == "posix" else 10**9
        assert entry.mtime == status.st_mtime_ns - status.st_mtime_ns % grain
        if entry.kind == "file":
            assert source is not None
            assert b"".join(open_source(source)) == (tree / os.fsdecode(path)).read_bytes()
    kinds = {path: entry.kind for path, (entry, _) in got.items()}
    assert (kinds[b"dir"], kinds[b"dir/file"], kinds[b"dir/link"], kinds[b"sym"]) == ("dir", "file", "hardlink", "symlink")
    assert got[b"dir/link"].entry == got[b"dir/file"].entry._replace(path=b"dir/link", kind="hardlink", link=b"dir/file")
    assert got[b"sym"].entry.link == b"dir/file"
    if form != "v7":
        assert (kinds[b"fifo"], kinds[b"null"], kinds[b"disk"]) == ("fifo", "char", "block")
        assert (got[b"null"].entry.rdev, got[b"disk"].entry.rdev) == ((1, 3), (7, 130))
    if form not in ("v7", "ustar"):
        assert got[b"d" * 200 + b"/sym"].entry.link == b"t" * 300
        assert got[b"d" * 200 + b"/zz"].entry.link == b"d" * 200 + b"/" + b"n" * 200


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=oldgnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 25, 26, 400])
@pytest.mark.parametrize("tail", [False, True])
def test_sparse_files(tmp_path: Path, options: list[str], count: int, tail: bool) -> None:
    """4 pieces fit an old GNU header, 21 more each extension; 400 make the map of 1.0 longer than a block."""
    sparse = tmp_path / "sparse"
    expected = bytearray(count * 65536 + 131072)
    with sparse.open("wb") as out:
        out.truncate(len(expected))
        for piece in range(count):
            text = b"%d" % piece * 1500
            out.seek(piece * 65536 + 8192)
            out.write(text)
            expected[piece * 65536 + 8192 : piece * 65536 + 8192 + len(text)] = text
        if tail:
            out.seek(len(expected) - 3)
            out.write(b"end")
            expected[-3:] = b"end"
    (tmp_path / "plain").write_bytes(b"after")
    archive = tmp_path / "a.tar"
    subprocess.run(["tar", "-c", "-S", *options, "-f", archive, "-C", tmp_path, "sparse", "plain"], check=True)
    first, second = read_tar(str(archive), whiteouts=True)
    assert isinstance(first.source, SparseSource)
    assert (first.entry.path, first.entry.size) == (b"sparse", len(expected))
    assert content(first) == bytes(expected)
    # The archive does not hold the holes, and neither does the source.
    assert archive.stat().st_size < 50_000 + count * 9_000
    assert sum(length for _, _, length in first.source.pieces) <= 4096 + count * 8192
    assert (second.entry.path, content(second)) == (b"plain", b"after")
    assert next(iter(write_layer([first], None).entries)).digest == hashlib.sha256(expected).hexdigest()


def test_extended_attributes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    caps = bytes.fromhex("0100000200200000000000000000000000000000")
    for path, name, value in [
        ("", "user.top", b"root"),
        ("f", "user.bin", bytes(range(256))),
        ("f", "user.overlay.opaque", b"y"),
        ("f", "security.capability", caps),
        ("f", "trusted.overlay.redirect", b"/etc"),
        ("f", "trusted.other", b"x"),
    ]:
        (tree / path).mkdir(exist_ok=True) if not path else (tree / path).touch()
        os.setxattr(tree / path, name, value)
    archive = tmp_path / "a.tar"
    subprocess.run(["tar", "-c", "--xattrs", "--xattrs-include=*", "-f", archive, "-C", tree, "."], check=True)
    warnings: list[str] = []
    root, file = read_tar(str(archive), whiteouts=True, warn=warnings.append)
    assert root.entry.xattrs == ((b"user.top", b"root"),)
    assert file.entry.xattrs == ((b"security.capability", caps), (b"user.bin", bytes(range(256))))
    assert warnings == ["f: extended attribute 'trusted.other' is left out"]


def test_extended_attributes_where_the_kernel_takes_none(read: Read) -> None:
    records = record(b"SCHILY.xattr.user.a", b"1") + record(b"SCHILY.xattr.security.capability", b"2")
    records += record(b"SCHILY.acl.access", b"user::rwx") + record(b"RHT.security.selinux", b"u:r:t") + record(b"atime", b"1")
    warnings: list[str] = []
    items = read(
        pax(records) + block(b"l", kind=b"2", link=b"x") + pax(records) + block(b"d/", kind=b"5") + block() + END,
        warnings=warnings,
    )
    assert [item.entry.xattrs for item in items] == [(), ((b"user.a", b"1"),), ()]
    assert warnings == [
        "l: extended attribute 'user.a' is left out",
        "l: extended attribute 'security.capability' is left out",
        "l: SCHILY.acl.access is left out",
        "l: RHT.security.selinux is left out",
        "d: extended attribute 'security.capability' is left out",
        "d: SCHILY.acl.access is left out",
        "d: RHT.security.selinux is left out",
    ]


WHITEOUTS = [
    b"a/.wh.b",
    b".wh.c/",
    b".wh..wh..opq",
    b"a/.wh..wh..opq",
    b".wh..wh.plnk/",
    b".wh..wh.plnk/12.34",
    b"a/.wh..wh.aufs",
]


def test_whiteouts(read: Read) -> None:
    data = b"".join(block(name) for name in WHITEOUTS) + END
    assert read(data) == [
        Item(Entry(b"a/b", "whiteout")),
        Item(Entry(b"c", "whiteout")),
        Item(Entry(b"", "opaque")),
        Item(Entry(b"a", "opaque")),
    ]
    plain = read(data, whiteouts=False)
    assert [(item.entry.path, item.entry.kind) for item in plain] == [(name.rstrip(b"/"), "file") for name in WHITEOUTS]


def test_the_longest_name_can_be_removed(read: Read) -> None:
    name = b"n" * 255
    assert read(pax(record(b"path", b"a/.wh." + name)) + block() + END) == [Item(Entry(b"a/" + name, "whiteout"))]
    for whiteouts, path in ((True, b"a/.wh.n" + name), (False, b"a/.wh." + name), (True, b".wx." + name)):
        with pytest.raises(BuildError, match="a name is longer than 255 bytes"):
            read(pax(record(b"path", path)) + block() + END, whiteouts=whiteouts)


def test_a_name_with_the_mark_in_its_middle_is_a_name(read: Read) -> None:
    assert [item.entry.path for item in read(block(b"a.wh.b") + block(b"x/.whb") + END)] == [b"a.wh.b", b"x/.whb"]


@pytest.mark.parametrize(
    "name", [b".wh.", b".wh..", b".wh...", b"a/.wh...", b".wh.a/b", b"x/.wh.a/.wh.b", b".wh.a/.wh..wh..opq"]
)
def test_whiteouts_that_name_nothing(read: Read, name: bytes) -> None:
    with pytest.raises(BuildError, match=r"removes nothing|lies below a removed file"):
        read(block(name) + END)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a", b"a"),
        (b"./a", b"a"),
        (b"/a", b"a"),
        (b"//a//b/", b"a/b"),
        (b"././a/./b/.", b"a/b"),
        (b"a/../b", b"b"),
        (b"a/b/../../c", b"c"),
        (b"a..b/...", b"a..b/..."),
        (b"-", b"-"),
        (b"\xff\x01", b"\xff\x01"),
    ],
)
def test_names_are_cleaned(read: Read, name: bytes, path: bytes) -> None:
    folder, plain, link = read(block(name, kind=b"5") + block(name) + block(b"hard", kind=b"1", link=name) + END)
    assert (folder.entry.path, folder.entry.kind, plain.entry.path, plain.entry.kind) == (path, "dir", path, "file")
    assert link.entry.link == path


@pytest.mark.parametrize("name", [b"./", b".", b"/", b"a/..", b""])
def test_the_root(read: Read, name: bytes) -> None:
    (item,) = read(block(name, kind=b"5", mode=b"0000711\0") + END)
    assert item == Item(Entry(b"", "dir", 0o711))
    with pytest.raises(BuildError, match="its root is no folder"):
        read(block(name) + END)


def test_pax_records_stand_for_fields(read: Read) -> None:
    records = b"".join(
        record(keyword, value)
        for keyword, value in {
            b"path": b"p" * 200 + b"/\xff",
            b"uid": b"3000000",
            b"gid": b"4000000",
            b"mtime": b"-1.25",
            b"size": b"3",
            b"comment": b"a=b\n\0",
            b"hdrcharset": b"BINARY",
        }.items()
    )
    (item, plain) = read(pax(records) + block(b"short", size=0) + padded(b"abc") + block(b"next") + END)
    assert item.entry == Entry(b"p" * 200 + b"/\xff", "file", 0o644, 3000000, 4000000, 3, mtime=-1_250_000_000)
    assert content(item) == b"abc"
    assert plain.entry == Entry(b"next", "file", 0o644)


def test_pax_global_records_are_not_applied(read: Read) -> None:
    warnings: list[str] = []
    records = record(b"comment", b"hash") + record(b"mtime", b"7") + record(b"path", b"evil")
    items = read(pax(records, b"g") + block(b"a") + block(b"b") + END, warnings=warnings)
    assert [item.entry for item in items] == [Entry(b"a", "file", 0o644), Entry(b"b", "file", 0o644)]
    assert warnings == ["global PAX record 'mtime' is not applied", "global PAX record 'path' is not applied"]


def test_gnu_long_names_win_over_pax(read: Read) -> None:
    long = block(b"././@LongLink", kind=b"L", size=201, magic=b"ustar  \0") + padded(b"n" * 200 + b"\0")
    link = block(b"././@LongLink", kind=b"K", size=301, magic=b"ustar  \0") + padded(b"t" * 300 + b"\0")
    (item,) = read(pax(record(b"path", b"pax")) + long + link + block(kind=b"2", magic=b"ustar  \0", link=b"x") + END)
    assert (item.entry.path, item.entry.link) == (b"n" * 200, b"t" * 300)


def test_numbers_in_base_256_and_with_spaces(read: Read) -> None:
    items = read(
        block(
            b"a",
            uid=b"\x80\0\0\0" + (3000000).to_bytes(4, "big"),
            mtime=b"\xff" * 11 + b"\xfe",
            size=b"\x80" + bytes(10) + b"\x03",
        )
        + padded(b"abc")
        + block(b"b", mode=b"   644 \0", uid=b"     12\0", mtime=b"       17  \0")
        + END
    )
    assert [item.entry for item in items] == [
        Entry(b"a", "file", 0o644, 3000000, 0, 3, mtime=-2 * 10**9),
        Entry(b"b", "file", 0o644, 10, mtime=15 * 10**9),
    ]


def test_old_forms(read: Read) -> None:
    v7 = block(b"dir/", kind=b"\0", magic=bytes(8)) + block(b"file", kind=b"\0", magic=bytes(8), rest=b"noprefix")
    old_go = block(b"name", magic=b"ustar  \0", rest=b"long/prefix/of/an/old/go")
    gnu = block(b"gnu", magic=b"ustar  \0", rest=b"00000000001\0" * 2)
    star = block(b"star", rest=b"pre".ljust(131, b"\0") + b"00000000001 " * 2 + b"\0" * 8 + b"tar\0")
    contiguous = block(b"contiguous", kind=b"7", size=1) + padded(b"c")
    # A trailing slash makes a folder of the oldest type alone.
    slash = block(b"slash/", kind=b"0", size=1) + padded(b"s")
    items = read(v7 + old_go + gnu + star + contiguous + slash + END)
    assert [(item.entry.path, item.entry.kind) for item in items] == [
        (b"dir", "dir"),
        (b"file", "file"),
        (b"long/prefix/of/an/old/go/name", "file"),
        (b"gnu", "file"),
        (b"pre/star", "file"),
        (b"contiguous", "file"),
        (b"slash", "file"),
    ]


def test_sizes_of_entries_without_data_are_ignored(read: Read) -> None:
    items = read(
        b"".join(
            block(b"n%b" % kind, kind=kind, size=999, link=b"x", devices=b"0000001\0" * 2)
            for kind in (b"1", b"2", b"3", b"4", b"5", b"6")
        )
        + END
    )
    assert [item.entry.size for item in items] == [0] * 6


def test_a_hard_link_to_what_is_not_in_the_archive_keeps_its_own_header(read: Read) -> None:
    (item,) = read(block(b"l", kind=b"1", link=b"/usr/bin/x", mode=b"0000755\0") + END)
    assert item == Item(Entry(b"l", "hardlink", 0o755, link=b"usr/bin/x"))


@pytest.mark.parametrize("end", [b"", bytes(512), END, bytes(10240), END + b"trailing garbage", END + b"x" * 9000])
def test_ends(read: Read, end: bytes) -> None:
    assert [item.entry.path for item in read(block(b"a", size=1) + padded(b"x") + end)] == [b"a"]
    assert read(end) == []


@pytest.mark.parametrize("padding", [0, 1, 506])
def test_the_last_member_may_lack_its_padding(read: Read, padding: int) -> None:
    """So are the layers of `umoci insert --opaque`; Go reads them, and with it Docker."""
    (item,) = read(block(b"a", size=5) + b"hello" + bytes(padding))
    assert (item.entry.path, item.entry.size) == (b"a", 5)


LONG = b"x" * 4000
BAD: dict[str, tuple[bytes, str]] = {
    "not a tar": (b"#!/bin/sh\n" * 100, "a number is not octal|checksum"),
    "half a header": (block()[:300], "it ends too early"),
    "content cut": (block(size=513) + bytes(512), "it ends too early"),
    "one zero block in the middle": (block() + bytes(512) + block() + END, "a single zero block stands in its middle"),
    "checksum": (block().replace(b"0000644", b"0000645"), "a header's checksum is wrong"),
    "leads out": (block(b"a/../../etc/passwd"), r"'a/\.\./\.\./etc/passwd' leads out of it"),
    "leads out at once": (block(b".."), r"'\.\.' leads out of it"),
    "hard link leads out": (block(kind=b"1", link=b"../etc/shadow"), "leads out of it"),
    "hard link to itself": (block(b"a", kind=b"1", link=b"./a"), "hard link 'a' names no other file"),
    "hard link to the root": (block(b"a", kind=b"1", link=b"/"), "hard link 'a' names no other file"),
    "symlink to nothing": (block(b"a", kind=b"2"), "the target of 'a' is empty"),
    "symlink too long": (pax(record(b"linkpath", b"t" * 4096)) + block(b"a", kind=b"2"), "the target of 'a' is malformed"),
    "symlink with NUL": (pax(record(b"linkpath", b"t\0")) + block(b"a", kind=b"2"), "the target of 'a' is malformed"),
    "name with NUL": (pax(record(b"path", b"a\0b")) + block(), "a name holds a NUL byte"),
    "sparse name with NUL": (
        pax(record(b"GNU.sparse.name", b"a\0") + record(b"GNU.sparse.map", b"0,0") + record(b"GNU.sparse.size", b"0"))
        + block(),
        "a name holds a NUL byte",
    ),
    "long name": (pax(record(b"path", b"n" * 256)) + block(), "a name is longer than 255 bytes"),
    "long path": (pax(record(b"path", b"p/" * 2049)) + block(), "a path is longer than 4096 bytes"),
    "big pax": (block(kind=b"x", size=(1 << 20) + 1) + bytes(2 << 20), "an extended header is too big"),
    "big long name": (block(kind=b"L", size=(1 << 20) + 1) + bytes(2 << 20), "an extended header is too big"),
    "pax at the end": (pax(record(b"path", b"a")) + END, "it ends after an extended header"),
    "long name at the end": (block(kind=b"L", size=2) + padded(b"a\0") + END, "it ends after an extended header"),
    "pax without length": (pax(b"path=a\n") + block(), "a PAX record has no length"),
    "pax length too long": (pax(b"99 path=a\n") + block(), "a PAX record is malformed"),
    "pax length too short": (pax(b"5 path=a\n") + block(), "a PAX record is malformed"),
    "pax without line end": (pax(b"9 path=ab") + block(), "a PAX record is malformed"),
    "pax without keyword": (pax(b"5 =a\n") + block(), "a PAX record is malformed"),
    "pax number": (pax(record(b"uid", b"root")) + block(), "a PAX record's number is malformed"),
    "pax size negative": (pax(record(b"size", b"-1")) + block(), "a negative size"),
    "pax size huge": (pax(record(b"size", b"9223372036854775807")) + block(), "it ends too early"),
    "pax time": (pax(record(b"mtime", b"1.x")) + block(), "a PAX record's time is malformed"),
    "uid out of range": (block(uid=b"\x80\0\0\0\xff\xff\xff\xff"), "has an owner out of range"),
    "uid negative": (block(uid=b"\xff" * 8), "has an owner out of range"),
    "size negative": (block(size=b"\xff" * 12), "a negative size"),
    "octal": (block(mode=b"0000789\0"), "a number is not octal"),
    "base 256 too big": (block(size=b"\xbf" + b"\xff" * 11), "a number is too big"),
    "unknown type": (block(kind=b"D"), "entries of type b'D' are not supported"),
    "overlay's whiteout": (block(b"a", kind=b"3"), "'a' is a character device 0:0"),
    "device": (block(b"a", kind=b"4", devices=b"0010000\0" + b"0000000\0"), "'a' has a device number out of range"),
    "xattr": (pax(record(b"SCHILY.xattr.user.a", bytes(65537))) + block(b"a"), "'a' has an extended attribute out of range"),
    "xattr name": (
        pax(record(b"SCHILY.xattr." + b"user.".ljust(256, b"x"), b"")) + block(b"a"),
        "extended attribute out of range",
    ),
    "sparse of ustar": (block(kind=b"S"), "a sparse file has no GNU header"),
    "sparse folder": (pax(record(b"GNU.sparse.map", b"0,0")) + block(kind=b"5"), "something that is no file is sparse"),
    "sparse overlap": (
        pax(record(b"GNU.sparse.map", b"0,2,1,2") + record(b"GNU.sparse.size", b"9")) + block(size=4) + padded(b"abcd"),
        "a sparse file's map is malformed",
    ),
    "sparse beyond": (
        pax(record(b"GNU.sparse.map", b"8,2") + record(b"GNU.sparse.size", b"9")) + block(size=2) + padded(b"ab"),
        "a sparse file's map is malformed",
    ),
    "sparse odd": (pax(record(b"GNU.sparse.map", b"0") + record(b"GNU.sparse.size", b"9")) + block(), "map is malformed"),
    "sparse data": (
        pax(record(b"GNU.sparse.map", b"0,3") + record(b"GNU.sparse.size", b"9")) + block(size=2) + padded(b"ab"),
        "a sparse file's data does not fit its map",
    ),
    "sparse order": (pax(record(b"GNU.sparse.numbytes", b"1")) + block(), "a sparse file's map is malformed"),
    "sparse petabyte": (
        pax(record(b"GNU.sparse.map", b"0,0") + record(b"GNU.sparse.size", b"1125899906842624")) + block(),
        "a sparse file's map is malformed",
    ),
    "sparse map without end": (
        pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")) + block(size=1024) + b"9" * 1024,
        "map is malformed|number is malformed",
    ),
    "sparse map too big": (
        pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")) + block(size=512) + padded(b"99999999\n"),
        "too many pieces",
    ),
    "sparse map cut": (
        pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0"))
        + block(size=512)
        + b"2\n0\n".ljust(512, b"1"),
        "map is|number is malformed",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_archives(read: Read, case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(BuildError, match=r"layer\.tar' is not a tar archive that can be read: .*(" + message + ")"):
        read(data)


def test_limits_are_not_reached_by_what_is_legal(read: Read) -> None:
    path = b"/".join([b"n" * 255] * 16)
    assert len(path) == 4095
    legal = pax(record(b"path", path) + record(b"linkpath", b"t" * 4095)) + block(kind=b"2")
    comment = pax(record(b"comment", bytes((1 << 20) - 20))) + block(b"b")
    items = read(legal + comment + END)
    assert [(item.entry.path, len(item.entry.link)) for item in items] == [(path, 4095), (b"b", 0)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_python(tmp_path: Path, form: int) -> None:
    path = tmp_path / "a.tar"
    source = random.Random(3)
    expected = []
    with tarfile.open(path, "w", format=form) as archive:
        for number in range(60):
            info = tarfile.TarInfo("d" * 60 + f"/é{number}" + "x" * source.randrange(80))
            info.mode, info.uid, info.gid = source.randrange(0o10000), source.randrange(1 << 21), 7
            info.mtime = source.randrange(1 << 32)
            body = source.randbytes(source.randrange(2000))
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
            expected.append((info.name.encode(), info.mode, info.uid, info.gid, info.mtime * 10**9, body))
    assert [
        (entry.path, entry.mode, entry.uid, entry.gid, entry.mtime, content(Item(entry, source)))
        for entry, source in read_tar(str(path), whiteouts=True)
    ] == expected
