"""The fault matrix: what each case gave, and that no credential is in anything that came out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.build_store import assert_valid
from tests.conftest import ROOT, Pybuild
from tests.registry.registry_faults import SECRETS, Outcome, cases, outcomes, table
from tests.registry.registry_images import layout, push
from tests.registry.registry_runs import done
from tests.registry.registry_server import RegistryServer

GOLDEN = ROOT / "tests/golden/registry/faults.txt"


@pytest.fixture(scope="module")
def matrix(registry: RegistryServer, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    return outcomes(tmp_path_factory.mktemp("faults"), registry)


def test_what_each_case_gives(matrix: list[Outcome]) -> None:
    # `make faults` writes it anew.
    assert table(matrix) == GOLDEN.read_text()


def test_no_credential_is_in_anything_that_came_out(matrix: list[Outcome]) -> None:
    assert len(matrix) == len(list(cases()))
    assert [(one.case, secret) for one in matrix for secret in SECRETS if secret in one.whole] == []
    assert not [one.case for one in matrix if "Traceback" in one.whole]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_pull_goes_on_when_the_disk_has_room_again(registry: RegistryServer, small: Path, tmp_path: Path) -> None:
    """Layers that were there whole are not fetched again."""
    import random

    random_bytes = random.Random(11).randbytes
    # Unpacked beside their blobs: the first has room, the second has not.
    push(layout(tmp_path / "layout", [{"a": random_bytes(300_000)}, {"b": random_bytes(3_000_000)}]), f"{registry.host}/room:1")
    (tmp_path / "home").mkdir()
    pybuild = Pybuild(small / "store", tmp_path / "home")
    name = f"{registry.host}/room:1"
    finished = pybuild("pull", name)
    assert finished.returncode == 7, finished.stderr
    assert f"error: no space left in the store {small}/store\n" in finished.stderr
    assert done(pybuild, "images", "-q").stdout == ""
    assert os.listdir(small / "store/tmp") == []
    subprocess.run(["mount", "-o", "remount,size=40m", small], check=True)
    before = len(registry.asked("GET"))
    done(pybuild, "pull", name)
    fetched = [one for one in registry.asked("GET")[before:] if "/blobs/" in one.path]
    # The config, and the layer that did not fit.
    assert len(fetched) <= 2
    assert_valid(small / "store")
