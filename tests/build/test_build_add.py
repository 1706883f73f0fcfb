"""ADD of files and local archives, to what ships. Expectations are of Docker's reference ("ADD") and of BuildKit's unpacker."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
from pathlib import Path

import pytest
import zstandard

from tests.build.build_shipped import Member, Shipped, a_base, a_dir, a_file, a_link, pack, refused, run_build, ship, under
from tests.conftest import Pybuild

DIR, LINK, HARD, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE

APP = (
    Member("./", DIR, mode=0o700, uid=9, gid=9),
    Member("app/bin/", DIR, mode=0o2750, uid=3, gid=4),
    Member("app/bin/tool", data=b"tool", mode=0o4755, uid=3, gid=4),
    Member("app/bin/same", HARD, mode=0o4755, uid=3, gid=4, link="app/bin/tool"),
    Member("app/bin/link", LINK, mode=0o777, uid=5, gid=6, link="/etc/passwd"),
    Member("app/fifo", FIFO, mode=0o600, uid=5, gid=6),
    Member("/rooted", data=b"r"),
)
UNPACKED = {
    "app": a_dir(),
    "app/bin": a_dir(0o2750, "3:4"),
    "app/bin/same": a_file(b"tool", 0o4755, "3:4"),
    "app/bin/tool": Shipped("hardlink", 0o4755, "3:4", b"PREFIX/app/bin/same"),
    "app/bin/link": a_link(b"/etc/passwd", "5:6"),
    "app/fifo": Shipped("fifo", 0o600, "5:6"),
    "rooted": a_file(b"r"),
}


def unpacked(prefix: str, owner: str = "") -> dict[str, Shipped]:
    found = {path: entry._replace(data=entry.data.replace(b"PREFIX", prefix.encode())) for path, entry in UNPACKED.items()}
    return {path: entry._replace(owner=owner or entry.owner) for path, entry in found.items()}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    pack(root / "plain", *APP)
    raw = (root / "plain").read_bytes()
    (root / "picture.png").write_bytes(gzip.compress(raw, mtime=0))
    (root / "two").write_bytes(bz2.compress(raw))
    (root / "three.tar.gz").write_bytes(lzma.compress(raw))
    (root / "four.txt").write_bytes(zstandard.compress(raw))
    (root / "note.gz").write_bytes(gzip.compress(b"only text", mtime=0))
    (root / "long.gz").write_bytes(gzip.compress(b"text " * 1000, mtime=0))
    (root / "empty.tar.gz").write_bytes(b"")
    (root / "empty.tar").write_bytes(bytes(10240))
    (root / "file").write_text("file")
    return root


def test_archives_are_known_by_their_content(pybuild: Pybuild, context: Path) -> None:
    found = ship(
        pybuild,
        context,
        "FROM scratch\n"
        "ADD plain /plain\n"
        "ADD picture.png /gz/\n"
        "ADD two /bz2/\n"
        "ADD three.tar.gz /xz\n"
        "ADD four.txt /zst\n"
        "ADD note.gz long.gz empty.tar.gz empty.tar file /copied/\n"
        "ADD plain file /mixed/\n"
        "COPY picture.png /not/unpacked\n"
        "ADD --unpack=false picture.png /not/either\n"
        "ADD --unpack=true plain /told\n"
        "WORKDIR /w\n"
        "ADD fou[r].txt .\n",
    )
    for folder in ("plain", "gz", "bz2", "xz", "zst", "told", "w"):
        # The destination is 0755: the archive's own root says nothing.
        assert under(found, folder) == {".": a_dir(), **unpacked(folder)}, folder
    assert under(found, "copied") == {
        ".": a_dir(),
        **{name: a_file((context / name).read_bytes()) for name in ("note.gz", "long.gz", "empty.tar.gz", "empty.tar", "file")},
    }
    assert under(found, "mixed") == {".": a_dir(), "file": a_file(b"file"), **unpacked("mixed")}
    packed = a_file((context / "picture.png").read_bytes())
    assert under(found, "not") == {".": a_dir(), "unpacked": packed, "either": packed}


def test_chown_owns_what_the_archive_names_and_chmod_has_no_say(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """The destination and every member are the given user's, implied parents root's; --chmod is for what is copied and for the
    folders that are made for it (moby/buildkit issue 5943)."""
    a_base(pybuild, tmp_path, Member("etc", DIR, mode=0o755), Member("etc/passwd", data=b"app:x:7:8::/:/bin/sh\n"))
    found = ship(
        pybuild,
        context,
        "FROM base:1\nADD --chown=app plain /on/the/way/\nADD --chmod=600 plain /m\nADD --chown=app --chmod=640 file /f/\n",
    )
    assert (found["on"], found["on/the"]) == (a_dir(owner="7:8"), a_dir(owner="7:8"))
    assert under(found, "on/the/way") == {".": a_dir(owner="7:8"), **unpacked("on/the/way", "7:8"), "app": a_dir()}
    assert under(found, "m") == {".": a_dir(), **unpacked("m")}
    assert under(found, "f") == {".": a_dir(0o640, "7:8"), "file": a_file(b"file", 0o640, "7:8")}


def test_an_archive_goes_over_what_is_there(pybuild: Pybuild, context: Path, tmp_path: Path, busybox_base: Path) -> None:
    a_base(
        pybuild,
        tmp_path,
        Member("usr", DIR, mode=0o755),
        Member("usr/bin", DIR, mode=0o755, uid=1, gid=1),
        Member("bin", LINK, link="usr/bin"),
        Member("etc", DIR, mode=0o711, uid=1, gid=1),
        Member("etc/conf", data=b"old", mode=0o600),
        Member("etc/below", data=b"below", mode=0o640, uid=2, gid=2),
        Member("etc/link", LINK, link="below"),
        Member("etc/full", DIR, mode=0o755),
        Member("etc/full/of", data=b"things"),
        Member("etc/swapped", DIR, mode=0o755),
        Member("etc/swapped/old", data=b"old"),
        Member("etc/flat", data=b"flat"),
    )
    pack(
        context / "over.tar",
        # As a distribution's archive has it: the folder's own entry, where the image has a link.
        Member("bin/", DIR, mode=0o775, uid=2, gid=2),
        Member("bin/x", data=b"x", mode=0o755),
        Member("etc/conf", data=b"first"),
        Member("etc/conf", data=b"second", mode=0o644),
        Member("etc/link", data=b"no link"),
        Member("etc/full", data=b"a file now"),
        Member("etc/swapped", data=b"a file for a moment"),
        Member("etc/swapped", DIR, mode=0o700),
        Member("etc/swapped/new", data=b"new"),
        Member("etc/flat", DIR, mode=0o755),
        Member("etc/flat/inside", data=b"inside"),
        Member("etc/copy", HARD, mode=0o644, uid=4, gid=4, link="etc/below"),
    )
    found = ship(pybuild, context, "FROM base:1\nADD over.tar /\n")
    assert found["bin"] == a_link(b"usr/bin")
    assert under(found, "usr") == {".": a_dir(), "bin": a_dir(0o775, "2:2"), "bin/x": a_file(b"x", 0o755)}
    assert under(found, "etc") == {
        ".": a_dir(0o711, "1:1"),
        "conf": a_file(b"second"),
        "below": a_file(b"below", 0o640, "2:2"),
        "copy": a_file(b"below", 0o644, "4:4"),
        "link": a_file(b"no link"),
        "full": a_file(b"a file now"),
        "swapped": a_dir(0o700),
        "swapped/new": a_file(b"new"),
        "flat": a_dir(),
        "flat/inside": a_file(b"inside"),
    }
    # A RUN sees the same, through the layer's folder.
    said = run_build(
        pybuild,
        context,
        "FROM base:1\nADD over.tar /\nCOPY --from=busy bin/busybox /sh\n"
        'RUN ["/sh", "-c", "cat /etc/swapped/* /etc/full /bin/x /etc/copy"]\n',
        "--build-context",
        f"busy={busybox_base}",
    )
    assert "newa file nowxbelow" in said


def test_members_stay_inside_whatever_links_are_there(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """Links are resolved as in a chroot at the destination, the image's and the archive's own."""
    a_base(
        pybuild,
        tmp_path,
        Member("etc", DIR, mode=0o755),
        Member("opt", DIR, mode=0o755),
        Member("opt/abs", LINK, link="/etc"),
        Member("opt/up", LINK, link="../../../../../etc"),
        Member("dest", LINK, link="/opt"),
    )
    pack(
        context / "evil.tar",
        Member("abs/a", data=b"a"),
        Member("up/b", data=b"b"),
        Member("own", LINK, link="/../../tmp"),
        Member("own/c", data=b"c"),
        Member("x/../y", data=b"y"),
    )
    found = ship(pybuild, context, "FROM base:1\nADD evil.tar /dest\n")
    assert under(found, "etc") == {".": a_dir()}
    assert {path: entry.data for path, entry in under(found, "opt").items() if entry.kind == "file"} == {
        "etc/a": b"a",
        "etc/b": b"b",
        "tmp/c": b"c",
        "y": b"y",
    }
    assert "tmp" not in found
    for name, message in {
        "../out": "'../out' leads out of it",
        "a/../../out": "'a/../../out' leads out of it",
    }.items():
        pack(context / "bad.tar", Member("good", data=b"g"), Member(name, data=b"x"))
        said = refused(pybuild, context, "FROM scratch\nADD file bad.tar /opt/\n", code=1)
        assert "Dockerfile:2:10: error: 'bad.tar' is not a tar archive that can be read: " + message in said, said


def test_archives_that_cannot_be(pybuild: Pybuild, context: Path) -> None:
    (context / "big").write_bytes(os.urandom(200_000))
    with tarfile.open(context / "whole.tar", "w") as archive:
        archive.add(context / "big", "big")
    raw = (context / "whole.tar").read_bytes()
    cases = {
        "cut.tar": raw[:100_000],
        "cut.tar.gz": gzip.compress(raw, mtime=0)[:100_000],
        # Of blocks of 100 kB the first still shows a tar.
        "cut.tar.bz2": bz2.compress(raw, 1)[:-100],
        "cut.tar.xz": lzma.compress(raw)[:-5_000],
        "cut.tar.zst": zstandard.compress(raw)[:150_000],
        "wrong.tar": raw[:512] + raw[512:201_728] + b"no header".ljust(512, b"\0") + bytes(1024),
        "wrong.tar.gz": gzip.compress(raw, mtime=0)[:-8] + bytes(8),
    }
    for name, data in cases.items():
        (context / name).write_bytes(data)
        said = refused(pybuild, context, f"FROM scratch\nADD {name} /x\n", code=1)
        assert f"Dockerfile:2:5: error: '{name}' is " in said and f"2 | ADD {name} /x\n    |     ^^^" in said, said
        assert "hint: fetch or make it again" in said, said
    for member, message in {
        Member("x", HARD, link="y"): "'x' is a hard link to 'y', which is no file there",
        Member("file/x", data=b"x"): "'/t/file' is no folder",
        Member(".wh.x", data=b""): "names that begin with '.wh.'",
        Member("zero", tarfile.CHRTYPE): "'zero' is a character device 0:0, which stands for a removed file",
    }.items():
        pack(context / "odd.tar", Member("file", data=b"f"), member)
        said = refused(pybuild, context, "FROM scratch\nADD odd.tar /t\n", code=1)
        assert "Dockerfile:2:" in said and message in said, said
    said = refused(pybuild, context, "FROM scratch\nCOPY file /t\nADD plain /t\n", code=1)
    assert "Dockerfile:3:11: error: '/t' is no folder" in said


def test_the_bytes_of_an_archive_count_and_not_its_name(pybuild: Pybuild, context: Path) -> None:
    text = "FROM scratch\nADD plain /x\n"
    assert run_build(pybuild, context, text).count("CACHED") == 1
    os.utime(context / "plain", (5, 5))
    assert run_build(pybuild, context, text).count("CACHED") == 2
    pack(context / "plain", *APP, Member("more", data=b"more"))
    assert run_build(pybuild, context, text).count("CACHED") == 1
