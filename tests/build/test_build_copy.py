"""COPY from a Dockerfile to what ships. Expectations are of Docker's reference ("COPY") and, where that is silent, of
BuildKit's own copier (tonistiigi/fsutil copy, moby/buildkit issues 585, 1941, 4945)."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.build.build_shipped import Member, Shipped, a_base, a_dir, a_file, a_link, refused, run_build, ship, under
from tests.conftest import Pybuild

DIR = tarfile.DIRTYPE
LINK = tarfile.SYMTYPE


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context with a bit of everything. Its files belong to somebody, as a checkout's do."""
    root = tmp_path / "context"
    (root / "dir" / "sub").mkdir(parents=True)
    (root / "dir" / "empty").mkdir()
    (root / "a.txt").write_text("a")
    (root / "b.txt").write_text("b")
    (root / "dir" / "one").write_text("one")
    (root / "dir" / "sub" / "two").write_text("two")
    (root / "dir" / "nothing").write_text("")
    (root / "dir" / "one").chmod(0o750)
    (root / "dir" / "sub").chmod(0o2775)
    (root / "dir").chmod(0o700)
    for path in [root, *root.rglob("*")]:
        os.chown(path, 1234, 1234, follow_symlinks=False)
    return root


CONTENTS = {
    "empty": a_dir(),
    "nothing": a_file(b""),
    "one": a_file(b"one", 0o750),
    "sub": a_dir(0o2775),
    "sub/two": a_file(b"two"),
}


def test_a_folder_gives_its_contents_and_a_slash_makes_a_folder(pybuild: Pybuild, context: Path) -> None:
    found = ship(
        pybuild,
        context,
        "FROM scratch\n"
        "COPY dir /d\n"
        "COPY dir/ /e/\n"
        "COPY a.txt /f\n"
        "COPY a.txt /g/\n"
        "COPY a.txt b.txt dir /h/\n"
        "COPY a.txt /new/deep/name\n"
        "COPY a.txt /h\n"
        "WORKDIR /w/x\n"
        "COPY a.txt rel\n"
        "COPY a.txt ./\n"
        "COPY b.txt .\n"
        "COPY a.txt ../up\n"
        "COPY a.txt ../../../../top\n",
    )
    assert {path: entry for path, entry in found.items() if "/" not in path} == {
        "d": a_dir(),
        "e": a_dir(),
        "f": a_file(b"a"),
        "g": a_dir(),
        "h": a_dir(),
        "new": a_dir(),
        "top": a_file(b"a"),
        "w": a_dir(),
    }
    # The folder that is made is 0755 of root, whatever the source's mode is: the folder itself is not copied.
    assert under(found, "d") == {".": a_dir(), **CONTENTS}
    assert under(found, "e") == {".": a_dir(), **CONTENTS}
    assert under(found, "g") == {".": a_dir(), "a.txt": a_file(b"a")}
    assert under(found, "h") == {".": a_dir(), "a.txt": a_file(b"a"), "b.txt": a_file(b"b"), **CONTENTS}
    assert under(found, "new") == {".": a_dir(), "deep": a_dir(), "deep/name": a_file(b"a")}
    assert under(found, "w") == {
        ".": a_dir(),
        "up": a_file(b"a"),
        "x": a_dir(),
        "x/rel": a_file(b"a"),
        "x/a.txt": a_file(b"a"),
        "x/b.txt": a_file(b"b"),
    }


def test_the_whole_context_comes_with_the_dockerfile_and_nothing_of_outside(pybuild: Pybuild, context: Path) -> None:
    found = ship(
        pybuild,
        context,
        "FROM scratch\nWORKDIR /all\nCOPY . .\nCOPY ../dir ../../etc/../a.txt /climbed/\nCOPY /dir/sub /rooted\n",
    )
    dockerfile = a_file((context / "Dockerfile").read_bytes())
    whole = {f"dir/{path}": entry for path, entry in CONTENTS.items()}
    assert under(found, "all") == {
        ".": a_dir(),
        "Dockerfile": dockerfile,
        "a.txt": a_file(b"a"),
        "b.txt": a_file(b"b"),
        "dir": a_dir(0o700),
        **whole,
    }
    assert under(found, "climbed") == {".": a_dir(), "a.txt": a_file(b"a"), **CONTENTS}
    assert under(found, "rooted") == {".": a_dir(), "two": a_file(b"two")}


def test_what_exists_keeps_its_metadata_unless_it_is_copied_itself(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    a_base(
        pybuild,
        tmp_path,
        Member("d", DIR, mode=0o711, uid=5, gid=6),
        Member("d/sub", DIR, mode=0o700, uid=5, gid=6),
        Member("d/sub/kept", data=b"kept", uid=5, gid=6),
        Member("d/one", data=b"old one", mode=0o600, uid=5, gid=6),
        Member("d/empty", DIR, mode=0o1777, uid=5, gid=6),
        Member("d/link", LINK, link="sub"),
    )
    (context / "dir" / "link").write_text("no link any more")
    found = ship(pybuild, context, "FROM base:1\nCOPY dir /d\n")
    assert under(found, "d") == {
        ".": a_dir(0o711, "5:6"),
        **CONTENTS,
        "sub/kept": a_file(b"kept", owner="5:6"),
        "link": a_file(b"no link any more"),
    }


def test_owners_and_modes_by_name_and_number(pybuild: Pybuild, context: Path, busybox_base: Path) -> None:
    found = ship(
        pybuild,
        context,
        "FROM base\n"
        "RUN echo app:x:77:88::/:/bin/sh >> /etc/passwd && echo team:x:99: >> /etc/group && echo 55:x:66: >> /etc/group\n"
        "ARG MODE=0640\n"
        "COPY --chown=app a.txt /by/name\n"
        "COPY --chown=app:team dir /by/both\n"
        "COPY --chown=7 a.txt /by/number\n"
        "COPY --chown=7:8 --chmod=600 dir /by/numbers\n"
        "COPY --chown=7:team a.txt /by/mixed\n"
        "COPY --chown=app:55 a.txt /by/numeric-name\n"
        "COPY --chown=:team a.txt /by/group\n"
        "COPY --chmod=$MODE a.txt /by/variable\n"
        "COPY --chmod=4711 a.txt /by/setuid\n"
        "COPY --chown=app dir/sub /made/on/the/way/\n"
        "USER app\n"
        "COPY a.txt /by/user\n",
        "--build-context",
        f"base={busybox_base}",
    )
    by = under(found, "by")
    assert by["."] == a_dir(owner="77:88")
    assert {name: (entry.mode, entry.owner) for name, entry in by.items() if entry.kind == "file" and "/" not in name} == {
        "name": (0o644, "77:88"),
        "number": (0o644, "7:7"),
        "mixed": (0o644, "7:99"),
        # A number is never a name, also where a group is called so.
        "numeric-name": (0o644, "77:55"),
        "group": (0o644, "0:99"),
        "variable": (0o640, "0:0"),
        "setuid": (0o4711, "0:0"),
        # USER says who runs commands, not who owns what is copied.
        "user": (0o644, "0:0"),
    }
    assert under(found, "by/both") == {
        ".": a_dir(owner="77:99"),
        **{path: entry._replace(owner="77:99") for path, entry in CONTENTS.items()},
    }
    assert under(found, "by/numbers") == {
        ".": a_dir(0o600, "7:8"),
        **{path: entry._replace(owner="7:8", mode=0o600) for path, entry in CONTENTS.items()},
    }
    made = {path: found[path].owner for path in found if path.startswith("made")}
    assert set(made.values()) == {"77:88"} and len(made) == 5


def test_owners_that_are_not_there_and_modes_that_are_none(pybuild: Pybuild, context: Path, busybox_base: Path) -> None:
    base = ("--build-context", f"base={busybox_base}")
    said = refused(pybuild, context, "FROM base\nCOPY --chown=nobdy a.txt /x\n", *base, code=1)
    assert "Dockerfile:2:6: error: unknown user 'nobdy': the image's /etc/passwd does not have it" in said
    assert "  2 | COPY --chown=nobdy a.txt /x\n    |      ^^^^^^^^^^^^^\n" in said
    assert "did you mean 'nobody'?" in said
    said = refused(pybuild, context, "FROM base\nCOPY --chown=root:nogrop a.txt /x\n", *base, code=1)
    assert "unknown group 'nogrop': the image's /etc/group does not have it" in said and "did you mean 'nogroup'?" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY --chown=app a.txt /x\n", code=1)
    assert "unknown user 'app'" in said and "create it with RUN before this line, or give the user's number" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY --chmod=888 a.txt /x\n")
    assert "Dockerfile:2:14: error: '888' is not a mode" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY --chmod=77777 a.txt /x\n")
    assert "'77777' is not a mode" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY --chown=4294967295 a.txt /x\n", code=1)
    assert "'4294967295' is too large for a user or group number" in said


def test_wildcards_are_those_of_filepath_match(pybuild: Pybuild, context: Path) -> None:
    names = ["c1.c", "c2.c", "c10.c", ".hidden.c", "[x].c", "x.c", "star*.c", "p/q/1.h", "p/r/2.h", "p/3.h", "ä.c"]
    for name in names:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    os.symlink("p", context / "plink")
    found = ship(
        pybuild,
        context,
        "FROM scratch\n"
        "COPY c?.c /question/\n"
        "COPY c*.c /star/\n"
        "COPY *.c /all/\n"
        "COPY c[12].c /class/\n"
        "COPY [[]x].c /escaped/\n"
        'COPY ["star\\\\*.c", "/literal/"]\n'
        "COPY p/*/*.h /deep/\n"
        "COPY p* /folders/\n"
        "COPY plink/?.h /through/\n"
        "COPY no-such*.c a.txt nor-this? /some/\n"
        "COPY ?.c /umlaut/\n"
        "COPY c1* /renamed/to/name/\n"
        "COPY b.tx? /single\n",
    )

    def copied(folder: str) -> list[str]:
        return sorted(name for name in under(found, folder) if name != ".")

    assert copied("question") == ["c1.c", "c2.c"]
    assert copied("star") == ["c1.c", "c10.c", "c2.c"]
    assert copied("all") == sorted([".hidden.c", "[x].c", "c1.c", "c10.c", "c2.c", "star*.c", "x.c", "ä.c"])
    assert copied("class") == ["c1.c", "c2.c"]
    assert copied("escaped") == ["[x].c"]
    assert copied("literal") == ["star*.c"]
    assert copied("deep") == ["1.h", "2.h"]
    # Of each folder that matches the contents, the link's too.
    assert copied("folders") == ["3.h", "q", "q/1.h", "r", "r/2.h"]
    # Links are followed in the part before the wildcard.
    assert copied("through") == ["3.h"]
    assert copied("some") == ["a.txt"]
    assert copied("umlaut") == ["x.c", "ä.c"]
    assert copied("renamed/to/name") == ["c1.c", "c10.c"]
    assert found["single"] == a_file(b"b")


def test_links_as_sources_are_followed_and_links_in_folders_are_kept(pybuild: Pybuild, context: Path) -> None:
    links = {
        "to-file": "a.txt",
        "to-dir": "dir",
        "absolute": "/dir/sub/two",
        "climbing": "../../../../dir/sub",
        "chain": "to-file",
        "through": "to-dir/sub",
        "dir/kept": "../a.txt",
        "dir/dangling": "/no/such/file",
    }
    for name, target in links.items():
        os.symlink(target, context / name)
    found = ship(
        pybuild,
        context,
        "FROM scratch\n"
        "COPY to-file /1/\n"
        "COPY to-dir /2\n"
        "COPY absolute climbing/two chain /3/\n"
        "COPY through/two /4/\n"
        "COPY dir /5\n",
    )
    assert under(found, "1") == {".": a_dir(), "to-file": a_file(b"a")}
    inside = {**CONTENTS, "kept": a_link(b"../a.txt"), "dangling": a_link(b"/no/such/file")}
    assert under(found, "2") == {".": a_dir(), **inside}
    # The name is the one that was given, not the target's.
    assert under(found, "3") == {".": a_dir(), "absolute": a_file(b"two"), "two": a_file(b"two"), "chain": a_file(b"a")}
    assert under(found, "4") == {".": a_dir(), "two": a_file(b"two")}
    assert under(found, "5") == {".": a_dir(), **inside}


def test_links_of_the_destination_are_followed_inside_the_image(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """A usr-merged image; links that are absolute, relative, dangling, climbing; the last two layers down."""
    a_base(
        pybuild,
        tmp_path,
        Member("usr", DIR, mode=0o755),
        Member("usr/bin", DIR, mode=0o755),
        Member("bin", LINK, link="usr/bin"),
        Member("opt", DIR, mode=0o755),
        Member("opt/abs", LINK, link="/usr/bin"),
        Member("opt/up", LINK, link="../../../../../../usr"),
        Member("opt/dangling", LINK, link="/srv/made/later"),
        Member("opt/file", LINK, link="../usr/target"),
        Member("usr/target", data=b"old", mode=0o600, uid=3, gid=3),
        Member("usr/name", LINK, link="target"),
        Member("opt/loop", LINK, link="loop"),
    )
    found = ship(
        pybuild,
        context,
        "FROM base:1\n"
        "COPY a.txt /first\n"
        "COPY a.txt /second\n"
        "COPY a.txt /bin/\n"
        "COPY b.txt /bin/b\n"
        "COPY a.txt /opt/abs/abs\n"
        "COPY a.txt /opt/up/up\n"
        "COPY a.txt /opt/dangling/\n"
        "COPY dir/sub /opt/dangling\n"
        "COPY a.txt /opt/file\n"
        "WORKDIR /bin\n"
        "COPY b.txt relative\n"
        "COPY dir/sub/two /usr/name\n",
    )
    assert under(found, "usr") == {
        ".": a_dir(),
        "bin": a_dir(),
        "bin/a.txt": a_file(b"a"),
        "bin/b": a_file(b"b"),
        "bin/abs": a_file(b"a"),
        "bin/relative": a_file(b"b"),
        "up": a_file(b"a"),
        "target": a_file(b"two"),
        "name": a_link(b"target"),
    }
    assert under(found, "srv") == {
        ".": a_dir(),
        "made": a_dir(),
        "made/later": a_dir(),
        "made/later/a.txt": a_file(b"a"),
        "made/later/two": a_file(b"two"),
    }
    assert {path: entry.data for path, entry in found.items() if entry.kind == "symlink"} == {
        "bin": b"usr/bin",
        "opt/abs": b"/usr/bin",
        "opt/up": b"../../../../../../usr",
        "opt/dangling": b"/srv/made/later",
        "opt/file": b"../usr/target",
        "opt/loop": b"loop",
        "usr/name": b"target",
    }
    said = refused(pybuild, context, "FROM base:1\nCOPY a.txt /opt/loop/\n", code=1)
    assert "Dockerfile:2:12: error: 'opt/loop' leads through too many symbolic links" in said


def test_files_and_folders_do_not_replace_one_another(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    a_base(
        pybuild,
        tmp_path,
        Member("file", data=b"f"),
        Member("d", DIR, mode=0o755),
        Member("d/a.txt", DIR, mode=0o755),
        Member("e", DIR, mode=0o755),
        Member("e/sub", data=b"f"),
        Member("l", DIR, mode=0o755),
        Member("l/sub", LINK, link="/d"),
    )
    cases = {
        "COPY dir /file": "'/file' is a file and cannot be replaced by a folder",
        "COPY a.txt /file/": "'/file' is no folder",
        "COPY a.txt /file/below": "'/file' is no folder",
        "COPY a.txt /d/": "'/d/a.txt' is a folder and cannot be replaced by a file",
        "COPY a.txt /d": "'/d/a.txt' is a folder and cannot be replaced by a file",
        "COPY dir /e": "'/e/sub' is a file and cannot be replaced by a folder",
        "COPY dir /l": "'/l/sub' is a link and cannot be replaced by a folder",
        "COPY a.txt b.txt /x": "several sources need a folder to go to, and '/x' is none",
        "COPY ?.txt /x": "several sources need a folder to go to, and '/x' is none",
    }
    for line, message in cases.items():
        said = refused(pybuild, context, f"FROM base:1\n{line}\n", code=1)
        assert f"Dockerfile:2:{line.rindex('/', 0, -1) + 1 if line.endswith('/') else line.index(' /') + 2}" in said, said
        assert message in said, said
    assert "end it with a slash: '/x/'" in said


def test_hard_links_fifos_and_special_bits_come_along(pybuild: Pybuild, context: Path) -> None:
    folder = context / "special"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "z").write_text("linked")
    os.link(folder / "below" / "z", folder / "a")
    os.link(folder / "below" / "z", folder / "z")
    os.mkfifo(folder / "fifo", 0o640)
    (folder / "suid").write_text("s")
    (folder / "suid").chmod(0o6755)
    (folder / "below").chmod(0o1777)
    raw = os.fsencode(folder) + b"/\xff\xfe name"
    with open(raw, "wb") as file:
        file.write(b"raw")
    (context / "with space").write_text("space")
    found = ship(
        pybuild,
        context,
        "FROM scratch AS one\n"
        "COPY special /s\n"
        "COPY special/a special/z /apart/\n"
        "COPY special/*name /raw/\n"
        'COPY ["with space", "/to a place/"]\n'
        "FROM scratch\n"
        "COPY --from=one / /from\n",
    )
    special = {
        ".": a_dir(),
        "a": a_file(b"linked"),
        "below": a_dir(0o1777),
        "below/z": Shipped("hardlink", 0o644, "0:0", b"PREFIX/a"),
        "fifo": Shipped("fifo", 0o640, "0:0"),
        "suid": a_file(b"s", 0o6755),
        "z": Shipped("hardlink", 0o644, "0:0", b"PREFIX/a"),
        "\udcff\udcfe name": a_file(b"raw"),
    }
    assert under(found, "from/s") == {
        path: entry._replace(data=entry.data.replace(b"PREFIX", b"from/s")) for path, entry in special.items()
    }
    # Named apart they are copies, as with Docker.
    assert under(found, "from/apart") == {".": a_dir(), "a": a_file(b"linked"), "z": a_file(b"linked")}
    assert under(found, "from/raw") == {".": a_dir(), "\udcff\udcfe name": a_file(b"raw")}
    assert under(found, "from/to a place") == {".": a_dir(), "with space": a_file(b"space")}


def test_hard_links_whose_first_name_is_gone_are_still_there(pybuild: Pybuild, context: Path) -> None:
    """The layer is a tar, where the content lies under the name that a later layer replaced."""
    (context / "linked").mkdir()
    (context / "linked" / "a").write_text("content")
    os.link(context / "linked" / "a", context / "linked" / "b")
    os.link(context / "linked" / "a", context / "linked" / "c")
    found = ship(
        pybuild,
        context,
        "FROM scratch AS one\nCOPY linked /l\nCOPY b.txt /l/a\n"
        "FROM scratch\nCOPY --from=one /l /l\nCOPY --from=one /l/c /only\n",
    )
    assert under(found, "l") == {
        ".": a_dir(),
        "a": a_file(b"b"),
        "b": a_file(b"content"),
        "c": Shipped("hardlink", 0o644, "0:0", b"l/b"),
    }
    assert found["only"] == a_file(b"content")
    flat = ship(pybuild, context, "FROM scratch\nCOPY linked /l\nCOPY b.txt /l/a\n")
    assert under(flat, "l") == under(found, "l")


def test_a_socket_is_left_out_and_said(pybuild: Pybuild, context: Path) -> None:
    import socket

    # A socket's address holds 107 bytes: by its name in its folder it is bound wherever the tests run.
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(context / "dir"):
        server.bind("sock")
        said = run_build(pybuild, context, "FROM scratch\nCOPY dir /d\n")
    assert "the socket 'dir/sock' of the context is left out" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY dir/sock /d\n")
    assert "'dir/sock' is not in the build context" in said


def test_from_a_stage_by_name_number_and_from_images(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    a_base(
        pybuild,
        tmp_path,
        Member("etc", DIR, mode=0o755),
        Member("etc/passwd", data=b"app:x:7:8::/:/bin/sh\n"),
        Member("home", DIR, mode=0o750, uid=7, gid=8),
        Member("home/file", data=b"mine", mode=0o604, uid=7, gid=9),
        Member("home/link", LINK, link="file", uid=7, gid=8),
        Member("abs", LINK, link="/home/file"),
        name="example/tools:2",
    )
    other = tmp_path / "other"
    (other / "in").mkdir(parents=True)
    (other / "in" / "named").write_text("named")
    (other / ".dockerignore").write_text("secret\n")
    (other / "secret").write_text("secret")
    # Neither what is beside the main Dockerfile nor a file of that name has a say in another context.
    (other / "Dockerfile.dockerignore").write_text("in\n")
    (context / "Dockerfile.dockerignore").write_text("in\n")
    os.chown(other / "in" / "named", 55, 55)
    found = ship(
        pybuild,
        context,
        "FROM example/tools:2 AS Tools\n"
        "COPY --chown=app a.txt /home/copied\n"
        "FROM scratch\n"
        "COPY --from=tools /home /home\n"
        "COPY --from=0 /home /folder/\n"
        "COPY --from=0 --chown=1:2 home /chowned\n"
        "COPY --from=example/tools:2 abs /link\n"
        "COPY --from=docker.io/example/tools:2 /home/fi* /globbed/\n"
        "COPY --from=other in /other\n"
        "COPY --from=other . /all\n",
        "--build-context",
        f"other={other}",
    )
    home = {
        "file": a_file(b"mine", 0o604, "7:9"),
        "link": a_link(b"file", "7:8"),
        "copied": a_file(b"a", 0o644, "7:8"),
    }
    assert under(found, "home") == {".": a_dir(), **home}
    assert under(found, "folder") == {".": a_dir(), **home}
    assert under(found, "chowned") == {
        ".": a_dir(owner="1:2"),
        **{path: entry._replace(owner="1:2") for path, entry in home.items()},
    }
    assert found["link"] == a_file(b"mine", 0o604, "7:9")
    assert under(found, "globbed") == {".": a_dir(), "file": a_file(b"mine", 0o604, "7:9")}
    assert under(found, "other") == {".": a_dir(), "named": a_file(b"named")}
    assert sorted(under(found, "all")) == [".", ".dockerignore", "Dockerfile.dockerignore", "in", "in/named"]


def test_sources_that_are_not_there(pybuild: Pybuild, context: Path) -> None:
    (context / ".dockerignore").write_text("b.txt\n*.secret\n")
    (context / "key.secret").write_text("s")
    os.symlink("nowhere", context / "dangling")
    os.symlink("turn", context / "turn")
    said = refused(pybuild, context, "FROM scratch\nCOPY a.txt a.txd /x/\n")
    assert "Dockerfile:2:12: error: COPY: 'a.txd' is not in the build context" in said
    assert "2 | COPY a.txt a.txd /x/\n    |            ^^^^^\n" in said
    assert "did you mean 'a.txt'?" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY b.txt /x/\n")
    assert "Dockerfile:2:6: error: COPY: 'b.txt' is not in the build context" in said
    assert "a pattern of .dockerignore leaves it out" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY dir/sbu/two /x/\n")
    assert "COPY: 'dir/sbu/two' is not in the build context" in said and "there is no folder 'dir/sbu'" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY *.secret no* /x/\n")
    assert "Dockerfile:2:6: error: COPY: no file in the build context matches '*.secret', 'no*'" in said
    assert "check the pattern, and .dockerignore" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY dangling /x\n")
    assert "Dockerfile:2:6: error: 'dangling' is a link to 'nowhere', which is not there" in said
    assert "too many symbolic links" in refused(pybuild, context, "FROM scratch\nCOPY turn/x /x\n")
    said = refused(pybuild, context, "FROM scratch\nCOPY a[ /x/\n")
    assert "Dockerfile:2:" in said and "a[" in said
    said = refused(pybuild, context, "FROM scratch AS one\nCOPY a.txt /one\nFROM scratch\nCOPY --from=one /onne /x\n")
    assert "Dockerfile:4:17: error: COPY: '/onne' is not in the stage it copies from" in said and "did you mean 'one'?" in said
    said = refused(pybuild, context, "FROM scratch AS biuld\nFROM scratch\nCOPY --from=build /a /x\n", "--pull=never")
    assert "unknown stage 'build'" in said and "did you mean 'biuld'?" in said
    said = refused(pybuild, context, "FROM scratch\nCOPY https://example.com/x /x\n")
    assert "source can't be a URL for COPY" in said


def test_dockerignore(pybuild: Pybuild, context: Path) -> None:
    for name in ("logs/x.log", "logs/keep/k.log", "logs/keep/deep/d.log", "src/a.o", "src/x/b.o", "src/x/b.c", "src/c.o"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    (context / ".dockerignore").write_text(
        "# comment\nlogs\n!logs/keep\nlogs/keep/deep\n**/*.o\n!src/c.o\n/a.txt\n./dir/\nDockerfile\n"
    )
    dockerfile = "FROM scratch\nCOPY . /all\nCOPY */*.o /globbed/\nCOPY src/c.o /named\n"
    found = ship(pybuild, context, dockerfile)
    expected = [".", ".dockerignore", "b.txt", "logs", "logs/keep", "logs/keep/k.log", "src", "src/c.o", "src/x", "src/x/b.c"]
    assert sorted(under(found, "all")) == expected
    assert sorted(under(found, "globbed")) == [".", "c.o"]
    # The one that belongs to the Dockerfile comes instead of it, for a Dockerfile of any name.
    (context / "Dockerfile.dockerignore").write_text("*\n!b.txt\n")
    assert sorted(under(ship(pybuild, context, "FROM scratch\nCOPY . /all\n"), "all")) == [".", "b.txt"]
    (context / "Dockerfile.dockerignore").unlink()
    (context / "other.dockerignore").write_text("*\n!a.txt\n")
    (context / "other").write_text("FROM scratch\nCOPY . /all\n")
    found = ship(pybuild, context, "FROM scratch\n", "-f", context / "other")
    assert sorted(under(found, "all")) == [".", "a.txt"]
    # A Containerfile that was found by itself has one too.
    (context / "Dockerfile").unlink()
    (context / "Containerfile").write_text("FROM scratch\nCOPY . /all\n")
    (context / "Containerfile.dockerignore").write_text("*\n!a.txt\n!b.txt\n")
    out = context.parent / "out"
    done = pybuild("-o", out, context)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(out / "all")) == ["a.txt", "b.txt"]
    # A base that is a folder has its own.
    base = context.parent / "base"
    shutil.copytree(context / "src", base / "src")
    (base / ".dockerignore").write_text("src/x\n.dockerignore\n")
    found = ship(pybuild, context, "FROM base\n", "--build-context", f"base={base}")
    assert sorted(found) == ["src", "src/a.o", "src/c.o"]


def test_a_change_that_cannot_be_seen_in_the_image_is_cached(pybuild: Pybuild, context: Path) -> None:
    """Owners and times of the context, the mode of the folder itself, and, with --chmod, all modes."""
    text = "FROM scratch\nCOPY dir /d\nCOPY --chmod=755 --chown=1 dir /e\n"
    # FROM is always there.
    assert run_build(pybuild, context, text).count("CACHED") == 1
    (context / "dir").chmod(0o755)
    os.chown(context / "dir" / "one", 9, 9)
    os.utime(context / "dir" / "one", (1, 1))
    assert run_build(pybuild, context, text).count("CACHED") == 3
    (context / "dir" / "one").chmod(0o640)
    assert run_build(pybuild, context, text).count("CACHED") == 1
