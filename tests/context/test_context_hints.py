"""An unchanged context is not read again, and no change escapes, however it hides from stat(2)."""

from __future__ import annotations

import ctypes
import mmap
import os
import sqlite3
import stat
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from builder.context import hints as hints_module
from builder.context.directory import DirectoryContext
from builder.context.hints import GRAIN, WORTH, Hints
from builder.context.ignoring import NothingIgnored
from builder.store.hints import PLACES
from builder.store.store import Store
from tests.build.build_shipped import read
from tests.conftest import Pybuild

IN_OPEN, IN_Q_OVERFLOW = 0x20, 0x4000
SPECIAL = ("plain", "renamed", "mapped", "open", "chmod", "grows")


@contextmanager
def opened(*folders: Path) -> Iterator[set[str]]:
    """The names of files in these folders that anybody opens meanwhile: inotify(7) tells."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert fd >= 0
    try:
        for folder in folders:
            assert libc.inotify_add_watch(fd, os.fsencode(folder), IN_OPEN) >= 0, os.strerror(ctypes.get_errno())
        found: set[str] = set()
        yield found
        while True:
            try:
                data = os.read(fd, 1 << 16)
            except BlockingIOError:
                break
            at = 0
            while at < len(data):
                _, mask, _, length = struct.unpack_from("iIII", data, at)
                assert not mask & IN_Q_OVERFLOW
                found.add(data[at + 16 : at + 16 + length].rstrip(b"\0").decode())
                at += 16 + length
        found.discard("")
    finally:
        os.close(fd)


def old_enough(*paths: Path) -> None:
    """Wait until the last change of these files is longer ago than what hints call racy. Nobody can set a ctime back."""
    newest = max(path.lstat().st_ctime_ns for path in paths)
    while time.time_ns() - newest <= GRAIN + 10**8:
        time.sleep(0.05)


class Context:
    def __init__(self, pybuild: Pybuild, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        self.special = root / "special"
        self._pybuild = pybuild
        self.files.mkdir(parents=True)
        self.special.mkdir()
        for number in range(WORTH):
            (self.files / f"f{number}").write_text(f"file {number}")
        for name in SPECIAL:
            (self.special / name).write_text("before")
        (root / "Dockerfile").write_text("FROM scratch\nCOPY special files /\n")

    def build(self, *flags: str) -> tuple[dict[str, str], set[str], str]:
        """The content of the special files, the names of those that were opened, and what the program says of steps."""
        out = self.root.parent / "out.tar"
        with opened(self.files, self.special) as names:
            done = self._pybuild("--progress=plain", *flags, "-o", f"type=tar,dest={out}", self.root)
        assert done.returncode == 0, done.stderr
        found = read(out)
        assert all(found[f"f{number}"].data.decode() == f"file {number}" for number in range(WORTH))
        return {name: found[name].data.decode() for name in SPECIAL}, names, done.stderr


def put(path: Path, text: str) -> None:
    """Write another content of the same size and set the modification time back."""
    info = path.stat()
    with open(path, "r+") as file:
        file.write(text)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (info.st_size, info.st_mtime_ns)


@contextmanager
def mounted(folder: Path, *how: str | Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *how, folder], check=True)
    try:
        yield
    finally:
        # Lazily: a failed test may still have a file of it open.
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def disk(image: Path, node: Path) -> Iterator[Path]:
    """A block device that the image is, under another name than that of a loop device."""
    loop = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    try:
        os.mknod(node, stat.S_IFBLK | 0o600, os.stat(loop).st_rdev)
        yield node
    finally:
        node.unlink(missing_ok=True)
        subprocess.run(["losetup", "--detach", loop], check=True)


def let_go(image: Path) -> None:
    """Wait until no loop device has this image: a sandbox that another test started meanwhile has a copy of each mount, and
    what was written is in the image only when the last of them is gone."""
    end = time.monotonic() + 60
    while subprocess.run(["losetup", "--associated", image], check=True, capture_output=True).stdout:
        assert time.monotonic() < end, "a loop device stays"
        time.sleep(0.02)


def a_file_system(image: Path, *options: str, megabytes: int = 8) -> None:
    with open(image, "wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", *options, image], check=True, capture_output=True)


@pytest.fixture
def context(pybuild: Pybuild, tmp_path: Path) -> Iterator[Context]:
    """On a disk, wherever the tests' own files are."""
    a_file_system(tmp_path / "image")
    with disk(tmp_path / "image", tmp_path / "node") as node, mounted(tmp_path / "disk", node):
        yield Context(pybuild, tmp_path / "disk" / "context")


def test_nothing_is_read_again_and_no_change_escapes(context: Context) -> None:
    unchanged = dict.fromkeys(SPECIAL, "before")
    everything = {f"f{number}" for number in range(WORTH)} | set(SPECIAL)
    descriptor = os.open(context.special / "mapped", os.O_RDWR)
    mapped = mmap.mmap(descriptor, 6)
    os.close(descriptor)
    # The page is dirty from here on, and further stores to it leave no sign in stat until it is written to a disk.
    mapped[0:6] = b"before"
    with open(context.special / "open", "r+b", buffering=0) as writer:
        old_enough(*context.files.iterdir(), *context.special.iterdir())

        assert context.build()[:2] == (unchanged, everything)
        # Whoever may be writing is not believed.
        values, names, said = context.build()
        assert (values, names) == (unchanged, {"mapped", "open"})
        assert "0 ran, 1 cached" in said
        assert context.build("--no-cache")[:2] == (unchanged, everything)

        mapped[0:6] = b"mapped"
        writer.write(b"opened")
    put(context.special / "plain", "change")
    other = context.root / "other"
    other.write_text("rename")
    info = (context.special / "renamed").stat()
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
    os.rename(other, context.special / "renamed")
    (context.special / "chmod").chmod(0o755)
    with open(context.special / "grows", "a") as file:
        file.write(" and after")
    changed = {"plain": "change", "renamed": "rename", "mapped": "mapped", "open": "opened", "chmod": "before"}
    values, _, said = context.build()
    assert values == {**changed, "grows": "before and after"}
    assert "1 ran, 0 cached" in said
    mapped.close()


def test_a_mapping_of_a_tmpfs_hides_what_it_changes(pybuild: Pybuild, tmp_path: Path) -> None:
    with mounted(tmp_path / "memory", "-t", "tmpfs", "tmpfs"):
        context = Context(pybuild, tmp_path / "memory" / "context")
        old_enough(*context.files.iterdir(), *context.special.iterdir())
        assert context.build()[0]["mapped"] == "before"
        path = context.special / "mapped"
        info = path.stat()
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 6) as mapped:
            assert mapped[0:1] == b"b", "a page that is read first is not seen to be written to"
            mapped[0:6] = b"mapped"
        assert path.stat().st_ctime_ns == info.st_ctime_ns, "a control: stat says nothing"
        assert context.build()[0]["mapped"] == "mapped"


@pytest.mark.parametrize("is_loop", [True, False], ids=["a loop device", "a disk of whole seconds"])
def test_a_file_system_that_is_another_one_after_a_remount(pybuild: Pybuild, tmp_path: Path, is_loop: bool) -> None:
    """Tools that make file systems give files the inodes and times that they had in the last one; where only whole seconds
    are kept, so does a clock that was set back."""
    image, folder, node = tmp_path / "image", tmp_path / "disk", tmp_path / "node"
    a_file_system(image, "-I", "256" if is_loop else "128")

    def there() -> AbstractContextManager[object]:
        if is_loop:
            return mounted(folder, "-o", "loop", image)
        stack = ExitStack()
        stack.enter_context(mounted(folder, stack.enter_context(disk(image, node))))
        return stack

    with there():
        context = Context(pybuild, folder / "context")
        old_enough(*context.files.iterdir(), *context.special.iterdir())
        assert context.build()[0]["plain"] == "before"
        info = (context.special / "plain").stat()
    let_go(image)
    data = image.read_bytes()
    assert data.count(b"before") >= len(SPECIAL)
    image.write_bytes(data.replace(b"before", b"behind"))
    with there():
        now = (context.special / "plain").stat()
        assert (now.st_ino, now.st_size, now.st_ctime_ns) == (info.st_ino, info.st_size, info.st_ctime_ns), "a control"
        assert context.build()[0] == dict.fromkeys(SPECIAL, "behind")


def test_a_change_within_the_tick_is_seen(context: Context) -> None:
    """All of it happens in less than what hints call racy."""
    path = context.special / "plain"
    for text in ("first.", "second", "third."):
        put(path, text)
        assert context.build()[0]["plain"] == text


def test_what_was_changed_just_now_is_not_believed(context: Context) -> None:
    """Whatever the kernel's ticks are: some have none that a test could meet."""
    path = context.special / "plain"
    for number in range(20):
        put(path, f"{number:06}")
        context.build()
        # On a machine that is busy the look may have been too late.
        if time.time_ns() - path.stat().st_ctime_ns < GRAIN:
            assert "plain" in context.build()[1]
            return
    raise AssertionError("no build took less than what hints call racy")


def test_a_change_right_after_the_look(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fast as this process can, so that it falls into the tick of the look where the kernel has such ticks."""
    monkeypatch.setattr(hints_module, "WORTH", 1)
    folder = context.root / "c"
    folder.mkdir()
    path = folder / "file"
    path.write_text("0000")
    with Store(str(tmp_path / "own-store")) as store:
        for number in range(300):
            text = f"{number:04}"
            put(path, text)
            hints = Hints(str(folder), store.hints)
            tree = DirectoryContext(str(folder), NothingIgnored(), lambda _: None, hints)
            entry = tree.lookup(b"file")
            assert entry is not None
            assert b"".join(_content(tree)) == text.encode()
            import hashlib

            assert tree.digest(entry) == hashlib.sha256(text.encode()).hexdigest()
            tree.close()
            hints.save()


def _content(tree: DirectoryContext) -> Iterator[bytes]:
    from builder.layers.source import open_source

    entry = tree.lookup(b"file")
    assert entry is not None
    return open_source(tree.source(entry))


def test_another_folder_under_the_name(context: Context) -> None:
    """Files keep all their times when a folder above them is renamed."""
    twin = Context(context._pybuild, context.root.parent / "twin")
    for file in twin.special.iterdir():
        put(file, "twin's")
    old_enough(*context.files.iterdir(), *context.special.iterdir(), *twin.special.iterdir())
    context.build()
    os.rename(context.special, context.root / "away")
    os.rename(twin.special, context.special)
    assert context.build()[0] == dict.fromkeys(SPECIAL, "twin's")
    os.rename(context.special, twin.special)
    os.rename(context.root / "away", context.special)
    assert context.build()[0] == dict.fromkeys(SPECIAL, "before")


def test_wrong_hints_are_found_out_and_forgotten(pybuild: Pybuild, context: Context) -> None:
    """Whatever stands in the database: no image gets a content that is not its digest's, and the build after that is right."""
    old_enough(*context.files.iterdir(), *context.special.iterdir())
    # A few files are not worth it.
    small = pybuild("-f", "-", context.special, stdin=b"FROM scratch\nCOPY . /\n")
    assert small.returncode == 0, small.stderr
    database = sqlite3.connect(pybuild.store / "db.sqlite")
    assert database.execute("SELECT count(*) FROM hints").fetchone() == (0,)
    context.build()
    # What the selection held as a whole would be believed before.
    assert database.execute("DELETE FROM hints WHERE folder = ?", (b"\0",)).rowcount == 1
    rows = database.execute("SELECT rowid, files FROM hints").fetchall()
    assert len(rows) == 2
    for row, files in rows:
        parts = files.split(b"\0")
        parts[1::2] = [b"0" * 64 for _ in parts[1::2]]
        database.execute("UPDATE hints SET files = ? WHERE rowid = ?", (b"\0".join(parts), row))
    database.commit()
    database.close()
    done = pybuild("--progress=plain", context.root)
    assert done.returncode == 1 and "changed while it was read" in done.stderr, done.stderr
    assert context.build()[0] == dict.fromkeys(SPECIAL, "before")
    # What is no hint at all is none.
    database = sqlite3.connect(pybuild.store / "db.sqlite")
    database.execute("UPDATE hints SET files = ?", (b"\0\0x/",))
    database.commit()
    database.close()
    assert context.build()[0] == dict.fromkeys(SPECIAL, "before")


def test_what_is_kept_is_bounded_and_of_one_boot(tmp_path: Path) -> None:
    rows = {b"": b"a", b"d": b"b"}

    def kept(store: Store, root: bytes) -> dict[bytes, bytes]:
        return store.hints.load_folders(root, (b"", b"d", b"x"))

    with Store(str(tmp_path), boot_id="one") as store:
        for number in range(PLACES + 3):
            store.hints.save(b"/%d" % number, rows.items())
            store.hints.save(b"/0", [(b"d", b"new")])
        assert kept(store, b"/0") == {b"": b"a", b"d": b"new"}
        assert [kept(store, b"/%d" % number) for number in (1, 2, 3, 4)] == [{}, {}, {}, rows]
        store.hints.forget(b"/4")
        assert kept(store, b"/4") == {}
        assert kept(store, b"/5") == rows
    with Store(str(tmp_path), boot_id="two") as store:
        assert kept(store, b"/5") == {}
        store.hints.save(b"/5", [(b"x", b"y")])
        assert kept(store, b"/5") == {b"x": b"y"}
    database = sqlite3.connect(tmp_path / "db.sqlite")
    assert database.execute("SELECT count(*) FROM hints").fetchone() == (1,)
    database.close()
