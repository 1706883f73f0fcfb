"""Images for several platforms in archives: saved whole or one of them, loaded by platform, and shown."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild

OWN, OTHER = ("arm64", "amd64") if os.uname().machine == "aarch64" else ("amd64", "arm64")
TWO = "linux/amd64,linux/arm64"
WHO = "FROM scratch\nARG TARGETARCH\nCOPY <<EOF /who\n$TARGETARCH\nEOF\n"


def out(pybuild: Pybuild, *args: str | Path) -> str:
    done = pybuild(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(pybuild: Pybuild, *args: str | Path) -> str:
    done = pybuild(*args)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.fixture
def app(pybuild: Pybuild, tmp_path: Path) -> str:
    """`app:1`, for two platforms. The digest of its index."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(WHO)
    return out(pybuild, "-q", "-t", "app:1", "--platform", TWO, context).strip()


@pytest.fixture
def another(tmp_path: Path) -> Pybuild:
    """The program with another store, an empty one."""
    (tmp_path / "elsewhere").mkdir()
    return Pybuild(tmp_path / "elsewhere" / "store", tmp_path / "elsewhere")


def raw(image: str, *more: str) -> dict[str, Any]:
    done = subprocess.run(["skopeo", *more, "inspect", "--raw", image], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def config(image: str) -> dict[str, Any]:
    done = subprocess.run(["skopeo", "inspect", "--config", image], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shown(pybuild: Pybuild, template: str, *args: str | Path) -> str:
    return out(pybuild, "inspect", "-f", template, *args).removesuffix("\n")


def test_oci_forms_hold_the_index(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    out(pybuild, "save", "--format=oci-archive", "-o", tmp_path / "saved.tar", "app:1")
    out(pybuild, "save", "--format=oci-dir", "-o", tmp_path / "saved", "app:1")
    out(pybuild, "--platform", TWO, "-t", "app:1", "-o", f"type=oci,dest={tmp_path}/built.tar", tmp_path / "context")
    assert (tmp_path / "saved.tar").read_bytes() == (tmp_path / "built.tar").read_bytes()
    for place in (f"oci-archive:{tmp_path}/saved.tar", f"oci:{tmp_path}/saved:1"):
        assert [one["platform"]["architecture"] for one in raw(place)["manifests"]] == ["amd64", "arm64"]
    # By its id it is saved without a name; of an image beside it that is in it, one blob each.
    out(pybuild, "save", "--format=oci-archive", "-o", tmp_path / "id.tar", app, "app:1")
    with tarfile.open(tmp_path / "id.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    said = refused(pybuild, "save", "--format=oci-archive", "--compression=zstd", "-o", tmp_path / "no.tar", "app:1")
    assert said.startswith("error: 'app:1' is an index, whose digests say how its layers are compressed\n")


def test_other_forms_hold_one_image(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    for number, (flags, architecture) in enumerate((([], OWN), ([f"--platform=linux/{OTHER}"], OTHER))):
        out(pybuild, "save", *flags, "-o", tmp_path / f"{number}.tar", "app:1")
        assert config(f"docker-archive:{tmp_path}/{number}.tar:app:1")["architecture"] == architecture
        out(pybuild, "save", *flags, "--format=docker-dir", "-o", tmp_path / f"{number}", "app:1")
        assert config(f"dir:{tmp_path}/{number}")["architecture"] == architecture
    flags = ["--format=oci-archive", "--compression=zstd", f"--platform=linux/{OTHER}"]
    out(pybuild, "save", *flags, "-o", tmp_path / "one.tar", "app:1")
    assert raw(f"oci-archive:{tmp_path}/one.tar")["layers"][0]["mediaType"].endswith("+zstd")
    for flags in ([], ["--format=oci-archive"]):
        said = refused(pybuild, "save", *flags, "--platform=linux/s390x", "-o", tmp_path / "no.tar", "app:1")
        assert said == (
            "error: the image 'app:1' in the store is not for linux/s390x\n  hint: it is for linux/amd64, linux/arm64\n"
        )
    # Where no image is for this machine nobody guesses.
    out(pybuild, "-q", "-t", "far", "--platform=linux/s390x,linux/riscv64", tmp_path / "context")
    assert f"is not for linux/{OWN}" in refused(pybuild, "save", "-o", tmp_path / "no.tar", "far")


def test_an_archive_is_loaded_by_platform(pybuild: Pybuild, another: Pybuild, app: str, tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    out(pybuild, "save", "--format=oci-archive", "-o", archive, "app:1")
    assert out(another, "load", "-i", archive) == "Loaded image: app:1\n"
    assert shown(another, "{{.Architecture}}", "app:1") == OWN
    assert "PLATFORM" not in out(another, "images")
    assert out(another, "load", f"--platform=linux/{OTHER}", "-i", archive) == "Loaded image: app:1\n"
    assert shown(another, "{{.Architecture}}", "app:1") == OTHER
    out(another, "load", "--platform", TWO, "-i", archive)
    assert shown(another, "{{.Architecture}} {{.Platforms}} {{.Index}}", "app:1") == (f"{OWN} [{TWO.replace(',', ' ')}] <nil>")
    assert shown(another, "{{.Architecture}}", f"--platform=linux/{OTHER}", "app:1") == OTHER
    for architecture in ("amd64", "arm64"):
        (tmp_path / "from").mkdir(exist_ok=True)
        (tmp_path / "from" / "Dockerfile").write_text(f"FROM --platform=linux/{architecture} app:1\n")
        out(another, "--pull=never", "-o", tmp_path / architecture, tmp_path / "from")
        assert (tmp_path / architecture / "who").read_text() == f"{architecture}\n"
    done = another("load", "--platform=linux/s390x", "-i", archive)
    assert done.returncode == 2
    assert "has docker.io/library/app:1 not for linux/s390x\n  hint: choose by --platform: it is for linux/amd64" in done.stderr
    assert_valid(another.store)
    assert_nothing_left(another.store)


def test_what_shows_images_shows_several_platforms(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    lines = out(pybuild, "images").splitlines()
    assert (lines[0].split()[-1], [line.split()[-1] for line in lines[1:]]) == ("PLATFORM", TWO.split(","))
    assert out(pybuild, "images", "--format", "{{.Tag}} {{.Platform}}", "app") == "1 linux/amd64\n1 linux/arm64\n"
    assert [json.loads(line)["Platform"] for line in out(pybuild, "images", "--format=json").splitlines()] == TWO.split(",")
    assert out(pybuild, "images", "-q", "--filter", "reference=app", "--filter", "dangling=false").count("\n") == 2
    assert out(pybuild, "images", "-q", "--filter", "dangling=true") == ""
    assert shown(pybuild, "{{range .Images}}{{.Platform}} {{end}}{{.Index}}", "app:1") == f"linux/amd64 linux/arm64 {app}"
    assert shown(pybuild, "{{json .RepoTags}}", "app:1") == '["app:1"]'
    # The bytes of the index, or what an image of it says.
    assert out(pybuild, "inspect", "--raw", "app:1").encode() == (pybuild.store / "blobs" / app.replace(":", "/")).read_bytes()
    assert json.loads(out(pybuild, "inspect", "--config", f"--platform=linux/{OTHER}", "app:1"))["architecture"] == OTHER
    said = refused(pybuild, "inspect", "--platform=linux/s390x", "app:1")
    assert said == "error: the image 'app:1' in the store is not for linux/s390x\n  hint: it is for linux/amd64, linux/arm64\n"
    # By force an image goes with its names, but not out of an index.
    id = shown(pybuild, "{{.Id}}", "app:1")
    assert f"is part of the index {app}\n" in refused(pybuild, "rmi", "--force", id)
    assert out(pybuild, "rmi", "--force", "app:1", "nothing").splitlines()[0] == "Untagged: app:1"
    assert_valid(pybuild.store)


def test_an_engine_takes_one_image(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(WHO)
    for flag in ("--load", "--output=type=docker"):
        said = refused(pybuild, "-t", "app", flag, "--platform", TWO, tmp_path)
        assert said.startswith("error: a Docker engine is handed an image for one platform, and there are 2\n")
