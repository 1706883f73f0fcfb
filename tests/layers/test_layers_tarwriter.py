"""The canonical tar: golden bytes from POSIX, and what GNU tar, umoci's Go and Python's tarfile read out of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.layers.entry import EPOCH, BytesSource, Entry, FileSource, Item, SparseSource
from builder.layers.order import link_to, sort_items
from builder.layers.tarwriter import LayerSum, tar_size, write_layer
from builder.oci.digest import Digest
from tests.layers.layers_trees import ATTRIBUTES, trees

GOLDEN = Path(__file__).parents[1] / "golden" / "layers"
WIDTHS = (100, 8, 8, 8, 12, 12, 8, 1, 100, 8, 32, 32, 8, 8, 155)


def assemble(text: str) -> bytes:
    """The bytes of a golden written field by field; its own comment explains the form."""

    def raw(field: str) -> bytes:
        field = re.sub(r"\{(.+?)\*(\d+)\}", lambda match: match[1] * int(match[2]), field)
        return field.encode().decode("unicode_escape").encode("latin-1")

    out = b""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("zeros "):
            out += bytes(int(line[6:]))
        elif line.startswith("="):
            out += raw(line[1:]).ljust(512, b"\0")
        else:
            fields = line.split("|")
            assert len(fields) == len(WIDTHS)
            out += b"".join(raw(field).ljust(width, b"\0") for field, width in zip(fields, WIDTHS)).ljust(512, b"\0")
    return out


def file(path: bytes, data: bytes, mode: int = 0o644) -> Item:
    return Item(Entry(path, "file", mode, size=len(data)), BytesSource(data))


def written(items: list[Item], *, mtime: int = EPOCH) -> tuple[bytes, LayerSum]:
    out = io.BytesIO()
    layer = write_layer(items, out.write, mtime=mtime)
    data = out.getvalue()
    # Whatever is written, the sums say so, and hashing alone comes to the same.
    assert layer.size == len(data)
    assert mtime != EPOCH or tar_size(items) == len(data)
    assert layer.diff_id == Digest.of(data)
    assert write_layer(items, None, mtime=mtime) == layer
    return data, layer


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        return archive.getmembers()


def test_golden() -> None:
    long = b"u" * 99 + b"\xffx"
    items = [
        Item(Entry(b"", "dir", 0o755)),
        Item(Entry(b"dev/console", "char", 0o600, 0, 5, rdev=(5, 1))),
        Item(Entry(b"dev/fifo", "fifo", 0o644, mtime=-5)),
        Item(Entry(b"dev/sda", "block", 0o660, 0, 6, rdev=(8, 16), mtime=1234567890123456789)),
        Item(Entry(b"etc", "dir", 0o1777)),
        Item(Entry(b"etc/old", "whiteout")),
        Item(Entry(b"etc/caf\xc3\xa9\xff", "symlink", 0o777, link=b"../usr/\xe9")),
        Item(Entry(b"etc/motd", "file", 0o4755, 1000, 4000, 6), BytesSource(b"hello\n")),
        Item(Entry(b"etc/zz", "hardlink", link=b"etc/motd")),
        file(b"p" * 155 + b"/" + b"n" * 100, b""),
        Item(Entry(long, "file", 0o644, 3000000, 7, 3, xattrs=((b"user.a", b"b"),)), BytesSource(b"abc")),
    ]
    data, layer = written(items)
    assert data == assemble((GOLDEN / "canonical.txt").read_text())
    motd = hashlib.sha256(b"hello\n").hexdigest()
    assert [entry for entry in layer.entries if entry.digest] == [
        Entry(b"etc/motd", "file", 0o4755, 1000, 4000, 6, motd),
        Entry(b"etc/zz", "hardlink", 0o4755, 1000, 4000, 6, motd, b"etc/motd"),
        items[-2].entry._replace(digest=hashlib.sha256(b"").hexdigest()),
        items[-1].entry._replace(digest=hashlib.sha256(b"abc").hexdigest()),
    ]


def test_no_items_is_two_zero_blocks() -> None:
    data, layer = written([])
    assert data == bytes(1024)
    # The digest that every empty tar has.
    assert str(layer.diff_id) == "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


@pytest.mark.parametrize(
    ("path", "records"),
    [
        (b"n" * 100, False),
        (b"n" * 101, True),
        (b"a/" + b"n" * 100, False),
        (b"a/" + b"n" * 101, True),
        (b"p" * 155 + b"/" + b"n" * 100, False),
        (b"p" * 156 + b"/" + b"n" * 100, True),
        (b"p" * 100 + b"/" + b"q" * 60 + b"/" + b"n" * 60, True),
        (b"p" * 90 + b"/" + b"q" * 60 + b"/" + b"n" * 100, False),
        ("ä".encode() * 50, False),
        ("ä".encode() * 51, True),
        (b"\xff" * 120, True),
        (b"d/" * 2000 + b"x", True),
    ],
)
def test_long_names(path: bytes, records: bool) -> None:
    data, _ = written([file(path, b"x")])
    assert (data[156:157] == b"x") == records
    assert [os.fsencode(member.name) for member in members(data)] == [path]


@pytest.mark.parametrize("length", [99, 100, 155, 156, 200, 255, 256])
def test_long_folder_names_keep_their_slash_outside_the_split(length: int) -> None:
    path = b"a" * (length // 2) + b"/" + b"b" * (length - length // 2 - 1)
    data, _ = written([Item(Entry(path, "dir", 0o755))])
    assert [(os.fsencode(member.name), member.isdir()) for member in members(data)] == [(path, True)]


@pytest.mark.parametrize("length", [1, 99, 100, 101, 4095])
def test_long_links(length: int) -> None:
    target = b"t" * length
    data, _ = written([Item(Entry(b"link", "symlink", 0o777, link=target))])
    assert (data[156:157] == b"x") == (length > 100)
    assert [os.fsencode(member.linkname) for member in members(data)] == [target]


@pytest.mark.parametrize(
    ("uid", "gid", "mtime", "keys"),
    [
        (2097151, 2097151, 0, set()),
        (2097152, 0, 8589934591, {"uid"}),
        (0, 4294967294, 8589934592, {"gid", "mtime"}),
        (0, 0, -1, {"mtime"}),
    ],
)
def test_big_numbers(uid: int, gid: int, mtime: int, keys: set[str]) -> None:
    data, _ = written([Item(Entry(b"d", "dir", 0o755, uid, gid))], mtime=mtime)
    (member,) = members(data)
    assert (member.uid, member.gid, int(member.mtime), set(member.pax_headers)) == (uid, gid, mtime, keys)


def test_a_file_of_8_gib_has_a_size_record() -> None:
    size = 8 << 30
    seen = 0
    head = b""

    class Enough(Exception):
        pass

    def look(data: bytes) -> None:
        nonlocal seen, head
        if not head:
            head = data
        seen += len(data)
        if seen > 2 << 20:
            raise Enough

    with pytest.raises(Enough):
        write_layer([Item(Entry(b"big", "file", 0o644, size=size), SparseSource("/dev/null", size, ()))], look)
    assert head[156:157] == b"x"
    assert b"19 size=8589934592\n" in head[512:1024]
    assert head[1024 + 124 : 1024 + 136] == b"00000000000\0"


def test_xattrs_are_repeated_on_hard_links() -> None:
    caps = bytes.fromhex("0100000200200000000000000000000000000000")
    entry = Entry(b"ping", "file", 0o755, xattrs=((b"security.capability", caps), (b"user.\xff", b"a\nb=c")))
    data, layer = written([Item(entry, BytesSource(b"")), Item(Entry(b"ping6", "hardlink", link=b"ping"))])
    assert data.count(b"SCHILY.xattr.security.capability=" + caps + b"\n") == 2
    assert data.count(b"SCHILY.xattr.user.\xff=a\nb=c\n") == 2
    assert tuple(layer.entries)[1].xattrs == entry.xattrs


def test_large_files_are_cut_anywhere_and_stay_whole(tmp_path: Path) -> None:
    body = os.urandom(1 << 20) * 2 + b"tail"
    (tmp_path / "big").write_bytes(body)
    (tmp_path / "exact").write_bytes(body[: 1 << 20])
    root = str(tmp_path)
    items = [
        Item(Entry(b"big", "file", 0o644, size=len(body)), FileSource(root, b"big")),
        Item(Entry(b"exact", "file", 0o644, size=1 << 20), FileSource(root, b"exact")),
    ]
    data, layer = written(items)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        contents = [archive.extractfile(member).read() for member in archive]  # type: ignore[union-attr]  # all are files
    assert contents == [body, body[: 1 << 20]]
    assert [entry.digest for entry in layer.entries] == [hashlib.sha256(content).hexdigest() for content in contents]


@pytest.mark.parametrize(
    ("size", "change"),
    [(size, change) for size in (0, 1, 512, 1 << 20, (1 << 20) + 1, 3 << 20) for change in (-1, 1, 0) if size + change >= 0],
)
def test_a_file_that_changed_is_an_error(tmp_path: Path, size: int, change: int) -> None:
    (tmp_path / "f").write_bytes(bytes(size + change))
    # With the size unchanged it is the digest that differs.
    entry = Entry(b"x/f", "file", 0o644, size=size, digest="" if change else "0" * 64)
    with pytest.raises(BuildError, match="'x/f' changed while it was read"):
        write_layer([Item(entry, FileSource(str(tmp_path), b"f"))], None)


@pytest.mark.parametrize("path", [b".wh.x", b"a/.wh.x", b".wh.x/a", b"a/.wh..wh..opq"])
def test_names_that_would_remove_files_are_refused(path: bytes) -> None:
    with pytest.raises(BuildError, match=r"begin with '\.wh\.' mark removed files"):
        write_layer([file(path, b"")], None)
    assert len(written([file(path.replace(b".wh.", b"wh."), b"")])[0]) == 1536


@pytest.mark.parametrize(
    "items",
    [
        [file(b"b", b""), file(b"a", b"")],
        [file(b"a", b""), file(b"a", b"")],
        [file(b"a", b""), Item(Entry(b"", "dir", 0o755))],
        # `a/.wh.b` comes before `a/a`.
        [file(b"a/a", b""), Item(Entry(b"a/b", "whiteout"))],
        [Item(Entry(b"a", "hardlink", link=b"b")), file(b"b", b"")],
        [Item(Entry(b"a", "hardlink", link=b"b"))],
        [Item(Entry(b"d", "dir")), Item(Entry(b"e", "hardlink", link=b"d"))],
        [Item(Entry(b"a", "opaque"))],
        [Item(Entry(b"a", "file"))],
        [Item(Entry(b"a", "dir"), BytesSource(b""))],
        [Item(Entry(b"", "fifo"))],
        [Item(Entry(b"a", "symlink", 0o777))],
        [Item(Entry(b"a", "char", 0o600, rdev=(4096, 0)))],
        [Item(Entry(b"a", "block", 0o600, rdev=(0, 1 << 20)))],
        [Item(Entry(b"a", "fifo", 0o10000))],
        [Item(Entry(b"a", "fifo", 0, uid=0xFFFFFFFF))],
        *([file(path, b"")] for path in (b"/a", b"a/", b"./a", b"a/.", b"..", b"a/../b", b"a//b", b"a\0b")),
    ],
)
def test_items_that_break_the_contract_are_refused(items: list[Item]) -> None:
    with pytest.raises(ValueError):
        write_layer(items, None)


def test_overlays_mark_of_a_removed_file_is_none_of_a_layer() -> None:
    with pytest.raises(BuildError, match="'a' cannot be stored in an image: a character device 0:0"):
        write_layer([Item(Entry(b"a", "char", 0o600))], None)


def test_an_xattr_that_pax_cannot_name() -> None:
    with pytest.raises(BuildError, match=r"'user\.a=b' cannot be stored"):
        write_layer([Item(Entry(b"d", "dir", xattrs=((b"user.a=b", b"c"),)))], None)


def test_order_and_owners_of_hard_links() -> None:
    items = [
        Item(Entry(b"a/b", "hardlink", link=b"z")),
        Item(Entry(b"z", "file", 0o755, 1, 2, 3, "", xattrs=((b"user.k", b"v"),), mtime=9), BytesSource(b"abc")),
        Item(Entry(b"a-b", "dir", 0o755)),
        Item(Entry(b"a/x", "whiteout")),
        Item(Entry(b"a", "dir", 0o755)),
        Item(Entry(b"c", "hardlink", link=b"a/b")),
        Item(Entry(b"e", "hardlink", link=b"elsewhere")),
        Item(Entry(b"", "dir", 0o755)),
        Item(Entry(b"!", "fifo")),
    ]
    linked = Entry(b"", "hardlink", 0o755, 1, 2, 3, "", b"a/b", (0, 0), ((b"user.k", b"v"),), 9)
    for order in (items, items[::-1]):
        assert sort_items(order) == [
            Item(Entry(b"", "dir", 0o755)),
            Item(Entry(b"!", "fifo")),
            Item(Entry(b"a", "dir", 0o755)),
            Item(Entry(b"a-b", "dir", 0o755)),
            Item(Entry(b"a/x", "whiteout")),
            Item(Entry(b"a/b", "file", 0o755, 1, 2, 3, "", xattrs=((b"user.k", b"v"),), mtime=9), BytesSource(b"abc")),
            Item(linked._replace(path=b"c")),
            Item(Entry(b"e", "hardlink", link=b"elsewhere")),
            Item(linked._replace(path=b"z")),
        ]


def test_hard_links_that_name_each_other_are_an_error() -> None:
    with pytest.raises(BuildError, match="is a hard link to itself"):
        sort_items([Item(Entry(b"a", "hardlink", link=b"b")), Item(Entry(b"b", "hardlink", link=b"a"))])


def test_gnu_tar_reads_every_name_back(tmp_path: Path) -> None:
    names = sorted(
        [b"plain", "ä".encode(), b"\xff\xfe", b"new\nline", b"back\\slash", b"*", b" ", b"-rf", b"\xff" * 120, b"long" * 60]
        + [b"p" * 120 + b"/" + "ü".encode() * 40]
    )
    items = [file(name, name) for name in names]
    items.insert(0, Item(Entry(b"", "dir", 0o750)))
    link = b"\xe9" * 150
    items.append(Item(Entry(b"zlink", "symlink", 0o777, link=link)))
    data, _ = written(sort_items(items))
    for locale in ("C", "C.UTF-8"):
        folder = tmp_path / locale
        folder.mkdir()
        done = subprocess.run(
            ["tar", "-x", "-p", "--numeric-owner", "-C", str(folder)],
            input=data,
            env={"LC_ALL": locale, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=True,
        )
        # The two values that are not UTF-8 and need PAX; GNU tar takes them as bytes anyway.
        assert done.stderr == b"tar: Ignoring unknown extended header keyword 'hdrcharset'\n" * 2
        found = {
            os.path.relpath(os.path.join(parent, name), os.fsencode(folder)): os.path.join(parent, name)
            for parent, _, files in os.walk(os.fsencode(folder))
            for name in files
        }
        assert sorted(found) == sorted([*names, b"zlink"])
        assert all(Path(os.fsdecode(found[name])).read_bytes() == name for name in names)
        assert os.readlink(found[b"zlink"]) == link
        assert {os.lstat(path).st_mtime for path in found.values()} == {EPOCH}
        assert folder.stat().st_mode & 0o7777 == 0o750


def oci_layout(folder: Path, layers: list[bytes]) -> Path:
    """An image of uncompressed layers, by the OCI image-spec."""

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    (folder / "blobs" / "sha256").mkdir(parents=True)
    parts = [blob(data, "layer.v1.tar") for data in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [part["digest"] for part in parts]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": parts,
    }
    index = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    index["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    return folder


def test_umoci_unpacks_what_we_write(tmp_path: Path) -> None:
    """Go's archive/tar, as Docker and containerd use it: every name, number, time, attribute and whiteout arrives."""
    caps = bytes.fromhex("0100000200200000000000000000000000000000")
    linked = Entry(b"h/1", "file", 0o4755, 3, 4, 5, xattrs=((b"security.capability", caps), (b"user.bin", b"\0\n=\xff")))
    names = [b"\xff\xfe", "ü".encode(), b"new\nline", b"\xff" * 120, b"p" * 120 + b"/" + b"\xe9" * 90, b"n" * 255]
    base = [
        Item(Entry(b"", "dir", 0o751, xattrs=((b"user.root", b"1"),))),
        Item(Entry(b"big", "file", 0o644, 3000000, 4294967294), BytesSource(b"")),
        Item(Entry(b"d", "dir", 0o1777, 5, 6)),
        Item(Entry(b"fifo", "fifo", 0o640)),
        Item(linked, BytesSource(b"hello")),
        Item(Entry(b"h/2", "hardlink", link=b"h/1")),
        Item(Entry(b"gone", "dir", 0o755)),
        file(b"gone/too", b""),
        file(b"old", b"1"),
        Item(Entry(b"null", "char", 0o666, rdev=(1, 3))),
        Item(Entry(b"disk", "block", 0o600, rdev=(7, 300))),
        Item(Entry(b"s", "symlink", 0o777, 7, 8, link=b"\xe9" * 200)),
        *(file(name, name) for name in names),
    ]
    top = [Item(Entry(b"gone", "whiteout")), Item(Entry(b"old", "whiteout")), Item(Entry(b"d/x", "whiteout"))]
    image = oci_layout(tmp_path / "image", [written(sort_items(items))[0] for items in (base, top)])
    bundle = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{image}:latest", bundle], check=True, capture_output=True)
    root = os.fsencode(bundle / "rootfs")
    found = {}
    for parent, folders, files in os.walk(root):
        for path in [parent] if parent == root else []:
            found[b""] = path
        for name in folders + files:
            found[os.path.relpath(os.path.join(parent, name), root)] = os.path.join(parent, name)
    expected = [item for item in base if item.entry.path not in (b"gone", b"gone/too", b"old")]
    implied = {b"h", b"p" * 120}
    assert set(found) - implied == {item.entry.path for item in expected}
    types = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}
    for entry, source in expected:
        path = found[entry.path]
        status = os.lstat(path)
        if entry.kind == "hardlink":
            assert status.st_ino == os.lstat(found[entry.link]).st_ino
            continue
        assert status.st_mode == types.get(entry.kind, stat.S_IFLNK) | entry.mode
        assert (status.st_uid, status.st_gid) == (entry.uid, entry.gid)
        if entry.kind != "dir":
            assert status.st_mtime_ns == EPOCH * 10**9
        assert {os.fsencode(name): os.getxattr(path, name) for name in os.listxattr(path, follow_symlinks=False)} == dict(
            entry.xattrs
        )
        if isinstance(source, BytesSource):
            assert Path(os.fsdecode(path)).read_bytes() == source.data
        if entry.kind == "symlink":
            assert os.readlink(path) == entry.link
        if entry.kind in ("char", "block"):
            assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == entry.rdev


@settings(max_examples=100, deadline=None)
@given(trees())
def test_the_size_is_known_before(items: list[Item]) -> None:
    written(items)


LENGTHS = st.sampled_from([1, 91, 92, 95, 96, 97, 98, 99, 100, 101, 102, 155, 156, 157, 200, 255, 260])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_size_of_what_few_tars_have_is_known_before(data: st.DataObject) -> None:
    """Around each length that ustar cannot hold, in every kind of entry, and hard links of plain files to odd ones and back."""
    folders = st.lists(st.sampled_from([b"a" * 60, b"b" * 99, b"c"]), max_size=3).map(b"/".join)
    paths = st.builds(
        lambda folder, length, last: (folder + b"/" if folder else b"") + b"n" * length + last,
        folders,
        LENGTHS,
        st.sampled_from([b"", b"\xff", b"z"]),
    )
    made: dict[bytes, Item] = {}
    for _ in range(data.draw(st.integers(1, 6))):
        path = data.draw(paths)
        if any(other == path or other.startswith(path + b"/") or path.startswith(other + b"/") for other in made):
            continue
        uid = data.draw(st.sampled_from([0, 2**21 - 1, 2**21]))
        entry = Entry(path, "file", 0o644, uid, xattrs=data.draw(ATTRIBUTES), size=3)
        files = [item.entry for item in made.values() if item.entry.kind == "file"]
        match data.draw(st.sampled_from(["file", "dir", "symlink", "whiteout", "hardlink", "hardlink"])):
            case "hardlink" if files:
                made[path] = Item(link_to(data.draw(st.sampled_from(files)), path))
            case "symlink":
                made[path] = Item(entry._replace(kind="symlink", size=0, link=b"t" * data.draw(LENGTHS)))
            case "dir":
                made[path] = Item(entry._replace(kind="dir", size=0))
            case "whiteout":
                made[path] = Item(Entry(path, "whiteout"))
            case _:
                made[path] = Item(entry, BytesSource(b"abc"))
    written(sort_items(made.values()))
