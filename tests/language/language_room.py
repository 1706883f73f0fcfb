"""What the golden cases share: a store with the base in it, the context of a case, and what is compared."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pybuild
from tests.language.language_case import Case, below, fill, shown
from tests.language.language_image import Image, Layouts, Tree, changes


class Room:
    """A store that all cases of a module share, with the folder `base` in it as an image, and a reader of what they make."""

    def __init__(self, folder: Path, base: Path, name: str) -> None:
        (folder / "home").mkdir()
        (folder / "context").mkdir()
        self.folder = base
        self.pybuild = Pybuild(folder / "store", folder / "home")
        self.layouts = Layouts()
        done = self.pybuild("import", base, name)
        assert done.returncode == 0, done.stderr
        (folder / "context" / "Dockerfile").write_text(f"FROM {name}\n")
        out = folder / "image"
        done = self.run(folder / "context", "-o", f"type=oci,tar=false,compression=uncompressed,dest={out}")
        assert done.returncode == 0, done.stderr
        self.base: Tree = self.layouts.read(out).tree

    def run(self, context: Path, *flags: str) -> Any:
        # What a case names and nobody made is looked for in the store alone.
        return self.pybuild("build", "--progress=plain", "--pull=never", *flags, ".", cwd=context)

    def contexts(self, case: Case) -> list[str]:
        """The flags that let the base stand in for each image that a case names."""
        return [f"--build-context={name}={self.folder}" for name in case.said.get("bases", [])]


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
        done = room.run(context, "-f", image["dockerfile"], "-t", image["tag"], *room.contexts(case))
        assert done.returncode == 0, f"the image {image['tag']} that the case needs:\n{done.stderr}"


def build(room: Room, case: Case, folder: Path) -> None:
    """Build a case that must succeed, and compare all that it says."""
    context = prepare(case, folder)
    before(room, case, context)
    out = folder / "image"
    done = room.run(
        context,
        *("-f", case.said.get("dockerfile", "Dockerfile")),
        *("-o", f"type=oci,tar=false,compression=uncompressed,dest={out}"),
        *room.contexts(case),
        *case.said.get("flags", []),
    )
    assert done.returncode == 0, done.stderr
    assert_said(case, done.stderr)
    assert_image(case, room.layouts.read(out), room.base)
    shutil.rmtree(out)  # Megabytes each; what failed stays to be looked at.


def refuse(room: Room, case: Case, folder: Path) -> None:
    """Build a case that must fail, and compare the message and the exit code."""
    context = prepare(case, folder)
    before(room, case, context)
    done = room.run(context, "-f", case.said.get("dockerfile", "Dockerfile"), *room.contexts(case), *case.said.get("flags", []))
    message = error_of(done.stderr)
    assert "Traceback" not in done.stderr
    if "error" in case.said:
        assert message == case.said["error"].strip("\n")
    if "error_at" in case.said:
        assert message.startswith(f"{case.said['error_at']}:"), message
    for text in case.said.get("error_says", []):
        assert text.lower() in message.lower()
    assert done.returncode == case.said["code"], message
    assert_said(case, done.stderr)


def assert_image(case: Case, image: Image, base: Tree) -> None:
    based = "bin/busybox" in image.tree
    found = changes(image.tree, base if based else {})
    expected = case.tree()
    if roots := case.said.get("roots"):
        found = below(found, roots)
    assert shown(found) == shown(expected)
    assert image.config == case.config(based=based and "bases" not in case.said)
    if "history" in case.said:
        lines = [line["created_by"] + " (empty)" * line.get("empty_layer", False) for line in image.history]
        assert lines[-len(case.said["history"]) :] == case.said["history"]
    full = [line for line in image.history if not line.get("empty_layer")]
    assert len(full) == len(image.layers)
    if "layers" in case.said:
        assert len(image.layers) - based == case.said["layers"]


def assert_said(case: Case, stderr: str) -> None:
    for text in case.said.get("said", []):
        assert text in stderr
    for text in case.said.get("unsaid", []):
        assert text not in stderr


def build_ahead(room: Room, request: pytest.FixtureRequest, folder: Path) -> Iterator[dict[str, Future[None]]]:
    """Builds the cases of the tests that were asked for, two at a time: a process is busy on one core alone."""
    tests = [item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module]
    asked = [item.callspec.params["case"] for item in tests if hasattr(item, "callspec")]
    cases = [case for case in asked if isinstance(case, Case)]
    with ThreadPoolExecutor(2) as pool:
        yield {case.name: pool.submit(refuse if case.fails else build, room, case, folder / case.name) for case in cases}
        pool.shutdown(cancel_futures=True)


def error_of(stderr: str) -> str:
    """The error and all that follows, without the progress before it."""
    match = re.search(r"^(\S+: )?error: ", stderr, re.MULTILINE)
    assert match, f"no error:\n{stderr}"
    return stderr[match.start() :].rstrip("\n")
