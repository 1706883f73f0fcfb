"""Archives as contexts, looked at without a build: any members whatever, and several threads at once."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from builder.context.directory import DirectoryContext
from builder.context.listed import ListedTree, read_archive
from builder.dockerfile.ignore import Matcher
from builder.engine.selection import content_digest, select
from builder.errors import BuildError, Span, UsageError
from builder.layers.index import Tree
from builder.layers.settle import settle
from builder.layers.source import open_source
from builder.layers.tarreader import read_tar
from builder.plan.steps import CopySource

HERE = Span(1, 1, 1, 2)
KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)

names = st.lists(st.sampled_from(["a", "b", "..", ".", "", "link"]), min_size=1, max_size=4).map("/".join)
members = st.lists(st.tuples(names, st.sampled_from(KINDS), names, st.binary(max_size=3)), max_size=8)


def tar_of(path: Path, found: list[tuple[str, bytes, str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, link, data in found:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            info.uid, info.gid, info.devmajor, info.devminor = 5, 6, 1, 3
            archive.addfile(info, io.BytesIO(data))
    return path


def walk(tree: ListedTree, path: bytes = b"") -> list[bytes]:
    found = [path]
    for name in tree.children(path):
        below = path + b"/" + name if path else name
        entry = tree.lookup(below)
        assert entry is not None and entry.path == below
        found += walk(tree, below) if entry.kind == "dir" else [below]
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members, st.lists(names, max_size=3))
def test_any_members_are_a_tree_or_refused(
    tmp_path: Path, found: list[tuple[str, bytes, str, bytes]], asked: list[str]
) -> None:
    """No path of the tree leads out of it, whatever links say; contents are those of members; all is owned by root."""
    path = tar_of(tmp_path / "tar", found)
    try:
        tree = read_archive(str(path), "standard input")
    except UsageError as error:
        assert "standard input" in error.message
        return
    # Go's path.Clean would leave `..` at the start of these.
    assert not [name for name, *_ in found if posixpath.normpath(name.lstrip("/")).startswith("..")]
    contents = {data for _, kind, _, data in found if kind == tarfile.REGTYPE}
    for each in walk(tree):
        entry = tree.lookup(each)
        assert entry is not None and not {b"..", b".", b""} & set(each.split(b"/") if each else ())
        assert (entry.uid, entry.gid, entry.xattrs) == (0, 0, ())
        if entry.kind in ("file", "hardlink"):
            data = b"".join(open_source(tree.source(entry)))
            assert data in contents
            assert tree.digest(entry) == hashlib.sha256(data).hexdigest()
    for name in asked:
        try:
            resolved = tree.resolve(name.encode())
        except BuildError as error:
            assert "too many symbolic links" in error.message
            continue
        assert not {b"..", b".", b""} & set(resolved.split(b"/") if resolved else ())
    tree.close()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(names, st.sampled_from(KINDS[:3]), names, st.binary(max_size=3)), max_size=8))
def test_a_plain_archive_is_the_tree_that_unpacking_it_gives(
    tmp_path: Path, found: list[tuple[str, bytes, str, bytes]]
) -> None:
    """Whatever the order of its members is; what is not plain is unpacked."""
    folders = {posixpath.normpath(name).rpartition("/")[0] for name, *_ in found}
    made = [*found, *((folder, tarfile.DIRTYPE, "", b"") for folder in sorted(folders) if folder)]
    path = str(tar_of(tmp_path / "tar", made))
    try:
        known = list(settle(read_tar(path, whiteouts=False), Tree()).items)
    except BuildError:
        with pytest.raises(UsageError):
            read_archive(path, "x")
        return
    tree, general = read_archive(path, "x"), ListedTree(known)
    paths = walk(general)
    assert walk(tree) == paths
    for each in paths:
        entry = general.lookup(each)
        assert entry is not None and tree.lookup(each) == entry
        if entry.kind == "file":
            assert tree.source(entry) == general.source(entry)
            # Once read, and once known.
            assert tree.digest(entry) == tree.digest(entry) == general.digest(entry)
    names_ = [posixpath.normpath(name).lstrip("/") for name, *_ in made]
    if len(set(names_)) == len(names_) and all(kind != tarfile.SYMTYPE for _, kind, *_ in made):
        event("plain" if tree._packed is not None else "not plain")
    tree.close()
    general.close()


def test_a_plain_archive_is_told_from_others(tmp_path: Path) -> None:
    file, folder, hard = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE
    for members_, is_plain in (
        ([("./", folder), ("d/f", file), ("d", folder), ("d/a", tarfile.SYMTYPE), ("b", file)], True),
        ([("d/f", file)], False),
        ([("f", file), ("f", file)], False),
        ([("f", file), ("g", hard)], False),
    ):
        found = [(name, kind, "f", b"data" if kind == file else b"") for name, kind in members_]
        tree = read_archive(str(tar_of(tmp_path / "tar", found)), "x")
        assert (tree._packed is not None) == is_plain, members_
        tree.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), max_size=6, unique=True),
    st.lists(st.sampled_from(["a", "b", "!a", "!a/b", "*/b", "**/c", "!**/c", "*"]), max_size=4),
)
def test_an_archive_and_a_folder_leave_out_the_same(tmp_path: Path, files: list[str], patterns: list[str]) -> None:
    files = [name for name in files if not any(other.startswith(f"{name}/") for other in files)]
    root = tmp_path / hashlib.sha256(repr(files).encode()).hexdigest()[:16]
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    root.mkdir(exist_ok=True)
    ignore = Matcher.parse("\n".join(patterns), ".dockerignore")
    tree = read_archive(str(tar_of(tmp_path / "tar", [(name, tarfile.REGTYPE, "", b"") for name in files])), "x")
    tree.leave_out(ignore)
    folder = DirectoryContext(str(root), ignore, lambda _: None)
    for path in (b"", b"a", b"a/b", b"a/b/c", b"b/c", b"c"):
        here, there = folder.lookup(path), tree.lookup(path)
        assert (here and here.kind) == (there and there.kind)
        if here is not None and here.kind == "dir":
            assert folder.children(path) == tree.children(path)
    folder.close()
    tree.close()


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_several_threads_see_one_tree(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    for number in range(300):
        path = root / f"d{number % 7}" / f"e{number % 11}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * (number * 50))
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    ignore = Matcher.parse("d1\n!d1/e1/f1\n!d1/nothing\nd2\n**/f3*\n", ".dockerignore")
    warned: list[str] = []

    def make() -> DirectoryContext | ListedTree:
        if kind == "folder":
            return DirectoryContext(str(root), ignore, warned.append)
        with tarfile.open(tmp_path / "tar", "w") as archive:
            archive.add(root, ".")
        tree = read_archive(str(tmp_path / "tar"), "x")
        tree.leave_out(ignore)
        return tree

    def look(tree: DirectoryContext | ListedTree, out: list[str]) -> Callable[[], None]:
        def run() -> None:
            try:
                picked = select((CopySource(".", HERE), CopySource("d*/e1", HERE)), tree, where="there", keyword="COPY")
                assert tree.lookup(b"d2") is None and tree.lookup(b"d1/e2") is None
                out.append(content_digest(picked, owners=True, modes=True))
            except BaseException as error:  # noqa: BLE001  a thread's assertion is the test's
                out.append(repr(error))

        return run

    alone: list[str] = []
    first = make()
    look(first, alone)()
    first.close()
    for _ in range(5):
        tree = make()
        found: list[str] = []
        threads = [threading.Thread(target=look(tree, found)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tree.close()
        assert found == alone * 8
    # Once for each tree; what packs an archive leaves sockets out.
    assert len(warned) == (6 if kind == "folder" else 0)
