"""The Dockerfile language, case by case: what BuildKit's reference says must come out, and what it says is refused.

Each case is a folder of `tests/golden/language/` (`language_case.py` has the format). Its expectation was written by hand
from the reference or from BuildKit's own tests, which it cites; none was taken from what this program said.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.language.language_case import Case, load
from tests.language.language_room import Room, build_ahead

GOLDEN = ROOT / "tests" / "golden" / "language"
CASES = [load(path.parent) for path in sorted(GOLDEN.glob("*/case.toml"))]


@pytest.fixture(scope="module")
def builds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, busybox_base: Path
) -> Iterator[dict[str, Future[None]]]:
    folder = tmp_path_factory.mktemp("language")
    yield from build_ahead(Room(folder, busybox_base, "busybox"), request, folder / "cases")


@pytest.mark.parametrize("case", [case for case in CASES if not case.fails], ids=lambda case: case.name)
def test_what_comes_out(case: Case, builds: dict[str, Future[None]]) -> None:
    builds[case.name].result()


@pytest.mark.parametrize("case", [case for case in CASES if case.fails], ids=lambda case: case.name)
def test_what_is_refused(case: Case, builds: dict[str, Future[None]]) -> None:
    builds[case.name].result()


def test_there_are_enough_of_them() -> None:
    """The issue asks for 60 cases of results; those of refusals come on top."""
    assert len([case for case in CASES if not case.fails]) >= 60
