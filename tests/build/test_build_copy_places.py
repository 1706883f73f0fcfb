"""Sources and destinations of every kind that a COPY meets, from a Dockerfile to what ships. Expectations are of Docker's
reference ("COPY") and of BuildKit's copier (tonistiigi/fsutil, copy/copy.go)."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from tests.build.build_shipped import Member, Shipped, a_base, a_dir, a_file, a_link, refused, run_build, ship, under
from tests.conftest import Pybuild

DIR = tarfile.DIRTYPE
LINK = tarfile.SYMTYPE


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    for name in ("one/same", "two/same", "one/deep/same", "two/deep/same", "clash/same/file", "plain"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_the_last_of_the_same_name_wins(pybuild: Pybuild, context: Path) -> None:
    os.symlink("one/same", context / "same")
    os.link(context / "plain", context / "one" / "linked")
    os.link(context / "plain", context / "two" / "linked")
    found = ship(
        pybuild,
        context,
        "FROM scratch\n"
        "COPY one/same two/same /a/\n"
        "COPY two one /b/\n"
        "COPY --parents two/./ one/./ /c/\n"
        "COPY two/same same /d/\n"
        "COPY one two /e\n"
        "COPY o*e t*o /f\n",
    )
    assert under(found, "a") == {".": a_dir(), "same": a_file(b"two/same")}
    ones = {".": a_dir(), "deep": a_dir(), "deep/same": a_file(b"one/deep/same"), "linked": a_file(b"plain")}
    assert under(found, "b") == under(found, "c") == ones | {"same": a_file(b"one/same")}
    assert under(found, "d") == {".": a_dir(), "same": a_file(b"one/same")}
    # Folders make their own destination: it needs no slash.
    twos = {name: a_file(f"two/{name}".encode()) for name in ("same", "deep/same")}
    assert under(found, "e") == under(found, "f") == ones | twos
    for line, message in (
        ("COPY one clash /x/", "'/x/same' is a file and cannot be replaced by a folder"),
        ("COPY clash one /x/", "'/x/same' is a folder and cannot be replaced by a file"),
        ("COPY plain one /x", "several sources need a folder to go to, and '/x' is none"),
    ):
        assert message in refused(pybuild, context, f"FROM scratch\n{line}\n", code=1)


def test_devices_fifos_and_links_by_name(pybuild: Pybuild, context: Path) -> None:
    os.mknod(context / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (context / "null").chmod(0o666)
    os.mkfifo(context / "fifo", 0o600)
    os.symlink("fifo", context / "to-fifo")
    os.symlink("one/", context / "to-one")
    os.symlink("../../one/../one/./deep", context / "around")
    os.symlink("to-one", context / "again")
    found = ship(
        pybuild,
        context,
        "FROM scratch AS made\n"
        "COPY null fifo to-fifo /dev/\n"
        "COPY --chmod=600 --chown=1 null /dev/mine\n"
        "ADD null /dev/\n"
        "COPY again/ /one\n"
        "COPY to-one/. /dot\n"
        "COPY around/same again/same /around/\n"
        "FROM scratch\n"
        "COPY --from=made /dev /dev\n"
        "COPY --from=made . /\n",
    )
    assert under(found, "dev") == {
        ".": a_dir(),
        "fifo": Shipped("fifo", 0o600, "0:0"),
        "to-fifo": Shipped("fifo", 0o600, "0:0"),
        "null": Shipped("char", 0o666, "0:0"),
        "mine": Shipped("char", 0o600, "1:1"),
    }
    assert under(found, "one") == under(found, "dot")
    assert under(found, "one") == {
        ".": a_dir(),
        "deep": a_dir(),
        "deep/same": a_file(b"one/deep/same"),
        "same": a_file(b"one/same"),
    }
    # What a link climbs over is the context's own root.
    assert under(found, "around") == {".": a_dir(), "same": a_file(b"one/same")}


def test_links_that_end_at_no_folder(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    a_base(
        pybuild,
        tmp_path,
        Member("d", DIR, mode=0o755),
        Member("d/dangling", LINK, link="../new/deep/file"),
        Member("d/chain", LINK, link="dangling"),
        Member("d/rooted", LINK, link="/../../../d/real"),
        Member("d/real", DIR, mode=0o700),
        Member("d/around", LINK, link="real/../../d/real/"),
        Member("d/file", data=b"file"),
        Member("d/to-file", LINK, link="file"),
        Member("d/a", LINK, link="b"),
        Member("d/b", LINK, link="a"),
        Member("w", LINK, link="/d/real"),
    )
    found = ship(
        pybuild,
        context,
        "FROM base:1\n"
        # A link to nothing is followed, and what it names is made.
        "COPY plain /d/chain\n"
        "COPY plain /d/rooted\n"
        "COPY one/same /d/around/there\n"
        "WORKDIR /w\n"
        "COPY two/same ./relative\n"
        "COPY two/same ../up\n"
        "COPY one/deep .\n"
        "COPY two/deep/same /d/to-file\n",
    )
    assert under(found, "new") == {".": a_dir(), "deep": a_dir(), "deep/file": a_file(b"plain")}
    assert under(found, "d/real") == {
        ".": a_dir(0o700),
        "plain": a_file(b"plain"),
        "there": a_file(b"one/same"),
        "relative": a_file(b"two/same"),
        "same": a_file(b"one/deep/same"),
    }
    # `..` of a destination is taken before any link is.
    assert found["up"] == a_file(b"two/same")
    assert found["d/file"] == a_file(b"two/deep/same")
    assert {name: found[name] for name in ("d/to-file", "d/dangling", "w")} == {
        "d/to-file": a_link(b"file"),
        "d/dangling": a_link(b"../new/deep/file"),
        "w": a_link(b"/d/real"),
    }
    for line, message in (
        ("COPY plain /d/a", "'d/a' leads through too many symbolic links"),
        ("COPY plain /d/a/x/", "'d/a/x' leads through too many symbolic links"),
        ("WORKDIR /d/b", "'d/b' leads through too many symbolic links"),
        ("COPY one /d/to-file", "'/d/file' is a file and cannot be replaced by a folder"),
        ("COPY plain /d/to-file/", "'/d/file' is no folder"),
        ("COPY --parents one/same /d/file", "'/d/file' is a file and cannot be replaced by a folder"),
    ):
        said = refused(pybuild, context, f"FROM base:1\n{line}\n", code=1)
        assert message in said, said


def test_names_in_every_script(pybuild: Pybuild, context: Path) -> None:
    names = [
        "ä",
        "a\u0308",
        "日本語",
        "😀",
        "-dash",
        "$money",
        "sp ace",
        "q'uote",
        'd"quote',
        "tab\there",
        "back\\slash",
        "[b]",
        "#x",
    ]
    for name in names:
        (context / "all" / name).parent.mkdir(exist_ok=True)
        (context / "all" / name).write_text(name)
    raw = os.fsencode(context) + b"/all/\xff\xfe"
    with open(raw, "wb") as file:
        file.write(b"raw")
    found = ship(
        pybuild,
        context,
        "FROM scratch\n"
        "ENV WHAT=日本語 TO=/ö\n"
        "COPY all /all\n"
        "COPY all/ä all/😀 all/$WHAT all/\\$money /plain/\n"
        'COPY ["all/sp ace", "all/a\u0308", "all/[[]b]", "all/back\\\\\\\\\\\\\\\\slash", "$TO/é/"]\n'
        "COPY all/[\u00e0-\u00ff] all/no* /globbed/\n"
        "COPY --exclude=?a* --exclude=日* --exclude=-* --exclude=[[]* all /left/\n"
        "COPY --parents all/**/-* all/t*e /parents/\n"
        "COPY --link all/😀 /😀/\n",
    )
    contents = {name: a_file(name.encode()) for name in names} | {"\udcff\udcfe": a_file(b"raw")}
    assert under(found, "all") == {".": a_dir(), **contents}
    assert under(found, "plain") == {".": a_dir(), **{name: contents[name] for name in ("ä", "😀", "日本語", "$money")}}
    assert under(found, "ö/é") == {
        ".": a_dir(),
        **{name: contents[name] for name in ("sp ace", "a\u0308", "[b]", "back\\slash")},
    }
    assert under(found, "globbed") == {".": a_dir(), "ä": contents["ä"]}
    left = contents.keys() - {"日本語", "-dash", "[b]", "tab\there", "back\\slash"}
    assert under(found, "left") == {".": a_dir(), **{name: contents[name] for name in left}}
    assert under(found, "parents") == {
        ".": a_dir(),
        "all": a_dir(),
        "all/-dash": contents["-dash"],
        "all/tab\there": contents["tab\there"],
    }
    assert under(found, "😀") == {".": a_dir(), "😀": contents["😀"]}


def test_stages_contexts_and_images_with_the_flags(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """By name, by number, a later one, an image, a named context: each with flags that choose among its files."""
    a_base(
        pybuild,
        tmp_path,
        Member("etc", DIR, mode=0o751, uid=1),
        Member("etc/x", data=b"x", uid=2, gid=3),
        Member("etc/y", data=b"y"),
        name="example/tools:2",
    )
    other = tmp_path / "other"
    (other / "sub").mkdir(parents=True)
    for name in ("kept", "left.out", "secret"):
        (other / "sub" / name).write_text(name)
    (other / ".dockerignore").write_text("**/secret\n")
    found = ship(
        pybuild,
        context,
        "FROM scratch AS early\n"
        "COPY --from=late --parents --exclude=**/deep one /from-late/\n"
        "COPY --from=2 --link --chmod=a-w plain /from-two/\n"
        "FROM early AS last\n"
        "COPY --from=example/tools:2 --parents --exclude=*/y etc /image/\n"
        "COPY --from=example/tools:2 --exclude=y /etc /image/flat\n"
        "COPY --from=named --exclude=*.out sub /context/\n"
        "COPY --from=named --parents sub/./* /context2/\n"
        "FROM scratch AS late\n"
        "COPY . /\n",
        *("--build-context", f"named={other}", "--target=last"),
    )
    assert under(found, "from-late") == {".": a_dir(), "one": a_dir(), "one/same": a_file(b"one/same")}
    assert under(found, "from-two") == {".": a_dir(), "plain": a_file(b"plain", 0o444)}
    assert under(found, "image") == {
        ".": a_dir(),
        "etc": a_dir(0o751, "1:0"),
        "etc/x": a_file(b"x", owner="2:3"),
        "flat": a_dir(),
        "flat/x": a_file(b"x", owner="2:3"),
    }
    assert under(found, "context") == {".": a_dir(), "kept": a_file(b"kept")}
    assert under(found, "context2") == {".": a_dir(), "kept": a_file(b"kept"), "left.out": a_file(b"left.out")}
    said = run_build(pybuild, context, "FROM scratch\nCOPY --link one /a\nCOPY --link --parents one/./ /b\n")
    assert said.count("CACHED") == 1
