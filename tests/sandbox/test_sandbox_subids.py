"""Who has which subordinate ids, and the map that is made of them: what the kernel takes, whatever the files say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import SandboxError
from builder.sandbox import ladder
from builder.sandbox.rungs import Isolation, Verdict, choose
from builder.sandbox.subids import Extent, extents, keeps, ranges, reaches

LAST = (1 << 32) - 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann:100000:65536\n", [(100000, 65536)]),
        ("bob:100000:65536\n1001:200000:65536\nann:300000:1\n", [(200000, 65536), (300000, 1)]),
        ("ann:1:2:3\nann:x:1\nann:1\n\nann:5:0\nann:-1:5\n#ann:1:1\n ann:7:8 \n", [(7, 8)]),
        ("ann:4294967290:65536\nannb:1:1\n", []),
        ("ann:4294967294:1", [(4294967294, 1)]),
    ],
)
def test_the_files(text: str, expected: list[tuple[int, int]]) -> None:
    assert ranges(text, "ann", 1001) == expected


@given(st.text(alphabet="ann:10\n x-é", max_size=60))
def test_no_file_is_too_odd(text: str) -> None:
    for start, count in ranges(text, "ann", 1001):
        assert start >= 0 and count > 0 and start + count - 1 <= LAST


@pytest.mark.parametrize(
    ("own", "found", "expected"),
    [
        (1000, [(100000, 65536)], [(0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536)]),
        (0, [(100000, 65536)], [(0, 0, 1), (1, 100000, 65536)]),
        (70000, [(100000, 65536)], [(0, 100000, 65536), (70000, 70000, 1)]),
        (1000, [(500, 1000)], [(0, 500, 500), (500, 1001, 499), (1000, 1000, 1)]),
        (1000, [(100, 10), (105, 10)], [(0, 100, 10), (10, 110, 5), (1000, 1000, 1)]),
        (5, [], [(5, 5, 1)]),
    ],
)
def test_the_map(own: int, found: list[tuple[int, int]], expected: list[tuple[int, int, int]]) -> None:
    assert [tuple(extent) for extent in extents(own, found)] == expected


_RANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3000)), max_size=8)


@given(st.integers(0, 6000), _RANGES)
def test_a_map_that_the_kernel_takes(own: int, found: list[tuple[int, int]]) -> None:
    """No id twice on either side; the own one is itself; all that was given is there, and no id is left out below the last."""
    made = extents(own, found)
    inside = [extent.inside + n for extent in made for n in range(extent.length)]
    outside = [extent.outside + n for extent in made for n in range(extent.length)]
    assert len(set(inside)) == len(inside) and len(set(outside)) == len(outside)
    assert dict(zip(inside, outside, strict=True))[own] == own
    given_ids = {start + n for start, count in found for n in range(count)} | {own}
    assert set(outside) == given_ids
    rest = sorted(id for id in inside if id != own)
    assert rest == [id for id in range(len(rest) + 1) if id != own][: len(rest)]


@given(st.integers(0, LAST), st.lists(st.tuples(st.integers(0, LAST), st.just(1)), max_size=400))
def test_no_more_pieces_than_the_kernel_takes(own: int, found: list[tuple[int, int]]) -> None:
    made = extents(own, found)
    assert len(made) <= 340 and Extent(own, own, 1) in made


def test_how_far_it_reaches() -> None:
    assert reaches(extents(1000, [(100000, 65536)])) == 65537
    assert reaches(extents(1000, [(100000, 10)])) == 10
    assert reaches(extents(70000, [])) == 0


ROOT = Verdict("root", False, "no root", "sudo")
USERNS = Verdict("userns", True, "ids")
NONE = Verdict("userns", False, "no ids", "usermod")
CHROOT = Verdict("chroot", True, "a copy")


@pytest.mark.parametrize(
    ("verdicts", "wanted", "expected"),
    [
        ((ROOT, USERNS, CHROOT), "auto", ("userns", "ids", "")),
        ((ROOT._replace(usable=True), USERNS), "auto", ("root", "no root", "")),
        ((ROOT._replace(usable=True), USERNS), "userns", ("userns", "ids", "")),
        (
            (ROOT, NONE, CHROOT),
            "auto",
            (
                None,
                "no sandbox can be made here (root: no root; userns: no ids)",
                "usermod; or sudo; or --isolation=chroot works, and keeps nothing apart but files: for Dockerfiles that you"
                " trust",
            ),
        ),
        ((ROOT, NONE), "auto", (None, "no sandbox can be made here (root: no root; userns: no ids)", "usermod; or sudo")),
        ((ROOT, NONE, CHROOT), "chroot", ("chroot", "a copy", "")),
        ((ROOT, USERNS), "root", (None, "--isolation=root does not work here: no root", "sudo")),
    ],
)
def test_the_strongest_that_works_is_taken(verdicts: tuple[Verdict, ...], wanted: str, expected: Isolation) -> None:
    assert choose(verdicts, wanted) == Isolation(*expected)


@pytest.mark.parametrize(("program", "why"), [("#!/bin/sh\nexec sleep 1000\n", "gave no answer"), ("\0", "Exec format error")])
def test_a_directory_service_that_fails(program: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a reason why there are no ids, and no end of the builder."""
    (tmp_path / "getsubids").write_text(program)
    (tmp_path / "getsubids").chmod(0o755)
    monkeypatch.setattr(ladder, "_DIRECTORY_PATIENCE", 0.2)
    with pytest.raises(SandboxError, match=f"has no line for nobody-here, and getsubids, .* failed: .*{why}"):
        ladder._ranges("/etc/subuid", "nobody-here", 987654, str(tmp_path))


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        ("0 100000 1000 1000 1000 1", "0 100000 1000 1000 1000 1", True),
        # More ids behind, and a second range.
        ("0 100000 999 1000 1000 1", "0 100000 1000 1000 1000 1 1001 101000 64535", True),
        ("0 100000 1000", "0 100000 10 10 100010 990", True),
        ("0 100000 1000", "0 100000 10 10 200010 990", False),
        ("0 100000 1000", "0 100001 1000", False),
        ("0 100000 1000", "0 100000 999", False),
        ("0 100000 1000", "1 100001 999", False),
        ("", "0 100000 10", True),
        ("0 100000 10", "", False),
    ],
)
def test_whether_a_map_keeps_what_an_earlier_one_had(before: str, now: str, kept: bool) -> None:
    assert keeps(tuple(before.split()), tuple(now.split())) is kept
