"""`--call` and `--print-plan` by the whole program. The goldens follow the text and JSON of `docker buildx build --call`
(moby/buildkit, frontend/subrequests); they were written by hand before the first run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Pybuild

GOLDEN = ROOT / "tests" / "golden" / "call"


def loaded(text: str) -> Any:
    """The document without its sources, which are the Dockerfile itself."""
    document = json.loads(text)
    assert [base64.b64decode(source) for source in document.pop("sources")] == [(GOLDEN / "Dockerfile").read_bytes()]
    return document


def test_outline_and_targets(pybuild: Pybuild) -> None:
    done = pybuild("--call=outline", GOLDEN)
    assert (done.returncode, done.stdout, done.stderr) == (0, (GOLDEN / "outline.txt").read_text(), "")
    done = pybuild("build", "-q", "--call", "targets", GOLDEN)
    assert (done.returncode, done.stdout, done.stderr) == (0, (GOLDEN / "targets.txt").read_text(), "")
    # Neither base nor store was looked at.
    assert not pybuild.store.exists()


def test_as_json(pybuild: Pybuild) -> None:
    args = ("--build-arg=VERSION=2", "--build-arg=GOFLAGS=-race", "--target=build")
    done = pybuild("--call=outline,format=json", *args, GOLDEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert loaded(done.stdout) == json.loads((GOLDEN / "outline.json").read_text())
    done = pybuild("--call=format=json,targets", GOLDEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert loaded(done.stdout) == json.loads((GOLDEN / "targets.json").read_text())


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ("--call=outlien",),
            2,
            "error: 'outlien' is not a method of --call\n  hint: did you mean 'outline'?\n",
        ),
        (
            ("--call=subrequests.describe",),
            2,
            "error: 'subrequests.describe' is not a method of --call\n"
            "  hint: the methods are build, check, outline and targets\n",
        ),
        (
            ("--call=outline,format=yaml",),
            2,
            "error: 'yaml' is not a format of --call\n  hint: the formats are text and json\n",
        ),
        (
            ("--call=outline,targets",),
            2,
            "error: 'outline,targets' is not a value of --call\n  hint: it looks like outline or outline,format=json\n",
        ),
        (
            ("--call=outline", "--target=biuld"),
            2,
            "error: unknown stage 'biuld' in --target\n  hint: did you mean 'build'?\n",
        ),
        (
            ("--call=outline", "--print-plan"),
            2,
            "error: --print-plan and --call exclude each other\n  hint: leave one of them out\n",
        ),
        (
            ("--call=targets", "-f", "-"),
            3,
            "Dockerfile:2:1: error: unknown instruction 'CPOY'\n  2 | CPOY a b\n    | ^^^^\n  hint: did you mean 'COPY'?\n",
        ),
        (
            ("--call=outline", "--build-arg=BASE=", "-f", "-"),
            3,
            "Dockerfile:2:1: error: unknown instruction 'CPOY'\n  2 | CPOY a b\n    | ^^^^\n  hint: did you mean 'COPY'?\n",
        ),
    ],
)
def test_what_cannot_be_called(pybuild: Pybuild, args: tuple[str, ...], code: int, message: str) -> None:
    done = pybuild(*args, GOLDEN, stdin=b"FROM scratch\nCPOY a b\n")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


def test_build_is_a_method_too(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    done = pybuild("-q", "--call=build", tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("sha256:")


def test_a_plan_is_printed_and_not_done(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base AS one\nRUN false\nFROM scratch\nCOPY --from=one /missing /\n")
    imported = pybuild("import", busybox_base, "base")
    assert imported.returncode == 0, imported.stderr
    done = pybuild("--print-plan", "--build-arg=UNUSED=1", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: --build-arg UNUSED is not declared by any ARG (UnusedBuildArg)\n"
    plan = json.loads(done.stdout)
    assert [(step["kind"], step["needs"]) for step in plan["steps"]] == [
        ("base", []),
        ("run", [0]),
        ("base", []),
        ("copy", [2, 1]),
    ]
    assert plan["v"] == 1
    assert plan["steps"][1]["span"] == {
        "file": str(tmp_path / "Dockerfile"),
        "line": 2,
        "column": 1,
        "end_line": 2,
        "end_column": 10,
    }
    assert len(plan["steps"][0]["base"]["diff_ids"]) == 1
    assert pybuild("images", "-q").stdout.count("\n") == 1


def test_a_plan_needs_its_bases(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n")
    done = pybuild("--print-plan", "--pull=never", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Dockerfile:1:6: error: there is no image 'debian:12' in the store")
