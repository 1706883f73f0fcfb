"""What `--exclude` and `--parents` leave of a tree, against a walk of everything that takes no short cut.

What the patterns mean is tested with .dockerignore, whose matcher it is.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder.dockerfile.ignore import Matcher, cleaned
from builder.engine.filtering import Filter, pivot
from builder.engine.selection import content_digest, select
from builder.engine.sources import StackTree
from builder.errors import DockerfileError, Span
from builder.layers.entry import Entry
from builder.layers.index import Tree
from builder.plan.steps import CopySource

SPAN = Span(3, 6, 3, 9)
NAMES = st.sampled_from(["a", "b", "ab", "c.o"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PIECES = st.sampled_from(["a", "b", "ab", "*", "?", "**", "a*", "*.o", "**b"])
PATTERNS = st.lists(PIECES, min_size=1, max_size=3).map("/".join)
EXCLUDES = st.lists(st.builds(str.__add__, st.sampled_from(["", "", "!"]), PATTERNS), max_size=3)


def planted(paths: set[str]) -> StackTree:
    """Links where a path is no folder of another."""
    folders = {path[:at] for path in paths for at in range(len(path)) if path[at] == "/"}
    entries = [Entry(path.encode(), "dir", 0o755) for path in folders]
    entries += [Entry(path.encode(), "symlink", 0o777, link=b"x") for path in paths - folders]
    tree = Tree()
    tree.apply(sorted(entries, key=lambda entry: entry.path), 0)
    return StackTree(tree, lambda entry, layer: pytest.fail("there is no file"))


@settings(max_examples=200, deadline=None)
@given(st.sets(PATHS, max_size=10), EXCLUDES, st.just("") | PATTERNS)
@example({"a/b/ab", "a/c.o", "b"}, ["**", "!a/b/ab"], "")
@example({"a/b/ab", "a/b/c.o", "b"}, ["a/b", "!a/b/ab"], "a/**/ab")
@example({"a/b/ab", "b/ab"}, ["**/ab"], "*")
def test_short_cuts_leave_nothing_out(paths: set[str], exclude: list[str], include: str) -> None:
    tree = planted(paths)
    excluded = Matcher.of(cleaned(exclude))
    included = Matcher.of([(False, include)]) if include else None
    taken, everything = set(), [b""]
    for path in everything:
        everything += [path + b"/" + name if path else name for name in tree.children(path)]
        if not path or ((included is None or included.ignored(path)) and not excluded.ignored(path)):
            taken.add(path)
    ways = {path[:at] for path in taken for at in range(len(path)) if path[at : at + 1] == b"/"} - taken
    found = Filter(exclude, include).apply(b"", tree)
    assert [entry.path for entry in found.entries] == sorted(taken | ways)
    assert found.ways == ways


@pytest.mark.parametrize(
    ("source", "folder", "pattern"),
    [
        ("a/b", "/", "a/b"),
        ("/a/b/", "/", "a/b"),
        ("./a/b", "/", "a/b"),
        ("a/./b", "/a", "b"),
        ("/a/./b/./c", "/a", "b/c"),
        ("./x/./y/*.txt", "/x", "y/*.txt"),
        ("a/b/.", "/", "a/b"),
        ("a/./", "/a", ""),
        (".", "/", ""),
        ("/", "/", ""),
        ("../../a/../b", "/", "b"),
        ("a/./../../b", "/a", "b"),
        ("../a/./**/b", "/a", "**/b"),
    ],
)
def test_the_pivot(source: str, folder: str, pattern: str) -> None:
    assert pivot(source) == (folder, pattern)


def test_the_place_below_the_pivot_is_all_that_counts() -> None:
    """The same selection from two places is the same copy."""
    one = planted({"x/y/a/f", "x/y/g", "other"})
    two = planted({"a/f"})
    left = select((CopySource("x/y/./a/*", SPAN),), one, where="it", keyword="COPY", parents=True)
    right = select((CopySource("a/f", SPAN),), two, where="it", keyword="COPY", parents=True)
    assert content_digest(left, owners=True, modes=True) == content_digest(right, owners=True, modes=True)
    # A folder that is copied itself is not the same as one on the way.
    whole = select((CopySource("a", SPAN),), two, where="it", keyword="COPY", parents=True)
    assert content_digest(whole, owners=True, modes=True) != content_digest(right, owners=True, modes=True)


def test_a_context_is_walked_only_where_something_can_match() -> None:
    asked = []
    tree = planted({"src/a/f.c", "node_modules/x/y/z", "src/b/g"})
    children = tree.children

    def listed(path: bytes) -> list[bytes]:
        asked.append(path)
        return children(path)

    tree.children = listed
    [picked] = select((CopySource("src/*/*.c", SPAN),), tree, where="it", keyword="COPY", parents=True)
    assert [item.entry.path for item in picked.items] == [b"", b"src", b"src/a", b"src/a/f.c"]
    assert asked == [b"", b"src", b"src/b", b"src/a"]


def test_a_bad_pattern_is_told_at_its_source() -> None:
    with pytest.raises(DockerfileError) as caught:
        select((CopySource("a/[b", SPAN),), planted({"a/b"}), where="it", keyword="COPY", parents=True)
    assert caught.value.message == "the pattern 'a/[b' has a '[' without its ']'" and caught.value.span == SPAN
