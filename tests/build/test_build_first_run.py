"""The first RUN of a build: its base is unpacked once, and its process is born meanwhile, as what it is going to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pybuild

SEEN = """
import json, os, sys
from builder.engine.tars import Tars
from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import Shape
seen = []
def seeing(kind, name, tell, of=Launcher):
    ask = getattr(of, name)
    def asked(self, *values, **named):
        seen.append((kind, tell(values)))
        return ask(self, *values, **named)
    setattr(of, name, asked)
shown = lambda value: sorted(value) if isinstance(value, frozenset) else value
fields = lambda values: {name: shown(getattr(values[0], name)) for name in Shape._fields}
seeing("expected", "expect", fields)
seeing("run", "run", fields)
seeing("unpacked", "_unpack", lambda values: None, Tars)
end = os._exit
os._exit = lambda code: (print(json.dumps(seen)), sys.stdout.flush(), end(code))
from builder.cli.main import main
main()
"""


@pytest.fixture
def store(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> Path:
    """A store that has the image `base`, of two layers, as it came: compressed. It has a user of its own."""
    context = tmp_path / "base"
    context.mkdir()
    layout, store = tmp_path / "layout", tmp_path / "new-store"

    def build(lines: str, *flags: str) -> None:
        (context / "Dockerfile").write_text(lines)
        done = pybuild("-q", *flags, str(context))
        assert done.returncode == 0, done.stderr

    made = f"type=oci,tar=false,dest={layout}"
    lines = "FROM busybox\nRUN mkdir -p /etc; echo someone:x:1234:1234::/:/bin/sh >> /etc/passwd\n"
    build(lines, "--build-context", f"busybox={busybox_base}", "-o", made)
    build("FROM base\n", "--build-context", f"base=oci-layout://{layout}", "--root", str(store), "-t", "base")
    return store


def seen(pybuild: Pybuild, store: Path, lines: str, tmp_path: Path, *flags: str) -> list[tuple[str, Any]]:
    context = tmp_path / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(f"FROM base\n{lines}")
    done = subprocess.run(
        [sys.executable, "-c", SEEN, "--root", str(store), *flags, str(context)],
        env={**os.environ, **pybuild.environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [(kind, told) for kind, told in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("flags", "option"),
    [
        ((), ""),
        (("--network=none",), ""),
        (("--network=host",), ""),
        (("--shm-size=1m",), ""),
        (("--allow=security.insecure",), "--security=insecure "),
    ],
)
def test_what_is_expected_is_what_runs(
    pybuild: Pybuild, store: Path, tmp_path: Path, flags: tuple[str, ...], option: str
) -> None:
    """One that is not would be made for nothing, and nobody would see it."""
    lines = f"USER someone\nRUN {option}id -u > /tmp/id\nRUN true\n"
    found = seen(pybuild, store, lines, tmp_path, *flags)
    # The base's two layers, each once: the folders are there before a user is looked for in them.
    kinds = [kind for kind, _ in found]
    assert kinds.count("unpacked") == 2
    told = [(kind, shape) for kind, shape in found if kind != "unpacked"]
    # The second has one made while the first runs, and folders that are there.
    assert [kind for kind, _ in told] == ["expected", "run", "run"]
    assert told[0][1] == told[1][1]
    assert kinds[0] == "expected"


def test_where_the_folders_are_there_none_is_expected(pybuild: Pybuild, store: Path, tmp_path: Path) -> None:
    seen(pybuild, store, "RUN echo one\n", tmp_path)
    assert [kind for kind, _ in seen(pybuild, store, "RUN echo other\n", tmp_path)] == ["run"]


def test_each_of_several_stages_has_one(pybuild: Pybuild, store: Path, tmp_path: Path) -> None:
    stages = "".join(f"RUN sleep 1; echo {name} > /{name}\nFROM base AS {name}2\n" for name in "ab")
    found = [kind for kind, _ in seen(pybuild, store, f"{stages}COPY --from=0 /a /\nCOPY --from=a2 /b /\n", tmp_path)]
    assert found.count("expected") == found.count("run") == 2
