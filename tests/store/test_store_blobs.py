"""Blobs: what is written is read back, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import BuildError, StoreError
from builder.oci.digest import Digest
from builder.store.store import Store

PYTHON = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-c"]
LIMIT = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def names(root: str) -> list[str]:
    """Every file of the store's blobs and temporary files, but the list of what a process uses."""
    return sorted(
        os.path.join(folder, name)[len(root) + 1 :]
        for part in ("blobs", "tmp")
        for folder, _, files in os.walk(f"{root}/{part}")
        for name in files
        if name != "uses"
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(max_size=5000), max_size=5))
def test_a_blob_is_the_chunks_written(root: str, chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    with Store(root) as store:
        with store.blob_writer() as blob:
            for chunk in chunks:
                blob.write(chunk)
            digest, size = blob.commit()
        assert (digest, size) == (Digest("sha256", hashlib.sha256(data).hexdigest()), len(data))
        assert store.has_blob(digest)
        assert store.read_blob(digest, len(data)) == data
        store.verify_blob(digest)
        assert Path(store.blob_path(digest)).read_bytes() == data


def test_a_blob_lies_where_the_layout_says(root: str) -> None:
    with Store(root) as store:
        digest, _ = store.put_blob(b"abc")
    # sha256 of "abc" (FIPS 180-2, appendix B.1).
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert names(root) == [f"blobs/sha256/{abc}"]
    assert store.blob_path(digest) == f"{root}/blobs/sha256/{abc}"


def test_sha512_has_its_own_folder(root: str) -> None:
    with Store(root) as store, store.blob_writer("sha512") as blob:
        blob.write(b"abc")
        digest, size = blob.commit(Digest("sha512", hashlib.sha512(b"abc").hexdigest()))
        assert (digest.algorithm, size) == ("sha512", 3)
        assert store.read_blob(digest, 3) == b"abc"
    assert names(root) == [f"blobs/sha512/{digest.hex}"]


def test_a_small_blob_that_is_there_is_not_written_again(root: str) -> None:
    with Store(root) as store:
        digest, size = store.put_blob(b"abc")
        inode = os.stat(store.blob_path(digest)).st_ino
        assert store.put_blob(b"abc") == (digest, size) == (digest, 3)
        assert os.stat(store.blob_path(digest)).st_ino == inode


def test_without_commit_nothing_stays(root: str) -> None:
    with Store(root) as store:
        with store.blob_writer() as blob:
            blob.write(b"abc")
            assert len(names(root)) == 1
        assert names(root) == []
        with pytest.raises(ZeroDivisionError), store.blob_writer() as blob:
            blob.write(b"abc")
            raise ZeroDivisionError
        assert names(root) == []


def test_content_of_another_digest_is_refused(root: str) -> None:
    wanted = Digest.of(b"wanted")
    with Store(root) as store:
        with pytest.raises(BuildError, match=f"{wanted} was expected") as caught, store.blob_writer() as blob:
            blob.write(b"other")
            blob.commit(wanted)
        assert caught.value.hint
        assert not store.has_blob(wanted)
        assert names(root) == []


def test_a_committed_blob_takes_no_more(root: str) -> None:
    with Store(root) as store, store.blob_writer() as blob:
        blob.write(b"abc")
        digest, _ = blob.commit()
        with pytest.raises(OSError):
            blob.write(b"def")
        assert store.read_blob(digest, 10) == b"abc"


def damage_flip(path: str) -> None:
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)


def damage_cut(path: str) -> None:
    os.truncate(path, os.path.getsize(path) - 1)


def damage_longer(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize("damage", [damage_flip, damage_cut, damage_longer])
def test_a_damaged_blob_is_told_and_can_be_written_again(root: str, damage: object) -> None:
    assert callable(damage)
    with Store(root) as store:
        digest, _ = store.put_blob(b"content" * 1000)
        damage(store.blob_path(digest))
        for read in (lambda: store.read_blob(digest, LIMIT), lambda: store.verify_blob(digest)):
            with pytest.raises(StoreError, match=f"blob {digest} is corrupt") as caught:
                read()
            assert caught.value.exit_code == 7
            assert "remove" in (caught.value.hint or "")
        store.put_blob(b"content" * 1000)
        assert store.read_blob(digest, LIMIT) == b"content" * 1000


def test_a_missing_blob_is_told(root: str) -> None:
    digest = Digest.of(b"never")
    with Store(root) as store:
        assert not store.has_blob(digest)
        for read in (lambda: store.read_blob(digest, LIMIT), lambda: store.verify_blob(digest)):
            with pytest.raises(StoreError, match=f"blob {digest} is missing") as caught:
                read()
            assert caught.value.hint


def test_a_blob_over_the_limit_is_not_read(root: str) -> None:
    with Store(root) as store:
        digest, _ = store.put_blob(b"12345")
        assert store.read_blob(digest, 5) == b"12345"
        with pytest.raises(StoreError, match="too large: 5 bytes, 4 are allowed"):
            store.read_blob(digest, 4)


def test_a_link_in_place_of_a_blob_is_not_followed(root: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    digest = Digest.of(b"secret")
    with Store(root) as store:
        os.symlink(tmp_path / "secret", store.blob_path(digest))
        assert not store.has_blob(digest)
        with pytest.raises(OSError):
            store.read_blob(digest, LIMIT)


HALF = """
import sys
from builder.store.store import Store
store = Store(sys.argv[1])
with store.blob_writer() as blob:
    blob.write(b"x" * 100000)
    print("written", flush=True)
    sys.stdin.read()
    blob.commit()
"""


def test_a_kill_during_the_writing_leaves_no_blob(root: str) -> None:
    with subprocess.Popen([*PYTHON, HALF, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        [left] = names(root)
        assert left.startswith("tmp/")
        process.send_signal(signal.SIGKILL)
    assert names(root) == [left]
    Store(root).close()
    assert names(root) == []
    assert os.listdir(f"{root}/tmp") == []
