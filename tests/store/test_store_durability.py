"""What a power cut or a kill leaves of a store."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from builder.oci.digest import Digest
from builder.store.store import Record, Store

PYTHON = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-c"]
LAYER = Digest.of(b"layer")
CHAIN = Digest.of(b"chain")


def database(root: Path) -> sqlite3.Connection:
    return sqlite3.connect(root / "db.sqlite", isolation_level=None)


def a_step(store: Store, name: str) -> Digest:
    """What a finished RUN leaves: a layer with index and folder, and its record under the key `name`."""
    diff_id = Digest.of(name.encode())
    with store.scratch() as scratch:
        os.mkdir(f"{scratch}/upper")
        Path(f"{scratch}/upper/file").write_text(name)
        store.put_layer(diff_id, b"index of " + name.encode(), len(name))
        store.add_snapshot(f"{scratch}/upper", diff_id, None)
    store.put_record(Record(name, b"preimage", diff_id))
    return diff_id


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def test_what_was_not_synced_does_not_outlive_its_boot(root: str) -> None:
    with Store(root, boot_id="first") as store:
        kept = a_step(store, "kept")
        store.put_record(Record("kept-empty", b"", None))
        store.sync()
        lost = a_step(store, "lost")
        store.put_record(Record("lost-empty", b"", None))
        store.put_ast("ast", b"tree")
        blob, _ = store.put_blob(b"synced by itself")
    with Store(root, boot_id="first") as store:
        assert store.lookup("lost") is not None
    with Store(root, boot_id="second") as store:
        assert store.lookup("kept") is not None
        assert store.lookup("kept-empty") is not None
        assert store.layer_index(kept) == b"index of kept"
        assert store.lookup("lost") is None
        assert store.lookup("lost-empty") is None
        assert not store.has_layer(lost)
        assert store.find_snapshot(lost, CHAIN) is None
        assert store.read_blob(blob, 100) == b"synced by itself"
        snapshot = store.find_snapshot(kept, CHAIN)
        assert snapshot is not None
    assert os.listdir(f"{root}/snapshots") == [snapshot]
    assert os.listdir(f"{root}/index") == [str(kept)]
    assert os.listdir(f"{root}/tmp") == []
    # What is made again is recorded again.
    with Store(root, boot_id="second") as store:
        a_step(store, "lost")
        assert store.lookup("lost") is not None


def test_a_name_is_never_given_before_its_layers_are_on_the_disk(root: str) -> None:
    with Store(root, boot_id="first") as store:
        diff_id = a_step(store, "step")
        store.tag("name", diff_id)
    with Store(root, boot_id="second") as store:
        assert store.lookup("step") is not None
        assert [image.name for image in store.images()] == ["name"]


def test_the_real_boot_id_is_the_mark(root: str) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with Store(root) as store:
        a_step(store, "step")
    with closing(database(Path(root))) as db:
        assert db.execute("SELECT DISTINCT boot FROM unsynced").fetchall() == [(boot,)]
        assert db.execute("SELECT kind FROM unsynced ORDER BY kind").fetchall() == [("layer",), ("record",), ("snapshot",)]


SYNC_WITHOUT_SYNCFS = """
import ctypes, platform, struct, sys
from builder.store.store import Store, Record
number = {"x86_64": 306, "aarch64": 267}[platform.machine()]
# seccomp(2): load the number; EIO for syncfs, all else allowed.
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50005), (6, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("<HBBI", *line) for line in lines)
store = Store(sys.argv[1], boot_id="first")
store.put_record(Record("key", b"", None))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
buffer = ctypes.create_string_buffer(program, len(program))
filter = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer)))
assert libc.prctl(22, 2, filter) == 0, ctypes.get_errno()
try:
    store.sync()
except OSError as error:
    print(error.errno)
store.close()
"""


def test_a_sync_that_fails_leaves_the_marks(root: str) -> None:
    done = subprocess.run([*PYTHON, SYNC_WITHOUT_SYNCFS, root], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")
    with Store(root, boot_id="second") as store:
        assert store.lookup("key") is None


# After a kill.

DIE = """
import os, sys
from builder.store.store import Store
store = Store(sys.argv[1])
with store.scratch() as scratch:
    os.mkdir(scratch + "/upper", 0)
    os.mkdir(scratch + "/upper/" + "x" * 200)
    blob = store.blob_writer().__enter__()
    blob.write(b"half of it")
    print(scratch, flush=True)
    sys.stdin.read()
store.close()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(root: str) -> None:
    Store(root).close()
    dead, alive = (
        subprocess.Popen([*PYTHON, DIE, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    assert dead.stdout is not None and alive.stdout is not None and alive.stdin is not None and dead.stdin is not None
    left, kept = dead.stdout.readline().strip(), alive.stdout.readline().strip()
    # A process that died between the rename and the commit of a snapshot or an index leaves these.
    os.mkdir(f"{root}/snapshots/77")
    Path(f"{root}/snapshots/77/file").touch()
    Path(f"{root}/index/{LAYER}").touch()
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    dead.stdin.close()
    dead.stdout.close()
    assert os.path.isdir(left)
    Store(root).close()
    assert os.listdir(f"{root}/tmp") == [os.path.basename(os.path.dirname(kept))]
    assert os.path.isdir(f"{kept}/upper")
    assert os.listdir(f"{root}/snapshots") == []
    assert os.listdir(f"{root}/index") == []
    assert os.listdir(f"{root}/blobs/sha256") == []
    alive.stdin.close()
    assert alive.wait() == 0
    alive.stdout.close()
    assert os.listdir(f"{root}/tmp") == []


def test_strange_things_among_the_temporary_files_are_removed_and_not_followed(root: str, tmp_path: Path) -> None:
    Store(root).close()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    os.symlink(outside, f"{root}/tmp/link")
    Path(f"{root}/tmp/file").touch()
    Store(root).close()
    assert os.listdir(f"{root}/tmp") == []
    assert os.listdir(outside) == ["file"]
