"""`--chmod`, `--exclude`, `--parents` and `--unpack` from a Dockerfile to what ships.

Expectations are of Docker's reference ("COPY --chmod", "COPY --parents", "COPY --exclude", "ADD --unpack") and of BuildKit's
own tests (moby/buildkit, frontend/dockerfile: dockerfile_parents_test.go, exclude_patterns_test.go,
dockerfile_chmod_non_octal_test.go).
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tests.build.build_shipped import (
    Member,
    Shipped,
    a_base,
    a_dir,
    a_file,
    a_link,
    pack,
    refused,
    run_build,
    ship,
    under,
)
from tests.conftest import Pybuild

DIR = tarfile.DIRTYPE
LINK = tarfile.SYMTYPE


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    return root


def fill(root: Path, *names: str, mode: int = 0o644) -> None:
    """Files that hold their own names; their folders have the mode 0750."""
    for name in names:
        path = root / name
        for folder in reversed(path.relative_to(root).parents):
            if not (root / folder).exists():
                (root / folder).mkdir()
                (root / folder).chmod(0o750)
        path.write_text(name)
        path.chmod(mode)


def names(found: dict[str, Shipped], folder: str) -> list[str]:
    return sorted(name for name in under(found, folder) if name != ".")


# --chmod


def test_symbolic_modes_change_those_of_files_and_folders(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    fill(context, "dir/sub/plain", "dir/file", mode=0o666)
    fill(context, "dir/run", mode=0o744)
    (context / "dir" / "sub").chmod(0o124)
    os.symlink("plain", context / "dir" / "sub" / "link")
    os.mkfifo(context / "dir" / "fifo")
    (context / "dir" / "fifo").chmod(0o600)
    os.link(context / "dir" / "file", context / "dir" / "linked")
    pack(context / "a.tar", Member("member", data=b"m", mode=0o600))
    a_base(pybuild, tmp_path, Member("there", DIR, mode=0o711))
    text = (
        "FROM base:1\n"
        "ARG WHO=go\n"
        "COPY --chmod=u=rwX,go=rX dir /made\n"
        "COPY --chmod=$WHO-w,+t dir/file /there/\n"
        "COPY --chmod=a+X dir /x\n"
        "COPY --chmod=g=u --chown=5 dir/run dir/file /owned/\n"
        "COPY --chmod=+s --parents dir/sub/plain /parents/\n"
        "ADD --chmod=a=r a.tar dir/file /add/\n"
        "COPY --chmod=$NOTHING dir/file /nothing\n"
    )
    found = ship(pybuild, context, text)
    # The folder that is made is 0755: what is changed are modes of the sources.
    assert {path: oct(entry.mode) for path, entry in under(found, "made").items()} == {
        ".": "0o755",
        "fifo": "0o644",
        "file": "0o644",
        "linked": "0o644",
        "run": "0o755",
        "sub": "0o755",
        "sub/link": "0o777",
        "sub/plain": "0o644",
    }
    assert under(found, "made")["linked"].kind == "hardlink"
    assert under(found, "there") == {".": a_dir(0o711), "file": a_file(b"dir/file", 0o1644)}
    assert {path: oct(entry.mode) for path, entry in under(found, "x").items() if "/" not in path} == {
        ".": "0o755",
        "fifo": "0o600",
        "file": "0o666",
        "linked": "0o666",
        "run": "0o755",
        "sub": "0o135",
    }
    assert under(found, "owned") == {
        ".": a_dir(owner="5:5"),
        "run": a_file(b"dir/run", 0o774, "5:5"),
        "file": a_file(b"dir/file", 0o666, "5:5"),
    }
    assert {path: oct(entry.mode) for path, entry in under(found, "parents").items()} == {
        ".": "0o755",
        "dir": "0o6750",
        "dir/sub": "0o6124",
        "dir/sub/plain": "0o6666",
    }
    # What an archive holds has its own modes.
    assert under(found, "add") == {".": a_dir(), "member": a_file(b"m", 0o600), "file": a_file(b"dir/file", 0o444)}
    assert found["nothing"] == a_file(b"dir/file", 0o666)
    # The key is of the modes that come out: another mode that leads to the same ones changes nothing.
    (context / "dir" / "sub" / "plain").chmod(0o600)
    assert run_build(pybuild, context, "FROM base:1\nCOPY --chmod=u=rwX,go=rX dir /made\n").count("CACHED") == 2
    (context / "dir" / "sub" / "plain").chmod(0o700)
    assert run_build(pybuild, context, "FROM base:1\nCOPY --chmod=u=rwX,go=rX dir /made\n").count("CACHED") == 1


# --exclude


def test_excluded_files_are_not_copied(pybuild: Pybuild, context: Path) -> None:
    """BuildKit's testExcludedFilesOnCopy, from the context and from a stage."""
    fill(context, *(f"dir1/file-{name}" for name in ("101.png", "102.txt", "103.jpeg")))
    fill(context, *(f"dir2/file-{name}" for name in ("201.pdf", "202.jpeg", "203.png")))
    fill(context, *(f"dir3/file-{name}" for name in ("301.mp3", "302.mpeg")))
    kinds = "--exclude=*.mp3 --exclude=*.jpeg --exclude=*.png --exclude=*.pdf --exclude=*.txt"
    text = (
        "FROM scratch AS all\nCOPY dir* /all/\nCOPY . /base\n"
        "FROM scratch\n"
        "{copy} --exclude=*/*.png --exclude=*/*.jpeg {base} /1\n"
        "{copy} --exclude=*/*.pdf --exclude=*/*.txt {base} /2\n"
        "{copy} --exclude=*.mp3 {base}/dir3/ /3/\n"
        "{copy} " + kinds + " {base}/dir* /4/\n"
        "{copy} --exclude=*.mp* --exclude=*.jpeg --exclude=*.png --exclude=*.pdf {base}/dir* /5\n"
        "{copy} --exclude=* {base}/dir* /6\n"
    )
    for copy, base in (("COPY", "."), ("ADD", "."), ("COPY --from=all", "/base")):
        found = ship(pybuild, context, text.format(copy=copy, base=base))
        one = ["Dockerfile", "dir1", "dir1/file-102.txt", "dir2", "dir2/file-201.pdf", "dir3"]
        assert names(found, "1") == [*one, "dir3/file-301.mp3", "dir3/file-302.mpeg"]
        two = ["dir1/file-101.png", "dir1/file-103.jpeg", "dir2", "dir2/file-202.jpeg", "dir2/file-203.png", "dir3"]
        assert names(found, "2") == ["Dockerfile", "dir1", *two, "dir3/file-301.mp3", "dir3/file-302.mpeg"]
        assert names(found, "3") == ["file-302.mpeg"]
        assert names(found, "4") == ["file-302.mpeg"]
        assert names(found, "5") == ["file-102.txt"]
        assert under(found, "6") == {".": a_dir()}


def test_patterns_of_exclude_are_those_of_dockerignore(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    fill(
        context,
        "src/a.c",
        "src/a.o",
        "src/x/b.o",
        "src/x/y/c.o",
        "src/x/y/c.c",
        "src/keep/d.o",
        "src/keep/e",
        "src/#n",
        "home.txt",
    )
    fill(context, "hom.md", "homer", "linked/z", "linked/a")
    os.link(context / "linked" / "z", context / "linked" / "b")
    os.symlink("src", context / "link")
    a_base(pybuild, tmp_path, Member("deep", DIR, mode=0o755), Member("deep/keep", DIR, mode=0o700, uid=3, gid=4))
    pack(context / "some.tar", Member("one.txt", data=b"1"))
    found = ship(
        pybuild,
        context,
        "FROM base:1\n"
        "ARG WHAT=o\n"
        "COPY --exclude=**/*.$WHAT src /deep\n"
        "COPY --exclude=x --exclude=/keep/ --exclude=./a.c src /named\n"
        "COPY --exclude=** --exclude=!keep/e src /deep\n"
        "COPY --exclude=x/* --exclude=!x/y src /back\n"
        "COPY --exclude=#n --exclude= --exclude=$NOTHING --exclude='a.?' src /odd\n"
        # The reference's example: what a wildcard found is a match like any other.
        "COPY --exclude=*.txt --exclude=*.md hom* /mydir/\n"
        "COPY --exclude=a.o src/a.o src/a.c /single/\n"
        "COPY --exclude=a.o src/a.o /none/at/all\n"
        "COPY --exclude=a.o src/a.o /none/in/\n"
        "COPY --exclude=keep --exclude=x link /through\n"
        "COPY --exclude=a linked /linked\n"
        # Not what is in an archive, but an archive.
        "ADD --exclude=*.txt some.tar /add/\n"
        "ADD --exclude=*.tar some.tar /add2/\n"
        "COPY --exclude=x --exclude=keep --parents src /parents\n"
        "COPY --exclude=src/x --exclude=src/keep --parents src /parents2\n",
    )
    # A folder that is copied takes the source's metadata, a pattern that matches none of it changes nothing.
    assert under(found, "deep") == {
        ".": a_dir(),
        "#n": a_file(b"src/#n"),
        "a.c": a_file(b"src/a.c"),
        "keep": a_dir(0o750),
        "keep/e": a_file(b"src/keep/e"),
        "x": a_dir(0o750),
        "x/y": a_dir(0o750),
        "x/y/c.c": a_file(b"src/x/y/c.c"),
    }
    assert names(found, "named") == ["#n", "a.o"]
    assert names(found, "back") == ["#n", "a.c", "a.o", "keep", "keep/d.o", "keep/e", "x", "x/y", "x/y/c.c", "x/y/c.o"]
    assert names(found, "odd") == ["keep", "keep/d.o", "keep/e", "x", "x/b.o", "x/y", "x/y/c.c", "x/y/c.o"]
    assert names(found, "mydir") == ["homer"]
    assert names(found, "single") == ["a.c"]
    assert names(found, "none") == ["at", "in"]
    assert names(found, "through") == ["#n", "a.c", "a.o"]
    assert under(found, "linked") == {
        ".": a_dir(),
        "b": a_file(b"linked/z"),
        "z": Shipped("hardlink", 0o644, "0:0", b"linked/b"),
    }
    assert names(found, "add") == ["one.txt"]
    assert under(found, "add2") == {".": a_dir()}
    # Patterns are relative to the folder that the copy starts from: the context here.
    whole = ["src", "src/#n", "src/a.c", "src/a.o"]
    assert names(found, "parents2") == whole
    assert names(found, "parents") == [*whole, *(f"src/{name}" for name in ("keep", "keep/d.o", "keep/e", "x", "x/b.o"))] + [
        "src/x/y",
        "src/x/y/c.c",
        "src/x/y/c.o",
    ]


def test_what_is_excluded_is_not_in_the_key(pybuild: Pybuild, context: Path) -> None:
    fill(context, "src/a.c", "src/a.o")
    text = "FROM scratch\nCOPY --exclude=*.o src /s\n"
    assert run_build(pybuild, context, text).count("CACHED") == 1
    (context / "src" / "a.o").write_text("made again")
    assert run_build(pybuild, context, text).count("CACHED") == 2
    # Another way to say the same takes the same result.
    (context / "src" / "a.o").unlink()
    assert run_build(pybuild, context, "FROM scratch\nCOPY src /s\n").count("CACHED") == 2


# --parents


def test_a_wildcard_before_the_pivot_means_folders(pybuild: Pybuild, context: Path) -> None:
    """A file beside them is no place to start from, and no reason to fail."""
    fill(context, "p/a/package.json", "p/b/package.json", "p/README.md")
    found = ship(pybuild, context, "FROM scratch\nCOPY --parents p/*/./package.json /x/\n")
    assert names(found, "x") == ["package.json"]


def test_parents_are_kept(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """The reference's examples and BuildKit's testCopyParents."""
    fill(context, "x/a.txt", "y/a.txt", "x/y/a.txt", "x/y/b.txt", "src/a.txt", "src/x/b.txt", "src/x/y/c.txt", "src/x/z/d.md")
    fill(context, "foo1/foo2/bar", "foo1/foo2/baz", "foo1/foo2/other/one", mode=0o600)
    os.symlink("foo2", context / "foo1" / "link")
    (context / "x").chmod(0o1700)
    a_base(
        pybuild,
        tmp_path,
        Member("old", DIR, mode=0o755),
        Member("old/foo1", DIR, mode=0o711, uid=7, gid=8),
        Member("old/foo1/foo2", DIR, mode=0o750, uid=7, gid=8),
        Member("old/foo1/foo2/kept", data=b"kept"),
    )
    found = ship(
        pybuild,
        context,
        "FROM base:1\n"
        "COPY ./x/a.txt ./y/a.txt /no_parents/\n"
        "COPY --parents ./x/a.txt ./y/a.txt /parents/\n"
        "COPY --parents ./x/./y/*.txt /pivot/\n"
        "COPY --parents ./src/**/*.txt /deep/\n"
        "COPY --parents foo1/foo2/bar /\n"
        "WORKDIR /test\n"
        "COPY --parents foo1/foo2/ba* .\n"
        "COPY --parents --chown=3:4 --chmod=710 foo1/foo2/bar /owned/by\n"
        "COPY --parents foo1/foo2/bar foo1/link /old\n"
        "COPY --parents foo1/foo2/ /old2\n"
        "COPY --parents src/./ /all\n"
        "COPY --parents ../../x/../y/. /cleaned\n"
        "COPY --parents=false x/a.txt /plain/\n",
    )
    assert under(found, "no_parents") == {".": a_dir(), "a.txt": a_file(b"y/a.txt")}
    assert under(found, "parents") == {
        ".": a_dir(),
        # The folders on the way are those of the source.
        "x": a_dir(0o1700),
        "x/a.txt": a_file(b"x/a.txt"),
        "y": a_dir(0o750),
        "y/a.txt": a_file(b"y/a.txt"),
    }
    assert under(found, "pivot") == {
        ".": a_dir(),
        "y": a_dir(0o750),
        "y/a.txt": a_file(b"x/y/a.txt"),
        "y/b.txt": a_file(b"x/y/b.txt"),
    }
    assert names(found, "deep") == ["src", "src/a.txt", "src/x", "src/x/b.txt", "src/x/y", "src/x/y/c.txt"]
    assert names(found, "foo1") == ["foo2", "foo2/bar"]
    assert names(found, "test") == ["foo1", "foo1/foo2", "foo1/foo2/bar", "foo1/foo2/baz"]
    assert under(found, "owned/by") == {
        ".": a_dir(0o710, "3:4"),
        "foo1": a_dir(0o710, "3:4"),
        "foo1/foo2": a_dir(0o710, "3:4"),
        "foo1/foo2/bar": a_file(b"foo1/foo2/bar", 0o710, "3:4"),
    }
    # Those that are there take the source's mode and keep their owner; a link is copied as it is.
    assert under(found, "old") == {
        ".": a_dir(),
        "foo1": a_dir(0o750, "7:8"),
        "foo1/foo2": a_dir(0o750, "7:8"),
        "foo1/foo2/kept": a_file(b"kept"),
        "foo1/foo2/bar": a_file(b"foo1/foo2/bar", 0o600),
        "foo1/link": a_link(b"foo2"),
    }
    assert names(found, "old2") == ["foo1", *(f"foo1/foo2{name}" for name in ("", "/bar", "/baz", "/other", "/other/one"))]
    assert names(found, "all") == ["a.txt", "x", "x/b.txt", "x/y", "x/y/c.txt", "x/z", "x/z/d.md"]
    assert names(found, "cleaned") == ["y", "y/a.txt"]
    assert names(found, "plain") == ["a.txt"]


def test_parents_of_a_stage(pybuild: Pybuild, context: Path) -> None:
    """BuildKit's testCopyRelativeParents and testCopyParentsMissingDirectory, and the pull request that brought the pivot."""
    fill(context, *(f"test/a/{name}" for name in ("b/c/d/foo", "b/c/d/e/bay", "b2/c/d/e/bar", "b/c2/d/e/baz", "b/c2/d/e2/baz")))
    fill(context, "out/usr/bin/bar", "out/usr/local/bin/foo", "out/usr/share/x")
    base = "FROM scratch AS base\nCOPY --parents test out/./usr /\n"
    found = ship(
        pybuild,
        context,
        base + "FROM scratch\n"
        "COPY --from=base --parents /test/a/b/./c/d /middle/\n"
        "COPY --from=base --parents /test/a/b/c/d/. /end/\n"
        "COPY --from=base --parents ./test/a/b/c/d /start/\n"
        "COPY --from=base --parents /test/a/./b/./c /double/\n"
        "COPY --from=base --parents /test/a/./*/c /wildcard/\n"
        "COPY --from=base --parents /test/a/b*/./c/**/e /doublewildcard/\n"
        "COPY --from=0 --parents /test/a/b/c*/./d/**/baz /test/a/b*/./c/**/bar /doubleinputs/\n"
        "COPY --from=base --parents /test/a/b2*x/c /nothing1/\n"
        "COPY --from=base --parents /test/a/b/./c9* /nothing2/\n"
        "COPY --from=base --parents /usr/./**/bin/ /programs/\n",
    )
    assert names(found, "middle") == ["c", "c/d", "c/d/e", "c/d/e/bay", "c/d/foo"]
    whole = [
        "test",
        "test/a",
        "test/a/b",
        "test/a/b/c",
        "test/a/b/c/d",
        "test/a/b/c/d/e",
        "test/a/b/c/d/e/bay",
        "test/a/b/c/d/foo",
    ]
    assert names(found, "end") == names(found, "start") == whole
    assert names(found, "double") == ["b", "b/c", "b/c/d", "b/c/d/e", "b/c/d/e/bay", "b/c/d/foo"]
    two = ["b2", "b2/c", "b2/c/d", "b2/c/d/e", "b2/c/d/e/bar"]
    assert names(found, "wildcard") == [*names(found, "double"), *two]
    assert names(found, "doublewildcard") == ["c", "c/d", "c/d/e", "c/d/e/bar", "c/d/e/bay"]
    inputs = ["c", "c/d", "c/d/e", "c/d/e/bar", "d", "d/e", "d/e/baz", "d/e2", "d/e2/baz"]
    assert names(found, "doubleinputs") == inputs
    assert under(found, "nothing1") == under(found, "nothing2") == {".": a_dir()}
    assert names(found, "programs") == ["bin", "bin/bar", "local", "local/bin", "local/bin/foo"]
    said = refused(pybuild, context, base + "FROM scratch\nCOPY --from=base --parents /test/nonexistent-file /out/\n")
    assert "Dockerfile:4:28: error: COPY: '/test/nonexistent-file' is not in the stage it copies from" in said
    said = refused(pybuild, context, base + "FROM scratch\nCOPY --from=base --parents /tset/./a /out/\n")
    assert "COPY: '/tset/./a' is not in the stage it copies from" in said


def test_parents_and_links_of_the_source(pybuild: Pybuild, context: Path) -> None:
    fill(context, "real/sub/file")
    os.symlink("real", context / "link")
    (context / ".dockerignore").write_text("hidden\n")
    fill(context, "hidden/file")
    found = ship(
        pybuild,
        context,
        # Before the pivot links are followed.
        "FROM scratch\nCOPY --parents link/./sub/file /pivot/\nCOPY --parents lin* /itself/\nCOPY --parents *link/*/* /none/\n",
    )
    assert names(found, "pivot") == ["sub", "sub/file"]
    assert under(found, "itself") == {".": a_dir(), "link": a_link(b"real")}
    assert under(found, "none") == {".": a_dir()}
    said = refused(pybuild, context, "FROM scratch\nCOPY --parents link/sub/file /x/\n")
    assert "Dockerfile:2:16: error: 'link/sub/file' leads through a link, and --parents copies links as they are" in said
    assert "name the folder itself: 'real/sub/file'" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY --parents hidden/file /x/\n")
    assert "'hidden/file' is not in the build context" in said and "a pattern of .dockerignore leaves it out" in said


# --unpack


def test_unpack_says_whether_an_archive_is_one(pybuild: Pybuild, context: Path) -> None:
    pack(context / "plain.tar", Member("in", data=b"in"))
    pack(context / "packed.tgz", Member("in", data=b"in"), mode="w:gz")
    fill(context, "text")
    found = ship(
        pybuild,
        context,
        "FROM scratch\n"
        "ADD plain.tar packed.tgz text /default/\n"
        "ADD --unpack=true plain.tar text /true/\n"
        "ADD --unpack packed.tgz text /bare/\n"
        "ADD --unpack=false plain.tar packed.tgz text /false/\n"
        "ADD --unpack=False packed.tgz /renamed\n"
        "ADD --unpack --link --chown=2 plain.tar /link\n",
    )
    for folder in ("default", "true", "bare"):
        assert names(found, folder) == ["in", "text"]
    packed = a_file((context / "packed.tgz").read_bytes())
    plain = a_file((context / "plain.tar").read_bytes())
    assert under(found, "false") == {".": a_dir(), "packed.tgz": packed, "plain.tar": plain, "text": a_file(b"text")}
    assert found["renamed"] == packed
    assert under(found, "link") == {".": a_dir(owner="2:2"), "in": a_file(b"in", owner="2:2")}
