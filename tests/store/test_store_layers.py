"""Layers: the index, snapshots, renderings and foreign descriptors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from builder.errors import StoreError
from builder.oci.digest import Descriptor, Digest
from builder.store.store import Store

LAYER, OTHER = Digest.of(b"layer"), Digest.of(b"other")
CHAIN, CHAIN_2 = Digest.of(b"chain"), Digest.of(b"chain 2")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def add(store: Store, text: str, diff_id: Digest, chain: Digest | None) -> str:
    with store.scratch() as scratch:
        os.mkdir(f"{scratch}/upper")
        Path(f"{scratch}/upper/text").write_text(text)
        snapshot = store.add_snapshot(f"{scratch}/upper", diff_id, chain)
        assert os.listdir(scratch) == []
    return snapshot


def text_of(store: Store, snapshot: str) -> str:
    return Path(store.snapshot_path(snapshot), "text").read_text()


def test_a_layer_is_its_first_index_and_size(root: str) -> None:
    with Store(root) as store:
        assert not store.has_layer(LAYER)
        store.put_layer(LAYER, b"index", 5)
        store.put_layer(LAYER, b"another", 7)
    with Store(root) as store:
        assert store.has_layer(LAYER)
        assert (store.layer_index(LAYER), store.layer_size(LAYER)) == (b"index", 5)
    assert os.listdir(f"{root}/index") == [f"sha256:{LAYER.hex}"]
    assert os.listdir(f"{root}/tmp") == []


def test_an_unknown_layer_is_told(root: str) -> None:
    with Store(root) as store:
        for read in (store.layer_index, store.layer_size):
            with pytest.raises(StoreError, match=f"layer {LAYER} is missing") as caught:
                read(LAYER)
            assert caught.value.hint


def test_a_damaged_index_is_told_and_made_again(root: str) -> None:
    with Store(root) as store:
        store.put_layer(LAYER, b"index", 5)
        path = Path(root, "index", str(LAYER))
        path.write_bytes(b"indeX")
        with pytest.raises(StoreError, match=f"index of layer {LAYER} is corrupt") as caught:
            store.layer_index(LAYER)
        assert f"remove {path}" in (caught.value.hint or "")
        path.unlink()
        assert not store.has_layer(LAYER)
        with pytest.raises(StoreError, match="missing"):
            store.layer_index(LAYER)
        store.put_layer(LAYER, b"index", 5)
        assert store.layer_index(LAYER) == b"index"


def test_a_snapshot_is_the_folder_itself(root: str) -> None:
    with Store(root) as store:
        with store.scratch() as scratch:
            os.mkdir(f"{scratch}/upper")
            inode = os.stat(f"{scratch}/upper").st_ino
            snapshot = store.add_snapshot(f"{scratch}/upper", LAYER, None)
        assert os.stat(store.snapshot_path(snapshot)).st_ino == inode
        assert store.find_snapshot(LAYER, CHAIN) == snapshot
        assert store.find_snapshot(OTHER, CHAIN) is None
        assert os.listdir(f"{root}/snapshots") == [snapshot]


def test_a_snapshot_for_one_chain_is_found_for_that_chain_alone(root: str) -> None:
    with Store(root) as store:
        first = add(store, "one", LAYER, CHAIN)
        assert store.find_snapshot(LAYER, CHAIN) == first
        assert store.find_snapshot(LAYER, CHAIN_2) is None
        second = add(store, "two", LAYER, CHAIN_2)
        assert second != first
        assert (store.find_snapshot(LAYER, CHAIN), store.find_snapshot(LAYER, CHAIN_2)) == (first, second)


def test_an_equal_snapshot_wins_over_a_new_one(root: str) -> None:
    with Store(root) as store:
        first = add(store, "one", LAYER, CHAIN)
        assert add(store, "two", LAYER, CHAIN) == first
        general = add(store, "three", LAYER, None)
        assert general != first
        assert add(store, "four", LAYER, None) == general
        # One that is right on any base is right for this chain too.
        assert add(store, "five", LAYER, CHAIN_2) == general
        assert (text_of(store, first), text_of(store, general)) == ("one", "three")
        assert sorted(os.listdir(f"{root}/snapshots")) == sorted([first, general])


def test_a_snapshot_whose_folder_is_gone_does_not_count(root: str) -> None:
    with Store(root) as store:
        first = add(store, "one", LAYER, None)
        shutil.rmtree(store.snapshot_path(first))
        assert store.find_snapshot(LAYER, CHAIN) is None
        second = add(store, "two", LAYER, None)
        assert second != first
        assert store.find_snapshot(LAYER, CHAIN) == second


def test_a_folder_without_a_row_is_not_taken_over(root: str) -> None:
    with Store(root) as store:
        taken = str(int(add(store, "one", LAYER, None)) + 1)
        os.mkdir(f"{root}/snapshots/{taken}")
        new = add(store, "two", OTHER, None)
        assert new != taken
        assert text_of(store, new) == "two"
        assert os.listdir(f"{root}/snapshots/{taken}") == []


def test_a_snapshot_that_cannot_be_moved_is_not_recorded(root: str, tmp_path: Path) -> None:
    with Store(root) as store:
        with pytest.raises(FileNotFoundError):
            store.add_snapshot(str(tmp_path / "nowhere"), LAYER, None)
        assert store.find_snapshot(LAYER, CHAIN) is None
        assert os.listdir(f"{root}/snapshots") == []
        add(store, "one", LAYER, None)


def test_a_folder_may_have_any_mode(root: str) -> None:
    with Store(root) as store:
        with store.scratch() as scratch:
            os.mkdir(f"{scratch}/upper")
            os.chmod(f"{scratch}/upper", 0o2000)
            snapshot = store.add_snapshot(f"{scratch}/upper", LAYER, None)
        assert os.stat(store.snapshot_path(snapshot)).st_mode & 0o7777 == 0o2000


def test_a_rendering_counts_while_its_blob_is_there(root: str) -> None:
    form = "gzip-1/isal-1.9.1"
    with Store(root) as store:
        assert store.rendering(LAYER, form) is None
        digest, size = store.put_blob(b"compressed")
        store.put_rendering(LAYER, form, digest, size)
        assert store.rendering(LAYER, form) == (digest, 10)
        assert store.rendering(LAYER, "zstd-1/0.25.0") is None
        assert store.rendering(OTHER, form) is None
        os.unlink(store.blob_path(digest))
        assert store.rendering(LAYER, form) is None
        digest, size = store.put_blob(b"compressed otherwise")
        store.put_rendering(LAYER, form, digest, size)
        assert store.rendering(LAYER, form) == (digest, 20)


def test_a_foreign_layer_keeps_its_first_descriptor(root: str) -> None:
    descriptor = Descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", OTHER, 1234)
    with Store(root) as store:
        assert store.foreign(LAYER) is None
        store.put_foreign(LAYER, descriptor)
        store.put_foreign(LAYER, descriptor._replace(size=1))
    with Store(root) as store:
        assert store.foreign(LAYER) == descriptor
