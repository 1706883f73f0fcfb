"""`--iidfile`, `--metadata-file` and standard output: what is there before a build, and what is there after it."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Pybuild

FLAGS = ("--iidfile", "--metadata-file")


@pytest.fixture
def context(tmp_path: Path, busybox_base: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    (folder / "file").write_text("1")
    return folder


@pytest.mark.parametrize("flag", FLAGS)
def test_devices_and_pipes_stay_and_links_are_replaced(pybuild: Pybuild, context: Path, tmp_path: Path, flag: str) -> None:
    """As root `--iidfile /dev/null` put a file where the machine's /dev/null was. A folder of sources may have a link of the
    name that is given, and buildx, too, replaces that."""
    null, pipe, link, target = (tmp_path / name for name in ("null", "pipe", "link", "target"))
    os.mknod(null, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(pipe)
    target.write_text("before")
    link.symlink_to(target)
    assert pybuild("-q", flag, null, context).returncode == 0
    assert stat.S_ISCHR(null.lstat().st_mode) and null.stat().st_rdev == os.makedev(1, 3)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    done = pybuild("-q", flag, pipe, context)
    assert (done.returncode, stat.S_ISFIFO(pipe.lstat().st_mode)) == (0, True)
    assert done.stdout.strip() in reader.communicate()[0]
    assert pybuild("-q", flag, link, context).returncode == 0
    assert not link.is_symlink() and done.stdout.strip() in link.read_text()
    assert target.read_text() == "before"
    link.unlink()
    link.symlink_to(null)
    assert pybuild("-q", flag, link, context).returncode == 0
    assert link.is_symlink() and stat.S_ISCHR(null.lstat().st_mode)


@pytest.mark.parametrize("flag", FLAGS)
def test_a_build_that_fails_leaves_no_id_of_another(pybuild: Pybuild, context: Path, tmp_path: Path, flag: str) -> None:
    file = tmp_path / "result"
    assert pybuild("-q", flag, file, context).returncode == 0
    assert file.exists()
    (context / "file").unlink()
    assert pybuild("-q", flag, file, context).returncode == 3
    assert not file.exists()


@pytest.mark.parametrize("flag", FLAGS)
def test_a_place_that_cannot_be_written_is_told_before_the_build(pybuild: Pybuild, context: Path, flag: str) -> None:
    done = pybuild("--progress=plain", flag, "/proc/result", context)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: '/proc/result' of {flag} cannot be written") and "#1" not in done.stderr


def test_a_name_that_begins_with_a_hyphen_is_a_file(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    done = pybuild("-q", "--iidfile=-", context, cwd=tmp_path)
    assert (done.returncode, (tmp_path / "-").read_text()) == (0, done.stdout.strip())


def test_an_archive_has_standard_output_for_itself(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    with open(tmp_path / "one.tar", "wb") as out:
        done = subprocess.run(
            [*pybuild.command, "-q", "-o", "-", str(context)], env=pybuild.environment(), stdout=out, stderr=subprocess.PIPE
        )
    assert pybuild("-q", "-o", f"type=tar,dest={tmp_path}/other.tar", context).stdout.encode() == done.stderr
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert archive.getnames() == ["file"]
    two = pybuild("-q", "-o", "type=tar", "-o", "type=oci", context)
    assert (two.returncode, two.stdout) == (2, "")
    assert two.stderr == "error: two outputs go to standard output\n  hint: add dest=FILE to all of them but one\n"


@pytest.mark.parametrize("mode", ["none", "rawjson", "", "plain"])
def test_what_people_set_for_other_builders(pybuild: Pybuild, context: Path, mode: str) -> None:
    done = pybuild(context, env={"BUILDKIT_PROGRESS": mode})
    assert done.returncode == 0
    assert bool(done.stderr) == (mode != "none")


def test_a_dev_null_that_is_a_file_is_told(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base\nRUN true\n")
    (tmp_path / "null").touch()
    build = [*pybuild.command, "--isolation=root", "-q", f"--build-context=base={busybox_base}", str(tmp_path)]
    script = 'mount --bind "$1" /dev/null; shift; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path / "null"), *build],
        env=pybuild.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 6 and "/dev/null" in done.stderr and "No such device" in done.stderr, done.stderr


def test_an_output_of_nothing(pybuild: Pybuild, context: Path) -> None:
    done = pybuild("-q", "-o", "type=cacheonly", context)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("sha256:")
