"""`COPY --link`: a layer that is made on nothing and put on whatever lies below. Expectations are of Docker's reference ("COPY
--link": two builds, the second FROM scratch, whose layers are merged) and of BuildKit (dockerfile2llb/convert_copy.go,
dockerfile_copy_test.go, issues 2987, 4325)."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.build.build_shipped import Member, a_base, a_dir, a_file, a_link, pack, refused, run_build, ship, under
from tests.conftest import Pybuild

DIR = tarfile.DIRTYPE
LINK = tarfile.SYMTYPE


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "dir" / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "b.txt").write_text("b")
    (root / "dir" / "one").write_text("one")
    (root / "dir" / "sub" / "two").write_text("two")
    (root / "dir" / "sub").chmod(0o2775)
    return root


def test_a_new_base_leaves_it_cached(pybuild: Pybuild, context: Path, tmp_path: Path, busybox_base: Path) -> None:
    a_base(
        pybuild, tmp_path, Member("etc", DIR, mode=0o755), Member("etc/passwd", data=b"app:x:7:8::/:/bin/sh\n"), name="one:1"
    )
    a_base(pybuild, tmp_path, Member("srv", DIR, mode=0o700, uid=5), Member("srv/x", data=b"x"), name="two:1")
    text = (
        "FROM {base} AS base\n"
        "ENV BASE={base}\n"
        "WORKDIR /srv\n"
        "COPY --link dir sub\n"
        "COPY --link --chown=root:9 a.txt .\n"
        "COPY --link --parents --exclude=**/two dir /p/\n"
        "ADD --link packed.tar /add\n"
        "FROM base\n"
        "COPY --link --from=base /srv/sub/one /from/\n"
    )
    pack(context / "packed.tar", Member("in", data=b"in"))
    assert run_build(pybuild, context, text.format(base="one:1")).count("CACHED") == 1
    first = ship(pybuild, context, text.format(base="one:1"))
    # FROM and WORKDIR are others, and all that is linked is known.
    said = run_build(pybuild, context, text.format(base="two:1"))
    assert said.count("CACHED") == 6 and "WORKDIR" in said
    second = ship(pybuild, context, text.format(base="two:1"))
    linked = {
        # The folders on the way are the link's own, whatever was there.
        ".": a_dir(),
        "a.txt": a_file(b"a", owner="0:9"),
        "sub": a_dir(),
        "sub/one": a_file(b"one"),
        "sub/sub": a_dir(0o2775),
        "sub/sub/two": a_file(b"two"),
    }
    assert under(first, "srv") == linked | {".": a_dir(owner="0:9")}
    assert under(second, "srv") == linked | {".": a_dir(owner="0:9"), "x": a_file(b"x")}
    for found in (first, second):
        assert under(found, "p") == {
            ".": a_dir(),
            "dir": a_dir(),
            "dir/one": a_file(b"one"),
            "dir/sub": a_dir(0o2775),
        }
        assert under(found, "add") == {".": a_dir(), "in": a_file(b"in")}
        assert under(found, "from") == {".": a_dir(), "one": a_file(b"one")}
    # It is the very copy of a build from scratch, which is known, too.
    assert run_build(pybuild, context, "FROM scratch\nCOPY dir /srv/sub\n").count("CACHED") == 2
    # What it copies is its key.
    (context / "dir" / "one").write_text("changed")
    assert run_build(pybuild, context, text.format(base="two:1")).count("CACHED") == 4


def test_the_layer_takes_the_place_of_what_is_there(
    pybuild: Pybuild, context: Path, tmp_path: Path, busybox_base: Path
) -> None:
    """Links and files become the folders that the layer has, and folders its files: as a layer does on any base."""
    a_base(
        pybuild,
        tmp_path,
        Member("usr", DIR, mode=0o755),
        Member("usr/bin", DIR, mode=0o755),
        Member("usr/bin/tool", data=b"tool"),
        Member("bin", LINK, link="usr/bin"),
        Member("file", data=b"file"),
        Member("d", DIR, mode=0o711, uid=3, gid=3),
        Member("d/kept", data=b"kept"),
        Member("d/sub", DIR, mode=0o700),
        Member("d/sub/below", data=b"below"),
        Member("tmp", DIR, mode=0o1777),
    )
    text = (
        "FROM base:1 AS built\n"
        "WORKDIR /bin\n"
        "COPY --link a.txt one\n"
        "COPY --link=true a.txt /file/in/\n"
        "COPY --link dir /d\n"
        "COPY --link b.txt /d/sub\n"
        "COPY --link a.txt /tmp/\n"
        "COPY --link=false a.txt /bin/\n"
        "COPY --link dir/sub /\n"
    )
    found = ship(pybuild, context, text)
    assert found["bin"] == a_dir()
    # Without --link the destination is read again, and it is no link any more.
    assert under(found, "bin") == {".": a_dir(), "one": a_file(b"a"), "a.txt": a_file(b"a")}
    assert under(found, "usr/bin") == {".": a_dir(), "tool": a_file(b"tool")}
    assert under(found, "file") == {".": a_dir(), "in": a_dir(), "in/a.txt": a_file(b"a")}
    assert under(found, "d") == {".": a_dir(), "kept": a_file(b"kept"), "one": a_file(b"one"), "sub": a_file(b"b")}
    assert under(found, "tmp") == {".": a_dir(), "a.txt": a_file(b"a")}
    assert found["two"] == a_file(b"two")
    # The tools of others see the same, and so do later steps.
    assert run_build(pybuild, context, text, "-o", f"type=oci,dest={tmp_path / 'layout'},tar=false,name=x:1")
    unpack = ["umoci", "unpack", "--image", f"{tmp_path / 'layout'}:1", str(tmp_path / "unpacked")]
    subprocess.run(unpack, check=True, capture_output=True)
    root = tmp_path / "unpacked" / "rootfs"
    assert {str(path.relative_to(root)) for path in root.rglob("*")} == set(found)
    assert {name for name in found if (root / name).is_dir() and not (root / name).is_symlink()} == {
        name for name, entry in found.items() if entry.kind == "dir"
    }
    inspected = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci:{tmp_path / 'layout'}:1"], check=True, capture_output=True
    )
    history = json.loads(inspected.stdout)["history"]
    assert [line["created_by"] for line in history[-8:]] == [
        "WORKDIR /bin",
        "COPY a.txt one",
        "COPY a.txt /file/in/",
        "COPY dir /d",
        "COPY b.txt /d/sub",
        "COPY a.txt /tmp/",
        "COPY a.txt /bin/",
        "COPY dir/sub /",
    ]
    assert [line.get("empty_layer", False) for line in history[-8:]] == [True] + [False] * 7


def test_later_steps_see_it_over_the_base(pybuild: Pybuild, context: Path, busybox_base: Path) -> None:
    """Also where the layer came from the cache of another base, and is a folder now."""
    base = ("--build-context", f"base={busybox_base}")
    run_build(pybuild, context, "FROM scratch\nCOPY dir /opt/d\n")
    text = (
        "FROM base AS built\n"
        "RUN mkdir -p /opt/d/sub /real && touch /opt/d/old /opt/d/sub/old && chmod 700 /opt/d && ln -s /real /opt/link\n"
        "RUN echo text > /etc/issue\n"
        "COPY --link dir /opt/d\n"
        "COPY --link dir/one /etc/issue/one\n"
        "COPY --link a.txt /opt/link/\n"
        "COPY --link b.txt /etc/issue/\n"
        "RUN find /opt /etc/issue /real | sort > /seen; stat -c '%a %n' /opt/d /etc/issue >> /seen\n"
        "RUN rm /opt/d/sub/old; touch /opt/d/new\n"
        "FROM scratch\n"
        "COPY --from=built /seen /seen\n"
        "COPY --link --from=built /opt /opt\n"
    )
    said = run_build(pybuild, context, text, *base)
    # FROM base, the copy that was made on nothing before, FROM scratch.
    assert said.count("CACHED") == 3
    found = ship(pybuild, context, text, *base)
    assert found["seen"].data.decode().splitlines() == [
        "/etc/issue",
        "/etc/issue/b.txt",
        "/etc/issue/one",
        "/opt",
        "/opt/d",
        "/opt/d/old",
        "/opt/d/one",
        "/opt/d/sub",
        "/opt/d/sub/old",
        "/opt/d/sub/two",
        "/opt/link",
        "/opt/link/a.txt",
        "/real",
        "755 /opt/d",
        "755 /etc/issue",
    ]
    assert under(found, "opt") == {
        ".": a_dir(),
        "d": a_dir(),
        "d/new": a_file(b""),
        "d/old": a_file(b""),
        "d/one": a_file(b"one"),
        "d/sub": a_dir(0o2775),
        "d/sub/two": a_file(b"two"),
        "link": a_dir(),
        "link/a.txt": a_file(b"a"),
    }


def test_destinations_and_owners_of_a_link(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    a_base(
        pybuild,
        tmp_path,
        Member("etc", DIR, mode=0o755),
        Member("etc/passwd", data=b"app:x:7:8::/:/bin/sh\n"),
        Member("real", DIR, mode=0o711),
        Member("way", LINK, link="real"),
    )
    found = ship(
        pybuild,
        context,
        "FROM base:1\n"
        "WORKDIR /var/www\n"
        'ENV empty=""\n'
        "COPY --link a.txt .\n"
        "COPY --link b.txt $empty\n"
        "COPY --link dir/one ../up/\n"
        "COPY --link --chown=root dir/sub/two ../../../../top\n"
        # With --chmod BuildKit copies as if --link were not there: links are followed, names are looked up.
        "COPY --link --chmod=600 --chown=app a.txt /way/\n"
        "COPY --chown=root:root b.txt /owned\n"
        "FROM scratch\n"
        "COPY --from=0 / /\n",
    )
    assert under(found, "var") == {
        ".": a_dir(),
        "up": a_dir(),
        "up/one": a_file(b"one"),
        "www": a_dir(),
        "www/a.txt": a_file(b"a"),
        "www/b.txt": a_file(b"b"),
    }
    assert found["top"] == a_file(b"two")
    assert found["way"] == a_link(b"real")
    assert under(found, "real") == {".": a_dir(0o711), "a.txt": a_file(b"a", 0o600, "7:8")}
    assert found["owned"] == a_file(b"b")
    # `root` is 0 without any /etc/passwd.
    assert ship(pybuild, context, "FROM scratch\nCOPY --chown=root:root a.txt /x\n")["x"] == a_file(b"a")
    said = refused(pybuild, context, "FROM base:1\nCOPY --link --chown=:staff a.txt /x\n")
    assert "Dockerfile:2:13: error: COPY --link cannot look up the group 'staff'" in said
    # An empty folder is no layer.
    os.mkdir(context / "empty")
    assert run_build(pybuild, context, "FROM base:1\nCOPY --link empty /\n").count("CACHED") == 1
    assert run_build(pybuild, context, "FROM scratch\nCOPY --link empty /\n").count("CACHED") == 2
