"""What must not get lost in silence: file capabilities of a context, and damage in the store."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from tests.conftest import Pybuild

# capabilities(7), version 2: cap_net_bind_service+ep
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def test_file_capabilities_of_the_context_are_copied(pybuild: Pybuild, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "program").write_text("x")
    (context / "program").chmod(0o755)
    os.setxattr(context / "program", "security.capability", CAPABILITY)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY program /program\n")
    assert pybuild("-o", f"type=tar,dest={tmp_path}/out.tar", context).returncode == 0
    with tarfile.open(tmp_path / "out.tar") as tar:
        value = tar.getmember("program").pax_headers["SCHILY.xattr.security.capability"]
    assert value.encode("utf-8", "surrogateescape") == CAPABILITY


def test_a_damaged_folder_of_the_store_is_told_as_the_stores(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nRUN echo good > /file\n")
    flags = ["--build-context", f"base={busybox_base}"]
    assert pybuild(*flags, context).returncode == 0
    [damaged] = (pybuild.store / "snapshots").glob("*/file")
    damaged.write_text("evil\n")
    done = pybuild(*flags, "-o", f"type=local,dest={tmp_path}/out", context)
    assert done.returncode == 7, done.stderr
    assert "error: the store is damaged: " in done.stderr
