"""Many layers: what a command can look into, and what a person is told beyond that."""

from __future__ import annotations

from pathlib import Path

from tests.build.build_store import assert_nothing_left
from tests.conftest import Pybuild

MOUNT_POINTS = ("dev/", "proc/", "sys/", "etc/hosts", "etc/hostname", "etc/resolv.conf")


def build(pybuild: Pybuild, base: Path, context: Path, lines: list[str]) -> tuple[int, str]:
    (context / "Dockerfile").write_text("\n".join(["FROM base", *lines]))
    done = pybuild("-q", "--build-context", f"base={base}", context)
    return done.returncode, done.stderr


def test_a_command_looks_into_500_layers_and_no_more(pybuild: Pybuild, tmp_path: Path, busybox_base: Path) -> None:
    context = tmp_path / "context"
    for name in MOUNT_POINTS:
        path = context / "points" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("")
    (context / "file").write_text("x")
    copies = [f"COPY file /files/{number}" for number in range(498)]
    count = 'RUN [ "$(ls /files | wc -l)" = 498 ]'

    # The base, the mount points and 498 files: 500 layers.
    assert build(pybuild, busybox_base, context, [*copies, "COPY points /", count]) == (0, "")

    # Where the image lacks a mount point, one of the 500 is the folder that holds it.
    code, told = build(pybuild, busybox_base, context, [*copies, "COPY file /y", "RUN true"])
    assert code == 1
    assert "Dockerfile:501:1: error: the image has 500 layers, and a command can look into 499 at most" in told
    assert "join RUN lines with &&, or COPY --from an earlier stage into a new one" in told

    code, told = build(pybuild, busybox_base, context, [*copies, "COPY points /", "RUN touch /a", "RUN true"])
    assert code == 1
    assert "Dockerfile:502:1: error: the image has 501 layers, and a command can look into 500 at most" in told
    assert_nothing_left(pybuild.store)
