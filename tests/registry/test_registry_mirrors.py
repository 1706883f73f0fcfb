"""Mirrors: asked before their registry, in order, and passed over when they cannot serve."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.build_portable import Room
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.registry.registry_images import layout, push
from tests.registry.registry_proxy import FaultProxy, altered, dropped, status
from tests.registry.registry_runs import config_digest, context, done, refused
from tests.registry.registry_server import PASSWORD, USER, RegistryServer
from tests.registry.test_registry_trust import settings


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("mirror")) as running:
        yield running


@pytest.fixture
def proxy(mirror: RegistryServer) -> Iterator[FaultProxy]:
    """In front of the mirror."""
    with FaultProxy(mirror.host) as running:
        yield running


def image(tmp_path: Path, *names: str, data: bytes = b"x") -> Path:
    folder = layout(tmp_path / f"layout-{len(list(tmp_path.iterdir()))}", [{"file": data}, {"more": data[::-1]}])
    for name in names:
        push(folder, name)
    return folder


def mirrored(pybuild: Pybuild, host: str, *mirrors: str, more: str = "") -> None:
    settings(pybuild, f'[registry."{host}"]\nmirrors = {json.dumps(mirrors)}\n{more}')


def test_a_mirror_serves_all(pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, tmp_path: Path) -> None:
    folder = image(tmp_path, f"{mirror.host}/hub/serves:1")
    mirrored(pybuild, registry.host, f"{mirror.host}/hub")
    before = len(registry.asked())
    name = f"{registry.host}/serves:1"
    pulled = done(pybuild, "pull", name)
    assert pulled.stdout == f"{config_digest(folder)}\n" and "warning" not in pulled.stderr
    # It has the registry's name, which nobody asked.
    assert f"{registry.host}/serves" in done(pybuild, "images").stdout
    assert len(registry.asked()) == before
    done(pybuild, "--pull=always", context(tmp_path / "context", f"FROM {name}\n"))
    assert len(registry.asked()) == before


def test_a_registry_that_is_down_has_a_mirror(pybuild: Pybuild, mirror: RegistryServer, tmp_path: Path) -> None:
    image(tmp_path, f"{mirror.host}/down:1")
    mirrored(pybuild, "nowhere.invalid:5000", mirror.host)
    done(pybuild, "pull", "nowhere.invalid:5000/down:1")


def test_a_look_goes_to_mirrors_too(
    pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    folder = image(tmp_path, f"{mirror.host}/hub/looked:1")
    mirrored(pybuild, "nowhere.invalid:5000", f"{proxy.host}/none", f"{proxy.host}/hub", mirror.host + "/hub")
    proxy.hit("/hub/looked/blobs/", altered)
    name = "nowhere.invalid:5000/looked:1"
    looked = done(pybuild, "inspect", "--remote", "-f", "{{.Id}} {{.RepoTags}}", name)
    assert looked.stdout == f"{config_digest(folder)} [{name}]\n"
    assert looked.stderr.splitlines() == [
        f"warning: the mirror {proxy.host}/none is passed over: {proxy.host} has no image '{name}' (Registry)",
        f"warning: the mirror {proxy.host}/hub is passed over: {proxy.host} sent a blob of {proxy.host}/hub/looked that is not "
        f"{config_digest(folder)} (Registry)",
    ]


def test_a_cache_comes_from_mirrors_too(
    pybuild: Pybuild, mirror: RegistryServer, proxy: FaultProxy, busybox_base: Path, tmp_path: Path
) -> None:
    room = Room(tmp_path, busybox_base, pybuild)
    first = room("a", f"--cache-to=type=registry,ref={mirror.host}/hub/cache,mode=max")
    assert (first.code, first.warnings) == (0, [])
    name = "nowhere.invalid:5000/cache"
    mirrored(pybuild, "nowhere.invalid:5000", f"{proxy.host}/none", f"{proxy.host}/hub", f"{mirror.host}/hub")
    # What it brought of a layer before it failed is no part of what the next one brings.
    proxy.hit("/hub/cache/blobs/", lambda _, answer: answer)
    proxy.hit("/hub/cache/blobs/", altered, times=20)
    done = room("b", f"--cache-from=type=registry,ref={name}")
    assert (set(done.statuses.values()), done.image) == ({"cached"}, first.image)
    told = f"Registry: the mirror {proxy.host}"
    assert [warning.partition("sha256:")[0] for warning in done.warnings] == [
        f"{told}/none is passed over: it is not there",
        f"{told}/hub is passed over: {proxy.host} sent a blob of {proxy.host}/hub/cache that is not ",
    ]
    assert_valid(room.store)


def test_mirrors_that_cannot_serve(
    pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    with RegistryServer(tmp_path / "short-lived") as server:
        down = server.host
    image(tmp_path, f"{registry.host}/passed:1")
    mirrored(pybuild, registry.host, down, f"{proxy.host}/empty", mirror.host)
    name = f"{registry.host}/passed:1"
    told = done(pybuild, "pull", name).stderr
    assert [line for line in told.splitlines() if "mirror" in line] == [
        f"warning: the mirror {down} is passed over: http://{down}/v2/: no connection: connection refused (Registry)",
        f"warning: the mirror {proxy.host}/empty is passed over: {proxy.host} has no image '{name}' (Registry)",
        f"warning: the mirror {mirror.host} is passed over: {mirror.host} has no image '{name}' (Registry)",
    ]
    # What the registry says is what counts in the end.
    said = refused(pybuild, "pull", f"{registry.host}/passed:2")
    assert said.endswith(f"error: {registry.host} has no image '{registry.host}/passed:2'\n  hint: check its name and tag\n")


@pytest.mark.parametrize("what", ["wrong bytes", "no blob", "broken", "forbidden"])
def test_a_mirror_that_fails_midway(
    pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, proxy: FaultProxy, tmp_path: Path, what: str
) -> None:
    path = f"midway-{what.replace(' ', '-')}"
    data = random.Random(what).randbytes(1_000_000)
    folder = image(tmp_path, f"{registry.host}/{path}:1", f"{mirror.host}/{path}:1", data=data)
    mirrored(pybuild, registry.host, proxy.host)
    config = config_digest(folder)
    fault = {"wrong bytes": altered, "no blob": status(404), "broken": dropped(0), "forbidden": status(403)}[what]
    # Not the config, which comes first.
    proxy.hit(f"{path}/blobs/{config}", lambda _, answer: answer)
    proxy.hit(f"{path}/blobs/", fault, times=20)
    told = done(pybuild, "pull", f"{registry.host}/{path}:1").stderr
    assert told.count(f"the mirror {proxy.host} is passed over: ") == 1
    assert_valid(pybuild.store)
    assert_nothing_left(pybuild.store)


def test_a_tag_counts_as_the_mirror_has_it(
    pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    """The digest is resolved where the tag is found first; what the registry has under that tag is another image."""
    old = image(tmp_path, f"{mirror.host}/lags:1", data=b"old")
    push(old, f"{registry.host}/lags:old")
    image(tmp_path, f"{registry.host}/lags:1", data=b"new")
    mirrored(pybuild, registry.host, proxy.host)
    proxy.hit("GET /v2/lags/blobs/", status(404), times=9)
    assert done(pybuild, "pull", f"{registry.host}/lags:1").stdout == f"{config_digest(old)}\n"


def test_credentials_of_a_mirror(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "secured", "htpasswd") as server:
        folder = layout(tmp_path / "layout", [{"file": b"x"}])
        push(folder, f"{server.host}/own:1", f"--dest-creds={USER}:{PASSWORD}")
        mirrored(pybuild, registry.host, server.host)
        name = f"{registry.host}/own:1"
        assert f"{server.host} wants credentials for pulling own" in refused(pybuild, "pull", name)
        file = tmp_path / "auth.json"
        # Those of the registry are not for its mirror.
        file.write_text(json.dumps({"auths": {registry.host: {"username": USER, "password": PASSWORD}}}))
        refused(pybuild, "pull", name, env={"REGISTRY_AUTH_FILE": str(file)})
        file.write_text(json.dumps({"auths": {server.host: {"username": USER, "password": PASSWORD}}}))
        done(pybuild, "pull", name, env={"REGISTRY_AUTH_FILE": str(file)})


def test_pushes_go_to_the_registry(pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, tmp_path: Path) -> None:
    image(tmp_path, f"{mirror.host}/pushed:1")
    mirrored(pybuild, registry.host, mirror.host)
    name = f"{registry.host}/pushed:1"
    done(pybuild, "pull", name)
    before = len(mirror.asked())
    done(pybuild, "push", name)
    assert len(mirror.asked()) == before
    assert [one for one in registry.asked("PUT") if "/pushed/manifests/1" in one.path]


def test_a_mirror_of_plain_http(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    """By a name that is not this machine's: what the settings say is needed."""
    image(tmp_path, f"{registry.host}/plain:1")
    port = registry.host.rpartition(":")[2]
    mirrored(pybuild, "nowhere.invalid", f"0.0.0.0:{port}")
    said = refused(pybuild, "pull", "nowhere.invalid/plain:1")
    assert (
        f"the mirror 0.0.0.0:{port} is passed over: https://0.0.0.0:{port}/v2/plain/manifests/1: the secure connection" in said
    )
    mirrored(pybuild, "nowhere.invalid", f"0.0.0.0:{port}", more=f'[registry."0.0.0.0:{port}"]\nhttp = true\n')
    done(pybuild, "pull", "nowhere.invalid/plain:1")
