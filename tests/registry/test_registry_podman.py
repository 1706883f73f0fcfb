"""Podman and skopeo as the other clients: what pybuild pushes they pull and run, what they push it builds on."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SEARCH_PATH, Pybuild
from tests.registry.registry_images import skopeo
from tests.registry.registry_runs import context, done
from tests.registry.registry_server import PASSWORD, USER, RegistryServer

# Podman asks for limits that not every root may set.
LIMITS = ("--ulimit=nofile=512:512", "--ulimit=nproc=512:512")


class Podman:
    """With a store of its own that needs no mounts, and no network."""

    def __init__(self, folder: Path, runroot: str) -> None:
        self._folder = folder
        self._runroot = runroot

    def __call__(self, *args: str | Path, stdin: str = "") -> str:
        places = [f"--root={self._folder}/root", f"--tmpdir={self._folder}/tmp", f"--runroot={self._runroot}"]
        fixed = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"]
        ran = subprocess.run(
            ["podman", *places, *fixed, *args],
            env={"PATH": SEARCH_PATH, "HOME": str(self._folder), "XDG_RUNTIME_DIR": str(self._folder)},
            capture_output=True,
            text=True,
            timeout=120,
            input=stdin,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def run(self, *args: str) -> str:
        return self("run", "--network=none", *LIMITS, *args)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    folder = tmp_path / "podman"
    folder.mkdir()
    groups = Path("/sys/fs/cgroup")
    before = {*groups.glob("libpod_parent"), *groups.glob("*/libpod_parent")}
    # It takes no path of more than 50 characters there.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as runroot:
        yield Podman(folder, runroot)
    # It leaves the group of its groups behind, with those of monitors that may still be about to end.
    deadline = time.monotonic() + 5
    for group in {*groups.glob("libpod_parent"), *groups.glob("*/libpod_parent")} - before:
        for place, _, _ in os.walk(group, topdown=False):
            while not _removed(place):
                assert time.monotonic() < deadline, place
                time.sleep(0.02)


def _removed(group: str) -> bool:
    try:
        os.rmdir(group)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def test_podman_runs_what_was_pushed_and_builds_go_on_from_what_it_pushes(
    pybuild: Pybuild, podman: Podman, registry: RegistryServer, busybox_base: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/podman/ours:1"
    dockerfile = 'FROM base\nRUN echo ours > /file\nENV A=1\nCMD ["sh", "-c", "cat /file; echo $A"]\n'
    base = f"--build-context=base={busybox_base}"
    image_id = done(pybuild, "-q", "-t", name, "--push", base, context(tmp_path / "ours", dockerfile)).stdout.strip()
    assert podman("pull", "-q", "--tls-verify=false", name) == image_id.removeprefix("sha256:")
    assert podman.run("--rm", name) == "ours\n1"

    podman.run("--name=changed", name, "sh", "-c", "echo theirs >> /file; rm /etc/passwd; ln /file /link")
    theirs = f"{registry.host}/podman/theirs:1"
    podman("commit", "-q", "changed", theirs)
    podman("rm", "changed")
    for form in ("oci", "v2s2"):
        podman("push", "-q", "--tls-verify=false", f"--format={form}", theirs)
        folder = context(tmp_path / form, f"FROM {theirs}\nRUN test ! -e /etc/passwd && cat /link > /copy\n")
        done(pybuild, "--pull", "-t", f"{registry.host}/podman/{form}:1", "--push", folder)
        podman("pull", "-q", "--tls-verify=false", f"{registry.host}/podman/{form}:1")
        assert podman.run("--rm", f"{registry.host}/podman/{form}:1", "cat", "/copy") == "ours\ntheirs"


def test_skopeo_takes_images_on_and_back(
    pybuild: Pybuild, registry: RegistryServer, busybox_base: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/skopeo/ours:1"
    dockerfile = 'FROM base\nRUN echo ours > /file\nCMD ["cat", "/file"]\n'
    done(pybuild, "-t", name, "--push", f"--build-context=base={busybox_base}", context(tmp_path / "ours", dockerfile))
    for form in ("oci", "v2s2"):
        other = f"{registry.host}/skopeo/{form}:1"
        flags = ("--src-tls-verify=false", "--dest-tls-verify=false", f"--format={form}")
        skopeo("copy", "-q", *flags, f"docker://{name}", f"docker://{other}")
        done(pybuild, "pull", other)
        assert done(pybuild, "run", other).stdout == "ours\n"


@pytest.mark.parametrize("secured", ["htpasswd"], indirect=True)
def test_a_login_of_podman_counts_for_pybuild_and_the_other_way_round(
    pybuild: Pybuild, podman: Podman, secured: RegistryServer, busybox_base: Path, tmp_path: Path
) -> None:
    file = tmp_path / "auth.json"
    login = ("login", "--tls-verify=false", f"--authfile={file}", f"--username={USER}", "--password-stdin", secured.host)
    podman(*login, stdin=PASSWORD)
    name = f"{secured.host}/own:1"
    folder = context(tmp_path / "context", "FROM base\n")
    env = {"REGISTRY_AUTH_FILE": str(file)}
    done(pybuild, "-t", name, "--push", f"--build-context=base={busybox_base}", folder, env=env)
    podman("logout", f"--authfile={file}", secured.host)
    assert json.loads(file.read_text()) == {"auths": {}}
    kept = pybuild("login", "-u", USER, "--password-stdin", secured.host, stdin=PASSWORD.encode(), env=env)
    assert kept.returncode == 0, kept.stderr
    podman("pull", "-q", "--tls-verify=false", f"--authfile={file}", name)
