"""The whole message of each error of reachability and lowering, with the place that it points at. The .txt files were
written by hand from the specification of the messages, before the first run."""

from __future__ import annotations

import os

import pytest

from builder.errors import DockerfileError, SourceFile, render
from builder.oci.image import ImageConfig
from tests.plan.plan_lowered import AMD64, SETTINGS, plan_of

FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "golden", "plan")
CASES = sorted(name.removesuffix(".Dockerfile") for name in os.listdir(FOLDER) if name.endswith(".Dockerfile"))
OPTIONS = {"run-network-host": SETTINGS._replace(network="none")}
BASES = {"onbuild": ImageConfig(AMD64, onbuild=("COPY . /app", "ENV A=${A", "RUN make"))}


def _read(name: str) -> str:
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return file.read()


def test_every_golden_has_both_files() -> None:
    names = {name.removesuffix(".txt") for name in os.listdir(FOLDER) if name.endswith(".txt")}
    assert names == set(CASES)
    assert len(CASES) > 30


@pytest.mark.parametrize("case", CASES)
def test_message(case: str) -> None:
    text = _read(f"{case}.Dockerfile")
    with pytest.raises(DockerfileError) as caught:
        plan_of(text, bases=BASES, settings=OPTIONS.get(case, SETTINGS))
    assert caught.value.span is not None
    caught.value.at(SourceFile("Dockerfile", text))
    assert render(caught.value) + "\n" == _read(f"{case}.txt")
