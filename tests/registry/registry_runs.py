"""What tests of pulls and of pushes share: runs of the program that succeed and that are refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.conftest import Pybuild
from tests.registry.registry_server import PASSWORD


def config_digest(folder: Path) -> str:
    index = json.loads((folder / "index.json").read_bytes())
    manifest = json.loads((folder / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_bytes())
    return str(manifest["config"]["digest"])


def done(pybuild: Pybuild, *args: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    finished = pybuild(*args, env=env)
    assert finished.returncode == 0, finished.stderr
    return finished


def refused(pybuild: Pybuild, *args: str | Path, code: int = 5, env: dict[str, str] | None = None) -> str:
    finished = pybuild(*args, env=env)
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    assert PASSWORD not in finished.stderr
    return finished.stderr


def context(folder: Path, dockerfile: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    return folder
