"""Steps that do not need each other run side by side, bounded by --jobs; the first failure ends what runs."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from builder.errors import StoreError
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild

# Each command waits until the other has come, so that it ends only where both run at once.
MEETING = """FROM base AS a
RUN --mount=type=cache,id=meeting,target=/m touch /m/a; until [ -e /m/b ]; do sleep 0.05; done; echo a > /a
FROM base AS b
RUN --mount=type=cache,id=meeting,target=/m touch /m/b; until [ -e /m/a ]; do sleep 0.05; done; echo b > /b
FROM base
COPY --from=a /a /
COPY --from=b /b /
"""
STAGES = """FROM base AS a
RUN echo a > /a
FROM base AS b
RUN echo b > /b
FROM base AS unused
RUN exit 9
FROM base
COPY --from=a /a /
COPY --from=b /b /
"""


def write(folder: Path, dockerfile: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    return folder


def events(stderr: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in stderr.splitlines()]


def overlap(found: list[dict[str, object]]) -> int:
    """The most steps that were running at once."""
    running = most = 0
    for event in found:
        running += {"step.started": 1, "step.finished": -1}.get(str(event["type"]), 0)
        most = max(most, running)
    return most


def test_commands_of_two_stages_meet(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """They meet in a folder that both have mounted."""
    context = write(tmp_path / "context", MEETING)
    done = pybuild("--progress=json", "--jobs=2", "--build-context", f"base={busybox_base}", "-t", "met", context, timeout=60)
    assert done.returncode == 0, done.stderr
    assert pybuild("run", "met", "cat", "/a", "/b").stdout == "a\nb\n"
    assert overlap(events(done.stderr)) == 2


@pytest.mark.parametrize(("jobs", "most"), [("1", 1), ("2", 2), ("3", 3)])
def test_jobs_bounds_what_runs_at_once(pybuild: Pybuild, busybox_base: Path, tmp_path: Path, jobs: str, most: int) -> None:
    stages = "".join(f"FROM base AS s{n}\nRUN sleep 0.3; echo {n} > /{n}\n" for n in range(4))
    copies = "".join(f"COPY --from=s{n} /{n} /\n" for n in range(4))
    context = write(tmp_path / "context", f"{stages}FROM base\n{copies}")
    done = pybuild("--progress=json", "--jobs", jobs, "--build-context", f"base={busybox_base}", context)
    assert done.returncode == 0, done.stderr
    assert overlap(events(done.stderr)) == most


def test_the_image_does_not_depend_on_jobs(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "context", STAGES)
    ids = set()
    for number, jobs in enumerate(("1", "2", "7")):
        alone = Pybuild(tmp_path / f"store{number}", tmp_path)
        for _ in range(2):
            done = alone("-q", "--jobs", jobs, "--build-context", f"base={busybox_base}", context)
            assert (done.returncode, done.stderr) == (0, "")
            ids.add(done.stdout)
    assert len(ids) == 1


def test_unreached_stages_are_not_run(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "context", STAGES)
    done = pybuild("--progress=json", "--build-context", f"base={busybox_base}", context)
    assert done.returncode == 0
    names = [str(event["name"]) for event in events(done.stderr) if event["type"] == "step.started"]
    assert not [name for name in names if "exit 9" in name]
    assert len([name for name in names if "RUN" in name]) == 2


FAILING = """FROM base AS slow
RUN echo slow began; touch /slow; sleep 60
FROM base AS bad
RUN sleep 1; echo it is bad; exit 3
RUN echo never
FROM base
COPY --from=slow /slow /
COPY --from=bad /bad /
RUN echo after
"""


def test_a_failure_ends_what_runs_and_stops_the_rest(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "context", FAILING)
    begun = time.monotonic()
    done = pybuild("--progress=json", "--jobs=2", "--build-context", f"base={busybox_base}", context, timeout=50)
    assert time.monotonic() - begun < 40
    assert done.returncode == 1
    found = events(done.stderr)
    ended = [(str(e["name"]), e["status"]) for e in found if e["type"] == "step.finished" and e["status"] != "cached"]
    assert ended == [
        ("[bad 2/3] RUN sleep 1; echo it is bad; exit 3", "failed"),
        ("[slow 2/2] RUN echo slow began; touch /slow; sleep 60", "cancelled"),
    ]
    assert not [e for e in found if e["type"] == "step.started" and ("never" in str(e["name"]) or "after" in str(e["name"]))]
    error = found[-1]["error"]
    assert isinstance(error, dict)
    assert (error["message"], error["line"], error["code"]) == ("the command failed with exit code 3", 4, 3)
    assert error["cancelled"] == ["[slow 2/2] RUN echo slow began; touch /slow; sleep 60"]
    assert_nothing_left(pybuild.store)
    assert_valid(pybuild.store)


def test_the_failure_is_told_last_with_what_was_cancelled(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "context", FAILING)
    done = pybuild("--progress=plain", "--jobs=2", "--build-context", f"base={busybox_base}", context, timeout=50)
    lines = re.sub(r"(\d+\.\d+) ", "T ", done.stderr).splitlines()
    failed = next(n for n, line in enumerate(lines) if "ERROR" in line)
    cancelled = next(n for n, line in enumerate(lines) if "CANCELED" in line)
    assert failed < cancelled
    assert lines[-5:] == [
        "  last output:",
        "    it is bad",
        "  hint: look into it: pybuild shell 3",
        "  cancelled:",
        "    [slow 2/2] RUN echo slow began; touch /slow; sleep 60",
    ]


def test_lines_of_parallel_steps_are_whole_and_prefixed(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """Commands that write their lines in pieces, at the same time."""
    piece = "i=0; while [ $i -lt 40 ]; do printf {0}{0}{0}; sleep 0.01; printf '{0}{0}\\n'; i=$((i+1)); done"
    stages = "".join(f"FROM base AS {n}\nRUN {piece.format(n)}; touch /{n}\n" for n in "xyz")
    copies = "".join(f"COPY --from={n} /{n} /\n" for n in "xyz")
    context = write(tmp_path / "context", f"{stages}FROM base\n{copies}")
    done = pybuild("--progress=plain", "--jobs=3", "--build-context", f"base={busybox_base}", context)
    assert done.returncode == 0, done.stderr
    logs = re.findall(r"^#(\d+) \d+\.\d+ (.*)$", done.stderr, re.MULTILINE)
    assert len(logs) == 120
    by_step: dict[str, set[str]] = {}
    for step, text in logs:
        by_step.setdefault(step, set()).add(text)
    assert sorted(map(sorted, by_step.values())) == [["xxxxx"], ["yyyyy"], ["zzzzz"]]
    # They did run at once: their lines are mixed.
    assert len({step for step, _ in logs[:40]}) > 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_all_that_runs(pybuild: Pybuild, busybox_base: Path, tmp_path: Path, number: int, code: int) -> None:
    stages = "".join(f"FROM base AS s{n}\nRUN echo began{n}; sleep 60; touch /{n}\n" for n in range(3))
    copies = "".join(f"COPY --from=s{n} /{n} /\n" for n in range(3))
    context = write(tmp_path / "context", f"{stages}FROM base\n{copies}")
    with pybuild.start("--progress=plain", "--jobs=3", "--build-context", f"base={busybox_base}", context) as process:
        assert process.stderr is not None
        seen = b""
        while seen.count(b" began") < 3:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        process.send_signal(number)
        rest = process.communicate(timeout=20)[1]
    assert process.returncode == code
    assert rest.count(b"CANCELED") == 3
    assert_nothing_left(pybuild.store)
    assert_valid(pybuild.store)


def test_too_few_descriptors_for_so_many_jobs(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    stages = "".join(f"FROM base AS s{n}\nRUN sleep 60; touch /{n}\n" for n in range(30))
    copies = "".join(f"COPY --from=s{n} /{n} /\n" for n in range(30))
    context = write(tmp_path / "context", f"{stages}FROM base\n{copies}")
    command = [*pybuild.command, "--jobs=30", "--build-context", f"base={busybox_base}", str(context)]
    limited = ["sh", "-c", 'ulimit -n 60; exec "$@"', "sh", *command]
    done = subprocess.run(limited, env=pybuild.environment(), capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert "error: too many open files" in done.stderr
    assert "hint: allow more with ulimit -n, or have fewer steps run at once with --jobs\n" in done.stderr
    assert_nothing_left(pybuild.store)


@pytest.mark.parametrize("reading", ["COPY large /", "ADD large /", "RUN --mount=target=/context true"])
def test_a_failure_ends_the_reading_of_a_large_file(pybuild: Pybuild, busybox_base: Path, tmp_path: Path, reading: str) -> None:
    text = f"FROM base AS slow\n{reading}\nFROM base AS bad\nRUN sleep 1; exit 3\nFROM base\n"
    context = write(tmp_path / "context", f"{text}COPY --from=slow /bin /1\nCOPY --from=bad /bin /2\n")
    # A hole: it takes no room, and minutes to read.
    with open(context / "large", "wb") as file:
        file.truncate(1 << 40)
    done = pybuild("--progress=json", "--jobs=2", "--build-context", f"base={busybox_base}", context, timeout=50)
    assert done.returncode == 1
    error = events(done.stderr)[-1]["error"]
    assert isinstance(error, dict)
    assert (error["line"], error["cancelled"]) == (4, [f"[slow 2/2] {reading}"])
    assert_nothing_left(pybuild.store)


def test_a_step_that_cannot_be_told_of_ends_the_build(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """The store loses its records while two commands run: why they ran cannot be said, and nobody waits for their threads."""
    stages = "".join(f"FROM base AS s{n}\nRUN echo $WHICH{n}; sleep 2; touch /{n}\n" for n in range(2))
    copies = "".join(f"COPY --from=s{n} /{n} /\n" for n in range(2))
    base = ("--progress=plain", "--jobs=2", "--build-context", f"base={busybox_base}")
    context = write(tmp_path / "context", (stages + "FROM base\n" + copies).replace("$WHICH", "old"))
    assert pybuild(*base, context).returncode == 0
    write(context, (stages + "FROM base\n" + copies).replace("$WHICH", "new"))
    with pybuild.start(*base, context) as process:
        assert process.stderr is not None
        seen = b""
        while seen.count(b" new") < 4:  # The names of the steps, and what they say.
            line = process.stderr.readline()
            assert line, seen
            seen += line
        with contextlib.closing(sqlite3.connect(pybuild.store / "db.sqlite")) as connection:
            connection.execute("DROP TABLE records")
        rest = process.communicate(timeout=20)[1]
    assert b"Traceback" not in rest, rest.decode()
    assert process.returncode == StoreError.exit_code


SAME_KEY = """FROM base AS a
RUN echo ran; sleep 1; date +%N > /made
FROM base AS b
RUN echo ran; sleep 1; date +%N > /made
FROM base
COPY --from=a /made /a
COPY --from=b /made /b
"""


def test_stages_with_the_same_step_do_it_once(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "context", SAME_KEY)
    done = pybuild("--progress=json", "--jobs=2", "--build-context", f"base={busybox_base}", "-t", "same", context)
    assert done.returncode == 0, done.stderr
    statuses = [e["status"] for e in events(done.stderr) if e["type"] == "step.finished" and "RUN" in str(e["name"])]
    assert sorted(map(str, statuses)) == ["cached", "done"]
    assert len(set(pybuild("run", "same", "cat", "/a", "/b").stdout.splitlines())) == 1


def test_processes_with_the_same_step_do_it_once(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    """The one that waits says for whom, and takes the result."""
    context = write(tmp_path / "context", "FROM base\nRUN echo ran; sleep 3; date +%N > /made\n")
    flags = ("--progress=json", "--build-context", f"base={busybox_base}", str(context))
    processes = [pybuild.start("--iidfile", tmp_path / f"id{n}", *flags) for n in range(3)]
    ends = [events(process.communicate(timeout=60)[1].decode()) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len({(tmp_path / f"id{n}").read_text() for n in range(3)}) == 1
    statuses = [str(e["status"]) for found in ends for e in found if e["type"] == "step.finished" and "RUN" in str(e["name"])]
    assert sorted(statuses) == ["cached", "cached", "done"]
    logs = [str(e.get("text")) for found in ends for e in found if e["type"] == "step.log"]
    assert logs.count("ran\n") == 1
    waited = [log for log in logs if log != "ran\n"]
    assert len(waited) == 2
    pids = {str(process.pid) for process in processes}
    for log in waited:
        holder = re.fullmatch(r"waiting for another build that does the same: process (\d+), \[stage-0 2/2\] RUN .*\n", log)
        assert holder is not None and holder[1] in pids, log


def test_who_waits_does_it_where_the_other_fails(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "context", "FROM base\nRUN echo ran; sleep 2; touch /made\n")
    flags = ("--progress=plain", "--build-context", f"base={busybox_base}", str(context))
    first = pybuild.start(*flags)
    assert first.stderr is not None
    while b"ran" not in (line := first.stderr.readline()) or b"RUN" in line:
        assert line
    second = pybuild.start(*flags)
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=20)
    out = second.communicate(timeout=60)[1].decode()
    assert second.returncode == 0
    assert re.search(r"^#\d+ \d+\.\d+ ran$", out, re.MULTILINE)
    assert_nothing_left(pybuild.store)
    # What the killed one left goes when the store is opened next.
    assert pybuild("images").returncode == 0
    assert_valid(pybuild.store)


def test_a_contended_lock_leaves_no_file(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "context", SAME_KEY)
    done = subprocess.run(
        [*pybuild.command, "--jobs=4", "--build-context", f"base={busybox_base}", context],
        env=pybuild.environment(), capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((pybuild.store / "locks").iterdir()) == []
