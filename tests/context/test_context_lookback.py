"""What a COPY took is known again by stat alone, and whatever changes in it is seen all the same."""

from __future__ import annotations

import mmap
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.context.directory import DirectoryContext
from builder.context.hints import WORTH, Hints
from builder.context.ignoring import NothingIgnored
from builder.store.store import Store
from tests.build.build_shipped import read
from tests.conftest import Pybuild
from tests.context.test_context_hints import a_file_system, disk, mounted, old_enough, put

COUNT = WORTH + 20


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Path]:
    """On a disk, wherever the tests' own files are."""
    a_file_system(tmp_path / "image")
    with disk(tmp_path / "image", tmp_path / "node") as node, mounted(tmp_path / "disk", node):
        root = tmp_path / "disk" / "context"
        for number in range(COUNT):
            path = root / "src" / f"d{number % 5}" / f"f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"file {number}\n")
        (root / "src" / "link").symlink_to("d0/f0")
        (root / "src" / "empty").mkdir()
        os.mkfifo(root / "src" / "fifo")
        (root / "more").mkdir()
        (root / "more" / "m").write_text("more")
        (root / "Dockerfile").write_text("FROM scratch\nCOPY src /src\n")
        old_enough(*root.rglob("*"))
        yield root


def image(pybuild: Pybuild, context: Path, *flags: str) -> str:
    done = pybuild("-q", *flags, context)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fresh(pybuild: Pybuild, context: Path, tmp_path: Path) -> str:
    """What a store gives that knows nothing of the folder."""
    return image(Pybuild(tmp_path / "fresh", pybuild._home), context)


def swap(one: Path, other: Path) -> None:
    os.rename(one, one.with_name("away"))
    os.rename(other, one)
    os.rename(one.with_name("away"), other)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def capable(path: Path) -> None:
    path.chmod(0o755)
    os.setxattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))


def dockerfile(src: Path, copy: str) -> None:
    (src.parent / "Dockerfile").write_text(f"FROM scratch\n{copy}\n")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content, size and time as before": lambda src: put(src / "d1" / "f1", "FILE 1\n"),
    "two files exchanged": lambda src: swap(src / "d1" / "f1", src / "d1" / "f6"),
    "two folders exchanged": lambda src: swap(src / "d1", src / "d2"),
    "a new file": lambda src: (src / "d4" / "new").write_text(""),
    "a file less": lambda src: os.unlink(src / "d2" / "f2"),
    "a mode": lambda src: os.chmod(src / "d2" / "f2", 0o600),
    "the mode of a folder": lambda src: os.chmod(src / "d3", 0o700),
    "the mode of an empty folder": lambda src: os.chmod(src / "empty", 0o711),
    "a folder less": lambda src: os.rmdir(src / "empty"),
    "a new folder": lambda src: os.mkdir(src / "empty" / "e"),
    "a link elsewhere": lambda src: replace(src / "link", lambda path: path.symlink_to("d0/f5")),
    "a file instead of a link": lambda src: replace(src / "link", lambda path: path.write_text("d0/f0")),
    "a folder instead of a file": lambda src: replace(src / "d2" / "f2", os.mkdir),
    "a fifo less": lambda src: os.unlink(src / "fifo"),
    "a hard link instead of a file": lambda src: replace(src / "d0" / "f5", lambda path: os.link(src / "d0" / "f0", path)),
    "a capability": lambda src: capable(src / "d1" / "f1"),
    "a pattern": lambda src: (src.parent / ".dockerignore").write_text("**/f7\n"),
    "a pattern that brings back": lambda src: (src.parent / ".dockerignore").write_text("src/d0\n!src/d0/f5\n"),
    "a source more": lambda src: dockerfile(src, "COPY src more /src/"),
    "another source": lambda src: dockerfile(src, "COPY src/d0 /src/"),
    "a wildcard": lambda src: dockerfile(src, "COPY src/d* /src/"),
    "an owner": lambda src: dockerfile(src, "COPY --chown=7 src /src"),
    "a mode for all": lambda src: dockerfile(src, "COPY --chmod=600 src /src"),
    "modes by letters": lambda src: dockerfile(src, "COPY --chmod=go-r src /src"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_no_change_escapes(pybuild: Pybuild, context: Path, tmp_path: Path, what: str) -> None:
    before = image(pybuild, context)
    assert image(pybuild, context) == before
    CHANGES[what](context / "src")
    after = image(pybuild, context)
    assert after == fresh(pybuild, context, tmp_path)
    assert after != before
    # And again, when that is what is known.
    assert image(pybuild, context) == after


def test_sources_that_are_files_are_believed_by_the_same_rules(pybuild: Pybuild, context: Path) -> None:
    """A file that is named itself, or by a wildcard, may be written to without a sign just as one below a folder."""
    for number in range(COUNT):
        (context / f"t{number}").write_text("before")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY t* /\n")
    descriptor = os.open(context / "t1", os.O_RDWR)
    with mmap.mmap(descriptor, 6) as mapped:
        os.close(descriptor)
        silent = 0
        for _ in range(10):
            # The page is dirty from here on, and further stores to it leave no sign in stat until it is written to the disk:
            # which anybody's sync(2) does meanwhile.
            mapped[0:6] = b"before"
            old_enough(*context.glob("t*"))
            before = image(pybuild, context)
            info = (context / "t1").stat()
            mapped[0:6] = b"behind"
            silent += (context / "t1").stat().st_ctime_ns == info.st_ctime_ns
            assert image(pybuild, context) != before
            if silent:
                break
        assert silent, "a control: stat says nothing"


def test_without_the_cache_a_wrong_memory_is_replaced(pybuild: Pybuild, context: Path) -> None:
    """--no-cache reads everything, and what it found is what counts from then on."""
    text = "FROM scratch\nCOPY src /src/\n"
    (context / "Dockerfile").write_text(text)
    right = image(pybuild, context)
    database = sqlite3.connect(pybuild.store / "db.sqlite")
    ((rows,),) = database.execute("SELECT files FROM hints WHERE folder = ?", (b"\0",)).fetchall()
    # The content of another image, which the cache has.
    (context / "Dockerfile").write_text("FROM scratch\nCOPY src/d0 src/d1 src/d2 src/d3 src/d4 /src/\n")
    image(pybuild, context)
    ((both,),) = database.execute("SELECT files FROM hints WHERE folder = ?", (b"\0",)).fetchall()
    (context / "Dockerfile").write_text(text)
    wrong = both.replace(rows[64:128], both[64:128])
    assert wrong != both
    database.execute("UPDATE hints SET files = ? WHERE folder = ?", (wrong, b"\0"))
    database.commit()
    database.close()
    assert image(pybuild, context) != right, "a control: the memory is believed"
    assert image(pybuild, context, "--no-cache") == right
    assert image(pybuild, context) == right


def test_folders_nested_deeply(pybuild: Pybuild, context: Path) -> None:
    at = os.open(context / "src", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("a", dir_fd=at)
        below = os.open("a", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    before = image(pybuild, context)
    assert image(pybuild, context) == before
    os.chmod(context / "src" / "d1" / "f1", 0o600)
    assert image(pybuild, context) != before


def test_what_is_known_is_made_where_a_command_needs_it(pybuild: Pybuild, context: Path, busybox_base: Path) -> None:
    """The layer is a folder only where a command looks into it: of a context whose files nobody looked at, it is made then."""
    base = ("--build-context", f"base={busybox_base}")
    text = "FROM base\nCOPY src /src\n"
    (context / "Dockerfile").write_text(text)
    image(pybuild, context, *base)
    out = context.parent / "out.tar"
    (context / "Dockerfile").write_text(f"{text}RUN cat /src/d1/f1 > /out; stat -c %Y /src/d1/f1 >> /out\n")
    done = pybuild("--progress=plain", "-o", f"type=tar,dest={out}", *base, context)
    assert done.returncode == 0, done.stderr
    assert "COPY src /src\n#2 CACHED" in done.stderr
    # With its true time: it comes from the context, and not from the tar.
    assert read(out)["out"].data.decode() == f"file 1\n{int((context / 'src' / 'd1' / 'f1').stat().st_mtime)}\n"


def test_what_changed_a_moment_ago_is_not_remembered(context: Path, tmp_path: Path) -> None:
    """Git's racy rule: a later change within the same tick could not be told. On the disk of the fixture: elsewhere nothing is
    remembered at all."""
    folder = context / "moment"
    folder.mkdir()
    (folder / "f").write_text("x")

    def recalled(store: Store) -> tuple[str, str]:
        tree = DirectoryContext(str(folder), NothingIgnored(), lambda _: None, Hints(str(folder), store.hints))
        entry = tree.lookup(b"f")
        assert entry is not None
        content = tree.digest(entry)
        tree.keep(b"s" * 32, [(b"f", b"f")], content)
        try:
            return content, tree.recall(b"s" * 32, [(b"f", b"f")])
        finally:
            tree.close()

    with Store(str(tmp_path / "store")) as store:
        assert recalled(store)[1] == ""
        old_enough(folder / "f")
        content, known = recalled(store)
        assert content == known
