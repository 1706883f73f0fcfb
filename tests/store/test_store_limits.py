"""A full disk, several processes at once, and trees that are hard to remove."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import StoreError
from builder.oci.digest import Digest
from builder.store.removal import remove_tree
from builder.store.store import Record, Store

PYTHON = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-c"]
LAYER = Digest.of(b"layer")
CHAIN = Digest.of(b"chain")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def fill(path: Path) -> None:
    with pytest.raises(OSError) as caught, open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    assert caught.value.errno == errno.ENOSPC


def many(act: Callable[[int], object]) -> None:
    """Act until the disk is full; the database may have room for a while in the pages that it holds."""
    for number in range(10000):
        act(number)


def test_a_full_disk_is_told_everywhere_and_leaves_the_store_whole(small_disk: Path) -> None:
    root, filler = str(small_disk / "store"), small_disk / "filler"
    big = os.urandom(3000)
    with Store(root) as store:
        store.put_record(Record("before", b"", None))
        store.tag("before", LAYER)
        kept, _ = store.put_blob(b"before")
        fill(filler)
        acts: list[Callable[[int], object]] = [
            lambda n: store.put_blob(big + bytes([n % 256, n // 256])),
            lambda n: store.put_layer(Digest.of(b"%d" % n), big, 1),
            lambda n: store.put_record(Record(f"during-{n}", big, None)),
            lambda n: store.put_ast(f"{n}", big),
            lambda n: store.tag(f"during-{n}" + "x" * 3000, LAYER),
            lambda n: store.put_rendering(Digest.of(b"%d" % n), "x" * 3000, LAYER, 1),
        ]
        for act in acts:
            with pytest.raises(StoreError, match="no space left in the store") as caught:
                many(act)
            assert caught.value.exit_code == 7
            assert "--root" in (caught.value.hint or "")
        assert store.lookup("before") is not None
        assert store.read_blob(kept, 10) == b"before"
    # A store on a full disk still opens and reads.
    filler.unlink()
    with Store(root) as store:
        assert store.lookup("before") is not None
        assert store.find_image("before") is not None
        store.put_record(Record("after", big, None))
        assert store.lookup("after") is not None
    assert os.listdir(f"{root}/tmp") == []
    for name in os.listdir(f"{root}/blobs/sha256"):
        with Store(root) as store:
            store.verify_blob(Digest("sha256", name))


def test_a_store_that_cannot_be_made_for_want_of_space(small_disk: Path) -> None:
    fill(small_disk / "filler")
    with pytest.raises(StoreError, match="no space left in the store"):
        Store(str(small_disk / "store"))
    (small_disk / "filler").unlink()
    with Store(str(small_disk / "store")) as store:
        store.put_record(Record("key", b"", None))
        assert store.lookup("key") is not None


WORK = """
import os, sys
from builder.oci.digest import Digest
from builder.store.store import Record, Store
root, me = sys.argv[1], sys.argv[2]
sys.stdin.read()
with Store(root) as store:
    for n in range(25):
        own, shared = Digest.of(f"{me} {n}".encode()), Digest.of(f"shared {n}".encode())
        for diff_id in (own, shared):
            store.put_layer(diff_id, b"index of " + str(diff_id).encode(), n)
            with store.scratch() as scratch:
                os.mkdir(scratch + "/upper")
                with open(scratch + "/upper/file", "w") as file:
                    file.write(str(diff_id))
                store.add_snapshot(scratch + "/upper", diff_id, None)
        store.put_record(Record(f"{me} {n}", me.encode(), own))
        won = store.put_record(Record(f"shared {n}", me.encode(), shared))
        assert store.lookup(f"shared {n}") == won, won
        store.put_blob(f"{me} {n}".encode())
        store.put_blob(f"shared {n}".encode())
        store.tag(f"{me}-{n}", own)
        store.put_ast(me, b"tree")
"""


def test_several_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    root, people = str(tmp_path / "store"), ["ann", "bob", "cyd", "dan"]
    started = [subprocess.Popen([*PYTHON, WORK, root, me], stdin=subprocess.PIPE) for me in people]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait() for process in started] == [0] * len(people)
    with Store(root) as store:
        for n in range(25):
            for who in [*people, "shared"]:
                diff_id = Digest.of(f"{who} {n}".encode())
                record = store.lookup(f"{who} {n}")
                assert record is not None and record.diff_id == diff_id
                assert record.preimage.decode() in people if who == "shared" else record.preimage == who.encode()
                assert store.layer_index(diff_id) == b"index of " + str(diff_id).encode()
                snapshot = store.find_snapshot(diff_id, CHAIN)
                assert snapshot is not None
                assert Path(store.snapshot_path(snapshot), "file").read_text() == str(diff_id)
                assert store.read_blob(Digest.of(f"{who} {n}".encode()), 100) == f"{who} {n}".encode()
        assert {image.name for image in store.images()} == {f"{me}-{n}" for me in people for n in range(25)}
    assert len(os.listdir(f"{root}/snapshots")) == 25 * (len(people) + 1)
    assert os.listdir(f"{root}/tmp") == []


def test_several_threads_share_one_store(tmp_path: Path) -> None:
    from threading import Thread

    failed: list[BaseException] = []
    with Store(str(tmp_path / "store")) as store:

        def work(me: int) -> None:
            try:
                for n in range(25):
                    store.put_record(Record(f"{me} {n}", b"", None))
                    store.put_blob(b"%d %d" % (me, n))
                    with store.scratch() as scratch:
                        assert os.listdir(scratch) == []
            except BaseException as error:
                failed.append(error)
                raise

        threads = [Thread(target=work, args=(me,)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert all(store.lookup(f"{me} {n}") for me in range(4) for n in range(25))


# Removal.


def test_a_hostile_tree_is_removed_and_nothing_beside_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    tree = tmp_path / "tree"
    tree.mkdir()
    os.symlink(outside, tree / "link")
    os.symlink("/", tree / "root")
    os.symlink("nowhere", tree / "dangling")
    os.link(outside / "file", tree / "hard")
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "whiteout", 0o020000, os.makedev(0, 0))
    (tree / "closed").mkdir()
    (tree / "closed" / "inner").mkdir(0)
    (tree / "closed" / "inner" / "file").touch()
    (tree / "closed").chmod(0)
    os.mkdir(os.fsencode(tree) + b"/\xff\n\xfe")
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff\n\xfe/\x80")).touch()
    remove_tree(str(tree))
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert (outside / "file").read_text() == "kept"
    assert os.stat(outside / "file").st_nlink == 1


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    here = os.getcwd()
    os.mkdir(tmp_path / "tree")
    os.chdir(tmp_path / "tree")
    try:
        for _ in range(1500):
            os.mkdir("deep")
            os.chdir("deep")
            os.mkdir("beside")
    finally:
        os.chdir(here)
    remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []


def test_what_is_no_folder_is_removed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.symlink("folder", tmp_path / "link")
    (tmp_path / "file").touch()
    for name in ("link", "file", "nothing"):
        remove_tree(str(tmp_path / name))
    assert os.listdir(tmp_path) == ["folder"]


REMOVE_AS_A_USER = """
import os
from builder.store.removal import remove_tree
os.setgroups([]); os.setgid(1234); os.setuid(1234)
remove_tree("tree")
"""


def test_a_user_who_is_not_root_removes_closed_folders(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "tree" / "closed" / "inner" / "more").mkdir(parents=True)
    (home / "tree" / "closed" / "inner" / "file").touch()
    for name in ("tree/closed/inner/more", "tree/closed/inner", "tree/closed", "tree", "."):
        os.chown(home / name, 1234, 1234)
        os.chmod(home / name, 0o700 if name == "." else 0)
    # The folders above are root's: the other user works from inside its own.
    done = subprocess.run([*PYTHON, REMOVE_AS_A_USER], cwd=home, capture_output=True, text=True)
    assert done.stderr == ""
    assert os.listdir(home) == []


SNAPSHOT_AS_A_USER = """
import os
from builder.oci.digest import Digest
from builder.store.store import Store
os.setgroups([]); os.setgid(1234); os.setuid(1234)
for boot in ("first", "second"):
    with Store("store", boot_id=boot) as store:
        print(sorted(os.listdir("store/snapshots")))
        with store.scratch() as scratch:
            os.mkdir(scratch + "/upper", 0o555)
            snapshot = store.add_snapshot(scratch + "/upper", Digest.of(b"layer"), None)
        print(snapshot, oct(os.stat(store.snapshot_path(snapshot)).st_mode))
"""


def test_a_user_who_is_not_root_keeps_and_drops_read_only_snapshots() -> None:
    # Not tmp_path: another user cannot reach what is below root's folders.
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, 1234, 1234)
        done = subprocess.run([*PYTHON, SNAPSHOT_AS_A_USER], cwd=home, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("[]\n1 0o40555\n[]\n2 0o40555\n", "")
        assert os.listdir(f"{home}/store/tmp") == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6), max_size=12))
def test_any_tree_is_removed(tmp_path: Path, paths: list[list[str]]) -> None:
    for parts in paths:
        path = tmp_path.joinpath("tree", *parts)
        path.mkdir(parents=True, exist_ok=True)
        (path / "file").touch()
    remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []
