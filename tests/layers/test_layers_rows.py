"""Entries by number and by path against a list of them; merged trees with a layer in rows against trees without."""

from __future__ import annotations

import hashlib
import threading
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import StoreError
from builder.layers import index, rows
from builder.layers.entry import Entry, Item
from builder.layers.index import Tree, dump_index, load_index
from builder.layers.names import member
from builder.layers.rows import Rows, entries_of
from tests.layers.layers_trees import trees
from tests.layers.test_layers_index import BASIC, SAMPLE, everything, file, folder, gone, hard, sealed

NAMES = st.sampled_from([b"a", b"a.b", b"a0", b"b", b"\xff"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(BASIC, max_size=6), rank=st.integers(1, 3))
def test_rows_are_the_entries(entries: list[Entry], rank: int) -> None:
    with mock.patch.object(rows, "_RANK", rank):
        found = Rows(dump_index(entries))
        assert len(found) == len(entries)
        assert list(found) == entries
        assert [found[place] for place in range(len(entries))] == entries


@settings(max_examples=150, deadline=None)
@given(trees(), st.lists(PATHS, max_size=6))
def test_paths_are_found(items: list[Item], others: list[bytes]) -> None:
    entries = [item.entry for item in items]
    found = Rows(dump_index(entries))
    assert found.is_plain == all(entry.kind != "hardlink" for entry in entries)
    if not found.is_plain:
        return
    assert found.outside == frozenset()
    assert list(found.devices()) == [entry for entry in entries if entry.kind in ("char", "block")]
    paths = [entry.path for entry in entries]
    for path in [*paths, *paths[::-1], *others]:
        assert found.find(path) == (paths.index(path) if path in paths else -1)
        inside = [one for one in paths if one != path and (not path or one.startswith(path + b"/"))]
        assert [paths[place] for place in found.below(path)] == inside
        assert list(found.children(path)) == [one for one in inside if one.rpartition(b"/")[0] == path]
        assert found.longest(found.below(path)) == max(map(len, inside), default=0)


@pytest.mark.parametrize(
    "entries",
    [
        [gone(b"a")],
        [file(b"a"), hard(b"b", file(b"a"))],
        [Entry(b"a", "opaque")],
        [file(b"b"), file(b"a")],
        [file(b"a"), file(b"a")],
        [file(b"a"), file(b"a/b")],
        [file(b"a"), file(b"a/b/c")],
    ],
)
def test_what_is_not_plain(entries: list[Entry]) -> None:
    assert not Rows(dump_index(entries)).is_plain


def test_a_layer_that_leaves_out_its_parents() -> None:
    found = Rows(dump_index([file(b"usr/lib/a"), folder(b"usr/lib/b"), file(b"usr/lib/b/c")]))
    assert found.is_plain and found.outside == {b"usr/lib"}
    tree, other = Tree(), Tree()
    for each in (tree, other):
        each.apply([folder(b"usr", 0o700), folder(b"usr/lib")], 0)
    tree.apply(found, 1)
    other.apply(list(found), 1)
    assert tree._rows is found
    assert everything(tree) == everything(other)
    # Where nothing has them they are made, as for any layer.
    lone = Tree()
    lone.apply(found, 0)
    assert lone._rows is None and lone.lookup(b"usr/lib") == Entry(b"usr/lib", "dir", 0o755)


def test_large_layers_alone_are_rows() -> None:
    few = [folder(b"d"), *(file(b"d/%05d" % number) for number in range(10))]
    many = [folder(b"d"), *(file(b"d/%05d" % number) for number in range(rows.MANY))]
    assert entries_of(dump_index(few)) == few
    found = entries_of(dump_index(many))
    assert isinstance(found, Rows) and list(found) == many == load_index(dump_index(many))


LAYER = st.dictionaries(PATHS, st.sampled_from(["file", "dir", "symlink", "whiteout", "hardlink", "opaque"]), max_size=8)


@st.composite
def stacks(draw: st.DrawFn) -> list[list[Entry]]:
    """Layers, each canonical and with its parents, or without those that one below has."""
    out: list[list[Entry]] = []
    for number in range(draw(st.integers(2, 4))):
        entries: dict[bytes, Entry] = {}
        for path, kind in sorted(draw(LAYER).items()):
            parents = [path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"]
            known = [entries.get(parent, folder(parent)).kind for parent in parents]
            if any(each != "dir" for each in known) or (path in entries and kind != "dir"):
                continue
            entries |= {parent: folder(parent, 0o700 + number) for parent in parents if parent not in entries}
            files = [entry for entry in entries.values() if entry.kind == "file"]
            if kind == "hardlink" and files:
                entries[path] = hard(path, files[0])
            elif kind == "whiteout":
                entries[path] = gone(path)
            elif kind == "symlink":
                entries[path] = Entry(path, "symlink", 0o777, link=b"a")
            elif kind == "dir":
                entries[path] = folder(path, 0o750 + number)
            elif kind == "opaque":
                entries.setdefault(path, folder(path))
                entries[path + b"/.opaque"] = Entry(path, "opaque")
            else:
                entries[path] = file(path, f"{number}")
        out.append(sorted(entries.values(), key=member))
    return out


@settings(max_examples=400, deadline=None)
@given(stacks(), st.integers(0, 3))
def test_a_tree_with_rows_is_the_tree_without(layers: list[list[Entry]], first: int) -> None:
    """Whichever layer is the first that comes in rows."""
    plain, tree = Tree(), Tree()
    views = []
    for number, entries in enumerate(layers):
        for each in (plain, tree):
            given_ = Rows(dump_index(entries)) if each is tree and number >= first else entries
            try:
                each.apply(given_, number)
            except ValueError as error:
                entries.clear()
                assert each is plain or str(error)
                return
        found = everything(plain)
        assert everything(tree) == found
        for path, entry in found.items():
            assert tree.layer_of(path) == plain.layer_of(path)
            assert list(tree.walk(path)) == list(plain.walk(path))
            below = [(each, plain.layer_of(each.path)) for each in plain.walk(path)]
            view = tree.view(path)
            assert list(view) == below and len(view) == len(below)
            assert view.has_links == any(each.kind == "hardlink" for each, _ in below)
            assert view.longest >= max(len(each.path) for each, _ in below)
            files = {layer for each, layer in below if each.kind == "file"}
            assert sorted(layer for _, layer in view.files()) == sorted(files)
            assert all((each, layer) in below for each, layer in view.files())
            assert entry == tree.lookup(path)
        with pytest.raises(KeyError):
            tree.layer_of(b"nowhere")
        views.append((tree.view(b""), list(tree.view(b""))))
    # What was seen stays as it was.
    for view, before in views:
        assert list(view) == before


def test_what_lies_over_rows_elsewhere_costs_nothing() -> None:
    """Neither to remove a folder nor to look at one does all else count that was changed."""
    layer = [each for n in range(300) for each in (folder(b"d%03d" % n), *(file(b"d%03d/%d" % (n, m)) for m in range(10)))]
    more = [each for n in range(300) for each in (folder(b"d%03d" % n), *(file(b"d%03d/x%d" % (n, m)) for m in range(10)))]
    tree = Tree()
    tree.apply(Rows(dump_index(layer)), 0)
    with mock.patch.object(index, "_is_at", wraps=index._is_at) as asked:
        tree.apply(more, 1)
        for number in range(300):
            assert len(tree.view(b"d%03d" % number)) == 21
        tree.apply([gone(b"d%03d" % number) for number in range(300)], 2)
        assert asked.call_count < 300
    assert everything(tree) == {b"": Entry(b"", "dir", 0o755)}


def test_threads_that_look_at_the_same_rows() -> None:
    entries = [file(b"%06d" % number, str(number)) for number in range(3000)]
    found = Rows(dump_index(entries))
    wrong: list[int] = []

    def look(start: int) -> None:
        for place in [*range(start, 3000), *range(start)]:
            if found.find(entries[place].path) != place or found[place] != entries[place]:
                wrong.append(place)

    threads = [threading.Thread(target=look, args=(start,)) for start in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(SAMPLE) - 1), byte=st.integers(1, 255), length=st.integers(0, len(SAMPLE)))
def test_damage_is_a_store_error(at: int, byte: int, length: int) -> None:
    changed = bytearray(SAMPLE)
    changed[at] ^= byte
    for data in (bytes(changed), SAMPLE[:length]):
        if data != SAMPLE:
            with pytest.raises(StoreError, match="a layer's index in the store is damaged"):
                Rows(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_has_the_right_checksum_and_is_nonsense(data: st.DataObject) -> None:
    """It is a store's error, or entries: nothing else comes of it."""
    start = 16 + hashlib.sha256().digest_size
    body = bytearray(SAMPLE[start:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = Rows(sealed(bytes(body)))
    except StoreError:
        return
    # A kind that there is none of is not plain, and then the store's error, too.
    if found.is_plain:
        assert [entry.path for entry in found] == [found.path(place) for place in range(len(found))]
    with mock.patch.object(rows, "MANY", 0):
        try:
            assert len(entries_of(sealed(bytes(body)))) == len(found)
        except StoreError:
            assert not found.is_plain
