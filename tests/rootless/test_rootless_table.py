"""The table of tools on each rung is whole. What it says is tested by builds with all of them: test_rootless_build, _single."""

from __future__ import annotations

from tests.rootless.rootless_table import GOLDEN, TOOLS


def test_every_tool_gives_roots_layer_on_each_rung() -> None:
    first, *rows = GOLDEN.read_text().splitlines()
    assert first == "tool | root | userns | single-uid"
    assert rows == [f"{name} | ran | ran, root's layer | ran, root's layer" for name in TOOLS]
