"""The tools that change users and owners, on each rung: whether they ran, and whether layer and image are root's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.escape.escape_ground import RUNGS, grounds
from tests.rootless.rootless_table import COST, GOLDEN, table


def test_every_tool_gives_roots_layer_on_each_rung(
    debian_base: Path, room: Path, record_property: Callable[[str, object], None]
) -> None:
    base = room / "debian.tar"
    shutil.copyfile(debian_base, base)
    with grounds(room) as places:
        lines = table(places, base).splitlines()
    # What it costs is measured by `make rungs`.
    assert lines == [line for line in GOLDEN.read_text().splitlines() if not line.startswith(COST)]
    for rung in RUNGS:
        record_property("rung", rung)
