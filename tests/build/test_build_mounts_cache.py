"""RUN --mount=type=cache: what outlives a build, for whom, and who waits for whom, between real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.store.store import Store
from tests.build.build_shipped import refused, run_build
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def said(stderr: str) -> list[str]:
    return re.findall(r"^#\d+ \d+\.\d+ ?(.*)$", stderr, re.MULTILINE)


def build(pybuild: Pybuild, context: Path, base: Path, dockerfile: str, *flags: str | Path) -> list[str]:
    return said(run_build(pybuild, context, dockerfile, "--build-context", f"base={base}", *flags))


def test_a_cache_outlives_steps_builds_and_failures(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    mount = "--mount=type=cache,target=/c"
    text = f"FROM base\nRUN {mount} echo one >> /c/log\nRUN {mount} cat /c/log\nRUN {mount} echo {{}} >> /c/log; cat /c/log\n"
    assert build(pybuild, context, busybox_base, text.format("two")) == ["one", "one", "two"]
    # What a cache holds is in no key: the first two steps are cached, and the third sees what is there by now.
    assert build(pybuild, context, busybox_base, text.format("three")) == ["one", "two", "three"]
    failing = f"FROM base\nRUN {mount} echo failed >> /c/log; exit 3\n"
    refused(pybuild, context, failing, "--build-context", f"base={busybox_base}", code=1)
    assert build(pybuild, context, busybox_base, f"FROM base\nRUN {mount} tail -n 1 /c/log; ls -A /c\n") == ["failed", "log"]
    assert_valid(pybuild.store)
    with Store(str(pybuild.store)) as store:
        (record,) = store.cache_mounts()
        assert (record.id, record.base) == ("/c", "")
        assert store.remove_cache_mount(record)
    assert build(pybuild, context, busybox_base, f"FROM base\nRUN {mount} ls -A /c; echo none\n") == ["none"]


def test_id_owner_and_what_it_begins_with_tell_caches_apart(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    (context / "seed" / "inner").mkdir(parents=True)
    (context / "seed" / "inner" / "file").write_text("seed\n")
    text = """FROM base AS stage
RUN mkdir -m 0711 /begin && echo begin > /begin/file && ln /begin/file /begin/twice
FROM base
RUN --mount=type=cache,id=shared,target=/a touch /a/x
RUN --mount=type=cache,id=shared,target=/b --mount=type=cache,id=shared,target=/b2 ls /b /b2 && echo > /b/y && ls /b2
RUN --mount=type=cache,target=/c ls -A /c
RUN --mount=type=cache,id=shared,target=/d,mode=0700,uid=1000,gid=1001 stat -c '%a %u:%g' /d && ls -A /d
RUN --mount=type=cache,id=shared,from=stage,source=/begin,target=/e \\
    stat -c '%a %h' /e /e/twice && cat /e/file && echo more > /e/file
RUN --mount=type=cache,id=shared,from=stage,source=/begin,target=/e cat /e/file
RUN --mount=type=cache,id=shared,from=stage,source=/begin,target=/e,uid=7 cat /e/file && stat -c %u /e /e/file
RUN --mount=type=cache,id=seed,from=seeds,target=/f cat /f/inner/file
USER 1000
RUN --mount=type=cache,id=shared,target=/d,mode=0700,uid=1000,gid=1001 touch /d/mine && ls /d
RUN --mount=type=cache,id=shared,target=/a,readonly ls /a; touch /a/no 2>&1 || true
"""
    assert build(pybuild, context, busybox_base, text, "--build-context", f"seeds={context}/seed") == [
        *("/b:", "x", "", "/b2:", "x", "x", "y"),
        "700 1000:1001",
        *("711 2", "644 2", "begin"),
        "more",
        *("begin", "7", "0"),
        "seed",
        "mine",
        *("x", "y", "touch: /a/no: Read-only file system"),
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.01)


class Holder:
    """A build whose one step uses a cache until it is told to end, by a file in the cache itself."""

    def __init__(self, pybuild: Pybuild, tmp_path: Path, base: Path, sharing: str) -> None:
        context = tmp_path / "holder"
        context.mkdir()
        script = "echo $$ > /c/held; until [ -e /c/end ]; do sleep 0.05; done; rm /c/end; echo first >> /c/log"
        (context / "Dockerfile").write_text(f"FROM base\nRUN --mount=type=cache,target=/c,sharing={sharing} {script}\n")
        self.process = pybuild.start("--progress=plain", "--build-context", f"base={base}", context)
        self.mounts = pybuild.store / "mounts"
        wait_for(lambda: any(self.mounts.glob("*/held")))
        self.folder = next(self.mounts.glob("*/held")).parent

    def end(self) -> None:
        (self.folder / "end").touch()
        _, stderr = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, stderr


@pytest.mark.parametrize(
    ("held", "sharing", "seen"),
    [("shared", "shared", "held"), ("private", "private", ""), ("shared", "private", ""), ("locked", "shared", "")],
)
def test_who_does_not_wait(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path, held: str, sharing: str, seen: str
) -> None:
    """Sharing is at once; who cannot share gets a folder of their own."""
    holder = Holder(pybuild, tmp_path, busybox_base, held)
    text = f"FROM base\nRUN --mount=type=cache,target=/c,sharing={sharing} ls /c; echo ran\n"
    assert build(pybuild, context, busybox_base, text) == [*([seen] if seen else []), "ran"]
    assert len(list(holder.mounts.iterdir())) == (1 if seen else 2)
    holder.end()


@pytest.mark.parametrize("held", ["locked", "shared"])
def test_locked_waits_and_says_for_whom(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path, held: str) -> None:
    holder = Holder(pybuild, tmp_path, busybox_base, held)
    text = "FROM base\nRUN --mount=type=cache,target=/c,sharing=locked echo second >> /c/log; cat /c/log\n"
    (context / "Dockerfile").write_text(text)
    with pybuild.start("--progress=plain", "--build-context", f"base={busybox_base}", context) as waiting:
        assert waiting.stderr is not None
        lines: list[bytes] = []
        while not lines or b"waiting" not in lines[-1]:
            lines.append(waiting.stderr.readline())
            assert lines[-1], lines
        assert b"second" not in b"".join(lines[:-1]).partition(b"cat /c/log")[2]
        holder.end()
        rest = waiting.stderr.read().decode()
    assert (waiting.returncode, said(rest)) == (0, ["first", "second"])
    whom = f"process {holder.process.pid}, in [stage-0 2/2] RUN --mount=type=cache" if held == "locked" else "others"
    assert f"waiting for the cache mount '/c', held by {whom}" in lines[-1].decode()


def test_who_waits_can_be_interrupted_and_a_dead_holder_holds_nothing(
    pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path
) -> None:
    holder = Holder(pybuild, tmp_path, busybox_base, "locked")
    (context / "Dockerfile").write_text("FROM base\nRUN --mount=type=cache,target=/c,sharing=locked ls /c\n")
    flags = ("--progress=plain", "--build-context", f"base={busybox_base}", context)
    with pybuild.start(*flags) as waiting:
        assert waiting.stderr is not None
        while b"waiting" not in (line := waiting.stderr.readline()):
            assert line
        waiting.send_signal(signal.SIGINT)
        waiting.stderr.read()
    assert waiting.returncode == 130
    holder.process.kill()
    holder.process.communicate()
    done = pybuild(*flags)
    assert (done.returncode, said(done.stderr)) == (0, ["held"])
    assert_nothing_left(pybuild.store)


def test_two_caches_in_either_order_do_not_wait_for_each_other(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    running = []
    for number, order in enumerate(("ab", "ba") * 3):
        context = tmp_path / f"context{number}"
        context.mkdir()
        mounts = " ".join(f"--mount=type=cache,id={id},target=/{id},sharing=locked" for id in order)
        script = f"for n in 1 2 3 4 5 6; do echo {number} >> /a/log; echo {number} >> /b/log; done"
        (context / "Dockerfile").write_text(f"FROM base\nRUN {mounts} {script}\n")
        running.append(pybuild.start("--build-context", f"base={busybox_base}", context))
    for process in running:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    logs = [path.read_text() for path in (pybuild.store / "mounts").glob("*/log")]
    assert len(logs) == 2
    for log in logs:
        # Nobody came in between.
        assert re.fullmatch(r"(?:(\d)\n(?:\1\n){5}){6}", log)


def test_mounts_inside_a_cache_that_others_use_at_once(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    """Each step makes the same mount points in the cache, at the same time."""
    mounts = " ".join(f"--mount=type=tmpfs,target=/c/{n}/in" for n in range(300))
    stages = "".join(f"FROM base AS s{n}\nRUN --mount=type=cache,target=/c {mounts} echo {n} > /{n}\n" for n in range(8))
    copies = "".join(f"COPY --from=s{n} /{n} /\n" for n in range(8))
    build(pybuild, context, busybox_base, f"{stages}FROM base\n{copies}", "--jobs=8")


def test_a_cache_in_use_is_not_removed(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    holder = Holder(pybuild, tmp_path, busybox_base, "shared")
    with Store(str(pybuild.store)) as store:
        (record,) = store.cache_mounts()
        assert not store.remove_cache_mount(record)
        holder.end()
        assert (holder.folder / "log").read_text() == "first\n"
        assert store.remove_cache_mount(record)
    assert os.listdir(holder.mounts) == []


def test_a_killed_build_leaves_its_cache_whole(pybuild: Pybuild, busybox_base: Path, context: Path, tmp_path: Path) -> None:
    holder = Holder(pybuild, tmp_path, busybox_base, "private")
    subprocess.run(["kill", "-9", str(holder.process.pid)], check=True)
    holder.process.communicate()
    assert build(pybuild, context, busybox_base, "FROM base\nRUN --mount=type=cache,target=/c ls /c\n") == ["held"]
    assert_valid(pybuild.store)
