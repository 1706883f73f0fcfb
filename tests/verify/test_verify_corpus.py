"""Planted causes are named, and what is reproducible is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.conftest import Pybuild
from tests.verify.verify_corpus import CASES, GOLDEN, QUICK, is_right, line, rows, write_context
from tests.verify.verify_sample import MENDED, PAGE, SAMPLE, told


def test_the_table_has_every_case_as_planted() -> None:
    text = GOLDEN.read_text().splitlines()[1:]
    assert [row.partition(" | ")[0] for row in text] == list(CASES)
    planted = [case for case in CASES.values() if case.cause]
    assert len(planted) >= 25 and len(CASES) - len(planted) >= 15
    assert len({case.real for case in planted} - {""}) >= 10
    for row in text:
        name, _, wanted, named = row.split(" | ")
        case = CASES[name]
        assert wanted == (" ".join(filter(None, (case.cause, case.pattern))) or "-")
        # What the files show may be more.
        assert named.split()[0] == (case.cause or "-") and case.pattern in (*named.split(), "")


def test_planted_causes_are_named(pybuild: Pybuild, debian_base: Path, tmp_path: Path) -> None:
    assert pybuild("import", debian_base, "debian").returncode == 0
    names = tuple(name for name in QUICK if CASES[name].cause != "cpus" or len(os.sched_getaffinity(0)) > 1)
    write_context(tmp_path / "context", *names)
    done = pybuild("verify", "-q", "--format=json", "--limit=1000", tmp_path / "context")
    assert (done.returncode, done.stderr) == (4, "")
    document = json.loads(done.stdout)
    found = rows(document, names)
    if "order" in {one["name"] for one in document["not_varied"]}:
        # The tests' own files are in memory.
        names = tuple(name for name in names if CASES[name].cause != "order")
    assert [line(name, found[name]) for name in names if not is_right(name, found[name])] == []


def test_the_sample_and_its_page(pybuild: Pybuild, debian_base: Path) -> None:
    """What the tool says of the first Dockerfile stands in the page, and the second one follows from it."""
    assert pybuild("import", debian_base, "debian:12").returncode == 0
    done = pybuild("verify", "-q", "-f", "Dockerfile.before", ".", cwd=SAMPLE)
    assert done.returncode == 4, done.stderr
    said = told(done.stdout)
    if "not varied" in done.stdout:
        # The tests' own files are in memory: what depends on the file system is not found then.
        said = {**said, **{number: said.get(number, "") for number in MENDED}}
    assert list(said) == list(MENDED) or "not varied" in done.stdout
    page = PAGE.read_text()
    for number, text in said.items():
        assert text in page, number
    for name in ("Dockerfile", "Dockerfile.before"):
        assert (SAMPLE / name).read_text() in page
    done = pybuild("verify", "-q", ".", cwd=SAMPLE)
    assert (done.returncode, done.stdout.splitlines()[-1].partition(": ")[2]) == (0, "every step gives the same again")
