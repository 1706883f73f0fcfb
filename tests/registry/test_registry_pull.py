"""Images that skopeo pushed to Debian's docker-registry, pulled by the program, alone and for builds."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from builder.engine import unpacked
from builder.engine.pulling import pull
from builder.engine.roots import Roots
from builder.errors import RegistryError
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.registry.access import RegistryAccess
from builder.store.store import Store
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.registry.registry_images import layout, push, skopeo
from tests.registry.registry_proxy import FaultProxy, altered, dropped, replaced, stalled, status
from tests.registry.registry_runs import config_digest, context, done, refused
from tests.registry.registry_server import PASSWORD, USER, RegistryServer


@pytest.fixture(scope="module")
def busybox(busybox_base: Path) -> dict[str, bytes]:
    return {"bin/busybox": (busybox_base / "bin/busybox").read_bytes()}


@pytest.fixture(scope="module")
def image(registry: RegistryServer, busybox: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`some/image:1`, of three layers of which two are the same, as a layout."""
    folder = tmp_path_factory.mktemp("image") / "layout"
    layout(folder, [busybox, {"etc/a": b"a\n"}, {"etc/a": b"a\n"}], cmd=["/bin/busybox", "cat", "/etc/a"])
    push(folder, f"{registry.host}/some/image:1")
    return folder


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[FaultProxy]:
    with FaultProxy(registry.host) as running:
        yield running


# Pulling


def test_an_image_is_pulled_and_runs(pybuild: Pybuild, registry: RegistryServer, image: Path) -> None:
    name = f"{registry.host}/some/image:1"
    pulled = done(pybuild, "pull", name)
    assert pulled.stdout == f"{config_digest(image)}\n"
    assert f"pulling {name}: " in pulled.stderr and ": DONE" in pulled.stderr
    assert done(pybuild, "run", name).stdout == "a\n"
    assert f"{registry.host}/some/image   1" in done(pybuild, "images").stdout
    before = len(registry.asked())
    again = done(pybuild, "pull", name)
    assert again.stdout == pulled.stdout and f"pulling {name}: all is there\n" in again.stderr
    # The manifest alone was asked for.
    assert not [one for one in registry.asked()[before:] if "/blobs/" in one.path]
    assert done(pybuild, "pull", "-q", name).stderr == ""
    assert_valid(pybuild.store)


def test_no_layer_is_unpacked_before_a_command_looks_into_it(
    pybuild: Pybuild, registry: RegistryServer, image: Path, tmp_path: Path
) -> None:
    """Neither by a pull, nor for COPY, nor for an output."""
    name = f"{registry.host}/some/image:1"
    done(pybuild, "pull", name)
    stages = f"FROM {name} AS first\nWORKDIR /etc\nCOPY Dockerfile .\nFROM {name}\nCOPY --from=first /etc/a /b\n"
    folder = context(tmp_path / "context", stages)
    elsewhere = Pybuild(tmp_path / "elsewhere", pybuild._home)
    for one in (pybuild, elsewhere):
        out = tmp_path / f"out-{one.store.parent.name}"
        done(one, "-t", "built", "-o", out, folder)
        assert (out / "b").read_text() == "a\n"
        assert list((one.store / "snapshots").iterdir()) == []
        assert_valid(one.store)
    assert done(pybuild, "run", name).stdout == "a\n"
    layers = len(list((pybuild.store / "snapshots").iterdir()))
    assert layers > 1
    # Where a command is to run, they are unpacked as they come.
    folder.joinpath("Dockerfile").write_text(f'FROM {name}\nRUN ["/bin/busybox", "true"]\n')
    third = Pybuild(tmp_path / "third", pybuild._home)
    done(third, folder)
    assert len(list((third.store / "snapshots").iterdir())) == layers
    assert_valid(third.store)


def test_each_blob_is_fetched_once_and_known_layers_not_at_all(
    pybuild: Pybuild, registry: RegistryServer, image: Path, busybox: dict[str, bytes], tmp_path: Path
) -> None:
    before = len(registry.asked("GET"))
    done(pybuild, "pull", f"{registry.host}/some/image:1")
    fetched = [one.path for one in registry.asked("GET")[before:] if "/blobs/" in one.path]
    assert len(fetched) == len(set(fetched)) == 3
    other = layout(tmp_path / "other", [busybox, {"etc/b": b"b\n"}])
    push(other, f"{registry.host}/other/image:1")
    before = len(registry.asked("GET"))
    done(pybuild, "pull", f"{registry.host}/other/image:1")
    assert len([one for one in registry.asked("GET")[before:] if "/blobs/" in one.path]) == 2


@pytest.mark.parametrize("form", ["v2s2", "oci", "zstd", "uncompressed"])
def test_forms_of_others(
    pybuild: Pybuild, registry: RegistryServer, busybox: dict[str, bytes], tmp_path: Path, form: str
) -> None:
    folder = layout(tmp_path / "layout", [busybox, {"etc/f": form.encode()}], cmd=["/bin/busybox", "cat", "/etc/f"])
    flags = {"v2s2": ["--format=v2s2"], "zstd": ["--dest-compress-format=zstd", "--format=oci"]}.get(form, ["--format=oci"])
    if form == "uncompressed":
        flags.append("--dest-decompress")
    name = f"{registry.host}/forms:{form}"
    push(folder, name, *flags)
    done(pybuild, "pull", name)
    assert done(pybuild, "run", name).stdout == form


def test_digests(pybuild: Pybuild, registry: RegistryServer, image: Path, tmp_path: Path) -> None:
    digest = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/some/image:1"))["Digest"]
    name = f"{registry.host}/some/image:9@{digest}"
    done(pybuild, "pull", name)
    before = len(registry.asked())
    # What a digest names does not change: nobody is asked, whatever --pull says.
    done(pybuild, "--pull", context(tmp_path / "context", f'FROM {name}\nRUN ["/bin/busybox", "true"]\n'))
    assert len(registry.asked()) == before
    assert re.search(rf"^{registry.host}/some/image +<none> ", done(pybuild, "images").stdout, re.MULTILINE)
    assert "has no image" in refused(pybuild, "pull", f"{registry.host}/some/image@sha256:{'0' * 64}")


def test_platforms(pybuild: Pybuild, registry: RegistryServer, image: Path, tmp_path: Path) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    blobs, descriptors = {}, []
    for architecture in (machine, "s390x"):
        folder = layout(tmp_path / architecture, [{"which": architecture.encode()}], architecture=architecture)
        push(folder, f"{registry.host}/many:{architecture}")
        index = json.loads((folder / "index.json").read_bytes())
        descriptor = index["manifests"][0]
        blobs[architecture] = config_digest(folder)
        descriptors.append({**descriptor, "platform": {"os": "linux", "architecture": architecture}})
    for tag, chosen in (("all", descriptors), ("other", descriptors[1:])):
        body = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": chosen}
        put_manifest(registry, "many", tag, body)
    assert done(pybuild, "pull", f"{registry.host}/many:all").stdout == f"{blobs[machine]}\n"
    said = refused(pybuild, "pull", f"{registry.host}/many:other")
    assert f"the image '{registry.host}/many:other' is not there for linux/{machine}\n  hint: it is for linux/s390x" in said


def put_manifest(registry: RegistryServer, path: str, tag: str, body: dict[str, object]) -> None:
    import http.client

    connection = http.client.HTTPConnection(registry.host, timeout=30)
    headers = {"Content-Type": str(body["mediaType"])}
    connection.request("PUT", f"/v2/{path}/manifests/{tag}", json.dumps(body).encode(), headers)
    response = connection.getresponse()
    assert response.status == 201, response.read()
    connection.close()


# For builds


def test_names_in_a_dockerfile(pybuild: Pybuild, registry: RegistryServer, image: Path, tmp_path: Path) -> None:
    name = f"{registry.host}/some/image:1"
    push(layout(tmp_path / "files", [{"file": b"copied\n"}]), f"{registry.host}/files:1")
    push(layout(tmp_path / "mounted", [{"file": b"mounted\n"}]), f"{registry.host}/mounted:1")
    push(layout(tmp_path / "named", [{"file": b"named\n"}]), f"{registry.host}/named:1")
    folder = context(
        tmp_path / "context",
        f"FROM {name}\n"
        f"COPY --from={registry.host}/files:1 /file /copied\n"
        "COPY --from=other /file /named\n"
        f'RUN --mount=from={registry.host}/mounted:1,target=/m ["/bin/busybox", "cp", "/m/file", "/mounted"]\n'
        'CMD ["/bin/busybox", "cat", "/etc/a", "/copied", "/named", "/mounted"]\n',
    )
    build = ("-t", "built", f"--build-context=other=docker-image://{registry.host}/named:1", folder)
    told = done(pybuild, *build).stderr
    assert f"pulling {name}: " in told
    assert done(pybuild, "run", "built").stdout == "a\ncopied\nnamed\nmounted\n"
    # All is there now: nobody is asked, and the build is cached.
    before = len(registry.asked())
    assert "4 cached" in done(pybuild, *build).stderr or "0 ran" in done(pybuild, *build).stderr
    assert len(registry.asked()) == before
    assert_nothing_left(pybuild.store)


def test_when_images_are_pulled(pybuild: Pybuild, registry: RegistryServer, image: Path, tmp_path: Path) -> None:
    name = f"{registry.host}/moving:1"
    folder = context(tmp_path / "context", f"FROM {name}\n")

    def moved(text: str) -> str:
        made = layout(tmp_path / text, [{"file": text.encode()}])
        push(made, name)
        return text

    def built(when: str) -> str:
        out = tmp_path / f"out-{len(os.listdir(tmp_path))}"
        done(pybuild, f"--pull={when}", "-o", out, folder)
        return (out / "file").read_text()

    moved("one")
    said = refused(pybuild, "--pull=never", folder, code=3)
    assert f"there is no image '{name}' in the store, and --pull=never forbids to fetch it\n" in said
    assert f"  hint: pybuild pull {name}" in said
    assert built("missing") == "one"
    moved("two")
    assert [built(when) for when in ("missing", "never", "newer")] == ["one", "one", "two"]
    moved("three")
    assert [built(when) for when in ("missing", "always", "missing")] == ["two", "three", "three"]


def test_what_was_pulled_does_without_its_registry(pybuild: Pybuild, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "short-lived") as server:
        name = f"{server.host}/a:1"
        push(layout(tmp_path / "layout", [{"file": b"x"}]), name)
        done(pybuild, "pull", name)
    folder = context(tmp_path / "context", f"FROM {name}\n")
    done(pybuild, folder)
    done(pybuild, "--pull=never", folder)
    told = done(pybuild, "--pull=newer", folder).stderr
    assert "no connection: connection refused: the image of the store is used (PullFailed)" in told
    said = refused(pybuild, "--pull", folder)
    assert f"Dockerfile:1:6: error: http://{server.host}/v2/: no connection: connection refused\n  1 | FROM {name}\n" in said


def test_what_the_store_lacks_while_its_registry_is_away(pybuild: Pybuild, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "short-lived") as server:
        name = f"{server.host}/some/image"
        push(layout(tmp_path / "layout", [{"file": b"x"}]), f"{name}:1")
        done(pybuild, "pull", f"{name}:1")
    away = f"http://{server.host}/v2/: no connection: connection refused"
    lacking = f"there is no image '{name}:2' in the store, and it cannot be pulled: {away}\n"
    # It may be a misspelt name, or the network.
    hint = f"  hint: did you mean '{name}:1'? if not: check the host and the port\n"
    folder = context(tmp_path / "context", f"FROM {name}:2\n")
    said = refused(pybuild, folder)
    assert f"Dockerfile:1:6: error: {lacking}" in said and said.endswith(hint)
    assert refused(pybuild, "run", f"{name}:2") == f"error: {lacking}{hint}"
    folder = context(tmp_path / "other", f"FROM scratch\nCOPY --from={server.host}/other /a /\n")
    assert f"there is no image '{server.host}/other:latest' in the store, and it cannot be pulled: " in refused(pybuild, folder)


@pytest.mark.parametrize("where", ["redirect", "type", "platform"])
def test_a_registry_that_gives_credentials_back(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path, where: str) -> None:
    """Each of them in a place that is shown to the user."""
    password = "s3cr/et+w&rd"
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    config = tmp_path / "docker/config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"auths": {proxy.host: {"auth": auth}}}))
    platform = {"os": password, "architecture": auth}
    index = {"manifests": [{"mediaType": "a/b", "digest": f"sha256:{'0' * 64}", "size": 1, "platform": platform}]}
    proxy.hit("/manifests/", status(401, WWW_Authenticate='Basic realm="a"'))
    proxy.hit(
        "/manifests/",
        {
            "redirect": status(307, Location=f"http://127.0.0.1:1/{quote(password, safe='')}/{quote(auth)}"),
            "type": replaced(b"{}", Content_Type=f"application/{auth}.{password}"),
            "platform": replaced(json.dumps(index).encode()),
        }[where],
    )
    said = refused(pybuild, "pull", f"{proxy.host}/some/image", env={"DOCKER_CONFIG": str(config.parent)})
    assert said.count("xxxxx") == 2
    for secret in (password, auth, quote(password, safe=""), quote(auth)):
        assert secret not in said


@pytest.mark.parametrize("secured", ["htpasswd"], indirect=True)
def test_a_near_name_hides_no_login(pybuild: Pybuild, secured: RegistryServer, busybox_base: Path, tmp_path: Path) -> None:
    name = f"{secured.host}/some/image"
    base = f"--build-context=base={busybox_base}"
    done(pybuild, "-t", f"{name}:1", base, context(tmp_path / "one", "FROM base\n"))
    said = refused(pybuild, context(tmp_path / "two", f"FROM {name}:2\n"))
    assert f"  hint: did you mean '{name}:1'? if not: log in: pybuild login {secured.host}; is the name right?\n" in said


def test_what_is_not_there(pybuild: Pybuild, registry: RegistryServer, image: Path, tmp_path: Path) -> None:
    name = f"{registry.host}/some/image:2"
    assert refused(pybuild, "pull", name) == (f"error: {registry.host} has no image '{name}'\n  hint: check its name and tag\n")
    done(pybuild, "pull", f"{registry.host}/some/image:1")
    said = refused(pybuild, "run", name)
    assert f"has no image '{name}'\n  hint: did you mean '{registry.host}/some/image:1'?\n" in said
    folder = context(tmp_path / "context", f"FROM {name}\n")
    said = refused(pybuild, folder)
    assert f"has no image '{name}'\n  1 | FROM {name}\n" in said
    assert f"  hint: did you mean '{registry.host}/some/image:1'?\n" in said


def test_no_registry_is_asked_for_an_id(pybuild: Pybuild, tmp_path: Path) -> None:
    name = f"sha256:{'0' * 64}"
    message = f"error: '{name}' is not an image reference: it is an image's id\n"
    for command in ("pull", "run"):
        assert refused(pybuild, command, name, code=2).startswith(message)
    said = refused(pybuild, context(tmp_path / "context", f"FROM {name}\n"), code=3)
    assert message in said and "hint: pybuild images lists the ids that there are\n" in said


# Credentials


@pytest.mark.parametrize("secured", ["htpasswd", "token"], indirect=True)
def test_credentials_by_the_environment(pybuild: Pybuild, secured: RegistryServer, tmp_path: Path) -> None:
    push(layout(tmp_path / "layout", [{"file": b"x"}]), f"{secured.host}/own/a:1", f"--dest-creds={USER}:{PASSWORD}")
    name = f"{secured.host}/own/a:1"
    said = refused(pybuild, "pull", name)
    assert said == (
        f"error: {secured.host} wants credentials for pulling own/a, and there are none\n"
        f"  hint: log in: pybuild login {secured.host}; is the name right?\n"
    )
    content = json.dumps({"auths": {secured.host: {"username": USER, "password": PASSWORD}}})
    home = tmp_path / "home"
    for place, env in (
        ("docker/config.json", {"DOCKER_CONFIG": str(home / "docker")}),
        ("file", {"REGISTRY_AUTH_FILE": str(home / "file")}),
        ("run/containers/auth.json", {"XDG_RUNTIME_DIR": str(home / "run")}),
        (".config/containers/auth.json", {}),
        (".docker/config.json", {}),
    ):
        file = home / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        done(pybuild, "pull", name, env=env)
        file.unlink()
        refused(pybuild, "pull", name, env=env)


def test_a_credential_helper_that_is_not_installed(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    """What is public needs no credentials, and `config.json` may have come from a desktop."""
    name = f"{registry.host}/public:1"
    push(layout(tmp_path / "layout", [{"file": b"x"}]), name)
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"credsStore": "desktop.exe"}))
    env = {"DOCKER_CONFIG": str(config)}
    missing = "the credential helper 'docker-credential-desktop.exe' is not on the PATH"
    told = done(pybuild, "pull", name, env=env).stderr
    assert (
        f"{missing}, and '{config}/config.json' names it: {registry.host} is asked without its credentials (Registry)" in told
    )
    done(pybuild, "--pull", context(tmp_path / "context", f"FROM {name}\n"), env=env)
    # Who pushes or logs in has credentials.
    assert refused(pybuild, "push", name, env=env).startswith(f"error: {missing}\n")
    assert refused(pybuild, "login", "-u", USER, "-p", PASSWORD, registry.host, env=env).startswith(f"error: {missing}\n")


# Faults


def test_a_bad_network(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path) -> None:
    large = random.Random(2).randbytes(2_000_000)
    push(layout(tmp_path / "layout", [{"large": large}, {"file": b"x"}]), f"{proxy.host}/bad/network:1")
    name = f"{proxy.host}/bad/network:1"
    for what, fault in (
        ("GET /v2/bad/network/manifests", status(429, Retry_After="0")),
        ("GET /v2/bad/network/manifests", dropped(10)),
        ("GET /v2/bad/network/blobs", status(500)),
        ("GET /v2/bad/network/blobs", dropped(700)),
        ("GET /v2/bad/network/blobs", dropped(900_000)),
    ):
        proxy.hit(what, fault)
    done(pybuild, "pull", name)
    assert_valid(pybuild.store)


def test_nothing_shows_of_a_pull_that_failed(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path) -> None:
    push(layout(tmp_path / "layout", [{"a": b"a" * 5000}, {"b": b"b" * 5000}]), f"{proxy.host}/broken:1")
    proxy.hit("GET /v2/broken/blobs", lambda _, answer: answer)
    proxy.hit("GET /v2/broken/blobs", altered, times=2)
    said = refused(pybuild, "pull", f"{proxy.host}/broken:1")
    assert "sent a blob of" in said and "that is not sha256:" in said
    assert done(pybuild, "images", "-q").stdout == ""
    assert_nothing_left(pybuild.store)
    done(pybuild, "pull", f"{proxy.host}/broken:1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stalled_pull_ends_at_once(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path, number: int) -> None:
    large = random.Random(3).randbytes(3_000_000)
    push(layout(tmp_path / "layout", [{"large": large}]), f"{proxy.host}/stalled:1")
    asked = len(proxy.passed)
    proxy.hit("GET /v2/stalled/blobs", lambda _, answer: answer)
    proxy.hit("GET /v2/stalled/blobs", stalled(1_000_000), times=9)
    with pybuild.start("pull", f"{proxy.host}/stalled:1") as process:
        while len([one for one in proxy.passed[asked:] if "/blobs/" in one.path]) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        # Much less than the server's silence is borne.
        process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert_nothing_left(pybuild.store)


def test_an_image_that_is_not_what_its_config_says(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    folder = layout(tmp_path / "layout", [{"a": b"a"}])
    index = json.loads((folder / "index.json").read_bytes())
    manifest = json.loads((folder / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_bytes())
    other = layout(tmp_path / "other", [{"a": b"b"}])
    push(other, f"{registry.host}/liar:other")
    push(folder, f"{registry.host}/liar:1")
    manifest["layers"][0] = json.loads(skopeo("inspect", "--raw", f"oci:{other}:latest"))["layers"][0]
    put_manifest(registry, "liar", "1", manifest)
    said = refused(pybuild, "pull", f"{registry.host}/liar:1")
    assert "is not what the image's config says" in said
    manifest["layers"] = []
    put_manifest(registry, "liar", "1", manifest)
    assert "is damaged: 0 layers, but 1 diff IDs in its config" in refused(pybuild, "pull", f"{registry.host}/liar:1")
    assert done(pybuild, "images", "-q").stdout == ""


def test_a_layer_that_is_made_to_fill_the_disk(
    registry: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same limits but for the gigabytes that every layer may grow by."""
    monkeypatch.setattr(unpacked, "GROWS", 1 << 20)
    push(layout(tmp_path / "layout", [{"zeros": bytes(8 << 20)}]), f"{registry.host}/bomb:1")
    with Store(str(tmp_path / "store")) as store, pytest.raises(RegistryError, match="unpacks to more than"):
        reference = Reference.parse(f"{registry.host}/bomb:1")
        pull(reference, RegistryAccess(), store, Roots(store), Platform("linux", "amd64"), lambda _: None)
    assert_valid(tmp_path / "store")


def test_tls(pybuild: Pybuild, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "tls", tls=True) as server:
        name = f"{server.host}/a:1"
        push(layout(tmp_path / "layout", [{"file": b"x"}]), name)
        said = refused(pybuild, "pull", name)
        assert "the secure connection failed: self-signed certificate" in said and "--tls-verify=false" in said
        assert "Warning" not in done(pybuild, "pull", "--tls-verify=false", name).stderr
        done(pybuild, "--tls-verify=false", "--pull", context(tmp_path / "context", f"FROM {name}\n"))
