"""However a build is killed, and whatever its command does not want to end for: it ends with the code of the table, and nothing
of it is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.escape.escape_ground import RUNGS, Ground, grounds
from tests.escape.escape_kills import CASES, GOLDEN, PATIENCE, ended, parse

_MUCH = 100_000_000
"""Bytes; `make kills` has a hundred times more."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ground]]:
    with grounds(tmp_path_factory.mktemp("kills")) as found:
        yield found


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("name", CASES)
def test_it_ends_and_leaves_nothing(name: str, rung: str, places: dict[str, Ground]) -> None:
    end = ended(places[rung], CASES[name], _MUCH)
    what, *ends = parse(GOLDEN.read_text())[name]
    assert (CASES[name].what, end.told) == (what, ends[RUNGS.index(rung)])
    assert end.seconds < PATIENCE


def test_the_table_has_all_cases() -> None:
    assert list(parse(GOLDEN.read_text())) == list(CASES)
