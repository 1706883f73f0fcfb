"""What became of each step of a build, for tests of the cache."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Pybuild


def statuses(pybuild: Pybuild, context: Path, base: Path, *flags: str) -> dict[str, str]:
    """What became of each step, in the order of the plan: its instruction, to `done` or `cached`."""
    done = pybuild("--progress=json", "--build-context", f"base={base}", *flags, context)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    finished = sorted((event for event in events if event["type"] == "step.finished"), key=lambda event: int(event["step"]))
    return {event["name"].partition("] ")[2]: event["status"] for event in finished}


def write(context: Path, dockerfile: str) -> None:
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
