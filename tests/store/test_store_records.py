"""The cache: records that count and records that do not; parsed Dockerfiles; images and their names."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from builder.errors import UsageError
from builder.oci.digest import Descriptor, Digest
from builder.store.store import ImageRecord, Record, Store

LAYER, OTHER = Digest.of(b"layer"), Digest.of(b"other")
CHAIN = Digest.of(b"chain")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def test_a_record_is_what_was_put_and_when(root: str) -> None:
    before = int(time.time())
    with Store(root) as store:
        assert store.lookup("key") is None
        store.put_record(Record("key", b"\0preimage\xff", None))
    with Store(root) as store:
        found = store.lookup("key")
        assert found is not None
        assert found[:3] == ("key", b"\0preimage\xff", None)
        assert before <= found.created <= time.time()
        assert store.lookup("other") is None


def test_the_first_record_wins(root: str) -> None:
    with Store(root) as store:
        first = store.put_record(Record("key", b"one", None))
        store.put_layer(LAYER, b"index", 1)
        store.put_blob(b"layer")
        assert store.put_record(Record("key", b"two", LAYER)) == first
        assert store.lookup("key") == first


def test_a_record_is_replaced_where_that_is_asked_for(root: str) -> None:
    with Store(root) as store:
        store.put_record(Record("key", b"one", None))
        second = store.put_record(Record("key", b"two", None), replace=True)
        assert second.preimage == b"two"
        assert store.lookup("key") == second


def test_a_record_counts_only_with_an_index_and_a_form(root: str) -> None:
    with Store(root) as store:
        store.put_record(Record("key", b"", LAYER))
        assert store.lookup("key") is None
        store.put_layer(LAYER, b"index", 1)
        assert store.lookup("key") is None
        with store.scratch() as scratch:
            os.mkdir(f"{scratch}/upper")
            snapshot = store.add_snapshot(f"{scratch}/upper", LAYER, CHAIN)
        assert store.lookup("key") is not None
        os.unlink(f"{root}/index/{LAYER}")
        assert store.lookup("key") is None
        store.put_layer(LAYER, b"index", 1)
        assert store.lookup("key") is not None
        shutil.rmtree(store.snapshot_path(snapshot))
        assert store.lookup("key") is None


def test_a_form_that_steps_can_start_from_makes_a_record_count(root: str) -> None:
    gzip, foreign = Digest.of(b"gzip"), Digest.of(b"foreign")
    with Store(root) as store:
        store.put_layer(LAYER, b"index", 1)
        store.put_record(Record("key", b"", LAYER))
        store.put_rendering(LAYER, "gzip-1/isal-1.9.1", gzip, 4)
        store.put_foreign(LAYER, Descriptor("type", foreign, 7))
        assert store.lookup("key") is None
        for content, counts in ((b"layer", True), (b"gzip", True), (b"foreign", False)):
            digest, _ = store.put_blob(content)
            assert (store.lookup("key") is not None) == counts
            os.unlink(store.blob_path(digest))
            assert store.lookup("key") is None
        # The second snapshot counts where the first one's folder is gone.
        for chain in (CHAIN, None):
            with store.scratch() as scratch:
                os.mkdir(f"{scratch}/upper")
                snapshot = store.add_snapshot(f"{scratch}/upper", LAYER, chain)
            if chain:
                shutil.rmtree(store.snapshot_path(snapshot))
        assert store.lookup("key") is not None


def test_a_record_that_does_not_count_gives_way(root: str) -> None:
    with Store(root) as store:
        store.put_record(Record("key", b"old", LAYER))
        new = store.put_record(Record("key", b"new", None))
        assert (new.preimage, new.diff_id) == (b"new", None)
        assert store.lookup("key") == new


def test_the_newest_thousand_parsed_dockerfiles_are_kept(root: str) -> None:
    with Store(root) as store:
        assert store.ast("0") is None
        for number in range(1002):
            store.put_ast(str(number), b"%d" % number)
        assert [store.ast(key) for key in ("0", "1", "2", "1001")] == [None, None, b"2", b"1001"]
        # Put again, it is new again.
        store.put_ast("2", b"again")
        store.put_ast("1002", b"1002")
        assert [store.ast(key) for key in ("2", "3", "4")] == [b"again", None, b"4"]


# Images.


def listed(store: Store) -> list[tuple[str, Digest]]:
    return [(image.name, image.config) for image in store.images()]


def test_a_name_is_for_one_image_and_an_image_may_have_several(root: str) -> None:
    before = int(time.time())
    with Store(root) as store:
        store.tag("b", LAYER)
        store.tag("a", LAYER)
        store.tag("a", LAYER)
    with Store(root) as store:
        assert listed(store) == [("a", LAYER), ("b", LAYER)]
        assert before <= store.images()[0].created <= time.time()
        store.tag("b", OTHER)
        assert listed(store) == [("a", LAYER), ("b", OTHER)]
        assert store.untag("b")
        assert not store.untag("b")
        assert listed(store) == [("a", LAYER)]


def test_an_image_may_be_kept_without_a_name(root: str) -> None:
    with Store(root) as store:
        store.tag("", LAYER)
        store.tag("", LAYER)
        store.tag("", OTHER)
        assert listed(store) == sorted([("", LAYER), ("", OTHER)], key=lambda image: str(image[1]))
        assert not store.untag("")
        found = store.find_image(LAYER.hex[:12])
        assert found is not None and (found.name, found.config) == ("", LAYER)
        store.tag("name", LAYER)
        store.tag("", LAYER)
        assert listed(store) == [("", OTHER), ("name", LAYER)]
        assert store.remove_image(OTHER) == [""]
        store.tag("another", LAYER)
        assert store.remove_image(LAYER) == ["another", "name"]
        assert store.images() == []


def test_an_image_that_lost_its_last_name_is_kept(root: str) -> None:
    with Store(root) as store:
        store.tag("name", LAYER)
        created = store.images()[0].created
        store.tag("name", OTHER)
        assert listed(store) == [("", LAYER), ("name", OTHER)]
        assert store.images()[0].created == created
        store.tag("name", LAYER)
        assert listed(store) == [("", OTHER), ("name", LAYER)]
        store.tag("second", LAYER)
        store.tag("name", OTHER)
        assert listed(store) == [("name", OTHER), ("second", LAYER)]


def test_an_image_is_found_by_name_and_by_the_start_of_its_id(root: str) -> None:
    one, two = Digest("sha256", "abcd" + "0" * 60), Digest("sha256", "abce" + "0" * 60)
    with Store(root) as store:
        store.tag("z", one)
        store.tag("y", one)
        store.tag("x", two)

        def name_of(wanted: str) -> str | None:
            found: ImageRecord | None = store.find_image(wanted)
            return found.name if found else None

        assert name_of("z") == "z"
        assert name_of("abcd") == "y"
        assert name_of("sha256:abcd") == "y"
        assert name_of(str(two)) == "x"
        assert name_of(two.hex) == "x"
        for unknown in ("", "q", "abcf", "ABCD", "abcd1", "sha256:", "sha512:abcd", "abc%", two.hex + "0"):
            assert name_of(unknown) is None
        store.tag("w", Digest("sha256", "abcd" + "1" * 60))
        with pytest.raises(UsageError, match="'abcd' is not enough to tell 2 images apart") as caught:
            store.find_image("abcd")
        assert str(one) in (caught.value.hint or "")
        assert name_of("abcd0") == "y"
        # A name goes before an id.
        store.tag("abcd", two)
        assert name_of("abcd") == "abcd"
