"""What a build takes in memory for each file of its context."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.conftest import Pybuild

FILES = 8_000
MOST = 1300
"""Bytes for each file beside what any build takes; 1,000 were measured."""


def peak(program: Pybuild, context: Path, output: Path) -> int:
    """Bytes of the builder at most."""
    command = [*program.command, "-q", "-o", f"type=oci,dest={output}", str(context)]
    process = subprocess.Popen(command, env=program.environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss << 10


def test_many_files_take_little_memory(pybuild: Pybuild, tmp_path: Path) -> None:
    peaks = []
    for count in (FILES // 400, FILES):
        context = tmp_path / str(count)
        context.mkdir()
        (context / "Dockerfile").write_text("FROM scratch\nCOPY . /all/\n")
        for number in range(count):
            if number % 100 == 0:
                folder = context / f"folder-{number}"
                folder.mkdir()
            (folder / f"file-{number}.txt").write_text(str(number))
        peaks.append(peak(pybuild, context, tmp_path / f"{count}.tar"))
    assert (peaks[1] - peaks[0]) / FILES < MOST
