"""A folder of the host as a build context: what is looked at, when, and what can go wrong meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.context.directory import DirectoryContext
from builder.context.ignoring import NothingIgnored
from builder.dockerfile.ignore import Matcher
from builder.engine.selection import Picked, content_digest, select
from builder.errors import BuildError, DockerfileError, Span
from builder.layers.entry import Entry, FileSource
from builder.layers.source import open_source
from builder.plan.steps import CopySource

HERE = Span(1, 1, 1, 2)

# An audit hook is for ever: one, which tells whoever listens.
_listeners: list[Callable[[str], None]] = []


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if event == "os.scandir" and _listeners:
        path = arguments[0]
        _listeners[-1](os.fsdecode(path) if isinstance(path, (str, bytes)) else "")


sys.addaudithook(_heard)


@contextmanager
def walked(root: Path) -> Iterator[list[str]]:
    """The folders below `root` that are listed, in order."""
    found: list[str] = []

    def listen(path: str) -> None:
        if path == str(root) or path.startswith(f"{root}/"):
            found.append(os.path.relpath(path, root))

    _listeners.append(listen)
    try:
        yield found
    finally:
        _listeners.remove(listen)


def make(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    return root


def opened(root: Path, ignore: str = "", warnings: list[str] | None = None) -> DirectoryContext:
    said: list[str] = [] if warnings is None else warnings
    return DirectoryContext(str(root), Matcher.parse(ignore, ".dockerignore"), said.append)


def copy(context: DirectoryContext, *sources: str) -> tuple[Picked, ...]:
    return select(tuple(CopySource(source, HERE) for source in sources), context, where="the build context", keyword="COPY")


def paths(picked: tuple[Picked, ...]) -> list[str]:
    return [item.entry.path.decode() for one in picked for item in one.items]


def contents(picked: tuple[Picked, ...]) -> dict[str, bytes]:
    return {item.entry.path.decode(): b"".join(open_source(item.source)) for one in picked for item in one.items if item.source}


def test_entries(tmp_path: Path) -> None:
    make(tmp_path, "f", "d/x")
    os.chown(tmp_path / "f", 5, 6)
    os.chmod(tmp_path / "f", 0o4751)
    os.utime(tmp_path / "f", ns=(1, -1_500_000_001))
    os.chmod(tmp_path / "d", 0o1770)
    os.utime(tmp_path / "d", ns=(0, 7))
    os.symlink("../f", tmp_path / "l")
    os.setxattr(tmp_path / "f", "user.x", b"1")
    os.mkfifo(tmp_path / "p")
    os.chmod(tmp_path / "p", 0o620)
    os.mknod(tmp_path / "c", 0o600 | 0o020000, os.makedev(1, 3))
    os.mknod(tmp_path / "b", 0o600 | 0o060000, os.makedev(7, 0))
    context = opened(tmp_path)
    assert context.children(b"") == [b"b", b"c", b"d", b"f", b"l", b"p"]
    found = {name: context.lookup(name) for name in (b"d", b"f", b"l", b"p", b"c", b"b")}
    plain = {name: entry._replace(mtime=0) for name, entry in found.items() if entry is not None}
    # Owners are root's; attributes of a checkout stay behind; times are true, before 1970 too.
    assert plain == {
        b"f": Entry(b"f", "file", 0o4751, size=1),
        b"d": Entry(b"d", "dir", 0o1770),
        b"l": Entry(b"l", "symlink", 0o777, link=b"../f"),
        b"p": Entry(b"p", "fifo", 0o620),
        b"c": Entry(b"c", "char", 0o600, rdev=(1, 3)),
        b"b": Entry(b"b", "block", 0o600, rdev=(7, 0)),
    }
    assert found[b"f"] is not None and found[b"f"].mtime == -1_500_000_001
    assert found[b"d"] is not None and found[b"d"].mtime == 7
    assert context.lookup(b"missing") is None
    assert context.lookup(b"f/below/a/file") is None
    assert context.lookup(b"l/x") is None
    context.close()


def test_only_what_a_copy_needs_is_walked(tmp_path: Path) -> None:
    make(tmp_path, "a/b/f", "a/c/deep/f", "z/f", "top")
    with walked(tmp_path) as folders:
        context = opened(tmp_path)
        assert folders == []
        assert paths(copy(context, "a/b/f")) == [""]
        assert folders == [".", "a", "a/b"]
        # What was seen is not looked at again.
        assert paths(copy(context, "a/b")) == ["", "f"]
        assert folders == [".", "a", "a/b"]
        assert paths(copy(context, "t*")) == [""]
        assert paths(copy(context, "a/*/f")) == [""]
        assert folders == [".", "a", "a/b", "a/c"]


@pytest.mark.parametrize(
    "ignore",
    ["node_modules\n", "node_modules/**\n!keep\n", "**/node_modules\n", "*\n!src\n!top\n", "node*\n!src/x\n"],
)
def test_an_ignored_tree_is_never_walked(tmp_path: Path, ignore: str) -> None:
    make(tmp_path, "src/f", "top", *(f"node_modules/{n}/deep/f" for n in range(20)))
    with walked(tmp_path) as folders:
        assert paths(copy(opened(tmp_path, ignore), "."))[-3:] == ["src", "src/f", "top"]
    assert sorted(set(folders) - {"node_modules"}) == [".", "src"]
    assert folders.count("node_modules") <= 1


def test_an_ignored_tree_is_walked_where_something_may_come_back(tmp_path: Path) -> None:
    make(tmp_path, "a/keep/f", "a/keep/g", "a/drop/f", "b/f")
    with walked(tmp_path) as folders:
        assert paths(copy(opened(tmp_path, "a\nb\n!a/keep/f\n"), ".")) == ["", "a", "a/keep", "a/keep/f"]
    assert "b" not in folders
    assert "a/drop" not in folders
    # Nothing that comes back is there: nor are the folders that would hold it.
    assert paths(copy(opened(tmp_path, "a\n!a/keep/other\n"), ".")) == ["", "b", "b/f"]


def test_what_is_ignored_is_not_there_for_names_and_wildcards(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.txt", "d/c.txt")
    context = opened(tmp_path, "a.txt\nd\n")
    assert [one.name for one in copy(context, "*.txt")] == [b"b.txt"]
    for source in ("a.txt", "d", "d/c.txt", "./a.txt", "/a.txt"):
        with pytest.raises(DockerfileError) as caught:
            copy(context, source)
        assert caught.value.message == f"COPY: '{source}' is not in the build context"
        assert ".dockerignore" in (caught.value.hint or "")
    with pytest.raises(DockerfileError, match="no file in the build context matches 'd/\\*'"):
        copy(context, "d/*")


def test_sockets_are_told_and_left_out(tmp_path: Path) -> None:
    make(tmp_path, "d/f", "ignored/f")
    for name in ("d", "ignored"):
        with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path / name):
            server.bind("s")
    warnings: list[str] = []
    context = opened(tmp_path, "ignored\n", warnings)
    assert paths(copy(context, ".")) == ["", "d", "d/f"]
    assert paths(copy(context, "d")) == ["", "f"]
    assert warnings == ["the socket 'd/s' of the context is left out: an image cannot hold sockets"]
    with pytest.raises(DockerfileError, match="'d/s' is not in the build context"):
        copy(context, "d/s")


def test_hard_links_inside_a_copy_stay_links(tmp_path: Path) -> None:
    make(tmp_path, "d/a", "outside")
    os.link(tmp_path / "d/a", tmp_path / "d/b")
    os.link(tmp_path / "outside", tmp_path / "d/c")
    context = opened(tmp_path)
    (whole,) = copy(context, "d")
    kinds = {item.entry.path: (item.entry.kind, item.entry.link, item.source is not None) for item in whole.items}
    assert kinds == {
        b"": ("dir", b"", False),
        b"a": ("file", b"", True),
        b"b": ("hardlink", b"a", False),
        # Its other name is not copied.
        b"c": ("file", b"", True),
    }
    # A hard link is something else than two files of the same content.
    os.unlink(tmp_path / "d/b")
    (tmp_path / "d/b").write_text("d/a")
    (again,) = copy(opened(tmp_path), "d")
    digests = [content_digest((one,), owners=True, modes=False) for one in (whole, again)]
    assert digests[0] != digests[1]


def test_links_never_leave_the_context(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    root = make(tmp_path / "context", "inside/f", "etc/passwd")
    os.symlink("/etc/passwd", root / "absolute")
    os.symlink("../../../../etc/passwd", root / "up")
    os.symlink("../secret", root / "sibling")
    os.symlink("..", root / "parent")
    os.symlink("/", root / "root")
    os.symlink("loop2", root / "loop1")
    os.symlink("loop1", root / "loop2")
    context = opened(root)
    assert contents(copy(context, "absolute")) == {"": b"etc/passwd"}
    assert contents(copy(context, "up")) == {"": b"etc/passwd"}
    assert contents(copy(context, "root/inside/f")) == {"": b"inside/f"}
    assert contents(copy(context, "parent/parent/../inside/f")) == {"": b"inside/f"}
    assert contents(copy(context, "../../inside/f")) == {"": b"inside/f"}
    with pytest.raises(DockerfileError, match="'sibling' is a link to 'secret', which is not there"):
        copy(context, "sibling")
    with pytest.raises(DockerfileError, match="too many symbolic links"):
        copy(context, "loop1/x")
    # Inside a folder a link is a link, wherever it leads.
    (whole,) = copy(context, ".")
    links = {item.entry.path: item.entry.link for item in whole.items if item.entry.kind == "symlink"}
    assert links[b"absolute"] == b"/etc/passwd"
    assert links[b"root"] == b"/"
    assert not any(item.entry.path.startswith((b"root/", b"parent/")) for item in whole.items)


def test_a_file_that_vanished_or_became_something_else(tmp_path: Path) -> None:
    make(tmp_path, "gone", "link", "folder", "pipe", "sub/f", "secret")
    context = opened(tmp_path)
    assert context.children(b"") == [b"folder", b"gone", b"link", b"pipe", b"secret", b"sub"]
    assert context.children(b"sub") == [b"f"]
    for name in ("gone", "link", "folder", "pipe"):
        os.unlink(tmp_path / name)
    os.symlink("secret", tmp_path / "link")
    os.mkdir(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    # A folder on the way that became a link to somewhere else.
    os.rename(tmp_path / "sub", tmp_path / "moved")
    os.symlink("/etc", tmp_path / "sub")
    for name in ("gone", "link", "folder", "pipe", "sub/f"):
        with pytest.raises(DockerfileError) as caught:
            copy(context, name)
        assert caught.value.message == f"'{name}' changed while it was read"
        assert caught.value.hint == "build again when nothing else writes to it"


def test_a_folder_that_vanished(tmp_path: Path) -> None:
    make(tmp_path, "a/f", "b/f")
    context = opened(tmp_path)
    assert context.children(b"") == [b"a", b"b"]
    os.rename(tmp_path / "a", tmp_path / "other")
    os.rename(tmp_path / "b", tmp_path / "other2")
    (tmp_path / "b").write_text("a file")
    for name in ("a", "b", "a/f"):
        with pytest.raises(DockerfileError, match=r"' changed while it was read$"):
            copy(context, name)


def test_content_is_read_and_never_guessed_from_times(tmp_path: Path) -> None:
    make(tmp_path, "f")

    def digest() -> str:
        return content_digest(copy(opened(tmp_path), "f"), owners=True, modes=True)

    first = digest()
    status = os.stat(tmp_path / "f")
    (tmp_path / "f").write_text("g")
    os.utime(tmp_path / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest() != first
    (tmp_path / "f").write_text("f")
    os.utime(tmp_path / "f", ns=(5, 5))
    assert digest() == first


def test_names_of_any_bytes(tmp_path: Path) -> None:
    names = [b"\xff\xfe", b"new\nline", b" ", b"caf\xc3\xa9", b"-rf", b"\x01"]
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(name)
    context = opened(tmp_path)
    assert context.children(b"") == sorted(names)
    (whole,) = copy(context, ".")
    assert {item.entry.path: b"".join(open_source(item.source)) for item in whole.items if item.source} == {
        name: name for name in names
    }


def test_folders_deeper_than_python_recurses(tmp_path: Path) -> None:
    path = "/".join(["d"] * 1200)
    context = opened(tmp_path)
    assert context.lookup(path.encode()) is None
    with pytest.raises(DockerfileError, match="is not in the build context"):
        copy(context, path)
    here = os.getcwd()
    os.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    with open("f", "w"):
        pass
    os.chdir(here)
    try:
        assert paths(copy(opened(tmp_path), path))[-1] == "f"
        with pytest.raises(DockerfileError, match="nested more than 200 levels deep"):
            copy(opened(tmp_path, "d\n!**/f\n"), ".")
    finally:
        # Python's rmtree, which pytest uses, recurses.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_sources_are_below_the_root(tmp_path: Path) -> None:
    make(tmp_path, "d/f")
    context = opened(tmp_path)
    entry = context.lookup(b"d/f")
    assert entry is not None
    assert context.source(entry) == FileSource(str(tmp_path), b"d/f")
    assert context.inode(entry) is None


def test_a_context_without_dockerignore(tmp_path: Path) -> None:
    make(tmp_path, "a", ".dockerignore")
    context = DirectoryContext(str(tmp_path), NothingIgnored(), print)
    assert paths(copy(context, ".")) == ["", ".dockerignore", "a"]


def test_a_root_that_is_a_link_or_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "real", "f")
    os.symlink("real", tmp_path / "link")
    assert paths(copy(opened(tmp_path / "link"), ".")) == ["", "f"]
    monkeypatch.chdir(tmp_path)
    context = opened(Path("real"))
    monkeypatch.chdir("/")
    assert contents(copy(context, "f")) == {"": b"f"}


trees = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join), st.just(None), max_size=6
)


@settings(max_examples=50, deadline=None)
@given(trees, st.lists(st.sampled_from(["a", "b", "!a", "!a/b", "*/b", "**/c", "!**/c", "*"]), max_size=4))
def test_what_is_copied_is_what_the_matcher_leaves(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, None], patterns: list[str]
) -> None:
    """A lazy walk that skips folders finds the same files as one that looks at everything."""
    root = tmp_path_factory.mktemp("tree")
    for name in files:
        path = root / name
        # One file's name may be another one's folder: then the folder is there first, or the file stays.
        if not any((root / parent).is_file() for parent in _parents(name)) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    text = "\n".join(patterns)
    matcher = Matcher.parse(text, ".dockerignore")
    everything = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    expected = sorted(name for name in everything if not matcher.ignored(name.encode()))
    (whole,) = copy(opened(root, text), ".")
    assert sorted(item.entry.path.decode() for item in whole.items if item.entry.kind == "file") == expected


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    """Root reads everything, so a child gives up its rights for a while."""
    make(tmp_path, "open/f", "closed/f")
    os.chmod(tmp_path / "closed", 0)
    for folder in (tmp_path, tmp_path / "open"):
        os.chmod(folder, 0o755)
    for parent in tmp_path.parents:
        if not parent.stat().st_mode & 0o001:
            os.chmod(parent, parent.stat().st_mode | 0o001)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            context = opened(tmp_path)
            assert context.children(b"open") == [b"f"]
            try:
                context.children(b"closed")
            except BuildError as error:
                expected = "the folder 'closed' of the context cannot be read: permission denied"
                code = 0 if error.message == expected and ".dockerignore" in (error.hint or "") else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
