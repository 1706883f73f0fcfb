"""Eight builders on one store, killed at random, while others remove what they can. `make soak` is the long form."""

from __future__ import annotations

import random
from pathlib import Path

from tests.build.build_soak import Soak


def test_kills_and_removals_lose_nothing(busybox_base: Path, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    soak = Soak(tmp_path / "soak", busybox_base, seed)
    soak.run(20)
    while not any(name.startswith("prune") for name in soak.figures) and soak.figures["kills"] < 80:
        # On a slow machine few others came to their turn.
        soak.run(soak.figures["kills"] + 10)
    soak.settle()
    # The control: builders were killed, others did end, and things were removed meanwhile.
    assert soak.figures["kills"] >= 20 and soak.figures["finished builds"]
    assert any(name.startswith("prune") for name in soak.figures)
