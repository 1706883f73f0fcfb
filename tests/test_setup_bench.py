"""The bench in its short form: what it measures it writes down, and what it cannot run it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT, SEARCH_PATH

RESULTS = ROOT / "bench" / "results.json"


def run(*flags: str, path: str = SEARCH_PATH) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.compare", "--runs", "1", *flags],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_a_workload_by_two_builders_and_the_table_of_it(busybox_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    flags = ["--workloads", "W1", "--json", str(out), "--scratch", str(tmp_path), "--base", str(busybox_base)]
    done = run(*flags, "--peers", "pybuild,buildah,buildkit")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("buildkit: not measured, buildctl, buildkitd is not installed")
    found = json.loads(out.read_text())
    assert found["notes"] == done.stdout.splitlines()[-len(found["notes"]) :]
    assert set(found["versions"]) == {"pybuild", "buildah"}
    assert list(found["rows"]) == ["W1 cold", "W1 cached", "W1 changed"]
    for row in found["rows"].values():
        assert {peer: len(times) for peer, times in row["seconds"].items()} == {"pybuild": 1, "buildah": 1}
        ours, theirs = (row["seconds"][peer][0] for peer in ("pybuild", "buildah"))
        assert row["ratios"]["buildah"] == round(ours / theirs, 3) or abs(row["ratios"]["buildah"] - ours / theirs) < 0.01
    assert os.listdir(tmp_path) == ["bench.json"]


def test_what_is_committed_has_a_ratio_for_every_workload() -> None:
    """`--check` compares with it: a row that is not there would never be found to have become worse."""
    from bench.workloads import WORKLOADS

    rows = json.loads(RESULTS.read_text())["rows"]
    assert list(rows) == [f"{workload.name} {kind}" for workload in WORKLOADS for kind in workload.kinds]
    # No archive of docker's has zstd.
    assert [name for name, row in rows.items() if not set(row["ratios"]) >= {"buildah", "docker"}] == ["W4z cold"]
    assert set(rows["W4z cold"]["ratios"]) == {"buildah", "floor"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--workloads=W1,W9",), "no workload is called W9\n"),
        (("--peers=pybuild,foo",), "no peer is called foo\n"),
        (("--runs=0",), "--runs is a number from 1 on\n"),
        (("--base=nowhere",), "there is no base at nowhere: sample_projects/bases/busybox DIR makes one\n"),
    ],
)
def test_what_cannot_be_measured_is_named(flags: tuple[str, ...], message: str) -> None:
    done = run(*flags)
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_says_what_it_has_and_leaves_nothing(busybox_base: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "bench.json"
    flags = ["--peers=docker,buildah", "--workloads=W1,W7", f"--json={out}", f"--scratch={tmp_path}", f"--base={busybox_base}"]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "bench.compare", "--runs=3", *flags],
        cwd=ROOT,
        env={**os.environ, "PATH": SEARCH_PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        assert process.stderr.readline() == "W1: run 1 of 3\n"
        process.send_signal(number)
        said = process.stdout.read()
    assert process.returncode == 128 + number
    assert "workload" in said and json.loads(out.read_text())["rows"] == {}
    assert os.listdir(tmp_path) == ["bench.json"]
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"dockerd --data-root {tmp_path}" not in commands


def test_cost_against_size_in_its_short_form(busybox_base: Path, tmp_path: Path) -> None:
    """Tiny sizes: that all series are measured, written down and drawn."""
    result, picture = tmp_path / "scale.json", tmp_path / "scale.svg"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.scale",
            "--quick",
            "--runs=1",
            f"--base={busybox_base}",
            f"--json={result}",
            f"--svg={picture}",
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": SEARCH_PATH, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())["series"]
    names = ["files", "copied", "bytes", "steps", "stages", "images"]
    assert list(found) == names
    assert all(point["cold"] > 0 and point["cached"] > 0 and point["peak"] > 1 << 20 for name in names for point in found[name])
    assert [[point["size"] for point in found[name]] for name in names] == [[10, 20], [10, 20], [1, 2], [1, 2], [1, 2], [1, 2]]
    titles = [each.text or "" for each in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    wanted = ["COPY of small files: seconds", "COPY of small files: memory, MB", "images in the store: seconds"]
    assert [title for title in wanted if title not in titles] == []
    assert done.stdout.count("\n") == 2 + len(names)


def test_where_the_time_goes(busybox_base: Path, tmp_path: Path) -> None:
    """The shares of each kind of build, which make up all of it."""
    shares = tmp_path / "shares.json"
    flags = ["--workloads=W1", "--runs=1", f"--base={busybox_base}", f"--scratch={tmp_path}", f"--json={shares}"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.profile", *flags],
        cwd=ROOT,
        env={**os.environ, "PATH": SEARCH_PATH},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(shares.read_text())
    assert list(found) == ["W1 cold", "W1 cached", "W1 changed"]
    assert all(95 <= sum(each.values()) <= 105 for each in found.values())
    assert found["W1 cold"]["running commands"] > 10 > found["W1 cached"].get("running commands", 0)
    assert done.stdout.startswith("W1 cold (")
