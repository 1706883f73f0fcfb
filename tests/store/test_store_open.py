"""Opening a store: making one, refusing what is not ours, upgrading."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from builder.errors import StoreError
from builder.oci.digest import Digest
from builder.store import schema
from builder.store.faults import Faults
from builder.store.peek import Peek
from builder.store.store import Record, Store

PYTHON = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-c"]
LAYER = Digest.of(b"layer")

Picture = dict[str, tuple[int, int, int, bytes]]


def picture(root: Path) -> Picture:
    """Everything below `root`: mode, both times, content."""
    found: Picture = {}
    for folder, _, files in os.walk(root):
        for path in [folder, *(os.path.join(folder, name) for name in files)]:
            info = os.lstat(path)
            data = Path(path).read_bytes() if stat.S_ISREG(info.st_mode) else b""
            found[path] = (info.st_mode, info.st_mtime_ns, info.st_ctime_ns, data)
    return found


def modes(root: Path) -> set[int]:
    return {stat.S_IMODE(os.lstat(path).st_mode) for path in (root, *root.rglob("*")) if path.is_dir()}


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


def test_a_new_store_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o077, 0o777):
        root = tmp_path / f"{umask:o}"
        before = os.umask(umask)
        try:
            Store(str(root)).close()
        finally:
            os.umask(before)
        assert modes(root) == {0o700}
        assert {path.name for path in root.iterdir()} == {"VERSION", "blobs", "snapshots", "index", "tmp", "db.sqlite"}
        assert (root / "VERSION").read_text() == "1\n"
        with closing(database(root)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_default_acls_of_the_folder_above_do_not_reach_into_the_store(tmp_path: Path) -> None:
    # acl(5), version 2: user::rwx, user:1234:rwx, group::rwx, mask::rwx, other::rwx.
    entries = [(0x01, 7, 0xFFFFFFFF), (0x02, 7, 1234), (0x04, 7, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF), (0x20, 7, 0xFFFFFFFF)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(tmp_path, "system.posix_acl_default", acl)
    (tmp_path / "control").mkdir(0o700)
    assert "system.posix_acl_default" in os.listxattr(tmp_path / "control")
    root = tmp_path / "store"
    with Store(str(root)) as store, store.scratch() as scratch:
        assert modes(root) == {0o700}
        for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
            assert "system.posix_acl_default" not in os.listxattr(folder)
        # An ACL that is set later stops at the scratch folder too.
        os.setxattr(root / "tmp", "system.posix_acl_default", acl)
        with Store(str(root)) as other, other.scratch() as inner:
            Path(inner, "file").touch()
            assert os.listxattr(Path(inner, "file")) == []
        assert os.listdir(scratch) == []


def test_opening_again_changes_no_file(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store(str(root)) as store:
        diff_id = a_step(store, "step")
    with Store(str(root)) as store:
        assert store.lookup("step") is not None
    # What a process uses is told in a lease of its own, which shows in the times of `tmp` alone.
    passing = (str(root), str(root / "tmp"))
    before = {path: entry for path, entry in picture(root).items() if path not in passing}
    with Store(str(root)) as store:
        found = store.lookup("step")
    assert found is not None and found.diff_id == diff_id
    # sqlite makes and removes its log beside the database, which shows in the times of the root folder alone.
    assert {path: entry for path, entry in picture(root).items() if path not in passing} == before


def test_a_store_may_be_the_root_of_a_fresh_file_system(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "lost+found").mkdir()
    Store(str(tmp_path)).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_newer_store_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store(str(root)) as store:
        a_step(store, "step")
    (root / "VERSION").write_text("2\n")
    (root / "tmp" / "left-behind").mkdir()
    before = picture(root)
    with pytest.raises(StoreError, match="written by a newer pybuild") as caught:
        Store(str(root))
    assert caught.value.exit_code == 7
    assert picture(root) == before


def test_a_newer_database_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    with closing(database(root)) as db:
        db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    before = picture(root)
    assert not any("-wal" in path or "-shm" in path for path in before)
    with pytest.raises(StoreError, match="written by a newer pybuild"):
        Store(str(root))
    assert picture(root) == before


def test_a_newer_version_that_only_the_log_knows_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    killed = f"""
import os, signal, sqlite3
db = sqlite3.connect({str(root / "db.sqlite")!r}, isolation_level=None)
db.execute("PRAGMA user_version={schema.VERSION + 1}")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([*PYTHON, killed], check=False)
    assert (root / "db.sqlite-wal").stat().st_size
    for opened in (Peek, Store):
        with pytest.raises(StoreError, match="written by a newer pybuild"):
            opened(str(root))


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "snapshots", "index", "tmp"])
def test_a_folder_that_somebody_removed_is_empty_and_no_obstacle(tmp_path: Path, name: str) -> None:
    root = tmp_path / "store"
    with Store(str(root)) as store:
        a_step(store, "step")
    shutil.rmtree(root / name)
    with Store(str(root)) as store:
        assert (store.lookup("step") is None) == (name in ("snapshots", "index"))
        a_step(store, "step")
        assert store.lookup("step") is not None
        assert store.has_blob(store.put_blob(b"blob")[0])
    assert stat.S_IMODE((root / name).stat().st_mode) == 0o700


def test_a_database_upgraded_by_another_process_takes_no_more_writes_from_this_one(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        with closing(database(tmp_path / "store")) as db:
            db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
        with pytest.raises(StoreError, match="written by a newer pybuild"):
            store.put_record(Record("key", b"", None))
        assert store.lookup("key") is None


def test_an_empty_database_is_version_0_and_is_upgraded(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    (root / "db.sqlite").write_bytes(b"")
    with Store(str(root)) as store:
        a_step(store, "step")
        assert store.lookup("step") is not None
    # The same with a whole database of version 0: its file has a header.
    os.unlink(root / "db.sqlite")
    with closing(database(root)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("VACUUM")
    assert (root / "db.sqlite").read_bytes()[60:64] == bytes(4)
    with Store(str(root)) as store:
        assert store.images() == []


def test_the_first_version_of_the_database_is_upgraded_and_keeps_its_names(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    for suffix in ("", "-wal", "-shm"):
        (root / f"db.sqlite{suffix}").unlink(missing_ok=True)
    schema.upgrade(str(root / "db.sqlite"), Faults(str(root)), schema.STEPS[:1])
    with closing(database(root)) as db, db:
        db.execute("INSERT INTO images (name, config, created) VALUES ('name', ?, 7)", (str(LAYER),))
    with Store(str(root)) as store:
        (image,) = store.images()
        assert (image.name, image.config, image.created, image.blobs) == ("name", LAYER, 7, None)


NEXT: schema.Step = (
    "ALTER TABLE images ADD COLUMN note TEXT NOT NULL DEFAULT 'old'",
    "CREATE TABLE extra (id INTEGER PRIMARY KEY)",
)


def test_an_older_database_is_upgraded_with_its_rows(tmp_path: Path) -> None:
    root, path = tmp_path / "store", str(tmp_path / "store" / "db.sqlite")
    with Store(str(root)) as store:
        store.tag("name", LAYER)
    schema.upgrade(path, Faults(str(root)), (*schema.STEPS, NEXT))
    newest = schema.VERSION + 1
    assert schema.peek(path, Faults(str(root)), newest) == newest
    with closing(database(root)) as db:
        assert db.execute("SELECT name, config, note FROM images").fetchall() == [("name", str(LAYER), "old")]
    # Done twice is done once.
    schema.upgrade(path, Faults(str(root)), (*schema.STEPS, NEXT))


def test_a_database_of_version_1_gets_what_came_since(tmp_path: Path) -> None:
    root, path = tmp_path / "store", str(tmp_path / "store" / "db.sqlite")
    Store(str(root)).close()
    os.unlink(path)
    schema.upgrade(path, Faults(str(root)), schema.STEPS[:1])
    with closing(database(root)) as db:
        db.execute("INSERT INTO images (name, config, created) VALUES ('name', ?, 0)", (str(LAYER),))
    with Store(str(root)) as store:
        assert [image.name for image in store.images()] == ["name"]
        assert store.download("key") is None and store.checkout("key") is None


def test_an_upgrade_that_fails_leaves_the_older_database(tmp_path: Path) -> None:
    root, path = tmp_path / "store", str(tmp_path / "store" / "db.sqlite")
    with Store(str(root)) as store:
        store.tag("name", LAYER)
    with pytest.raises(StoreError):
        schema.upgrade(path, Faults(str(root)), (*schema.STEPS, (*NEXT, "INSERT INTO nowhere VALUES (1)")))
    with closing(database(root)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
        assert "note" not in [row[1] for row in db.execute("PRAGMA table_info(images)")]
    with Store(str(root)) as store:
        assert [image.name for image in store.images()] == ["name"]


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0", b"\0" * 4096])
def test_a_file_that_is_no_database_is_told_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    (root / "db.sqlite").write_bytes(content)
    before = picture(root)
    with pytest.raises(StoreError, match="is corrupt") as caught:
        Store(str(root))
    assert caught.value.hint is not None
    for word in ("records can be made again", "image names cannot", "db.sqlite", "remove"):
        assert word in caught.value.hint
    assert picture(root) == before
    # The advice works: the next open makes a new database.
    for path in root.glob("db.sqlite*"):
        path.unlink()
    with Store(str(root)) as store:
        assert store.images() == []


def test_damaged_pages_of_the_database_are_told(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store(str(root)) as store:
        store.tag("name", LAYER)
    data = bytearray((root / "db.sqlite").read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    (root / "db.sqlite").write_bytes(data)
    with pytest.raises(StoreError, match="is corrupt"):
        Store(str(root)).images()


def test_a_missing_table_is_a_corrupt_database(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    with closing(database(root)) as db:
        db.execute("DROP TABLE images")
    with Store(str(root)) as store, pytest.raises(StoreError, match="is corrupt: no such table: images"):
        store.images()


def test_a_folder_that_holds_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    before = picture(tmp_path)
    with pytest.raises(StoreError, match="is not a store: it holds 'letter'"):
        Store(str(tmp_path))
    assert picture(tmp_path) == before


def test_a_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    for root in (path, path / "below"):
        with pytest.raises((StoreError, NotADirectoryError)):
            Store(str(root))
    assert path.read_text() == "text"


@pytest.mark.parametrize("text", ["", "one\n", "-1\n", "1.5\n"])
def test_a_damaged_version_is_told(tmp_path: Path, text: str) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    (root / "VERSION").write_text(text)
    before = picture(root)
    with pytest.raises(StoreError, match="VERSION is not the version of a store"):
        Store(str(root))
    assert picture(root) == before


def test_another_users_store_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    os.chown(root, 1234, 1234)
    with pytest.raises(StoreError, match="belongs to user 1234, not to user 0"):
        Store(str(root))


def test_a_read_only_store_is_told(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(str(root)).close()
    subprocess.run(["mount", "--bind", str(root), str(root)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(root)], check=True)
        before = picture(root)
        with pytest.raises(StoreError, match="cannot be written") as caught:
            Store(str(root))
        assert "read-only" in (caught.value.hint or "")
        with pytest.raises(StoreError, match="cannot be written"):
            Store(str(root / "tmp" / "new"))
        assert picture(root) == before
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_a_creation_that_was_cut_short_is_ended(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    Store(str(whole)).close()
    for present in (["blobs"], ["blobs", "snapshots", "index", "tmp"], ["VERSION.new", "tmp"]):
        root = tmp_path / "-".join(present)
        root.mkdir()
        for name in present:
            if name == "VERSION.new":
                (root / name).write_text("")
            else:
                (root / name).mkdir()
        with Store(str(root)) as store:
            a_step(store, "step")
        assert {path.name for path in root.iterdir()} == {path.name for path in whole.iterdir()}


CREATE = """
import sys
from builder.store.store import Store
sys.stdin.read()
with Store(sys.argv[1]) as store:
    store.tag(sys.argv[2], store.put_blob(sys.argv[2].encode())[0])
"""


def test_several_processes_may_create_one_store_at_once(tmp_path: Path) -> None:
    root = tmp_path / "store"
    names = [f"image-{number}" for number in range(6)]
    started = [subprocess.Popen([*PYTHON, CREATE, str(root), name], stdin=subprocess.PIPE) for name in names]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait() for process in started] == [0] * len(names)
    with Store(str(root)) as store:
        assert [image.name for image in store.images()] == names
