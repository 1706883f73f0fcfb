"""buildah as another builder of the same Dockerfiles: a store of its own, builds without layers, images read as layouts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.conftest import SEARCH_PATH


class Buildah:
    """Runs buildah as root with its whole state below `folder`; nothing of the machine's own containers is seen."""

    def __init__(self, folder: Path, base: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._state = ["--root", str(folder / "root"), "--runroot", str(folder / "runroot"), "--storage-driver", "overlay"]
        first = folder / "base"
        first.mkdir(parents=True)
        subprocess.run(
            ["tar", "-C", base, "--owner=0", "--group=0", "--numeric-owner", "-cf", first / "base.tar", "."], check=True
        )
        (first / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        done = self._build(first, "-t", "localhost/base", "-f", "Dockerfile")
        assert done.returncode == 0, done.stderr
        for name in names:
            self._run("tag", "localhost/base", reference(name))

    def build(self, context: Path, out: Path, *flags: str) -> str:
        """Build what `flags` say in `context`, and write the image as a layout to `out`; the error when it is refused."""
        done = self._build(context, "-t", "localhost/built", *flags)
        if done.returncode != 0:
            return done.stderr
        self._run("push", "--disable-compression", "localhost/built", f"oci:{out}")
        return ""

    def tag(self, context: Path, name: str, *flags: str) -> None:
        """Build an image that later ones are made from."""
        done = self._build(context, "-t", reference(name), *flags)
        assert done.returncode == 0, done.stderr

    def _build(self, context: Path, *flags: str) -> subprocess.CompletedProcess[str]:
        return self._call(
            *("build", "--isolation", "chroot", "--layers=false", "--format", "oci", "--pull-never", "--network", "host"),
            "--identity-label=false",
            *(*flags, "."),
            cwd=context,
        )

    def _run(self, *command: str) -> None:
        done = self._call(*command, cwd=self._folder)
        assert done.returncode == 0, done.stderr

    def _call(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["buildah", *self._state, *command],
            cwd=cwd,
            env={**os.environ, "PATH": SEARCH_PATH, "HOME": str(self._folder), "TMPDIR": str(self._folder)},
            capture_output=True,
            text=True,
            timeout=120,
        )


def reference(name: str) -> str:
    """The full name of an image, since buildah guesses none."""
    first = name.partition("/")[0]
    if "/" in name and ("." in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"
