""".dockerignore by the whole program: what it leaves out is not even looked at, unless a `!` may bring some of it back."""

from __future__ import annotations

import ctypes
import os
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Pybuild

FOLDERS, FILES = 2000, 50
IN_OPEN, IN_ONLYDIR, IN_ISDIR, IN_Q_OVERFLOW = 0x20, 0x01000000, 0x40000000, 0x4000


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small application with 100,000 files beside it: links of a few, in 2,000 folders, two levels down."""
    folder = tmp_path_factory.mktemp("ignore") / "context"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.c").write_text("int main() {}\n")
    one = folder / "README.md"
    one.write_text("read me\n")
    for number in range(FOLDERS):
        package = f"{folder}/node_modules/scope{number % 20}/package{number}"
        os.makedirs(package)
        # A file has 65,000 names at most.
        first = f"{package}/f0.js"
        os.close(os.open(first, os.O_CREAT | os.O_WRONLY))
        for file in range(1, FILES):
            os.link(first, f"{package}/f{file}.js")
    os.link(one, folder / "node_modules" / "scope3" / "package3" / "README.md")
    return folder


@contextmanager
def opened(root: Path, watched: str) -> Iterator[set[str]]:
    """The folders from `watched` on down, relative to `root`, that anybody opens meanwhile: inotify(7) tells."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert fd >= 0
    try:
        names: dict[int, str] = {}
        for path, _, _ in os.walk(root / watched):
            watch = libc.inotify_add_watch(fd, os.fsencode(path), IN_OPEN | IN_ONLYDIR)
            assert watch >= 0, os.strerror(ctypes.get_errno())
            names[watch] = os.path.relpath(path, root)
        while _events(fd):
            # What the walk itself opened.
            pass
        found: set[str] = set()
        yield found
        while events := _events(fd):
            for watch, mask, name in events:
                assert not mask & IN_Q_OVERFLOW
                # A folder hears of its own opening, and its parent does too, by name.
                if mask & IN_ISDIR and not name:
                    found.add(names[watch])
    finally:
        os.close(fd)


def _events(fd: int) -> list[tuple[int, int, bytes]]:
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return []
    events = []
    at = 0
    while at < len(data):
        watch, mask, _, length = struct.unpack_from("iIII", data, at)
        events.append((watch, mask, data[at + 16 : at + 16 + length].rstrip(b"\0")))
        at += 16 + length
    return events


def built(pybuild: Pybuild, context: Path, tmp_path: Path, ignore: str) -> list[str]:
    """What COPY . brings under this .dockerignore."""
    (context / ".dockerignore").write_text(ignore)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    done = pybuild("-o", f"type=tar,dest={tmp_path}/out.tar", context)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "out.tar") as tar:
        return sorted(tar.getnames())


OWN = [".dockerignore", "Dockerfile", "README.md", "src", "src/main.c"]


@pytest.mark.parametrize(
    ("ignore", "files"),
    [
        ("node_modules\n", OWN),
        ("**/node_modules/**\n", [*OWN, "node_modules"]),
        ("*\n!src\n", ["src", "src/main.c"]),
        ("node_modules\n!src/**/*.c\n!README.md\n", OWN),
        # What an earlier line brings back is ignored again.
        ("!node_modules/scope3/package3/README.md\nnode_modules\n", OWN),
        ("*\n!s*/main.c\n!R*\n", ["README.md", "src", "src/main.c"]),
    ],
)
def test_an_ignored_tree_is_not_walked(pybuild: Pybuild, context: Path, tmp_path: Path, ignore: str, files: list[str]) -> None:
    with opened(context, "node_modules") as folders:
        assert built(pybuild, context, tmp_path, ignore) == sorted(files)
    # A folder that is in the image itself is looked into: each name in it is ignored, and none of them is opened.
    assert folders <= ({"node_modules"} if "node_modules" in files else set())


def test_a_tree_is_walked_where_something_may_come_back(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    way = ["node_modules", "node_modules/scope3", "node_modules/scope3/package3"]
    readme = f"{way[-1]}/README.md"
    with opened(context, "node_modules") as folders:
        assert built(pybuild, context, tmp_path, f"node_modules\n!{readme}\n") == sorted([*OWN, *way, readme])
    assert folders == set(way)

    with opened(context, "node_modules") as folders:
        assert built(pybuild, context, tmp_path, "node_modules\n!node_modules/scope3/*/*.md\n") == sorted([*OWN, *way, readme])
    packages = {f"node_modules/scope3/package{number}" for number in range(3, FOLDERS, 20)}
    assert folders == {*way, *packages}

    # As BuildKit has it: to node_modules, which the first line ignores, the last one does nothing, and to main.c in it neither.
    with opened(context, "node_modules") as folders:
        assert built(pybuild, context, tmp_path, "*\n!*/main.c\nnode_modules\n") == ["src", "src/main.c"]
    assert folders == {"node_modules"}

    with opened(context, "node_modules") as folders:
        assert built(pybuild, context, tmp_path, "node_modules\n!**/*.md\n") == sorted([*OWN, *way, readme])
    assert len(folders) == 1 + 20 + FOLDERS
