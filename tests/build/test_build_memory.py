"""What a build takes in memory for each file of its context."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pybuild

FEW, MANY = 12_000, 36_000
"""Both are many: what any build takes, and what waits to be hashed, is no more of more files."""
COPY, CHMOD = "COPY . /all/\n", "COPY --chmod=u+x . /all/\n"
FROM_STAGE = f"{COPY}FROM scratch\nCOPY --from=0 /all /all/\n"
MOST = {COPY: 600, CHMOD: 600, f"{COPY}RUN ls /all | wc -l > /number\n": 600, FROM_STAGE: 700}
"""Bytes for each file more. They were 1,000 once, when each had objects of its own, and 1,300 where a
merged file system is looked into."""
MOST_AS_TAR = {"without folders": 1250, "plain": 600}
"""The same of a context that comes as a tar, from one of many files to one of four times as many. It was 1,380 of both."""


# What a process has at most counts from its fork, when it is still as large as who forks it: that must be a small process.
_MEASURES = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak(program: Pybuild, base: Path, context: Path, output: Path, archive: Path | None = None) -> int:
    """Bytes of the builder at most; the context is what is in the folder, or in the archive."""
    # One job: then no more waits for compressors on a busy machine than on an idle one.
    command = [*program.command, "-q", "--jobs=1", "--build-context", f"base={base}", "-o", f"type=oci,dest={output}"]
    with open(archive or os.devnull, "rb") as given:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MEASURES, *command, "-" if archive else str(context)],
            env=program.environment(),
            stdin=given,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) << 10


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of many files and one of three times as many."""
    made = []
    for count in (FEW, MANY):
        context = tmp_path_factory.mktemp("context")
        for number in range(count):
            if number % 100 == 0:
                folder = context / f"folder-{number}"
                folder.mkdir()
            (folder / f"file-{number}.txt").write_text(str(number))
        made.append(context)
    return made


@pytest.mark.parametrize("lines", MOST, ids=["nobody looks into it", "with other modes", "a command does", "a stage"])
def test_many_files_take_little_memory(
    lines: str, pybuild: Pybuild, busybox_base: Path, contexts: list[Path], tmp_path: Path
) -> None:
    """Nor does it take more to say what changed since the last build."""
    for changed in (False, True):
        peaks = []
        for context in contexts:
            (context / "Dockerfile").write_text(f"FROM base\n{lines}")
            (context / "folder-0" / "file-7.txt").write_text(f"changed: {changed}")
            peaks.append(peak(pybuild, busybox_base, context, tmp_path / f"{context.name}.tar"))
        each = (peaks[1] - peaks[0]) / (MANY - FEW)
        print(f"{each:.0f} bytes for each file: {peaks}")
        assert each < MOST[lines]


@pytest.mark.parametrize("kind", MOST_AS_TAR)
def test_many_files_of_a_tar_take_little_memory(kind: str, pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (FEW, 4 * FEW):
        archive, last = tmp_path / f"{count}.tar", ""
        with tarfile.open(archive, "w") as file:
            for name, data in _files(count):
                where, slash, _ = name.partition("/")
                if kind == "plain" and slash and where != last:
                    folder = tarfile.TarInfo(where)
                    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                    file.addfile(folder)
                    last = where
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
        peaks.append(peak(pybuild, busybox_base, tmp_path, tmp_path / "out.tar", archive))
    each = (peaks[1] - peaks[0]) / (3 * FEW)
    print(f"{each:.0f} bytes for each file: {peaks}")
    assert each < MOST_AS_TAR[kind]


def _files(count: int) -> Iterator[tuple[str, bytes]]:
    yield "Dockerfile", f"FROM base\n{COPY}".encode()
    for number in range(count):
        yield f"folder-{number // 100}/file-{number}.txt", str(number).encode()
