"""Names that stand for images of several platforms, and the indexes that they belong to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import UsageError
from builder.oci.digest import Descriptor, Digest
from builder.oci.platform import Platform
from builder.store import schema
from builder.store.faults import Faults
from builder.store.store import Member, Store

AMD64, ARM64, S390X = (Platform("linux", name) for name in ("amd64", "arm64", "s390x"))
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(b"layer"), 5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


def config(text: str) -> Digest:
    return Digest.of(text.encode())


def members(source: str, *platforms: Platform, day: str = "") -> list[Member]:
    """An image for each, of the index `source`."""
    of = str(config(source))
    return [Member(config(f"{platform}{day}"), (LAYER,), str(platform), of) for platform in platforms]


def listed(store: Store) -> list[tuple[str, str, bool]]:
    return [(one.name, one.platform, one.whole) for one in store.images()]


def test_the_best_image_for_a_platform_is_found(store: Store) -> None:
    index = members("i", AMD64, ARM64, Platform("linux", "arm", "v6"))
    store.tag_images("name", index, [config("i")])
    assert [one.platform for one in store.find_images("name")] == ["linux/amd64", "linux/arm/v6", "linux/arm64"]
    for platform, found in [(AMD64, "linux/amd64"), (ARM64, "linux/arm64"), (Platform("linux", "arm", "v7"), "linux/arm/v6")]:
        record = store.find_image("name", platform)
        assert record is not None
        assert (record.platform, record.whole, record.blobs) == (found, True, (LAYER,))
    # What runs none of them gets one all the same, and may see that.
    assert store.find_image("name", S390X) is not None
    assert store.find_image("name") == store.find_image("name", Platform.of_machine(os.uname().machine))


def test_an_index_is_found_by_its_id(store: Store) -> None:
    store.tag_images("", members("i", AMD64, ARM64), [config("i")])
    store.tag_images("parts", members("j", AMD64, day="j"))
    assert [one.platform for one in store.find_images(config("i").hex[:12])] == ["linux/amd64", "linux/arm64"]
    # An index that is not here whole is nothing that could be named.
    assert store.find_images(config("j").hex[:12]) == []


def test_the_first_digits_of_an_image_and_of_an_index(store: Store) -> None:
    numbers = {config(str(number)).hex[:4]: number for number in range(2000)}
    twin, like = next(
        (number, numbers[prefix]) for number in range(2000, 200_000) if (prefix := config(str(number)).hex[:4]) in numbers
    )
    store.tag_images("", members(str(twin), AMD64, ARM64), [config(str(twin))])
    store.tag("other", config(str(like)))
    with pytest.raises(UsageError, match="is not enough to tell 2 images apart"):
        store.find_images(config(str(like)).hex[:4])
    assert len(store.find_images(config(str(twin)).hex)) == 2


def test_what_a_name_stood_for_is_replaced_whole(store: Store) -> None:
    store.tag_images("name", members("i", AMD64, ARM64), [config("i")])
    store.tag_images("name", members("j", AMD64, ARM64, day="j"), [config("j")])
    assert [one for one in listed(store) if one[0]] == [("name", "linux/amd64", True), ("name", "linux/arm64", True)]
    # The images are kept, as Docker keeps them; their index is gone.
    assert [one for one in listed(store) if not one[0]] == [("", "", False)] * 2
    store.tag("name", config("single"))
    assert [one for one in listed(store) if one[0]] == [("name", "", False)]
    assert store.untag("name")
    assert len(listed(store)) == 4


def test_an_index_stays_as_long_as_a_name_of_it(store: Store) -> None:
    index = members("i", AMD64, ARM64)
    store.tag_images("one", index, [config("i")])
    store.tag_images("two", index)
    assert all(whole for _, _, whole in listed(store))
    store.untag("one")
    assert listed(store) == [("two", "linux/amd64", True), ("two", "linux/arm64", True)]
    store.untag("two")
    store.tag_images("three", index)
    assert not any(whole for _, _, whole in listed(store))


def test_one_image_may_be_there_for_several_platforms(store: Store) -> None:
    same = [each._replace(config=config("same")) for each in members("i", AMD64, ARM64)]
    for name in ("", "name"):
        store.tag_images(name, same, [config("i")])
        assert listed(store) == [(name, "linux/amd64", True), (name, "linux/arm64", True)]
    assert store.remove_image(config("same")) == ["name", "name"]
    assert listed(store) == []


def test_nothing_is_written_where_all_is_as_it_should_be(store: Store, tmp_path: Path) -> None:
    index = members("i", AMD64, ARM64)
    store.tag_images("name", index, [config("i")])
    before = store.images()
    with sqlite3.connect(tmp_path / "store" / "db.sqlite") as other:
        version = other.execute("PRAGMA data_version").fetchone()
        store.tag_images("name", index[::-1], [config("i")])
        assert other.execute("PRAGMA data_version").fetchone() == version
    assert store.images() == before


def test_images_of_an_older_store_are_what_they_were(tmp_path: Path) -> None:
    """As the database was before a name could stand for several."""
    root = tmp_path / "store"
    Store(str(root)).close()
    for path in root.glob("db.sqlite*"):
        path.unlink()
    schema.upgrade(str(root / "db.sqlite"), Faults(str(root)), schema.STEPS[:8])
    with sqlite3.connect(root / "db.sqlite") as old:
        rows = [("", str(config("nameless")), 1, None), ("name", str(config("named")), 2, "[]")]
        old.executemany("INSERT INTO images (name, config, created, blobs) VALUES (?, ?, ?, ?)", rows)
    old.close()
    with Store(str(root)) as store:
        assert listed(store) == [("", "", False), ("name", "", False)]
        found = store.find_image("name", S390X)
        assert found is not None
        assert (found.config, found.created, found.source) == (config("named"), 2, "")
        store.tag_images("name", members("i", AMD64, ARM64), [config("i")])
        assert len(store.find_images("name")) == 2
