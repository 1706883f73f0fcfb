"""What must hold of a store and of the machine after any build, however it ended."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from tests.conftest import is_orphaned_server


def assert_valid(store: Path) -> None:
    """Every blob and index is what its name or row says, folders and rows agree, and nothing temporary is left."""
    assert os.listdir(store / "tmp") == []
    top = set(os.listdir(store)) - {"db.sqlite-wal", "db.sqlite-shm", "lost+found"}
    assert top - {"locks", "mounts", "failed", "builds"} == {"VERSION", "blobs", "db.sqlite", "index", "snapshots", "tmp"}
    assert not os.path.isdir(store / "locks") or os.listdir(store / "locks") == []
    for blob in (store / "blobs" / "sha256").iterdir():
        assert _sha256(blob) == blob.name
    database = sqlite3.connect(store / "db.sqlite")
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        indexes = dict(database.execute("SELECT diff_id, index_digest FROM layers").fetchall())
        assert {path.name: _sha256(path) for path in (store / "index").iterdir()} == indexes
        snapshots = {str(name) for (name,) in database.execute("SELECT id FROM snapshots")}
        assert set(os.listdir(store / "snapshots")) == snapshots
        mounts = {str(number) for (number,) in database.execute("SELECT number FROM cache_mounts")}
        assert set(os.listdir(store / "mounts") if (store / "mounts").is_dir() else ()) <= mounts
        failed = {str(number) for (number,) in database.execute("SELECT id FROM failed")}
        assert set(os.listdir(store / "failed") if (store / "failed").is_dir() else ()) == failed
        for (config,) in database.execute("SELECT config FROM images"):
            assert (store / "blobs" / "sha256" / config.removeprefix("sha256:")).is_file()
        for (diff_id,) in database.execute("SELECT diff_id FROM records WHERE diff_id IS NOT NULL"):
            assert diff_id in indexes
    finally:
        database.close()


def assert_nothing_left(store: Path, *tokens: str, within: float = 1.0) -> None:
    """`within` seconds from now at the latest: no process that uses the store or has a token among its arguments, no mount."""
    deadline = time.monotonic() + within
    while (left := running(store, *tokens)) and time.monotonic() < deadline:
        time.sleep(0.01)
    _end_orphans(left)
    assert left == []
    assert str(store) not in Path("/proc/self/mountinfo").read_text()


def running(store: Path, *tokens: str) -> list[str]:
    """Processes other than this one that run with this store, or with a token among their arguments; and fork servers, which
    have no environment, whose builder is gone."""
    marks = [f"PYBUILD_ROOT={store}\0".encode(), *(token.encode() for token in tokens)]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            state = (process / "stat").read_bytes().rpartition(b")")[2].split()[0]
            text = (process / "environ").read_bytes() + b"\0" + (process / "cmdline").read_bytes()
        except OSError:
            continue  # It ended meanwhile.
        if state not in b"ZX" and (any(mark in text for mark in marks) or is_orphaned_server(process)):
            found.append(f"{process.name} {text[-200:]!r}")
    return found


def _end_orphans(found: list[str]) -> None:
    """A fork server that is left fails the test that sees it, and no other one."""
    for pid in (line.split()[0] for line in found):
        if is_orphaned_server(Path("/proc", pid)):
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def await_command(line: str) -> None:
    """Until a process is what the command line says."""
    until = time.monotonic() + 60
    while not any(_reads(path) == line.encode() for path in Path("/proc").glob("[0-9]*/cmdline")):
        assert time.monotonic() < until
        time.sleep(0.01)


def _reads(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # It ended meanwhile.
