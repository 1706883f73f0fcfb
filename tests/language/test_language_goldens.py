"""The Dockerfile language, case by case: what BuildKit's reference says must come out, and what it says is refused.

Each case is a folder of `tests/golden/language/` (`language_case.py` has the format). Its expectation was written by hand
from the reference or from BuildKit's own tests, which it cites; none was taken from what this program said.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Pybuild
from tests.language.language_case import Case, below, fill, load, shown
from tests.language.language_image import Image, Layouts, changes

GOLDEN = ROOT / "tests" / "golden" / "language"
CASES = [load(path.parent) for path in sorted(GOLDEN.glob("*/case.toml"))]


class Room:
    """A store that all cases share, with `busybox` in it, and what reads the images that they make."""

    def __init__(self, folder: Path, busybox: Path) -> None:
        (folder / "home").mkdir()
        self.pybuild = Pybuild(folder / "store", folder / "home")
        self.layouts = Layouts()
        done = self.pybuild("import", busybox, "busybox")
        assert done.returncode == 0, done.stderr
        (folder / "Dockerfile").write_text("FROM busybox\n")
        self.busybox = self.build(folder, "-f", "Dockerfile").tree

    def build(self, context: Path, *flags: str) -> Image:
        out = context.parent / "image"
        done = self.run(context, "-o", f"type=oci,tar=false,compression=uncompressed,dest={out}", *flags)
        assert done.returncode == 0, done.stderr
        return self.layouts.read(out)

    def run(self, context: Path, *flags: str) -> Any:
        return self.pybuild("build", "--progress=plain", *flags, ".", cwd=context)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, busybox_base: Path) -> Room:
    return Room(tmp_path_factory.mktemp("language"), busybox_base)


def prepare(case: Case, folder: Path) -> Path:
    """The case's context below `folder`: its files, and its Dockerfiles as they are."""
    context = folder / "context"
    fill(context, case.said.get("files", {}))
    for path in case.folder.iterdir():
        if path.name != "case.toml":
            shutil.copyfile(path, context / path.name)
            (context / path.name).chmod(0o644)
    return context


def before(room: Room, case: Case, context: Path) -> None:
    for image in case.said.get("before", []):
        done = room.run(context, "-f", image["dockerfile"], "-t", image["tag"])
        assert done.returncode == 0, f"the image {image['tag']} that the case needs:\n{done.stderr}"


@pytest.mark.parametrize("case", [case for case in CASES if not case.fails], ids=lambda case: case.name)
def test_what_comes_out(case: Case, room: Room, tmp_path: Path) -> None:
    context = prepare(case, tmp_path)
    before(room, case, context)
    out = tmp_path / "image"
    done = room.run(
        context,
        *("-f", case.said.get("dockerfile", "Dockerfile")),
        *("-o", f"type=oci,tar=false,compression=uncompressed,dest={out}"),
        *case.said.get("flags", []),
    )
    assert done.returncode == 0, done.stderr
    assert_said(case, done.stderr)
    assert_image(case, room.layouts.read(out), room)


def assert_image(case: Case, image: Image, room: Room) -> None:
    found = changes(image.tree, room.busybox if "bin/busybox" in image.tree else {})
    expected = case.tree()
    if roots := case.said.get("roots"):
        found = below(found, roots)
    assert shown(found) == shown(expected)
    assert image.config == case.config(based="bin/busybox" in image.tree)
    if "history" in case.said:
        lines = [line["created_by"] + " (empty)" * line.get("empty_layer", False) for line in image.history]
        assert lines[-len(case.said["history"]) :] == case.said["history"]
    full = [line for line in image.history if not line.get("empty_layer")]
    assert len(full) == len(image.layers)
    if "layers" in case.said:
        assert len(image.layers) - ("bin/busybox" in image.tree) == case.said["layers"]


def assert_said(case: Case, stderr: str) -> None:
    for text in case.said.get("said", []):
        assert text in stderr
    for text in case.said.get("unsaid", []):
        assert text not in stderr


@pytest.mark.parametrize("case", [case for case in CASES if case.fails], ids=lambda case: case.name)
def test_what_is_refused(case: Case, room: Room, tmp_path: Path) -> None:
    context = prepare(case, tmp_path)
    before(room, case, context)
    done = room.run(context, "-f", case.said.get("dockerfile", "Dockerfile"), *case.said.get("flags", []))
    message = error_of(done.stderr)
    assert "Traceback" not in done.stderr
    if "error" in case.said:
        assert message == case.said["error"].strip("\n")
    if "error_at" in case.said:
        assert message.startswith(f"{case.said['error_at']}: error: "), message
    for text in case.said.get("error_says", []):
        assert text.lower() in message.lower()
    assert done.returncode == case.said["code"], message
    assert_said(case, done.stderr)


def error_of(stderr: str) -> str:
    """The error and all that follows, without the progress before it."""
    match = re.search(r"^(\S+: )?error: ", stderr, re.MULTILINE)
    assert match, f"no error:\n{stderr}"
    return stderr[match.start() :].rstrip("\n")


def test_there_are_enough_of_them() -> None:
    """The issue asks for 60 cases of results; those of refusals come on top."""
    assert len([case for case in CASES if not case.fails]) >= 60
