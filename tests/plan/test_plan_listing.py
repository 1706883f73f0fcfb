"""What a COPY took, file by file, or folder by folder where there are too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.plan import listing
from builder.plan.listing import LONGEST, MOST, changes, mark

NAMES = st.sampled_from(["a", "b", "c.txt", "ü"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
MARKS = st.dictionaries(PATHS, st.binary(max_size=2).map(mark), max_size=30)


def many(folders: int, each: int) -> dict[str, str]:
    return {f"src/{folder}/deep/{file}": mark(b"%d" % file) for folder in range(folders) for file in range(each)}


@given(MARKS)
def test_few_files_are_listed_one_by_one(marks: dict[str, str]) -> None:
    assert listing.listing(marks) == tuple(sorted(marks.items()))


@given(MARKS, MARKS)
def test_what_differs_is_told_by_name(then: dict[str, str], now: dict[str, str]) -> None:
    found = dict(changes(listing.listing(then), listing.listing(now)))
    assert found == {
        **dict.fromkeys(then.keys() - now.keys(), "removed"),
        **dict.fromkeys(now.keys() - then.keys(), "added"),
        **{path: "changed" for path in then.keys() & now.keys() if then[path] != now[path]},
    }


def test_many_files_are_told_by_their_folders() -> None:
    then = many(100, 50)
    rows = listing.listing(then)
    assert len(rows) == 100 and rows[0][0] == "src/0/deep/" and len(rows) <= MOST
    now = {**then, "src/7/deep/3": mark(b"other"), "src/new/deep/1": mark(b"")}
    assert changes(rows, listing.listing(now)) == (("src/7/deep/", "changed"), ("src/new/deep/", "added"))
    assert changes(rows, rows) == ()


def test_a_listing_of_files_beside_one_of_folders() -> None:
    """One side has more files than are listed one by one, the other has not."""
    few = many(30, 50)
    more = {**few, **{f"src/3/deep/{file}": mark(b"%d" % file) for file in range(50, 2000)}}
    assert len(listing.listing(few)) == len(few) and len(listing.listing(more)) == 30
    assert changes(listing.listing(few), listing.listing(more)) == (("src/3/deep/", "changed"),)


@given(MARKS, st.integers(1, 4), st.integers(1, 4))
def test_a_folder_stands_for_the_same_by_whatever_way(marks: dict[str, str], first: int, second: int) -> None:
    low, high = max(first, second), min(first, second)
    assert listing._folded(listing._folded(marks, low), high) == listing._folded(marks, high)


def test_names_that_are_too_long_for_a_list() -> None:
    flat = {"x" * 200 + str(number): mark(b"") for number in range(MOST)}
    assert sum(map(len, flat)) > LONGEST
    assert listing.listing(flat) == ()
    assert listing.listing({}) == ()
