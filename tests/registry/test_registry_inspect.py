"""`inspect --remote`: images of a registry, looked at and not pulled."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Pybuild
from tests.registry.registry_images import layout, push, skopeo
from tests.registry.registry_runs import config_digest, refused
from tests.registry.registry_server import RegistryServer
from tests.registry.test_registry_pull import put_manifest

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


@pytest.fixture(scope="module")
def made(registry: RegistryServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`looked/at:ARCHITECTURE` for this machine and for s390x, and `looked/at:all`, their index."""
    folder = tmp_path_factory.mktemp("looked")
    made, descriptors = {}, []
    for architecture in (MACHINE, "s390x"):
        made[architecture] = layout(folder / architecture, [{"which": architecture.encode()}], architecture=architecture)
        push(made[architecture], f"{registry.host}/looked/at:{architecture}")
        descriptor = json.loads((made[architecture] / "index.json").read_bytes())["manifests"][0]
        descriptors.append({**descriptor, "platform": {"os": "linux", "architecture": architecture}})
    body = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": descriptors}
    put_manifest(registry, "looked/at", "all", body)
    return made


def inspected(pybuild: Pybuild, *args: str) -> str:
    done = pybuild("inspect", *args)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_image_is_looked_at(pybuild: Pybuild, registry: RegistryServer, made: dict[str, Path]) -> None:
    name = f"{registry.host}/looked/at:{MACHINE}"
    before = len(registry.asked("GET"))
    (shown,) = json.loads(inspected(pybuild, "--remote", name))
    asked = [request.path for request in registry.asked("GET")[before:]]
    config = config_digest(made[MACHINE])
    # The manifest, and the config; no layer.
    assert [path for path in asked if "/blobs/" in path] == [f"/v2/looked/at/blobs/{config}"]
    skopeo_says = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))
    assert (shown["Id"], shown["Digest"]) == (config, skopeo_says["Digest"])
    assert shown["RepoTags"] == [name]
    assert shown["RepoDigests"] == [f"{registry.host}/looked/at@{skopeo_says['Digest']}"]
    assert [layer["digest"] for layer in shown["Layers"]] == skopeo_says["Layers"]
    assert shown["Size"] == sum(layer["size"] for layer in shown["Layers"])
    assert inspected(pybuild, f"docker://{name}", "-f", "{{.Id}}") == f"{config}\n"
    assert pybuild("images", "-q").stdout == ""


def test_bytes_as_they_are(pybuild: Pybuild, registry: RegistryServer, made: dict[str, Path]) -> None:
    for tag in (MACHINE, "all"):
        name = f"docker://{registry.host}/looked/at:{tag}"
        raw = subprocess.run(
            [*pybuild.command, "inspect", "--raw", name], env=pybuild.environment(), capture_output=True
        ).stdout
        skopeo_says = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", name], capture_output=True).stdout
        assert raw == skopeo_says != b""
        config = inspected(pybuild, "--config", name)
        assert json.loads(config)["architecture"] == MACHINE


def test_an_index_shows_its_platforms(pybuild: Pybuild, registry: RegistryServer, made: dict[str, Path]) -> None:
    name = f"{registry.host}/looked/at:all"
    (shown,) = json.loads(inspected(pybuild, "--remote", name))
    assert (shown["Architecture"], shown["Platforms"]) == (MACHINE, [f"linux/{MACHINE}", "linux/s390x"])
    form = "{{.Architecture}} {{.Id}}"
    assert (
        inspected(pybuild, "--remote", "--platform", "linux/s390x", "-f", form, name)
        == f"s390x {config_digest(made['s390x'])}\n"
    )
    said = refused(pybuild, "inspect", "--remote", "--platform", "linux/riscv64", name)
    assert f"is not there for linux/riscv64\n  hint: it is for linux/{MACHINE}, linux/s390x" in said


def test_what_is_not_there(pybuild: Pybuild, registry: RegistryServer) -> None:
    said = refused(pybuild, "inspect", "--remote", f"{registry.host}/looked/gone:1")
    assert said.startswith(f"error: {registry.host} has no image '{registry.host}/looked/gone:1'\n")
