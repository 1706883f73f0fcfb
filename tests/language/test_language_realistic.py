"""Dockerfiles as people write them, in the manner of well-known kinds, each with what must come of it.

Their bases are stand-ins: busybox with one script, `tests/golden/language/realistic/tool`, under the names of all tools
that they call; it notes in /tools.log what it was asked for and makes the files that the next instruction counts on.
Folders: `tests/golden/language/realistic/<kind>/`, in the format of `language_case.py`; `bases` names the stand-ins.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.language.language_case import Case, load
from tests.language.language_room import Room, build_ahead

GOLDEN = ROOT / "tests" / "golden" / "language" / "realistic"
CASES = [load(path.parent) for path in sorted(GOLDEN.glob("*/case.toml"))]

TOOLS = [
    "npm",
    "yarn",
    "pnpm",
    "node",
    "go",
    "cargo",
    "mvn",
    "gradle",
    "jlink",
    "apt-get",
    "apk",
    "dpkg-buildpackage",
    "pip",
    "python",
    "composer",
    "docker-php-ext-install",
    "bundle",
    "cmake",
    "gcc",
    "hugo",
    "curl",
    "ansible-galaxy",
    "dotnet",
    "mix",
    "adduser",
    "addgroup",
]


def stand_in(folder: Path, busybox: Path) -> Path:
    """The base for all of them, below `folder`."""
    base = folder / "base"
    shutil.copytree(busybox, base, symlinks=True)
    programs = base / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    shutil.copyfile(GOLDEN / "tool", programs / "tool")
    (programs / "tool").chmod(0o755)
    for name in TOOLS:
        (programs / name).symlink_to("tool")
    (base / "tools.log").touch()
    (base / "tools.log").chmod(0o666)
    return base


@pytest.fixture(scope="module")
def builds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, busybox_base: Path
) -> Iterator[dict[str, Future[None]]]:
    folder = tmp_path_factory.mktemp("realistic")
    yield from build_ahead(Room(folder, stand_in(folder, busybox_base), "stand-in"), request, folder / "cases")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_realistic_dockerfile(case: Case, builds: dict[str, Future[None]]) -> None:
    builds[case.name].result()


def test_they_are_many_and_of_a_realistic_size() -> None:
    """The issue: at least 30 of 20 to 100 lines."""
    lines = {
        case.name: len((case.folder / case.said.get("dockerfile", "Dockerfile")).read_text().splitlines()) for case in CASES
    }
    assert len(lines) >= 30
    assert not {name: count for name, count in lines.items() if not 20 <= count <= 100}
