"""Foreign layers in archive order: what they come to, by the rules of Docker's unpacker (moby pkg/archive/diff.go)."""

from __future__ import annotations

import pytest

from builder.errors import BuildError
from builder.layers.entry import EPOCH, BytesSource, Entry, Item, Source
from builder.layers.index import Tree
from builder.layers.order import sort_items
from builder.layers.settle import Settled, fill, settle
from tests.layers.layers_overlay import file, folder, hardlink, names, opaque, symlink, whiteout


def below(*items: Item) -> Tree:
    tree = Tree()
    tree.apply([item.entry for item in sort_items(items)], 0)
    return tree


BASE = below(
    folder("bin.d"),
    folder("usr"),
    folder("usr/bin"),
    file("usr/bin/sh", b"sh"),
    symlink("bin", "usr/bin"),
    symlink("abs", "/usr"),
    symlink("up", "../../usr"),
    symlink("loop", "loop"),
    symlink("dangling", "new/place"),
    folder("d", 0o700, uid=5),
    file("d/x", b"x"),
    folder("d/e"),
    file("d/e/y", b"y"),
    file("f", b"lower", 0o600),
    hardlink("g", "f"),
    Item(Entry(b"p", "fifo", 0o622)),
)


def outcome(*items: Item, prefix: bytes = b"", root_entry: bool | None = None) -> tuple[list[str], bool]:
    settled = settle(items, BASE, prefix=prefix, root_entry=root_entry)
    return names(settled.items), settled.uses_below


@pytest.mark.parametrize(
    ("items", "expected", "uses_below"),
    [
        # Plain: sorted, unique, nothing asked of the base.
        ([file("z"), folder("a"), file("a/b")], ["a", "a/b", "z"], False),
        ([], [], False),
        # The last of several wins.
        ([file("a", b"1"), file("b"), file("a", b"2")], ["a", "b"], False),
        ([folder("a", 0o700), file("a/b"), folder("a", 0o755)], ["a", "a/b"], False),
        # One kind replaces another, with all that it held.
        ([folder("a"), file("a/b"), file("a")], ["a"], False),
        # (Where the base had such a folder, a folder after a file hides what that held: see below.)
        ([folder("a"), file("a/b"), file("a"), folder("a")], ["a"], True),
        ([file("a"), folder("a"), file("a/b")], ["a", "a/b"], True),
        ([symlink("a", "d"), folder("a"), file("a/b")], ["a", "a/b"], True),
        ([file("d")], ["d"], False),
        ([folder("bin"), file("bin/x")], ["bin", "bin/x"], False),
        # Parents that nobody has are made; parents that the base has are its own.
        ([file("n/m/f")], ["n", "n/m", "n/m/f"], True),
        ([file("d/new")], ["d/new"], True),
        # Written through links of the base, of the layer, in the whole path, absolute, upwards, into nothing.
        ([file("bin/new")], ["usr/bin/new"], True),
        ([folder("t"), symlink("l", "t"), file("l/f")], ["l", "t", "t/f"], False),
        ([symlink("l", "usr/bin"), file("l/f")], ["l", "usr/bin/f"], True),
        ([file("abs/bin/new")], ["usr/bin/new"], True),
        ([file("up/bin/new")], ["usr/bin/new"], True),
        ([file("dangling/f")], ["new", "new/place", "new/place/f"], True),
        ([folder("t"), symlink("l", "/../../t"), file("l/f")], ["l", "t", "t/f"], False),
        # A link at the end of a path is replaced, not followed.
        ([file("bin")], ["bin"], False),
        ([symlink("bin", "sbin")], ["bin"], False),
        # A link that changes on the way leads elsewhere.
        (
            [folder("s"), folder("t"), symlink("l", "s"), file("l/1"), symlink("l", "t"), file("l/2")],
            ["l", "s", "s/1", "t", "t/2"],
            False,
        ),
        ([symlink("bin", "d"), file("bin/new")], ["bin", "d/new"], True),
        # Deletions: of what the base has, through links too; of what it has not.
        ([whiteout("f")], ["- f"], False),
        ([whiteout("d")], ["- d"], False),
        ([whiteout("d/x")], ["- d/x"], True),
        ([whiteout("bin/sh")], ["- usr/bin/sh"], True),
        ([whiteout("bin")], ["- bin"], False),
        ([whiteout("nothing")], [], True),
        ([whiteout("f"), whiteout("f")], ["- f"], False),
        # At once, as Docker has it: what came before in the layer goes as well. (umoci keeps it.)
        ([file("f", b"1"), whiteout("f")], ["- f"], False),
        ([file("n"), whiteout("n")], [], True),
        ([folder("n"), file("n/f"), whiteout("n"), folder("n")], ["n", "! n"], False),
        # Never a deletion and an entry of one name.
        ([whiteout("f"), file("f")], ["f"], False),
        ([whiteout("d"), file("d")], ["d"], False),
        ([whiteout("d"), folder("d"), file("d/x")], ["d", "! d", "d/x"], False),
        ([whiteout("d"), file("d/new")], ["d", "! d", "d/new"], True),
        ([whiteout("d/e"), whiteout("d")], ["- d"], True),
        ([whiteout("d"), folder("d"), whiteout("d/x")], ["d", "! d"], False),
        # The same without a deletion: what the file hid stays hidden.
        ([file("d"), folder("d")], ["d", "- d/e", "- d/x"], True),
        ([file("d"), folder("d"), folder("d/e")], ["d", "- d/x", "d/e", "- d/e/y"], True),
        # Opaque: what the layer brings stays, wherever the mark is.
        ([opaque("d"), file("d/new")], ["! d", "d/new"], True),
        ([folder("d"), file("d/new"), opaque("d")], ["d", "! d", "d/new"], False),
        ([folder("d"), opaque("d"), whiteout("d/x")], ["d", "! d"], False),
        ([folder("d"), opaque("d"), folder("d/e"), opaque("d/e")], ["d", "! d", "d/e"], False),
        ([opaque("bin")], ["! usr/bin"], True),
        # overlayfs knows no opaque root.
        (
            [opaque(""), folder("d"), file("d/new")],
            [
                *("- abs", "- bin", "- bin.d", "- dangling", "- f", "- g", "- loop", "- p", "- up", "- usr"),
                *("d", "- d/e", "- d/x", "d/new"),
            ],
            True,
        ),
        # Hard links: in the layer, through links, in a row; of a name that is replaced later.
        ([file("z", b"1"), hardlink("a", "z"), hardlink("m", "a")], ["a", "m -> a", "z -> a"], False),
        ([folder("t"), file("t/f"), symlink("l", "t"), hardlink("h", "l/f")], ["h", "l", "t", "t/f -> h"], False),
        ([file("a", b"1"), hardlink("b", "a"), file("a", b"2")], ["a", "b"], False),
        ([file("a", b"1"), hardlink("b", "a"), whiteout("a")], ["b"], True),
        ([symlink("s", "x"), hardlink("h", "s")], ["h", "s"], False),
        # Of a file of the base: a copy; two of them stay one file.
        ([hardlink("h", "f")], ["h"], True),
        ([hardlink("h", "f"), hardlink("i", "h")], ["h", "i -> h"], True),
        ([hardlink("h", "bin/sh")], ["h"], True),
        ([hardlink("h", "bin")], ["h"], True),
        ([hardlink("h", "p")], ["h"], True),
        # The root itself.
        ([folder("", 0o700), file("a")], ["", "a"], False),
    ],
)  # fmt: skip
def test_outcome(items: list[Item], expected: list[str], uses_below: bool) -> None:
    assert outcome(*items) == (expected, uses_below)


def test_entries_keep_what_the_archive_says() -> None:
    item = Item(Entry(b"bin/x", "file", 0o4755, 1, 2, 1, xattrs=((b"user.a", b"1"),), mtime=3), BytesSource(b"1"))
    assert settle([item], BASE) == Settled([item._replace(entry=item.entry._replace(path=b"usr/bin/x"))], True)


def test_made_parents_are_plain() -> None:
    [parent, _] = settle([file("n/f")], BASE).items
    assert parent == Item(Entry(b"n", "dir", 0o755, mtime=EPOCH * 10**9))


def test_a_hard_link_keeps_the_content_that_it_named() -> None:
    first, second = file("a", b"1"), file("a", b"2")
    link = Item(first.entry._replace(path=b"b", kind="hardlink", link=b"a"))
    assert settle([first, link, second], BASE).items == [second, first._replace(entry=first.entry._replace(path=b"b"))]


def test_a_hard_links_metadata_are_the_files() -> None:
    """As chown(2) and chmod(2) of the link's name leave it: the last one counts."""
    link = Item(Entry(b"b", "hardlink", 0o4711, 7, 8, link=b"a", mtime=9))
    owner, repeat = settle([file("a", b"1"), link], BASE).items
    assert owner.entry == Entry(b"a", "file", 0o4711, 7, 8, 1, mtime=9)
    assert repeat.entry == owner.entry._replace(path=b"b", kind="hardlink", link=b"a")


def test_copies_of_lower_files_are_filled_in() -> None:
    settled = settle([hardlink("h", "g")], below(file("f", b"lower"), hardlink("g", "f")))
    [copy] = settled.items
    assert (copy.source, copy.entry.link, copy.entry.size) == (None, b"g", 5)

    def lower(path: bytes) -> Source:
        return BytesSource(b"content of " + path)

    [filled] = fill(settled.items, lower)
    assert filled == Item(copy.entry._replace(link=b""), BytesSource(b"content of g"))


def test_links_of_other_kinds_are_copies_of_their_entry() -> None:
    [link] = settle([hardlink("h", "bin")], BASE).items
    assert (link.entry.kind, link.entry.link) == ("symlink", b"usr/bin")


@pytest.mark.parametrize(
    ("items", "prefix", "root_entry", "expected"),
    [
        ([file("a")], b"d", None, ["d/a"]),
        ([file("a")], b"n/m", None, ["n", "n/m", "n/m/a"]),
        # The archive's own root: `/` for a layer, nothing for ADD unless it says so.
        ([folder("", 0o700), file("a")], b"d", None, ["d/a"]),
        ([folder("", 0o700), file("a")], b"d", True, ["d", "d/a"]),
        ([folder("", 0o700), file("a")], b"", False, ["a"]),
        # Links stay inside of the prefix, as in a chroot.
        ([symlink("l", "/"), file("l/a")], b"d", None, ["d/a", "d/l"]),
        ([symlink("l", "../../.."), file("l/a")], b"d", None, ["d/a", "d/l"]),
        ([symlink("l", "/usr/bin"), file("l/a")], b"d", None, ["d/l", "d/usr", "d/usr/bin", "d/usr/bin/a"]),
        ([file("a", b"1"), hardlink("b", "a")], b"d", None, ["d/a", "d/b -> d/a"]),
        ([hardlink("h", "/x")], b"d", None, ["d/h"]),
    ],
)
def test_prefix(items: list[Item], prefix: bytes, root_entry: bool | None, expected: list[str]) -> None:
    assert outcome(*items, prefix=prefix, root_entry=root_entry)[0] == expected


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([file("f/below")], "is no folder"),
        ([file("a"), file("a/b")], "is no folder"),
        ([file("p/x")], "is no folder"),
        ([whiteout("f/below")], "is no folder"),
        ([opaque("f")], "is no folder"),
        ([file("loop/x")], "leads through too many symbolic links"),
        ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "leads through too many symbolic links"),
        ([hardlink("h", "nothing")], "'h' is a hard link to 'nothing', which is no file there"),
        ([hardlink("h", "d")], "'h' is a hard link to 'd', which is no file there"),
        ([hardlink("h", "late"), file("late")], "'h' is a hard link to 'late'"),
        ([whiteout("f"), hardlink("h", "f")], "'h' is a hard link to 'f'"),
        ([opaque("d"), hardlink("h", "d/x")], "'h' is a hard link to 'd/x'"),
        ([file("a"), hardlink("a", "a")], "'a' is a hard link to 'a'"),
        ([hardlink("f", "f")], "'f' is a hard link to 'f', which is no file there"),
        ([hardlink("d", "d/x")], "'d' is a hard link to 'd/x', which is no file there"),
        ([Item(Entry(b"c", "char", 0o600))], "'c' is the device 0:0"),
        ([file("")], "the archive's root is a file"),
        ([whiteout("")], "the archive's root is a whiteout"),
    ],
)
def test_what_no_unpacker_can_do(items: list[Item], message: str) -> None:
    with pytest.raises(BuildError) as caught:
        settle(items, BASE)
    assert message in caught.value.message


def test_many_deletions_and_replacements_are_fast_enough() -> None:
    """Nothing here is quadratic: a hostile archive of 60,000 members takes seconds, not hours."""
    items = [whiteout(f"d/{number}") for number in range(20000)]
    items += [file(f"n/{number}") for number in range(20000)]
    items += [file("n")] + [file("m/x") for _ in range(20000)]
    assert names(settle(items, BASE).items) == ["m", "m/x", "n"]
