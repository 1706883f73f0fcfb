"""What a COPY takes, and the digest that stands for it in a key."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.context.directory import DirectoryContext
from builder.dockerfile import goglob
from builder.dockerfile.ignore import Matcher
from builder.engine.placement import Dress, Owner, place
from builder.engine.selection import Picked, content_digest, select, whole
from builder.engine.sources import StackTree
from builder.errors import DockerfileError, Span
from builder.layers.entry import BytesSource, Entry, Item
from builder.layers.index import Tree
from builder.layers.tarwriter import write_layer
from builder.plan.steps import CopySource
from tests.engine.engine_chroot import plant

SPAN = Span(3, 6, 3, 9)
CONTENT = b"content"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def context(root: Path, ignore: str = "") -> DirectoryContext:
    return DirectoryContext(str(root), Matcher.parse(ignore, ".dockerignore"), pytest.fail)


def paths(picked: Picked) -> list[bytes]:
    return [item.entry.path for item in picked.items]


def test_the_digest_is_made_of_these_bytes() -> None:
    """Written out by hand: a change of this format needs a new version in its first word."""
    picked = Picked(
        b"dir",
        (
            Item(Entry(b"", "dir", 0o700, 5, 6, mtime=7)),
            Item(Entry(b"f", "file", 0o644, 1, 2, 7, DIGEST, xattrs=((b"user.a", b"b"),), mtime=9), BytesSource(CONTENT)),
            Item(Entry(b"h", "hardlink", 0o644, 1, 2, 7, DIGEST, link=b"f")),
            Item(Entry(b"n", "char", 0o666, rdev=(1, 3))),
        ),
    )
    digest = DIGEST.encode()
    start = b"pybuild-selection-v1\x003:dir4\n"
    full = (
        b"0:3:dir1:03:0:01:00:0:3:0:0\n"
        b"1:f4:file3:6443:1:21:764:" + digest + b"0:3:0:06:user.a1:b\n"
        b"1:h8:hardlink3:6443:1:21:764:" + digest + b"1:f3:0:0\n"
        b"1:n4:char3:6663:0:01:00:0:3:1:3\n"
    )
    assert content_digest((picked,), owners=True, modes=True) == hashlib.sha256(start + full).hexdigest()
    bare = (
        b"0:3:dir0:0:1:00:0:3:0:0\n"
        b"1:f4:file0:0:1:764:" + digest + b"0:3:0:06:user.a1:b\n"
        b"1:h8:hardlink0:0:1:764:" + digest + b"1:f3:0:0\n"
        b"1:n4:char0:0:1:00:0:3:1:3\n"
    )
    assert content_digest((picked,), owners=False, modes=False) == hashlib.sha256(start + bare).hexdigest()


FILE = Entry(b"f", "file", 0o644, 1, 2, 7, DIGEST, mtime=9)
NEW = {
    "mode": FILE._replace(mode=0o645),
    "owner": FILE._replace(uid=3),
    "group": FILE._replace(gid=3),
    "content": FILE._replace(digest="0" * 64),
    "name": FILE._replace(path=b"g"),
    "attribute": FILE._replace(xattrs=((b"user.x", b""),)),
    "link": Entry(b"f", "symlink", 0o777, link=b"x"),
    "type": Entry(b"f", "fifo", 0o644),
}


@pytest.mark.parametrize("what", NEW)
def test_the_digest_moves_with_what_the_image_would_show(what: str) -> None:
    def digests(entry: Entry) -> list[str]:
        picked = (Picked(b"d", (Item(Entry(b"", "dir")), Item(entry))),)
        return [content_digest(picked, owners=owners, modes=modes) for owners in (True, False) for modes in (True, False)]

    same = [old == new for old, new in zip(digests(FILE), digests(NEW[what]))]
    # With --chown owners do not count, with --chmod modes.
    assert same == {"mode": [False, True] * 2, "owner": [False] * 2 + [True] * 2, "group": [False] * 2 + [True] * 2}.get(
        what, [False] * 4
    )
    later = FILE._replace(mtime=10)
    assert digests(later) == digests(FILE)


ENTRIES = st.lists(
    st.one_of(
        st.builds(
            lambda path, mode, uid, data: (path, "file", mode, uid, data),
            st.sampled_from([b"a", b"b", b"d/x"]),
            st.sampled_from([0o644, 0o755]),
            st.integers(0, 1),
            st.sampled_from([b"", b"1"]),
        ),
        st.tuples(st.sampled_from([b"d", b"e"]), st.just("dir"), st.sampled_from([0o755, 0o700]), st.just(0), st.just(b"")),
        st.builds(lambda target: (b"l", "symlink", 0o777, 0, target), st.sampled_from([b"a", b"b"])),
        st.just((b"z", "hardlink", 0o644, 0, b"")),
    ),
    max_size=4,
    unique_by=lambda entry: entry[0],
)


def picked_of(entries: list[tuple[bytes, str, int, int, bytes]]) -> Picked:
    items = [Item(Entry(b"", "dir", 0o755))]
    known = {path for path, *_ in entries}
    if b"d/x" in known and b"d" not in known:
        items.append(Item(Entry(b"d", "dir", 0o755)))
    first: Entry | None = None
    for path, kind, mode, uid, data in sorted(entries):
        if kind == "file":
            entry = Entry(path, "file", mode, uid, 0, len(data), hashlib.sha256(data).hexdigest())
            first = first or entry
            items.append(Item(entry, BytesSource(data)))
        elif kind == "hardlink":
            if first is not None:
                items.append(Item(first._replace(path=path, kind="hardlink", link=first.path)))
        else:
            items.append(Item(Entry(path, "dir" if kind == "dir" else "symlink", mode, link=data)))
    return Picked(b"src", tuple(sorted(items, key=lambda item: item.entry.path)))


@settings(max_examples=200, deadline=None)
@given(ENTRIES, ENTRIES, st.booleans(), st.booleans())
def test_equal_digests_are_equal_layers(
    one: list[tuple[bytes, str, int, int, bytes]], two: list[tuple[bytes, str, int, int, bytes]], chown: bool, chmod: bool
) -> None:
    dress = Dress(Owner(4, 4) if chown else None, 0o750 if chmod else None, 0)
    left, right = picked_of(one), picked_of(two)
    digests = [content_digest((picked,), owners=not chown, modes=not chmod) for picked in (left, right)]
    layers = [write_layer(place((picked,), Tree(), "/d/", dress), None).diff_id for picked in (left, right)]
    assert (digests[0] == digests[1]) == (layers[0] == layers[1])


PARTS = st.sampled_from(["a", "b", "ab", "*", "a*", "?", "[ab]", "[^a]", "\\a", "*b"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=3).map("/".join), max_size=8),
    st.lists(PARTS, min_size=1, max_size=3).map("/".join),
)
def test_a_wildcard_takes_what_go_would_and_nothing_inside_it(names: list[str], pattern: str) -> None:
    with tempfile.TemporaryDirectory(prefix="select-") as folder:
        root = Path(folder, "root")
        plant(root, {name: ("file" if "/" in name else "dir", b"x", 0o755) for name in dict.fromkeys(names)})
        everything = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        matched = [name for name in everything if goglob.match(pattern, name)]
        tree = context(root)
        try:
            selection = select((CopySource(pattern, SPAN),), tree, where="it", keyword="COPY")
            taken = [os.fsdecode(picked.name) for picked in selection]
        except DockerfileError as error:
            taken = []
            assert error.span == SPAN
            if goglob.has_meta(pattern):
                assert error.message == f"COPY: no file in it matches '{pattern}'"
            else:
                assert error.message == f"COPY: '{pattern}' is not in it"
        finally:
            tree.close()
        assert taken == [name.rpartition("/")[2] for name in matched]


PATTERNS = ["a", "!a", "*/b", "!a/b", "**/ab", "!**/ab/ba", "a/**", "*", "!b", "ba*", "!a/b/*", "**", "!**/b"]
LINES = st.lists(st.sampled_from(PATTERNS), max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=3).map("/".join), max_size=8), LINES)
def test_a_context_is_what_its_ignore_file_leaves(names: list[str], lines: list[str]) -> None:
    """A file is there when it is not ignored; an ignored folder is there for the sake of what is left inside it alone."""
    with tempfile.TemporaryDirectory(prefix="ignore-") as folder:
        root = Path(folder, "root")
        plant(root, {name: ("file" if "/" in name else "dir", b"x", 0o755) for name in dict.fromkeys(names)})
        matcher = Matcher.parse("\n".join(lines), ".dockerignore")
        left = set()
        for path in root.rglob("*"):
            name = os.fsencode(path.relative_to(root))
            if not matcher.ignored(name):
                left |= {name} | {name[:at] for at in range(len(name)) if name[at : at + 1] == b"/"}
        tree = context(root, "\n".join(lines))
        try:
            assert paths(whole(tree)) == sorted(left)
            for path in root.rglob("*"):
                name = os.fsencode(path.relative_to(root))
                assert (tree.lookup(name) is not None) == (name in left)
        finally:
            tree.close()


def test_sources_are_named_as_they_were_given(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plant(root, {"d/f": ("file", b"1", 0o600), "l": ("link", b"d", 0), "d/self": ("link", b"/d/f", 0)})
    tree = context(root)
    for source, name, inside in (
        ("l", b"l", [b"", b"f", b"self"]),
        ("./l/../d/./", b"d", [b"", b"f", b"self"]),
        ("/l/self", b"self", [b""]),
        ("../../d/f/", b"f", [b""]),
        (".", b"", [b"", b"d", b"d/f", b"d/self", b"l"]),
    ):
        [picked] = select((CopySource(source, SPAN),), tree, where="it", keyword="COPY")
        assert (picked.name, paths(picked)) == (name, inside)
        assert picked.span == SPAN
    # Context files are root's, whoever has them.
    assert {(item.entry.uid, item.entry.gid) for item in picked.items} == {(0, 0)}
    tree.close()


def test_an_image_as_a_source_keeps_owners_and_finds_hard_links_across_layers() -> None:
    tree = Tree()
    file = Entry(b"a", "file", 0o640, 5, 6, 7, DIGEST)
    linked = [file._replace(path=path, kind="hardlink", link=b"a") for path in (b"b", b"c")]
    tree.apply([file, *linked], 0)
    tree.apply([Entry(b"a", "file", 0o600, size=7, digest=DIGEST)], 1)
    stack = StackTree(tree, lambda entry, layer: BytesSource(b"%b of %d" % (entry.path, layer)))
    [picked] = select((CopySource(".", SPAN),), stack, where="it", keyword="COPY")
    assert [(item.entry.path, item.entry.kind, item.entry.link, item.source) for item in picked.items] == [
        (b"", "dir", b"", None),
        (b"a", "file", b"", BytesSource(b"a of 1")),
        (b"b", "file", b"", BytesSource(b"b of 0")),
        (b"c", "hardlink", b"b", None),
    ]
    assert {(item.entry.uid, item.entry.gid) for item in tuple(picked.items)[2:]} == {(5, 6)}


def test_a_file_that_changes_while_it_is_copied(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plant(root, {"f": ("file", b"old", 0o600), "g": ("file", b"old", 0o600)})
    tree = context(root)
    picked = select((CopySource("f", SPAN), CopySource("g", SPAN)), tree, where="it", keyword="COPY")
    items = place(picked, Tree(), "/d/", Dress(None, None, 0))
    (root / "f").write_bytes(b"new")
    (root / "g").unlink()
    for item in items[1:]:
        with pytest.raises(Exception, match="changed while it was read"):
            write_layer([item], None)
    tree.close()
