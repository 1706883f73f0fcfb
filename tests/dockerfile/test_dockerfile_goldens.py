"""The whole message of each class of error, as a user sees it. The .txt files were written by hand from the specification
of the messages, before the first run."""

from __future__ import annotations

import os

import pytest

from builder.dockerfile import syntax
from builder.dockerfile.text import decode
from builder.errors import DockerfileError, render

FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "golden", "dockerfile")
CASES = sorted(name.removesuffix(".Dockerfile") for name in os.listdir(FOLDER) if name.endswith(".Dockerfile"))


def _read(name: str) -> bytes:
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read()


def test_every_golden_has_both_files() -> None:
    names = {name.removesuffix(".txt") for name in os.listdir(FOLDER) if name.endswith(".txt")}
    assert names == set(CASES)
    assert len(CASES) > 40


@pytest.mark.parametrize("case", CASES)
def test_message(case: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        syntax.parse(decode("Dockerfile", _read(f"{case}.Dockerfile")))
    assert render(caught.value) + "\n" == _read(f"{case}.txt").decode()
    assert caught.value.exit_code == 3
