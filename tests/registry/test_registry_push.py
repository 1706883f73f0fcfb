"""Images that the program takes to Debian's docker-registry, for skopeo and for itself in another store."""

from __future__ import annotations

import json
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import ROOT, Pybuild
from tests.registry.registry_images import layout, push, skopeo
from tests.registry.registry_proxy import FaultProxy, dropped, stalled, status
from tests.registry.registry_runs import config_digest, context, done, refused
from tests.registry.registry_server import PASSWORD, USER, Asked, RegistryServer

HELLO = 'FROM base\nRUN echo hello > /hello\nCOPY <<EOF /more\nmore\nEOF\nCMD ["cat", "/hello"]\n'


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[FaultProxy]:
    with FaultProxy(registry.host) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return context(tmp_path / "context", HELLO)


@pytest.fixture
def another(tmp_path: Path) -> Pybuild:
    """The program with another store, an empty one."""
    (tmp_path / "elsewhere").mkdir()
    return Pybuild(tmp_path / "elsewhere" / "store", tmp_path / "elsewhere")


def base(busybox_base: Path) -> str:
    return f"--build-context=base={busybox_base}"


def moved(asked: list[Asked]) -> list[Asked]:
    """The requests that carried a blob."""
    return [one for one in asked if one.method in ("PUT", "PATCH") and "/blobs/" in one.path]


def inspected(name: str, *flags: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(skopeo("inspect", "--tls-verify=false", *flags, f"docker://{name}"))
    return found


@pytest.mark.parametrize("how", ["push", "--push", "type=registry", "type=image"])
def test_an_image_is_taken_there_and_runs_elsewhere(
    pybuild: Pybuild, another: Pybuild, registry: RegistryServer, busybox_base: Path, project: Path, how: str
) -> None:
    name = f"{registry.host}/how/{how.replace('=', '-').strip('-')}:1"
    if how == "push":
        done(pybuild, "-t", name, base(busybox_base), project)
        digest = done(pybuild, "push", name).stdout.strip()
    else:
        flags = {"--push": ["-t", name, "--push"], "type=image": ["-o", f"type=image,push=true,name={name}"]}
        told = pybuild.store.parent / "metadata"
        flag = flags.get(how, ["-o", f"type=registry,name={name}"])
        said = done(pybuild, *flag, "--metadata-file", told, base(busybox_base), project).stderr
        digest = json.loads(told.read_text())["containerimage.digest"]
        assert f"registry {name}" in said and f"pushing {name}: " in said
    assert inspected(name)["Digest"] == digest
    assert done(another, "pull", "-q", f"{name}@{digest}").stdout == done(another, "pull", "-q", name).stdout
    assert done(another, "run", name).stdout == "hello\n"
    assert_valid(pybuild.store)


def test_two_commands_take_a_sample_there_and_run_it_elsewhere(
    pybuild: Pybuild, another: Pybuild, registry: RegistryServer, busybox_base: Path
) -> None:
    """The two are in docs/registries.md."""
    text = (ROOT / "docs/registries.md").read_text()
    build, run = (
        shlex.split(
            line.replace("registry.example", registry.host).replace(".cache/bases/busybox", str(busybox_base)), comments=True
        )
        for line in text.splitlines()
        if line.startswith("pybuild ") and "/hello:1" in line
    )
    done(pybuild, *build[1:-1], ROOT / build[-1])
    ran = done(another, *run[1:])
    assert ran.stdout.startswith("Hello from an image that pybuild made.\n") and "running as nobody" in ran.stdout
    assert done(another, "images", "-q").stdout == done(pybuild, "images", "-q").stdout


def test_what_is_there_already_does_not_move(
    pybuild: Pybuild, registry: RegistryServer, busybox_base: Path, project: Path
) -> None:
    one, two = f"{registry.host}/twice/one", f"{registry.host}/twice/two"
    done(pybuild, "-t", f"{one}:1", base(busybox_base), project)
    first = done(pybuild, "push", f"{one}:1")
    before = len(registry.asked())
    second = done(pybuild, "push", f"{one}:1")
    assert second.stdout == first.stdout and f"pushing {one}:1: all is there\n" in second.stderr
    assert not moved(registry.asked()[before:])
    # Another repository of the same registry takes the layers over from the first; the config comes by itself.
    third = done(pybuild, "push", f"{one}:1", f"{two}:1")
    assert third.stdout == first.stdout
    assert len(moved(registry.asked()[before:])) == 1
    assert len([ask for ask in registry.asked("POST")[before:] if "mount=" in ask.path and ask.status == 201]) == 0
    mounts = [ask for ask in registry.asked("POST") if "/twice/two/" in ask.path and "mount=" in ask.path]
    assert [ask.status for ask in mounts] == [201] * 3


def test_a_change_moves_what_changed(pybuild: Pybuild, registry: RegistryServer, busybox_base: Path, project: Path) -> None:
    name = f"{registry.host}/change:1"
    done(pybuild, "-t", name, "--push", base(busybox_base), project)
    context(project, HELLO.replace("more", "other"))
    before = len(registry.asked())
    done(pybuild, "-t", name, "--push", base(busybox_base), project)
    assert len(moved(registry.asked()[before:])) == 2


def test_several_names(pybuild: Pybuild, registry: RegistryServer, busybox_base: Path, project: Path) -> None:
    names = [f"{registry.host}/{name}" for name in ("several/a:1", "several/a:2", "several/b:1")]
    before = len(registry.asked())
    done(pybuild, *(word for name in names for word in ("-t", name)), "--push", base(busybox_base), project)
    asked = registry.asked()[before:]
    assert len({str(inspected(name)["Digest"]) for name in names}) == 1
    # The manifest comes last: who sees it finds its blobs.
    for repository, tags in (("several/a", ["1", "2"]), ("several/b", ["1"])):
        own = [one for one in asked if one.path.startswith(f"/v2/{repository}/")]
        assert [one.path for one in own[-len(tags) :]] == [f"/v2/{repository}/manifests/{tag}" for tag in tags]
        assert all("/blobs/" in one.path for one in own[: -len(tags)])


def test_a_base_of_the_registry_ships_as_it_came(
    pybuild: Pybuild, registry: RegistryServer, busybox_base: Path, tmp_path: Path
) -> None:
    busybox = (busybox_base / "bin/busybox").read_bytes()
    push(layout(tmp_path / "layout", [{"bin/busybox": busybox}]), f"{registry.host}/ships/base:1", "--format=v2s2")
    raw = inspected(f"{registry.host}/ships/base:1", "--raw")
    folder = context(tmp_path / "context", f'FROM {registry.host}/ships/base:1\nRUN ["/bin/busybox", "touch", "/a"]\n')
    before = len(registry.asked())
    done(pybuild, "-t", f"{registry.host}/ships/child:1", "--push", folder)
    # The layer, whose blob is mounted, is the base's own.
    child = inspected(f"{registry.host}/ships/child:1", "--raw")
    layers, child_layers = raw["layers"], child["layers"]
    assert isinstance(layers, list) and isinstance(child_layers, list)
    assert child_layers[0]["digest"] == layers[0]["digest"] and len(child_layers) == 2
    assert len(moved(registry.asked()[before:])) == 2


@pytest.mark.parametrize("compression", ["zstd", "uncompressed"])
def test_compressions(
    pybuild: Pybuild, another: Pybuild, registry: RegistryServer, busybox_base: Path, project: Path, compression: str
) -> None:
    name = f"{registry.host}/compressed:{compression}"
    done(pybuild, "-t", name, "-o", f"type=registry,compression={compression}", base(busybox_base), project)
    layers = inspected(name, "--raw")["layers"]
    assert isinstance(layers, list)
    suffix = "+zstd" if compression == "zstd" else ""
    assert {layer["mediaType"] for layer in layers} == {f"application/vnd.oci.image.layer.v1.tar{suffix}"}
    # An empty store needs no more than this.
    ran = done(another, "run", name)
    assert ran.stdout == "hello\n" and f"pulling {name}: " in ran.stderr
    before = len(registry.asked())
    assert done(another, "run", name).stderr == "" and len(registry.asked()) == before
    assert done(another, "run", "-q", "--pull", name).stderr == "" and len(registry.asked()) > before


def test_a_policy_that_stands_behind_its_flag(pybuild: Pybuild) -> None:
    """Docker's --pull takes the next word; here that is the image."""
    for said in (
        refused(pybuild, "run", "--pull", word, "app", env={"https_proxy": "http://127.0.0.1:1"}) for word in ("never", "newer")
    ):
        assert "hint: did you mean --pull=ne" in said


def test_an_image_of_others_goes_on(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    folder = layout(tmp_path / "layout", [{"a": b"a"}, {"a": b"a"}, {"b": b"b"}])
    push(folder, f"{registry.host}/others:1")
    done(pybuild, "pull", f"{registry.host}/others:1")
    done(pybuild, "tag", f"{registry.host}/others:1", f"{registry.host}/mine:1")
    done(pybuild, "push", f"{registry.host}/mine:1")
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{registry.host}/mine:1", f"oci:{tmp_path / 'back'}:latest")
    assert config_digest(tmp_path / "back") == config_digest(folder)


# What goes wrong


def test_names_that_cannot_be(pybuild: Pybuild, busybox_base: Path, project: Path) -> None:
    assert refused(pybuild, "--push", base(busybox_base), project, code=2).startswith(
        "error: --push needs a name to push to\n  hint: add -t registry.example/name:tag\n"
    )
    assert "type=registry needs a name to push to" in refused(
        pybuild, "-o", "type=registry", base(busybox_base), project, code=2
    )
    identity = done(pybuild, "-q", base(busybox_base), project).stdout.strip()
    assert refused(pybuild, "push", identity, code=2) == (
        f"error: '{identity}' is no name to push to\n  hint: say where to: pybuild push {identity} registry.example/name:tag\n"
    )
    assert "there is no image 'nothing' in the store" in refused(pybuild, "push", "nothing", code=2)


@pytest.mark.parametrize("secured", ["htpasswd", "token"], indirect=True)
def test_who_may_push(pybuild: Pybuild, secured: RegistryServer, busybox_base: Path, project: Path, tmp_path: Path) -> None:
    name = f"{secured.host}/own/a:1"
    said = refused(pybuild, "-t", name, "--push", base(busybox_base), project)
    assert (
        f"error: {secured.host} wants credentials for pushing to own/a, and there are none\n"
        f"  hint: log in: pybuild login {secured.host}; is the name right?; "
        f"the image is in the store: pybuild push {name}, or pybuild save {name}\n"
    ) in said
    # It was built, and has its name: only the registry does not have it.
    assert "own/a" in done(pybuild, "images").stdout
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {secured.host: {"username": USER, "password": PASSWORD}}}))
    env = {"REGISTRY_AUTH_FILE": str(file)}
    done(pybuild, "-t", name, "--push", base(busybox_base), project, env=env)
    done(pybuild, "push", name, f"{secured.host}/own/b:1", env=env)
    mounts = [one for one in secured.asked("POST") if "mount=" in one.path and "/own/b/" in one.path]
    # A token for both repositories is asked for at the first.
    assert [one.status for one in mounts if one.status != 401] == [201] * 3


def test_a_bad_network(pybuild: Pybuild, proxy: FaultProxy, busybox_base: Path, project: Path) -> None:
    name = f"{proxy.host}/bad/push:1"
    for what, fault in (
        ("POST", status(503)),
        ("PUT /v2/bad/push/blobs", status(500)),
        ("PUT /v2/bad/push/blobs", dropped(0)),
        ("HEAD", status(429, Retry_After="0")),
        ("PUT /v2/bad/push/manifests", status(502)),
    ):
        proxy.hit(what, fault)
    done(pybuild, "-t", name, "--push", base(busybox_base), project)
    assert inspected(name)["Digest"]


def test_a_registry_that_does_not_see_its_blobs_for_a_moment(
    pybuild: Pybuild, proxy: FaultProxy, busybox_base: Path, project: Path
) -> None:
    """distribution, where two push the same blobs at the same time."""
    name = f"{proxy.host}/moment:1"
    body = json.dumps({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}).encode()
    proxy.hit("PUT /v2/moment/manifests", lambda _, answer: answer._replace(status=400, headers={}, body=body), times=2)
    done(pybuild, "-t", name, "--push", base(busybox_base), project)
    assert len([one for one in proxy.passed if one.method == "PUT" and "/manifests/" in one.path]) == 3
    # For a moment, and not for ever.
    proxy.hit("PUT /v2/moment/manifests", lambda _, answer: answer._replace(status=400, headers={}, body=body), times=9)
    said = refused(pybuild, "push", name, f"{proxy.host}/moment:2")
    assert f"error: {proxy.host} answered 400 for {proxy.host}/moment: blob unknown to registry\n" in said


def test_a_registry_that_refuses_a_blob(pybuild: Pybuild, proxy: FaultProxy, busybox_base: Path, project: Path) -> None:
    name = f"{proxy.host}/full:1"
    body = json.dumps({"errors": [{"code": "DENIED", "message": "quota exceeded"}]}).encode()
    proxy.hit("PUT /v2/full/blobs", lambda _, answer: answer._replace(status=413, headers={}, body=body), times=9)
    said = refused(pybuild, "-t", name, "--push", base(busybox_base), project)
    assert f"error: {proxy.host} answered 413 for {proxy.host}/full: quota exceeded\n" in said
    assert not [one for one in proxy.passed if one.path.startswith("/v2/full/manifests")]


def test_a_stalled_push_ends_at_once(pybuild: Pybuild, proxy: FaultProxy, busybox_base: Path, project: Path) -> None:
    name = f"{proxy.host}/stalled/push:1"
    done(pybuild, "-t", name, base(busybox_base), project)
    proxy.hit("PUT", stalled(0), times=9)
    with pybuild.start("push", name) as process:
        while not [one for one in proxy.passed if one.method == "PUT"]:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert_nothing_left(pybuild.store)
