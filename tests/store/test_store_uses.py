"""What a process looks up or puts stays as long as the process lives, whatever is removed beside it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from builder.errors import StoreError
from builder.oci.digest import Descriptor, Digest
from builder.store.collect import Rule
from builder.store.database import Database
from builder.store.faults import Faults
from builder.store.fetched import Checkout, Download
from builder.store.inventory import take
from builder.store.needs import Images
from builder.store.store import Record, Store
from builder.store.uses import GRAIN
from tests.store.test_store_open import a_step, database

ROOT = Path(__file__).parents[2]
PYTHON = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-c"]
EVERYTHING = Rule(nameless=True)
BLOB = Digest.of(b"blob")
CHAIN = Digest.of(b"chain")


def prune(root: str, rule: Rule = EVERYTHING) -> int:
    """How many things were removed by a process of its own, as far as leases go."""
    with Store(root) as store:
        return len(store.housekeeping().remove((rule,)))


def lookups(diff_id: Digest) -> dict[str, Callable[[Store], object]]:
    """Every way by which a build comes to use something."""
    return {
        "record": lambda store: store.lookup("step"),
        "layer": lambda store: store.has_layer(diff_id) or None,
        "index": lambda store: store.layer_index(diff_id),
        "size": lambda store: store.layer_size(diff_id),
        "snapshot": lambda store: store.find_snapshot(diff_id, CHAIN),
        "rendering": lambda store: store.rendering(diff_id, "gzip"),
        "foreign": lambda store: store.foreign(diff_id),
        "blob": lambda store: store.has_blob(BLOB) or None,
        "download": lambda store: store.download("url"),
        "checkout": lambda store: store.checkout("commit"),
    }


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A store with one of everything, and no image."""
    root = str(tmp_path / "store")
    with Store(root) as store:
        diff_id = a_step(store, "step")
        store.put_blob(b"blob")
        packed, size = store.put_blob(b"packed")
        store.put_rendering(diff_id, "gzip", packed, size)
        store.put_foreign(diff_id, Descriptor("type", packed, size))
        store.put_download("url", Download(store.put_blob(b"download")[0], "", "", "", 0))
        store.put_checkout("commit", Checkout(store.put_blob(b"entries")[0], store.put_blob(b"contents")[0]))
    return root


LAYER = Digest.of(b"step")


@pytest.mark.parametrize("name", lookups(LAYER))
def test_what_was_looked_up_stays(root: str, name: str) -> None:
    look = lookups(LAYER)[name]
    with Store(root) as store:
        before = look(store)
        assert before is not None
        prune(root)
        assert look(store) == before
        if name not in ("blob", "download", "checkout"):
            # A layer stays whole, whichever part of it was asked for.
            assert store.lookup("step") is not None
            assert store.layer_index(LAYER) == b"index of step"
            snapshot = store.find_snapshot(LAYER, CHAIN)
            assert snapshot is not None and os.listdir(store.snapshot_path(snapshot)) == ["file"]
        with Store(root) as other:
            gone = [other_name for other_name, other_look in lookups(LAYER).items() if _absent(other_look, other)]
        assert gone and name not in gone
    prune(root)
    with Store(root) as store:
        assert all(_absent(look, store) for look in lookups(LAYER).values())


def _absent(look: Callable[[Store], object], store: Store) -> bool:
    try:
        return look(store) is None
    except StoreError:
        return True


def test_what_was_put_stays_before_anything_needs_it(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    with Store(root) as store:
        digest, _ = store.put_blob(b"data")
        diff_id = Digest.of(b"new")
        store.put_layer(diff_id, b"index", 1)
        prune(root)
        assert store.read_blob(digest, 10) == b"data"
        assert store.layer_index(diff_id) == b"index"
        with store.scratch() as scratch:
            os.mkdir(f"{scratch}/upper")
            store.add_snapshot(f"{scratch}/upper", diff_id, None)
        store.put_record(Record("key", b"", diff_id))
        prune(root)
        assert store.lookup("key") is not None
    assert prune(root) == 2
    assert os.listdir(f"{root}/blobs/sha256") == os.listdir(f"{root}/snapshots") == os.listdir(f"{root}/index") == []


def an_image(store: Store, name: str) -> Digest:
    diff_id = a_step(store, "step")
    config = f'{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}'.encode()
    digest, _ = store.put_blob(config)
    store.tag(name, digest)
    return digest


@pytest.mark.parametrize("name", ["docker.io/library/app:latest", ""])
def test_what_an_image_needs_stays(tmp_path: Path, name: str) -> None:
    root = str(tmp_path / "store")
    with Store(root) as store:
        config = an_image(store, name)
    assert prune(root, Rule()) == 0
    with Store(root) as store:
        assert store.has_blob(config) and store.lookup("step") is not None
    # Only an image without a name goes, and when that is asked for.
    assert prune(root, EVERYTHING) == (0 if name else 2)


@pytest.mark.parametrize("name", ["docker.io/library/app:latest", ""])
def test_an_image_that_was_given_a_name_meanwhile_is_not_dropped(tmp_path: Path, name: str) -> None:
    """Found by the soak test: chosen while it had no name, named by a build that has ended before the removal."""
    root = str(tmp_path / "store")
    with Store(root) as store:
        config = str(an_image(store, name))
    with closing(Database(f"{root}/db.sqlite", Faults(root))) as db:
        things = take(root, db, Images(root), (), dropped={config})
    assert {(thing.id, bool(thing.images)) for thing in things} == {(config, bool(name)), (str(LAYER), bool(name))}


@pytest.mark.parametrize("find", ["find_image", "images"])
def test_an_image_that_is_removed_while_it_is_used_keeps_its_layers(tmp_path: Path, find: str) -> None:
    root = str(tmp_path / "store")
    with Store(root) as store:
        config = an_image(store, "docker.io/library/app:latest")
    with Store(root) as store:
        assert store.find_image(str(config)) if find == "find_image" else store.images()
        with Store(root) as other:
            other.remove_image(config)
        prune(root)
        # The layers were never asked for: the config says that they are needed.
        assert store.read_blob(config, 1000)
        assert store.lookup("step") is not None
    assert prune(root) == 2


def test_what_a_killed_process_used_counts_no_longer(root: str) -> None:
    process = subprocess.Popen([*PYTHON, HOLDER, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "x\n"
    prune(root)
    with closing(database(Path(root))) as db:
        assert db.execute("SELECT count(*) FROM layers").fetchone() == (1,)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    prune(root)
    with closing(database(Path(root))) as db:
        assert db.execute("SELECT count(*) FROM layers").fetchone() == (0,)
    assert os.listdir(f"{root}/snapshots") == os.listdir(f"{root}/tmp") == []


HOLDER = """
import sys
from builder.store.store import Store
store = Store(sys.argv[1])
store.lookup("step")
print("x", flush=True)
sys.stdin.read()
"""

WORKER = """
import os, random, sys
from builder.oci.digest import Digest
from builder.store.inventory import take
from builder.store.needs import Images
from builder.store.store import Record, Store

root, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
made = found = 0
for turn in range(25):
    with Store(root) as store:
        mine = []
        for _ in range(12):
            number = rng.randrange(8)
            name = f"step-{number}"
            diff_id = Digest.of(name.encode())
            record = store.lookup(name)
            if record is None:
                made += 1
                store.put_layer(diff_id, name.encode(), 1)
                store.put_blob(b"blob of " + name.encode())
                with store.scratch() as scratch:
                    os.mkdir(f"{scratch}/upper")
                    open(f"{scratch}/upper/{name}", "w").close()
                    store.add_snapshot(f"{scratch}/upper", diff_id, None)
                store.put_record(Record(name, b"", diff_id))
            else:
                found += 1
            mine.append((name, diff_id))
            # The layer, that is. Its record may be gone for the moment in which another process, which found nothing, makes
            # the same layer again.
            for name, diff_id in mine:
                assert store.has_layer(diff_id), name
                assert store.layer_index(diff_id) == name.encode()
                assert os.listdir(store.snapshot_path(store.find_snapshot(diff_id, diff_id))) == [name]
print(made, found)
"""


def test_builders_and_removers_beside_each_other(tmp_path: Path) -> None:
    """Three processes that put and look up the same few layers, while two others remove all they can."""
    root = str(tmp_path / "store")
    Store(root).close()
    workers = [
        subprocess.Popen([*PYTHON, WORKER, root, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in range(3)
    ]
    removed = 0
    while any(worker.poll() is None for worker in workers):
        removed += prune(root)
    ends = [worker.communicate(timeout=60) for worker in workers]
    assert [err for _, err in ends] == ["", "", ""]
    made, found = (sum(int(out.split()[at]) for out, _ in ends) for at in (0, 1))
    # The control: layers did go, were made again, and were shared.
    assert removed and made > 8 and found
    # What is left has its row, and what has a row is there.
    with closing(database(Path(root))) as db:
        rows = [{str(row[0]) for row in db.execute(sql)} for sql in ("SELECT diff_id FROM layers", "SELECT id FROM snapshots")]
    assert rows == [set(os.listdir(f"{root}/index")), set(os.listdir(f"{root}/snapshots"))]


def test_threads_name_things_while_one_of_them_removes(tmp_path: Path) -> None:
    """Within one process nobody waits for the other for ever: the gate, the transaction and the list are taken in one order."""
    import threading

    root = str(tmp_path / "store")
    failures: list[BaseException] = []
    with Store(root) as store:

        def work(seed: int) -> None:
            rng = random.Random(seed)
            try:
                for turn in range(40):
                    name = f"{seed}-{turn}"
                    diff_id = Digest.of(name.encode())
                    store.put_layer(diff_id, b"index", 1)
                    store.put_blob(name.encode())
                    store.put_record(Record(f"key-{rng.randrange(10)}", b"", diff_id), replace=True)
                    assert store.layer_index(diff_id) == b"index"
            except BaseException as error:  # noqa: BLE001  whatever it is, the test tells it
                failures.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            store.housekeeping().remove((EVERYTHING,))
        for thread in threads:
            thread.join(60)
    assert failures == []


def test_the_time_of_last_use_is_coarse(root: str) -> None:
    with Store(root) as store:
        store.lookup("step")
        store.mark_used()
    with closing(database(Path(root))) as db:
        used = dict(db.execute("SELECT name, at FROM used").fetchall())
    assert abs(used["step"] - time.time()) < 60 and abs(used[str(LAYER)] - time.time()) < 60
    old = int(time.time()) - GRAIN - 5
    with closing(database(Path(root))) as db:
        db.execute("UPDATE used SET at = at - 100")
        db.execute("UPDATE used SET at = ? WHERE name = ?", (old, str(LAYER)))
        before = db.execute("SELECT name, at FROM used").fetchall()
    with Store(root) as store:
        store.lookup("step")
        store.mark_used()
    with closing(database(Path(root))) as db:
        after = dict(db.execute("SELECT name, at FROM used").fetchall())
    changed = {name for name, at in before if after[name] != at}
    assert changed == {str(LAYER)}
    # What was not marked goes first.
    assert after[str(LAYER)] > old
