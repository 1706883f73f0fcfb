"""A COPY of much is read once: the layer is written, and compressed for an output that asks for it, while the content's digest
is made. What comes of it must be what the long way makes, and nothing may stay of what the cache had already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.build.build_cached import statuses
from tests.build.build_shipped import refused, run_build, ship
from tests.build.build_store import assert_valid
from tests.conftest import Pybuild
from tests.context.test_context_hints import a_file_system, disk, mounted, old_enough, opened

COUNT = 250
"""More files than are read twice."""
COPY = "COPY --chown=7:8 tree /t/"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    tree = folder / "tree"
    for number in range(COUNT):
        path = tree / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number * 40))
    os.link(tree / "d0" / "f0", tree / "d1" / "linked")
    (tree / "d2" / "link").symlink_to("f2")
    (tree / "large").write_bytes(os.urandom(3 << 20))
    (tree / "d3" / "f3").chmod(0o750)
    return folder


def archive(pybuild: Pybuild, context: Path, dockerfile: str, *flags: str) -> bytes:
    out = context.parent / "out.tar"
    run_build(pybuild, context, dockerfile, "-o", f"type=oci,dest={out}", *flags)
    return out.read_bytes()


def another(pybuild: Pybuild, tmp_path: Path, name: str) -> Pybuild:
    return Pybuild(tmp_path / name, pybuild._home)


def test_the_short_way_and_the_long_one_give_the_same_bytes(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    text = f"FROM base\n{COPY}\n"
    base = ("--build-context", f"base={busybox_base}")
    short = archive(pybuild, context, text, *base)
    # Steps first, the output later: the tar is compressed from the store.
    later = another(pybuild, tmp_path, "later")
    run_build(later, context, text, *base, "-t", "x")
    assert archive(later, context, text, *base) == short
    # A later RUN looks into the layer, which is a folder then.
    folder = another(pybuild, tmp_path, "folder")
    run_build(folder, context, f"{text}RUN cat /t/d1/linked > /dev/null\n", *base)
    assert archive(folder, context, text, *base) == short
    # ADD takes the long way always, and unpacks nothing here.
    added = another(pybuild, tmp_path, "added")
    assert ship(added, context, text.replace("COPY", "ADD"), *base) == ship(pybuild, context, text, *base)
    for one in (pybuild, later, folder):
        assert_valid(one.store)


def test_one_thread_and_many_compress_to_the_same_bytes(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    text = f"FROM base\n{COPY}\nRUN yes pybuild | head -c 9000000 > /made\n"
    base = ("--build-context", f"base={busybox_base}")
    one = archive(pybuild, context, text, *base, "--jobs=1")
    assert archive(another(pybuild, tmp_path, "many"), context, text, *base, "--jobs=7") == one


def test_what_the_cache_has_is_written_again_to_nowhere(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    write = f"FROM base\n{COPY}\n"
    (context / "Dockerfile").write_text(write)
    assert statuses(pybuild, context, busybox_base)[COPY] == "done"
    before = {path for path in pybuild.store.rglob("*") if path.is_file() and "blobs" in path.parts}
    # Another folder with the same content: all is read, and nothing is new.
    other = tmp_path / "other"
    os.rename(context, other)
    for path in sorted(other.rglob("*")):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1, 1))
    assert statuses(pybuild, other, busybox_base)[COPY] == "cached"
    assert {path for path in pybuild.store.rglob("*") if path.is_file() and "blobs" in path.parts} == before
    assert_valid(pybuild.store)


def test_without_the_cache_the_same_comes_of_it(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    text = f"FROM base\n{COPY}\n"
    base = ("--build-context", f"base={busybox_base}")
    first = archive(pybuild, context, text, *base)
    assert archive(pybuild, context, text, *base, "--no-cache") == first
    (context / "tree" / "d4" / "f4").write_text("changed")
    assert archive(pybuild, context, text, *base) != first


def test_few_large_files_are_not_read_again(pybuild: Pybuild, tmp_path: Path) -> None:
    a_file_system(tmp_path / "image", megabytes=40)
    with disk(tmp_path / "image", tmp_path / "node") as node, mounted(tmp_path / "disk", node):
        context = tmp_path / "disk" / "context"
        names = {"one", "two"}
        for name in names:
            (context / "big").mkdir(parents=True, exist_ok=True)
            (context / "big" / name).write_bytes(os.urandom(6 << 20))
        old_enough(*(context / "big" / name for name in names))
        (context / "Dockerfile").write_text("FROM scratch\nCOPY big /big/\n")
        seen = []
        for _ in range(2):
            with opened(context / "big") as found:
                done = pybuild(context)
            assert done.returncode == 0, done.stderr
            seen.append(found)
    assert seen == [names, set()]


def test_what_no_image_can_hold_names_its_line_and_leaves_nothing(pybuild: Pybuild, context: Path) -> None:
    (context / "tree" / "d6" / ".wh.x").write_text("")
    said = refused(pybuild, context, "FROM scratch\nCOPY tree /t\n", code=1)
    assert "Dockerfile:2:1: error: 't/d6/.wh.x' cannot be stored in an image" in said
    assert not [path for path in (pybuild.store / "blobs").rglob("*") if path.is_file()]
    assert_valid(pybuild.store)
