"""Several pybuild processes on one store at once, some of them killed: the others go on, and equal builds give equal images."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild

SAME = """FROM base AS build
COPY big /big
RUN sha256sum /big > /sum; cat /big /big > /twice
WORKDIR /srv/app
FROM base
COPY --from=build /sum /twice /out/
RUN wc -c /out/* > /count
"""
# The first steps are those of SAME.
OVERLAPPING = """FROM base AS build
COPY big /big
RUN sha256sum /big > /sum; cat /big /big > /twice
RUN echo {number} > /number
FROM base
COPY --from=build /sum /number /out/
"""
DIFFERENT = """FROM base
RUN echo {number} > /number; head -c {number}00000 /dev/zero > /zero
COPY big /big{number}
RUN cat /number /big{number} | sha256sum > /sum
"""


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Seven builds: thrice the same, two that share its beginning, two of their own."""
    texts = [SAME, SAME, SAME, *(OVERLAPPING.format(number=n) for n in (1, 2)), *(DIFFERENT.format(number=n) for n in (3, 4))]
    place = tmp_path_factory.mktemp("concurrent")
    found = []
    for number, text in enumerate(texts):
        folder = place / f"context{number}"
        folder.mkdir()
        (folder / "big").write_bytes(random.Random(7).randbytes(400_000))
        (folder / "Dockerfile").write_text(text)
        found.append(folder)
    return found


@pytest.fixture(scope="module")
def expected(busybox_base: Path, contexts: list[Path]) -> list[str]:
    """The ids that the builds have one after the other, each in a store of its own."""
    found = []
    for number in (0, 3, 4, 5, 6):
        alone = Pybuild(contexts[0].parent / f"alone{number}", contexts[0].parent)
        done = alone("-q", "--build-context", f"base={busybox_base}", ".", cwd=contexts[number])
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    return [found[0], found[0], *found]


def start(pybuild: Pybuild, base: Path, contexts: list[Path], *flags: str) -> list[subprocess.Popen[bytes]]:
    named = ("-q", "--build-context", f"base={base}", *flags)
    return [
        pybuild.start(*named, "-t", f"image{number}", "-o", f"type=oci,dest=../image{number}.tar", ".", cwd=context)
        for number, context in enumerate(contexts)
    ]


def finish(processes: list[subprocess.Popen[bytes]]) -> list[str]:
    """What each wrote to stdout; all succeeded and said nothing else."""
    ends = [process.communicate(timeout=120) for process in processes]
    assert [(process.returncode, err.decode()) for process, (_, err) in zip(processes, ends)] == [(0, "")] * len(processes)
    return [out.decode() for out, _ in ends]


@pytest.mark.parametrize("flags", [(), ("--no-cache",)], ids=["cached", "no-cache"])
def test_they_share_a_store(
    pybuild: Pybuild, busybox_base: Path, contexts: list[Path], expected: list[str], flags: tuple[str, ...]
) -> None:
    """A store that none of them found made, and then once more with all there."""
    for again in (False, True):
        assert finish(start(pybuild, busybox_base, contexts, *flags)) == expected, again
    outputs = {(contexts[0].parent / f"image{number}.tar").stat().st_size for number in range(3)}
    assert len(outputs) == 1
    assert_nothing_left(pybuild.store)
    assert_valid(pybuild.store)
    assert pybuild("run", "image0", "cat", "/count").stdout.splitlines()[-1].split() == ["800071", "total"]


def test_one_is_killed_and_the_others_go_on(
    pybuild: Pybuild, busybox_base: Path, contexts: list[Path], expected: list[str]
) -> None:
    rng = random.Random(3)
    for _ in range(3):
        victim, *others = start(pybuild, busybox_base, contexts, "--no-cache")
        killer = threading.Thread(target=_kill, args=(victim, rng.uniform(0.05, 0.9)))
        killer.start()
        assert finish(others) == expected[1:]
        killer.join()
        victim.communicate(timeout=20)
        assert_nothing_left(pybuild.store)
    assert finish(start(pybuild, busybox_base, contexts)) == expected
    assert_valid(pybuild.store)


def _kill(process: subprocess.Popen[bytes], delay: float) -> None:
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)


def test_commands_beside_builds(pybuild: Pybuild, busybox_base: Path, contexts: list[Path], expected: list[str]) -> None:
    """What lists, names and removes images works while others build, and disturbs none of them."""
    assert pybuild("import", busybox_base, "base").returncode == 0
    processes = start(pybuild, busybox_base, contexts)
    while any(process.poll() is None for process in processes):
        for command in (("images",), ("tag", "base", "other"), ("inspect", "base"), ("history", "base"), ("rmi", "other")):
            done = pybuild(*command)
            assert done.returncode == 0, done.stderr
    assert finish(processes) == expected
    assert_valid(pybuild.store)
