"""What other tools make of archives that pybuild saved, and the other way round: skopeo, podman, Buildah, umoci."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pybuild

FORMATS = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")
TRANSPORTS = {"docker-archive": "docker-archive", "oci-archive": "oci-archive", "oci-dir": "oci", "docker-dir": "dir"}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


class Containers:
    """podman and Buildah with a storage of their own; vfs works on every file system. Podman's runroot has 50 characters."""

    def __init__(self, folder: Path, runroot: str) -> None:
        self._roots = ["--root", str(folder / "root"), "--runroot", runroot, "--storage-driver", "vfs"]

    def podman(self, *args: str | Path, cwd: Path | None = None) -> str:
        return run("podman", *self._roots, *args, cwd=cwd)

    def buildah(self, *args: str | Path) -> str:
        return run("buildah", *self._roots, *args)


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    with tempfile.TemporaryDirectory(prefix="pbc-", dir="/tmp") as runroot:
        yield Containers(tmp_path / "containers", runroot)


@pytest.fixture
def app(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> str:
    """`app:1` and `registry.example/app:2`, one image of two layers. Its id."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text('FROM base\nLABEL team=a\nRUN echo hello > /hello\nCMD ["cat", "/hello"]\n')
    done = pybuild("-q", "-t", "app:1", "-t", "registry.example/app:2", "--build-context", f"base={busybox_base}", context)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def out(pybuild: Pybuild, *args: str | Path, **env: str) -> str:
    done = pybuild(*args, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("form", FORMATS)
def test_skopeo_reads_what_is_saved(pybuild: Pybuild, app: str, tmp_path: Path, form: str) -> None:
    assert out(pybuild, "save", "--format", form, "-o", tmp_path / "saved", "app:1") == ""
    run("skopeo", "--insecure-policy", "copy", f"{TRANSPORTS[form]}:{tmp_path}/saved", f"oci:{tmp_path}/layout:x")
    # From Docker's forms skopeo makes an OCI config, which has other bytes.
    assert (config_id(tmp_path / "layout") == app) == form.startswith("oci")
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/layout:x", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "hello").read_text() == "hello\n"
    if form in ("oci-dir", "docker-dir", "oci-archive"):
        skopeo = json.loads(run("skopeo", "inspect", f"{TRANSPORTS[form]}:{tmp_path}/saved"))
        (own,) = json.loads(out(pybuild, "inspect", f"{TRANSPORTS[form]}:{tmp_path}/saved"))
        assert own["Digest"] == skopeo["Digest"]
        assert [layer["digest"] for layer in own["Layers"]] == skopeo["Layers"]
        assert own["Config"]["Labels"] == skopeo["Labels"]


def config_id(layout: Path) -> str:
    (found,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads((layout / "blobs" / found["digest"].replace(":", "/")).read_text())
    return str(manifest["config"]["digest"])


@pytest.mark.parametrize("form", FORMATS)
def test_podman_loads_what_is_saved(pybuild: Pybuild, app: str, tmp_path: Path, containers: Containers, form: str) -> None:
    out(pybuild, "save", "--format", form, "-o", tmp_path / "saved", "registry.example/app:2")
    if form in ("docker-archive", "oci-archive"):
        loaded = containers.podman("load", "-i", tmp_path / "saved")
    else:
        # Podman makes a name of the whole path, and not every folder's name can be part of one.
        loaded = containers.podman("pull", "-q", f"{TRANSPORTS[form]}:saved", cwd=tmp_path)
    name = "registry.example/app:2" if form == "docker-archive" else loaded.split()[-1].removeprefix("sha256:")
    images = json.loads(containers.podman("image", "inspect", name))
    assert [image["Labels"] for image in images] == [{"team": "a"}]
    # Podman's id is the config's digest, but for what it converts from Docker's schema 2.
    assert images[0]["Id"] == app[7:]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_podman_saves_what_is_loaded(pybuild: Pybuild, app: str, tmp_path: Path, containers: Containers, form: str) -> None:
    out(pybuild, "save", "-o", tmp_path / "saved", "registry.example/app:2")
    containers.podman("load", "-i", tmp_path / "saved")
    containers.podman("save", "-q", "--format", form, "-o", tmp_path / "back", "registry.example/app:2")
    told = out(pybuild, "load", "-q", "-i", tmp_path / "back", PYBUILD_ROOT=str(tmp_path / "other"))
    named = form in ("docker-archive", "oci-archive", "oci-dir")
    assert told.startswith("Loaded image: registry.example/app:2\n" if named else "Loaded image ID: sha256:")
    id = told.split()[-1].removeprefix("sha256:")[:12]
    name = "registry.example/app:2" if named else id
    assert out(pybuild, "run", "--pull=never", name, PYBUILD_ROOT=str(tmp_path / "other")) == "hello\n"


def test_buildah_builds_on_it_and_pybuild_on_what_buildah_made(
    pybuild: Pybuild, app: str, tmp_path: Path, containers: Containers
) -> None:
    out(pybuild, "save", "-o", tmp_path / "saved", "app:1")
    made = containers.buildah("from", f"docker-archive:{tmp_path}/saved").strip()
    (tmp_path / "extra").write_text("extra\n")
    containers.buildah("copy", made, tmp_path / "extra", "/extra")
    containers.buildah("commit", "-q", made, f"docker-archive:{tmp_path}/back:made:1")
    other = str(tmp_path / "other")
    assert out(pybuild, "load", "-q", "-i", tmp_path / "back", PYBUILD_ROOT=other) == "Loaded image: made:1\n"
    (tmp_path / "context" / "Dockerfile").write_text("FROM made:1\nRUN cat /hello /extra > /both\n")
    out(pybuild, "-q", "-t", "both", tmp_path / "context", PYBUILD_ROOT=other)
    assert out(pybuild, "run", "both", "cat", "/both", PYBUILD_ROOT=other) == "hello\nextra\n"


def test_skopeo_writes_what_is_loaded(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    out(pybuild, "save", "--format", "oci-archive", "-o", tmp_path / "saved", "app:1")
    source = f"oci-archive:{tmp_path}/saved"
    for transport, name, told in (
        ("docker-archive", "app:7", "Loaded image: app:7\n"),
        ("oci-archive", "registry.example/app:8", "Loaded image: registry.example/app:8\n"),
        ("oci", "plain", f"Loaded image ID: {app}\n"),
        ("dir", "", f"Loaded image ID: {app}\n"),
    ):
        place = tmp_path / transport
        run("skopeo", "--insecure-policy", "copy", source, f"{transport}:{place}" + (f":{name}" if name else ""))
        other = str(tmp_path / f"store-{transport}")
        assert out(pybuild, "load", "-q", "-i", place, PYBUILD_ROOT=other) == told
        assert out(pybuild, "inspect", "-f", "{{.Id}}", app[7:20], PYBUILD_ROOT=other).strip() == app
        assert out(pybuild, "inspect", "-f", "{{.Id}}", f"{transport}:{place}" + (f":{name}" if name else "")).strip() == app


# What is saved.


def test_two_saves_are_equal_bytes(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    for form in FORMATS:
        first = tmp_path / f"{form}-1"
        out(pybuild, "save", "--format", form, "-o", first, "app:1", "-q")
        # From the store that it was loaded into: another machine.
        out(pybuild, "load", "-q", "-i", first, PYBUILD_ROOT=other)
        name = "app:1" if form != "docker-dir" else app[7:]
        out(pybuild, "save", "--format", form, "-o", tmp_path / f"{form}-2", name, PYBUILD_ROOT=other)
        assert content(first) == content(tmp_path / f"{form}-2")
    done = subprocess.run([*pybuild.command, "save", "app:1"], env=pybuild.environment(), capture_output=True)
    assert done.stdout == (tmp_path / "docker-archive-1").read_bytes()


def content(place: Path) -> dict[str, bytes]:
    if place.is_file():
        return {"": place.read_bytes()}
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_pulled_base_goes_as_it_came(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    out(pybuild, "save", "--format", "oci-archive", "--compression", "zstd", "-o", tmp_path / "zstd", "app:1")
    other = str(tmp_path / "other")
    out(pybuild, "load", "-q", "-i", tmp_path / "zstd", PYBUILD_ROOT=other)
    out(pybuild, "save", "--format", "oci-archive", "-o", tmp_path / "again", "app:1", PYBUILD_ROOT=other)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "zstd").read_bytes()
    # Docker's archive has it unpacked, and its schema 2 not at all.
    out(pybuild, "save", "-o", tmp_path / "docker", "app:1", PYBUILD_ROOT=other)
    out(pybuild, "save", "-o", tmp_path / "first", "app:1")
    assert (tmp_path / "docker").read_bytes() == (tmp_path / "first").read_bytes()
    done = pybuild("save", "--format", "docker-dir", "-o", tmp_path / "dir", "app:1", env={"PYBUILD_ROOT": other})
    assert done.returncode == 2 and "is compressed with zstd, which Docker's schema 2 does not know" in done.stderr


def test_several_images_and_names(pybuild: Pybuild, app: str, busybox_base: Path, tmp_path: Path) -> None:
    out(pybuild, "import", busybox_base, "base")
    out(pybuild, "save", "-o", tmp_path / "all.tar", "app:1", "base", "registry.example/app:2", app[7:20])
    with tarfile.open(tmp_path / "all.tar") as tar:
        listed = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        repositories = json.load(tar.extractfile("repositories"))  # type: ignore[arg-type]
        names = tar.getnames()
        for name in names:
            if name.startswith("blobs/sha256/"):
                assert hashlib.sha256(tar.extractfile(name).read()).hexdigest() == name[13:]  # type: ignore[union-attr]
    assert [image["RepoTags"] for image in listed] == [["app:1", "registry.example/app:2"], ["base:latest"]]
    assert {name: list(tags) for name, tags in repositories.items()} == {
        "app": ["1"],
        "registry.example/app": ["2"],
        "base": ["latest"],
    }
    # What they share is there once.
    assert len(names) == len(set(names)) == 12
    told = out(pybuild, "load", "-i", tmp_path / "all.tar", PYBUILD_ROOT=str(tmp_path / "other"))
    assert told == "Loaded image: app:1\nLoaded image: registry.example/app:2\nLoaded image: base:latest\n"
    out(pybuild, "save", "-o", tmp_path / "nameless.tar", app[7:20])
    told = out(pybuild, "load", "-i", tmp_path / "nameless.tar", PYBUILD_ROOT=str(tmp_path / "third"))
    assert told == f"Loaded image ID: {app}\n"


def test_what_save_refuses(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    for args, message in (
        (["--format", "oci-dir", "app:1"], "error: the format oci-dir is a folder and needs one\n  hint: add -o DIR\n"),
        (["no:1"], "error: there is no image 'no:1' in the store\n"),
        (["-o", str(tmp_path), "app:1"], f"error: the destination '{tmp_path}' is a folder\n"),
        (["--compression", "zstd", "app:1"], "error: layers in Docker's archive are not compressed\n"),
    ):
        done = pybuild("save", *args)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(message)
    ours, theirs = pty.openpty()
    shown = subprocess.run(
        [*pybuild.command, "save", "app:1"], env=pybuild.environment(), stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    os.close(ours)
    assert shown.returncode == 2
    assert shown.stderr == b"error: an archive does not go to a terminal\n  hint: add -o FILE, or redirect stdout\n"


def test_a_damaged_layer_is_not_saved(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    out(pybuild, "save", "--format", "oci-archive", "-o", tmp_path / "good", "app:1")
    for blob in (pybuild.store / "blobs" / "sha256").iterdir():
        if blob.stat().st_size > 100_000:
            blob.chmod(0o600)
            with blob.open("r+b") as file:
                file.seek(5000)
                file.write(b"damage")
    for form in ("docker-archive", "oci-archive"):
        done = pybuild("save", "--format", form, "-o", tmp_path / "bad", "app:1")
        assert done.returncode == 7 and "is corrupt" in done.stderr
        assert not (tmp_path / "bad").exists()
