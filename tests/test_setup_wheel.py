"""The wheel, as a user installs it: into an empty environment, used from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_one_package_with_the_grammar_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        grammar = archive.read("builder/grammar/dockerfile.lark")
    packages = {name.split("/")[0] for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert packages == {"builder"}
    assert [name.partition(".data/")[2] for name in names if ".data/" in name] == ["scripts/pybuild"]
    assert grammar == (ROOT / "grammar" / "dockerfile.lark").read_bytes()
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "builder").rglob("*.py")}
    assert sources <= set(names)
    assert not [name for name in names if name.endswith((".pyc", ".orig")) or "/tests/" in name]


def test_installed_alone_it_builds_from_another_folder(wheel: Path, tmp_path: Path, busybox_base: Path) -> None:
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)

    context = tmp_path / "elsewhere"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nCOPY word /word\nRUN tr a-z A-Z < /word > /loud\nCMD cat /loud\n")
    (context / "word").write_text("installed\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "PYBUILD_ROOT": str(tmp_path / "store"),
    }
    program = venv / "bin" / "pybuild"
    layout = tmp_path / "layout"
    outputs = ("-t", "word", "-o", f"type=oci,dest={layout},tar=false")
    run(program, *outputs, "--build-context", f"base={busybox_base}", ".", cwd=context, env=environment)
    assert run(program, "run", "word", cwd=context, env=environment) == "INSTALLED\n"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    where = run(venv / "bin" / "python", "-c", "import builder; print(builder.__file__)", cwd=context, env=environment)
    assert where.startswith(str(venv))
