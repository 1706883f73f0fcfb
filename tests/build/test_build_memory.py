"""What a build takes in memory for each file of its context."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Pybuild

FILES = 8_000
MOST = {"": 300, "RUN ls /all | wc -l > /number\n": 600}
"""Bytes for each file beside what any build takes."""


def peak(program: Pybuild, base: Path, context: Path, output: Path) -> int:
    """Bytes of the builder at most."""
    command = [*program.command, "-q", "--build-context", f"base={base}", "-o", f"type=oci,dest={output}", str(context)]
    process = subprocess.Popen(command, env=program.environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss << 10


@pytest.mark.parametrize("then", MOST, ids=["nobody looks into it", "a command does"])
def test_many_files_take_little_memory(then: str, pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (FILES // 400, FILES):
        context = tmp_path / str(count)
        context.mkdir()
        (context / "Dockerfile").write_text(f"FROM base\nCOPY . /all/\n{then}")
        for number in range(count):
            if number % 100 == 0:
                folder = context / f"folder-{number}"
                folder.mkdir()
            (folder / f"file-{number}.txt").write_text(str(number))
        peaks.append(peak(pybuild, busybox_base, context, tmp_path / f"{count}.tar"))
    each = (peaks[1] - peaks[0]) / FILES
    print(f"{each:.0f} bytes for each file")
    assert each < MOST[then]
