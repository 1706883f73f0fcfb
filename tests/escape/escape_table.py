"""The table of all tricks, and what each got on each rung. `make escapes` writes it, and a test compares."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT
from tests.escape import escape_calls, escape_files
from tests.escape.escape_ground import RUNGS, Ground, grounds

GOLDEN = ROOT / "tests/golden/escapes.txt"

Row = tuple[str, ...]
"""The trick, what it tries, and what it got on each of RUNGS."""


def all_played(places: dict[str, Ground], program: Path) -> list[Row]:
    rows: list[Row] = []
    for module_rows in (
        [escape_calls.played(places[rung], program) for rung in RUNGS],
        [escape_files.played(places[rung]) for rung in RUNGS],
    ):
        rows += [(name, tries, *(of[name][1] for of in module_rows)) for name, (tries, _) in module_rows[0].items()]
    return rows


def text(rows: list[Row]) -> str:
    return "".join(" | ".join(row) + "\n" for row in [("trick", "what it tries", *RUNGS), *rows])


def parse(golden: str) -> list[Row]:
    return [tuple(line.split(" | ")) for line in golden.splitlines()[1:]]


def main() -> None:
    os.umask(0o022)
    room = Path(tempfile.mkdtemp(prefix="pybuild-escape-"))
    try:
        with grounds(room) as places:
            (room / "bin").mkdir()
            sys.stdout.write(text(all_played(places, escape_calls.compiled(room / "bin"))))
    finally:
        shutil.rmtree(room)


if __name__ == "__main__":
    main()
