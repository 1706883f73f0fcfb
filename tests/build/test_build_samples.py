"""Every sample builds, and its image is a plain OCI image: skopeo reads and copies it, umoci unpacks it, runc runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BASES, ROOT, Pybuild

SAMPLES = ROOT / "sample_projects"


def prepare(sample: str, pybuild: Pybuild, busybox_base: Path, debian_base: Path, folder: Path) -> list[str]:
    """What the sample's README does before its build; the flags of the build."""
    match sample:
        case "hello":
            return ["--build-context", f"busybox={busybox_base}"]
        case "vertx":
            subprocess.run([BASES / "vertx", folder / "vertx"], check=True)
            subprocess.run([SAMPLES / "vertx" / "prepare"], check=True)
            return ["--build-context", f"example/vertx3:3.3.1={folder / 'vertx'}"]
        case _:
            subprocess.run([SAMPLES / "web" / "prepare", sys.executable], check=True)
            assert pybuild("import", debian_base, "debian:12").returncode == 0
            return []


@pytest.mark.parametrize(
    ("sample", "arguments"), [("hello", []), ("vertx", []), ("web", ["--check"])], ids=["hello", "vertx", "web"]
)
def test_a_sample_runs_the_same_everywhere(
    sample: str, arguments: list[str], pybuild: Pybuild, busybox_base: Path, debian_base: Path, tmp_path: Path
) -> None:
    flags = prepare(sample, pybuild, busybox_base, debian_base, tmp_path)
    layout, metadata = tmp_path / "layout", tmp_path / "metadata.json"
    done = pybuild(
        "-t", sample, *flags, "-o", f"type=oci,tar=false,dest={layout}", "-o", f"type=docker,dest={tmp_path}/docker.tar",
        "--metadata-file", metadata, SAMPLES / sample,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    digests = json.loads(metadata.read_text())

    ours = pybuild("run", sample, *arguments)
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout

    inspected = json.loads(tool("skopeo", "inspect", f"oci:{layout}:latest"))
    assert inspected["Digest"] == digests["containerimage.digest"]
    for target in (f"oci-archive:{tmp_path}/copied.tar", f"dir:{tmp_path}/copied"):
        tool("skopeo", "copy", f"oci:{layout}:latest", target)
    tool("skopeo", "copy", f"docker-archive:{tmp_path}/docker.tar", f"oci:{tmp_path}/from-docker:latest")
    config = json.loads(tool("skopeo", "inspect", "--config", "--raw", f"oci:{layout}:latest"))
    converted = json.loads(tool("skopeo", "inspect", "--config", "--raw", f"oci:{tmp_path}/from-docker:latest"))
    # skopeo's conversion knows the OCI spec's fields alone (no Healthcheck); those are the same.
    assert converted["rootfs"] == config["rootfs"]
    assert converted["config"] == {key: value for key, value in config["config"].items() if key not in ("Healthcheck", "Shell")}

    bundle = tmp_path / "bundle"
    tool("umoci", "unpack", "--image", f"{layout}:latest", str(bundle))
    assert run_bundle(bundle, config, arguments, f"pybuild-{os.getpid()}-{sample}") == ours.stdout


def test_the_demo_image_has_the_same_digest_in_two_folders_and_stores(busybox_base: Path, tmp_path: Path) -> None:
    found = set()
    for name in ("one", "two/deeper"):
        folder = tmp_path / name
        folder.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", SAMPLES / "hello", folder], check=True)
        pybuild = Pybuild(folder.parent / f"store-of-{folder.name}", tmp_path)
        out = folder.parent / "hello.tar"
        flags = ["--build-context", f"busybox={busybox_base}", "-o", f"type=oci,dest={out}", "--metadata-file", f"{out}.json"]
        assert pybuild("-q", *flags, folder).returncode == 0
        found.add((json.loads(Path(f"{out}.json").read_text())["containerimage.digest"], out.read_bytes()))
    assert len(found) == 1


def test_the_tests_of_the_web_sample_run_in_a_stage(pybuild: Pybuild, debian_base: Path, tmp_path: Path) -> None:
    prepare("web", pybuild, tmp_path, debian_base, tmp_path)
    done = pybuild("--target", "test", "--progress=plain", SAMPLES / "web")
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
    assert "skipped   stage-2" in done.stderr


def run_bundle(bundle: Path, config: dict[str, dict[str, list[str]]], arguments: list[str], name: str) -> str:
    """What the image's command prints under runc, without a terminal."""
    path = bundle / "config.json"
    spec = json.loads(path.read_text())
    spec["process"]["terminal"] = False
    if arguments:
        spec["process"]["args"] = [*config["config"]["Entrypoint"], *arguments]
    path.write_text(json.dumps(spec))
    return tool("runc", "run", "--bundle", str(bundle), name)


def tool(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
