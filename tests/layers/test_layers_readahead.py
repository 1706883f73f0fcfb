"""Files that a process beside the writer reads: the same tar, the same errors, and no process left."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.layers import beside, readahead, readahead_main
from builder.layers.entry import BytesSource, Entry, FileSource, Item
from builder.layers.tarwriter import digested, write_layer
from tests.layers.layers_beside import children, ready


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process is started for few files, whatever this machine has, and is gone in the end."""
    monkeypatch.setattr(readahead, "WORTH", 3)
    monkeypatch.setattr(beside, "_free", [1])
    before = set(children())
    yield
    assert set(children()) <= before
    assert beside._free == [1]


def a_tree(root: Path, count: int = 700) -> list[Item]:
    """Files of all sizes, some too large to be handed on, with what is no file between them."""
    random_ = random.Random(7)
    items = []
    for number in range(count):
        folder = f"d{number // 50:03}"
        if number % 50 == 0:
            (root / folder).mkdir()
            items.append(Item(Entry(folder.encode(), "dir", 0o755), None))
        size = random_.choice((0, 1, 511, 512, 513, 4096, 9000, readahead.LARGEST, readahead.LARGEST + 1, (1 << 20) + 7))
        size = size if number % 20 == 0 else min(size, 5000)
        path = f"{folder}/f{number:05}"
        (root / path).write_bytes(random_.randbytes(size))
        items.append(Item(Entry(path.encode(), "file", 0o644, size=size), FileSource(str(root), path.encode())))
        if number % 7 == 0:
            items.append(Item(Entry(f"{path}.bytes".encode(), "file", 0o600, size=3), BytesSource(b"abc")))
            items.append(Item(Entry(f"{path}.link".encode(), "symlink", 0o777, link=b"to"), None))
        if number % 11 == 0:
            items.append(Item(Entry(f"{path}.other".encode(), "hardlink", 0o644, size=size, link=path.encode()), None))
    return items


def written(items: list[Item]) -> tuple[str, bytes, tuple[Entry, ...]]:
    parts: list[bytes] = []
    summary = write_layer(items, parts.append)
    return str(summary.diff_id), b"".join(parts), tuple(summary.entries)


def alone(items: list[Item], monkeypatch: pytest.MonkeyPatch) -> tuple[str, bytes, tuple[Entry, ...]]:
    with monkeypatch.context() as patched:
        patched.setattr(beside, "_free", [0])
        return written(items)


def test_the_same_bytes_and_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = a_tree(tmp_path)
    expected = alone(items, monkeypatch)
    started = ready(monkeypatch)
    asked: list[int] = []
    ask = readahead._Reading._ask

    def counting(self: readahead._Reading, items: list[Item]) -> bool:
        asked.append(len(items))
        return ask(self, items)

    monkeypatch.setattr(readahead._Reading, "_ask", counting)
    assert written(items) == expected
    assert len(started) == 1 and sum(asked) > 600
    assert tuple(digested(items)) == expected[2]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=3000), max_size=40))
def test_what_is_read_is_what_is_there(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    root = tmp_path_factory.mktemp("tree")
    items = []
    for number, content in enumerate(contents):
        path = b"%04d" % number
        (root / path.decode()).write_bytes(content)
        items.append(Item(Entry(path, "file", size=len(content)), FileSource(str(root), path)))
    with closing(readahead.members(items, mtime=0, leases=False)) as pairs:
        for (item, read), asked, content in zip(pairs, items, contents, strict=True):
            assert item is asked
            assert read is None or (read.member[512:][: len(content)] == content and read.length == read.size == len(content))


def test_a_root_whose_name_is_no_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(monkeypatch)
    root = tmp_path / "ä\udcff\u20ac"
    root.mkdir()
    with closing(readahead.members(a_tree(root, 100), mtime=0, leases=False)) as pairs:
        assert sum(read is not None for _, read in pairs) > 60


@pytest.mark.parametrize("bare", [False, True])
def test_a_time_that_no_row_holds_spoils_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: bool) -> None:
    class Narrow:
        """It has no room for what stat says of the second file."""

        size = readahead.ROW.size

        def pack(self, *values: Any) -> bytes:
            if values[3] == 22:
                raise struct.error("argument out of range")
            return readahead.ROW.pack(*values)

    monkeypatch.setattr(readahead_main, "ROW", Narrow())
    sizes = (11, 22, 33)
    for size in sizes:
        (tmp_path / str(size)).write_bytes(b"%c" % size * size)
    files = [(str(size).encode(), b"f", 0o644, 0, 0, size, 0) for size in sizes]
    answer = readahead_main.Reader(leases=False, bare=bare).answer([[bytes(tmp_path)], b"", *files])
    start = beside.HEAD.size + 3 * readahead.ROW.size
    rows = list(readahead.ROW.iter_unpack(answer[beside.HEAD.size : start]))
    assert [row[0] for row in rows] == [readahead.WRITTEN, readahead.FAILED, readahead.WRITTEN]
    members = answer[start : start + rows[0][5]], answer[start + rows[0][5] :]
    assert [member[0 if bare else 512 :].rstrip(b"\0") for member in members] == [b"\x0b" * 11, b"\x21" * 33]


@pytest.mark.parametrize("pipe", [4096, 1 << 16])
def test_small_pipes_and_long_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipe: int) -> None:
    """A user who has many pipes gets small ones (pipe(7)): neither waits for room that the other would have to make."""
    ready(monkeypatch)
    monkeypatch.setattr(beside, "_enlarge", lambda fd: fcntl.fcntl(fd, beside._F_SETPIPE_SZ, pipe))
    folder = "/".join("d" * 200 for _ in range(5))
    (tmp_path / folder).mkdir(parents=True)
    items = []
    for number in range(900):
        path = f"{folder}/{number:05}".encode()
        (tmp_path / os.fsdecode(path)).write_bytes(bytes(4000))
        items.append(Item(Entry(path, "file", 0o644, size=4000), FileSource(str(tmp_path), path)))
    expected = alone(items, monkeypatch)
    found: list[tuple[str, bytes, tuple[Entry, ...]]] = []
    reads = threading.Thread(target=lambda: found.append(written(items)), daemon=True)
    reads.start()
    reads.join(30)
    assert found == [expected]


def test_a_process_that_is_killed_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = a_tree(tmp_path)
    expected = alone(items, monkeypatch)
    for after in (0, 1, 100, 300):
        with monkeypatch.context() as patched:
            started = ready(patched)

            def killing(after: int = after, started: list[int] = started) -> Iterator[Item]:
                for number, item in enumerate(items):
                    if started and number > after:
                        os.kill(started[0], signal.SIGKILL)
                    yield item

            parts: list[bytes] = []
            assert str(write_layer(killing(), parts.append).diff_id) == expected[0]
            assert started and b"".join(parts) == expected[1]


def test_no_process_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = a_tree(tmp_path, 100)
    expected = alone(items, monkeypatch)

    def refused(*_: object, **__: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", refused)
    before = len(os.listdir("/proc/self/fd"))
    assert written(items) == expected
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [2, 300, 699])
@pytest.mark.parametrize("how", ["gone", "grown", "shrunk", "link", "fifo"])
def test_errors_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, number: int) -> None:
    items = a_tree(tmp_path)
    ready(monkeypatch)
    path = next(tmp_path.glob(f"*/f{number:05}"))
    if how == "grown":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        size = path.stat().st_size
        path.unlink()
        if how == "shrunk":
            path.write_bytes(bytes(size - 1) if size else b"x")
        elif how == "link":
            path.symlink_to("/etc/passwd")
        elif how == "fifo":
            os.mkfifo(path)
    with pytest.raises(BuildError, match=f"'{path.relative_to(tmp_path)}' changed while it was read"):
        write_layer(items, None)


def test_who_writes_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(monkeypatch)
    items = a_tree(tmp_path, 100)
    with open(tmp_path / "d001/f00077", "r+b"), closing(readahead.members(items, mtime=0, leases=True)) as pairs:
        seen = {item.entry.path: read for item, read in pairs if read is not None}
    held = {path for path, read in seen.items() if read.may_be_written}
    assert held == {b"d001/f00077"} and len(seen) > 60
    info = os.stat(tmp_path / "d001/f00078")
    read = seen[b"d001/f00078"]
    assert (read.inode, read.ctime, read.size) == (info.st_ino, info.st_ctime_ns, info.st_size)
    # Where nobody was asked to look, nothing is promised.
    with closing(readahead.members(items, mtime=0, leases=False)) as pairs:
        assert all(read.may_be_written for _, read in pairs if read is not None)


def test_it_ends_with_who_is_not_served_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(monkeypatch)
    items = a_tree(tmp_path)
    for stop in (3, 4, 30, 400):
        with closing(readahead.members(items, mtime=0, leases=False)) as pairs:
            for _ in range(stop):
                next(pairs)

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_layer(items, full)


def test_its_environment_has_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = ready(monkeypatch)
    monkeypatch.setenv("A_SECRET", "very")
    items = a_tree(tmp_path, 100)
    with closing(readahead.members(items, mtime=0, leases=False)) as pairs:
        for _ in range(30):
            next(pairs)
        (pid,) = started
        assert b"very" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert os.getsid(pid) == pid


KILLED = """
import os, sys, time
from builder.layers import beside, readahead
from builder.layers.entry import Entry, FileSource, Item
readahead.WORTH = 3
beside._free[0] = 1
root, count = sys.argv[1], int(sys.argv[2])
items = [Item(Entry(b"%05d" % n, "file", size=2000), FileSource(root, b"%05d" % n)) for n in range(count)]
for number, (item, read) in enumerate(readahead.members(items, mtime=0, leases=False)):
    if read is not None:
        print(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read(), flush=True)
        time.sleep(60)
    # It is to start before all is read here.
    time.sleep(0.001)
"""


def test_it_ends_with_a_builder_that_is_killed(tmp_path: Path) -> None:
    count = 5000
    for number in range(count):
        (tmp_path / f"{number:05}").write_bytes(bytes(2000))
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(count)]
    builder = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True)
    assert builder.stdout is not None
    try:
        (child,) = builder.stdout.readline().split()
        assert os.path.exists(f"/proc/{child}")
    finally:
        builder.kill()
        builder.wait()
        builder.stdout.close()
    for _ in range(100):
        if not os.path.exists(f"/proc/{child}"):
            return
        time.sleep(0.05)
    pytest.fail("the process reads on")
