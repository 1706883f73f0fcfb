"""`--cache-to` and `--cache-from` with `type=registry` and `type=inline`, at Debian's docker-registry."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.cache.places import Lost, RegistryFrom
from builder.cancellation import Cancellation
from builder.engine.registrycache import RegistrySource
from builder.errors import BuildError
from builder.oci.digest import Descriptor, Digest
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.registry.access import Limits, RegistryAccess
from builder.registry.repository import BadBlob
from tests.build.build_portable import Report, Room
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.registry.registry_images import skopeo
from tests.registry.registry_proxy import FaultProxy, altered, dropped, replaced, stalled, status
from tests.registry.registry_runs import refused
from tests.registry.registry_server import PASSWORD, USER, Asked, RegistryServer

TYPE = "application/vnd.pybuild.cache.v1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SMALL = "FROM base\nCOPY tree /tree/\nRUN cat /tree/* > /made\n"


@pytest.fixture
def room(tmp_path: Path, busybox_base: Path, pybuild: Pybuild) -> Room:
    return Room(tmp_path, busybox_base, pybuild)


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[FaultProxy]:
    with FaultProxy(registry.host) as running:
        yield running


@pytest.fixture
def name(registry: RegistryServer, request: pytest.FixtureRequest) -> str:
    """Of a repository of the test's own, without a tag."""
    return f"{registry.host}/cache/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"


def good(report: Report) -> Report:
    assert (report.code, report.error, report.warnings) == (0, "", [])
    return report


def to(name: str, mode: str = "max", more: str = "") -> str:
    return f"--cache-to=type=registry,ref={name},mode={mode}{more}"


def brought(name: str) -> str:
    return f"--cache-from=type=registry,ref={name}"


def raw(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    return found


def blobs(asked: list[Asked], *methods: str) -> list[str]:
    """The digests of the blobs that were asked for so, or begun to be sent for POST."""
    return [one.path.rpartition("/blobs/")[2] for one in asked if one.method in methods and "/blobs/" in one.path]


def put(name: str, data: bytes, kind: str = MANIFEST, tag: str = "latest") -> str:
    """Put a manifest there; its digest."""
    host, _, path = name.partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("PUT", f"/v2/{path}/manifests/{tag}", data, {"Content-Type": kind})
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# Going around


def test_an_empty_store_takes_every_step_from_a_registry(room: Room, registry: RegistryServer, name: str) -> None:
    first = good(room("a", to(name)))
    assert [(each["output"], each["digest"]) for each in first.exports] == [
        (f"cache registry {name}:latest", f"sha256:{hashlib.sha256(skopeo_raw(name)).hexdigest()}")
    ]
    manifest = raw(name)
    assert (manifest["artifactType"], manifest["config"]["mediaType"]) == (TYPE, f"{TYPE}+json")
    before = len(registry.asked())
    second = good(room("b", brought(name)))
    assert (set(second.statuses.values()), second.image) == ({"cached"}, first.image)
    assert second.imported == [(8, sum(layer["size"] for layer in manifest["layers"]))]
    # The layers once each, and before them the config.
    fetched = blobs(registry.asked()[before:], "GET")
    assert fetched[0] == manifest["config"]["digest"]
    assert sorted(fetched[1:]) == sorted(layer["digest"] for layer in manifest["layers"])
    assert set(second.sources.values()) == {f"from the cache registry {name}:latest"}
    assert second.sources.keys() == second.statuses.keys() - {"FROM base"}
    assert_valid(room.store)
    # The store knows them now: nobody is asked.
    before = len(registry.asked())
    third = good(room("b", brought(name)))
    assert (third.image, third.imported, third.sources, len(registry.asked())) == (first.image, [(0, 0)], {}, before)


def skopeo_raw(name: str) -> bytes:
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}").encode()


def test_where_a_step_came_from_is_told(room: Room, pybuild: Pybuild, name: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    good(room("a", to(name)))
    pybuild.store = room.folder / "store-b"
    flags = ["--progress=plain", "--explain", f"--build-context=base={room.base}", "--metadata-file=told"]
    done = pybuild(*flags, brought(name), to(f"{name}:other"), room.context, cwd=room.folder)
    text = f"from the cache registry {name}:latest"
    assert f"#3 WHY {text}\n#3 CACHED\n" in done.stderr
    assert f"imported  2 steps {text}, " in done.stderr
    assert f"writing the cache {name}:other: " in done.stderr
    assert f"wrote     cache registry {name}:other sha256:" in done.stderr
    said = json.loads((room.folder / "told").read_text())["pybuild.steps"]
    assert [step["reasons"] for step in said] == [[], *[[{"kind": "imported", "text": text, "step": None}]] * 2]
    assert pybuild("why").stdout.count(f"     {text}\n") == 2
    # The next build has them from its own store.
    good(room("b"))
    assert pybuild("why").stdout.count("     cached: made of the same inputs on ") == 2


def test_a_second_export_moves_nothing_and_a_change_what_changed(room: Room, registry: RegistryServer, name: str) -> None:
    first = good(room("a", to(name)))
    what = f"writing the cache {name}:latest"
    assert [(text, size > 0) for text, size in first.transfers] == [(what, True)]
    before = len(registry.asked())
    second = good(room("a", to(name)))
    assert (second.transfers, second.exports[0]["digest"]) == ([(what, 0)], first.exports[0]["digest"])
    asked = registry.asked()[before:]
    # What is there, each blob, and the manifest, last.
    count = len(raw(name)["layers"]) + 1
    assert [one.method for one in asked] == ["GET", "GET", *["HEAD"] * count, "PUT"]
    assert asked[-1].path.endswith("/manifests/latest")
    # Another repository takes the layers over; the config is none of those.
    good(room("a", to(f"{name}/other")))
    posted = [one for one in registry.asked("POST") if "/other/" in one.path]
    assert sorted(one.status for one in posted) == [*[201] * (count - 1), 202]
    with open(room.context / "Dockerfile", "a") as file:
        file.write("RUN : > /new\n")
    before = len(registry.asked())
    good(room("a", to(name)))
    assert len(blobs(registry.asked()[before:], "PUT")) == 2


def test_a_changed_step_alone_runs_again(room: Room, name: str) -> None:
    good(room("a", to(name)))
    text = (room.context / "Dockerfile").read_text()
    (room.context / "Dockerfile").write_text(text.replace("RUN true", "RUN : > /other"))
    bare, done = good(room("c")), good(room("b", brought(name)))
    assert list(done.statuses.values()) == [*["cached"] * 8, "done"]
    assert done.image == bare.image
    assert_valid(room.store)


def test_min_has_the_steps_of_the_image_alone(room: Room, registry: RegistryServer, name: str) -> None:
    first = good(room("a", to(name, "min"), to(f"{name}:all")))
    assert len(raw(f"{name}:all")["layers"]) - len(raw(name)["layers"]) == 2
    done = good(room("b", brought(name)))
    assert list(done.statuses.values()) == ["cached", "done", "done", *["cached"] * 6]
    assert (done.image, done.imported[0][0]) == (first.image, 6)


@pytest.mark.parametrize("compression", ["gzip", "uncompressed"])
def test_other_compressions_and_the_short_form(room: Room, name: str, compression: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    good(room("a", to(name, more=f",compression={compression}")))
    suffix = "+gzip" if compression == "gzip" else ""
    assert {layer["mediaType"] for layer in raw(name)["layers"]} == {f"application/vnd.oci.image.layer.v1.tar{suffix}"}
    assert set(good(room("b", f"--cache-from={name}")).statuses.values()) == {"cached"}
    good(room("b", f"--cache-to={name}:short"))
    done = good(room("c", f"--cache-from={name}:short,{name}"))
    assert (set(done.statuses.values()), done.imported[1]) == ({"cached"}, (0, 0))


def test_a_cache_without_layers_and_one_with_a_mount(room: Room, name: str) -> None:
    (room.context / "Dockerfile").write_text("FROM base\nRUN --mount=type=cache,id=pkg,target=/c echo x >> /c/x\n")
    good(room("a", to(name)))
    assert [layer["mediaType"] for layer in raw(name)["layers"]] == ["application/vnd.oci.empty.v1+json"]
    assert set(good(room("b", brought(name))).statuses.values()) == {"cached"}
    good(room("a", to(f"{name}:more", more=",mounts=pkg")))
    assert [layer["mediaType"] for layer in raw(f"{name}:more")["layers"]] == [
        "application/vnd.pybuild.cache.mount.v1.tar+zstd"
    ]
    (room.context / "Dockerfile").write_text("FROM base\nRUN --mount=type=cache,id=pkg,target=/c test -s /c/x\n")
    assert list(good(room("c", brought(f"{name}:more"))).statuses.values()) == ["cached", "done"]
    assert room("d", brought(name)).code == 1


def test_several_caches_some_of_which_are_of_no_use(room: Room, registry: RegistryServer, name: str) -> None:
    good(room("a", to(name)))
    with_tags = [f"{name}:none", f"{registry.host}/no/such", "127.0.0.1:1/app", name]
    done = room("b", *map(brought, with_tags))
    assert set(done.statuses.values()) == {"cached"}
    assert [warning.partition(" is not used: ")[::2] for warning in done.warnings] == [
        (f"CacheImport: the cache registry {name}:none", "it is not there"),
        (f"CacheImport: the cache registry {registry.host}/no/such:latest", "it is not there"),
        (
            "CacheImport: the cache registry 127.0.0.1:1/app:latest",
            "http://127.0.0.1:1/v2/: no connection: connection refused",
        ),
    ]
    assert [steps for steps, _ in done.imported] == [0, 0, 0, 8]
    # Where no step asks, nobody is told.
    assert room("b", brought(f"{name}:none")).warnings == []


def test_writers_of_one_name_at_the_same_time(room: Room, pybuild: Pybuild, name: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    running = []
    for number in range(4):
        pybuild.store = room.folder / f"store-{number}"
        flags = ["-q", "--build-context", f"base={room.base}", "--no-cache"]
        running.append(pybuild.start(*flags, to(name), room.context, cwd=room.folder))
    for process in running:
        with process:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
    assert set(good(room("b", brought(name))).statuses.values()) == {"cached"}


# Inline


def test_an_inline_cache_leaves_the_image_id_alone(room: Room, registry: RegistryServer, name: str) -> None:
    bare = good(room("a", "-t", f"{name}:bare", "--push"))
    first = good(room("a", "-t", f"{name}:1", "--push", "--cache-to=type=inline"))
    assert first.image == bare.image
    records = json.loads(raw(f"{name}:1")["annotations"]["vnd.pybuild.cache.v1"])["records"]
    assert len(records) == 6
    assert "annotations" not in raw(f"{name}:bare")
    # Docker's older word for it; the same inputs give the same manifest, in another store, at another time.
    again = good(room("z", "-t", f"{name}:2", "--push", "--build-arg=BUILDKIT_INLINE_CACHE=1"))
    assert again.exports[0]["digest"] == first.exports[0]["digest"]
    before = len(registry.asked())
    done = good(room("b", f"--cache-from={name}:1"))
    assert list(done.statuses.values()) == ["cached", "done", "done", *["cached"] * 6]
    assert (done.image, done.imported[0][0]) == (first.image, 6)
    # Of the image only what steps need.
    layers = [layer["digest"] for layer in raw(f"{name}:1")["layers"]]
    assert layers[0] not in blobs(registry.asked()[before:], "GET")
    assert_valid(room.store)
    without = room("c", f"--cache-from={name}:bare")
    assert without.warnings == [
        f"CacheImport: the cache registry {name}:bare is not used: it is an image without a cache inside "
        "(--cache-to type=inline puts one there)"
    ]


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_an_inline_cache_goes_where_its_image_goes(room: Room, registry: RegistryServer, name: str, compression: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    output = f"type=oci,dest=layout,tar=false,compression={compression}"
    first = good(room("a", "-t", "app:1", "-o", output, "--cache-to=type=inline"))
    layout = f"oci:{room.folder / 'layout'}:1"
    good(room("b", "--cache-from=type=local,src=layout,tag=1"))
    skopeo("copy", "--dest-tls-verify=false", layout, f"docker://{name}:1")
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{name}:1", f"docker://{name}/copy:1")
    done = good(room("c", brought(f"{name}/copy:1")))
    assert (set(done.statuses.values()), done.image) == ({"cached"}, first.image)
    if compression == "zstd":
        return
    # Docker's own manifests have no annotations.
    skopeo(
        "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2", f"docker://{name}:1", f"docker://{name}:d"
    )
    assert "it is an image without a cache inside" in room("d", brought(f"{name}:d")).warnings[0]


def test_an_inline_cache_waits_in_the_store_for_its_push(room: Room, pybuild: Pybuild, name: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    first = good(room("a", "-t", "app", "--cache-to=type=inline"))
    pushed = pybuild("push", "app", f"{name}:1")
    assert pushed.returncode == 0, pushed.stderr
    done = good(room("b", brought(f"{name}:1")))
    assert (set(done.statuses.values()), done.image) == ({"cached"}, first.image)
    # The last build says what the image carries.
    good(room("a", "-t", "app"))
    assert pybuild("push", "app", f"{name}:2").stdout != pushed.stdout
    assert "annotations" not in raw(f"{name}:2")


def test_an_index_leads_to_the_image_of_this_platform(room: Room, name: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    good(room("a", "-t", f"{name}:one", "--push", "--cache-to=type=inline"))
    manifest = skopeo_raw(f"{name}:one")

    def listed(architecture: str, digest: str = "", size: int = len(manifest)) -> dict[str, object]:
        own = digest or f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        return {"mediaType": MANIFEST, "digest": own, "size": size, "platform": {"os": "linux", "architecture": architecture}}

    architecture = json.loads(skopeo("inspect", "--config", "--tls-verify=false", f"docker://{name}:one"))["architecture"]
    kind = "application/vnd.oci.image.index.v1+json"
    for tag, architectures in (("both", ["mips", architecture]), ("other", ["mips"])):
        index = {"schemaVersion": 2, "mediaType": kind, "manifests": [listed(each) for each in architectures]}
        put(name, json.dumps(index).encode(), kind, tag)
    assert set(good(room("b", brought(f"{name}:both"))).statuses.values()) == {"cached"}
    assert f"is not used: it is not there for linux/{architecture}" in room("c", brought(f"{name}:other")).warnings[0]


# Other tools


def test_skopeo_takes_a_cache_along(room: Room, registry: RegistryServer, name: str) -> None:
    first = good(room("a", to(name)))
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{name}", f"docker://{name}/copy:1")
    assert skopeo_raw(f"{name}/copy:1") == skopeo_raw(name)
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{room.folder / 'cache'}:latest")
    for number, flag in enumerate((brought(f"{name}/copy:1"), "--cache-from=type=local,src=cache")):
        done = good(room(f"b{number}", flag))
        assert (set(done.statuses.values()), done.image) == ({"cached"}, first.image)
    # And back, from a folder that was written here.
    good(room("a", "--cache-to=type=local,dest=other,mode=max"))
    skopeo("copy", "--dest-tls-verify=false", f"oci:{room.folder / 'other'}:latest", f"docker://{name}/back:1")
    assert skopeo_raw(f"{name}/back:1") == skopeo_raw(name)
    assert PASSWORD not in json.dumps(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))


def test_caches_of_others_are_named(room: Room, name: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    good(room("a", to(name)))
    cache = raw(name)
    theirs = {**cache, "config": {**cache["config"], "mediaType": "application/vnd.buildkit.cacheconfig.v0"}}
    theirs.pop("artifactType")
    put(name, json.dumps(theirs).encode(), tag="theirs")
    index = "application/vnd.oci.image.index.v1+json"
    old = {"schemaVersion": 2, "mediaType": index, "manifests": [*cache["layers"], theirs["config"]]}
    put(name, json.dumps(old).encode(), index, "old")
    put(name, json.dumps({**cache, "artifactType": "application/vnd.pybuild.cache.v2"}).encode(), tag="newer")
    done = room("b", *(brought(f"{name}:{tag}") for tag in ("theirs", "old", "newer")))
    assert [warning.partition(" is not used: ")[2] for warning in done.warnings] == [
        *["it is a cache of BuildKit, whose records are made of other keys"] * 2,
        f"its format is 'application/vnd.pybuild.cache.v2', and this pybuild reads '{TYPE}'",
    ]
    assert list(done.statuses.values()) == ["cached", "done", "done"]
    # Who comes from BuildKit keeps the name.
    for tag in ("theirs", "old", "newer"):
        good(room("b", to(f"{name}:{tag}")))
        assert raw(f"{name}:{tag}")["artifactType"] == TYPE


# What goes wrong


def test_a_cache_is_no_image(room: Room, pybuild: Pybuild, name: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    good(room("a", to(name)))
    said = f"error: '{name}:latest' is no image, but of the type '{TYPE}+json'\n  hint: caches are for --cache-from\n"
    assert said in refused(pybuild, "pull", name)


@pytest.mark.parametrize("secured", ["htpasswd", "token"], indirect=True)
def test_who_may(room: Room, secured: RegistryServer, tmp_path: Path) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    name = f"{secured.host}/own/cache"
    refused = room("a", to(name))
    assert (refused.code, refused.image) == (5, "")
    assert refused.error == f"{secured.host} wants credentials for pushing to own/cache, and there are none"
    ignored = room("a", to(name, more=",ignore-error=true"))
    assert (ignored.code, ignored.warnings) == (0, [f"CacheExport: {refused.error}"])
    file = tmp_path / "auth.json"
    for password, works in ((PASSWORD, True), ("wrong-word", False)):
        file.write_text(json.dumps({"auths": {secured.host: {"username": USER, "password": password}}}))
        env = {"REGISTRY_AUTH_FILE": str(file)}
        if works:
            good(room("a", to(name), env=env))
        done = room(f"b{works}", brought(name), env=env)
        assert (done.code, list(done.statuses.values())[1:]) == (0, ["cached" if works else "done"] * 2)
        if not works:
            assert done.warnings[0].startswith(
                f"CacheImport: the cache registry {name}:latest is not used: {secured.host} refuses"
            )
            assert password not in str(done)
    nobody = room("c", brought(name))
    assert nobody.warnings[0].endswith(f"{secured.host} wants credentials for pulling own/cache, and there are none")


def test_an_image_is_not_overwritten(room: Room, name: str) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    good(room("a", "-t", f"{name}:1", "--push"))
    done = room("a", to(f"{name}:1"))
    assert (done.code, done.error) == (
        2,
        f"the cache cannot be written to '{name}:1': there is something else under this name",
    )
    assert "artifactType" not in raw(f"{name}:1")


def test_a_bad_network(room: Room, proxy: FaultProxy) -> None:
    name = f"{proxy.host}/bad/cache"
    proxy.hit("POST", status(503))
    proxy.hit("PUT /v2/bad/cache/blobs", status(500))
    proxy.hit("HEAD", status(429, Retry_After="0"))
    proxy.hit("PUT /v2/bad/cache/manifests", status(502))
    first = good(room("a", to(name)))
    layer = max(raw(name)["layers"], key=lambda each: int(each["size"]))
    proxy.hit("GET /v2/bad/cache/manifests", dropped(20))
    proxy.hit(f"GET /v2/bad/cache/blobs/{layer['digest']}", dropped(layer["size"] // 2))
    proxy.hit(f"GET /v2/bad/cache/blobs/{layer['digest']}", status(503))
    done = good(room("b", brought(name)))
    assert (set(done.statuses.values()), done.image) == ({"cached"}, first.image)
    ranges = [one.headers.get("Range") for one in proxy.passed if layer["digest"] in one.path and one.method == "GET"]
    assert ranges == [None, *[f"bytes={layer['size'] // 2}-"] * 2]


def test_blobs_that_are_not_what_they_should_be(room: Room, registry: RegistryServer, proxy: FaultProxy) -> None:
    name = f"{proxy.host}/wrong/cache"
    first = good(room("a", to(name)))
    manifest = raw(name)
    config, layers = manifest["config"]["digest"], [layer["digest"] for layer in manifest["layers"]]
    proxy.hit(f"blobs/{config}", altered)
    done = room("b", brought(name))
    assert done.warnings == [
        f"CacheImport: the cache registry {name}:latest is not used: {proxy.host} sent a blob of {proxy.host}/wrong/cache that "
        f"is not {config}"
    ]
    assert done.image == first.image
    # One layer is damaged, one is gone: the others are good.
    proxy.hit(f"blobs/{layers[0]}", altered)
    registry.blob_file(layers[1]).unlink()
    done = room("c", brought(name))
    ends = sorted(warning.partition(" is not used: layer ")[2].partition(": ")[2] for warning in done.warnings)
    assert ends == [
        f"{proxy.host} has no blob {layers[1]} of {name}",
        f"{proxy.host} sent a blob of {name} that is not {layers[0]}",
    ]
    assert (list(done.statuses.values()).count("done"), done.image) == (2, first.image)
    assert_valid(room.store)
    # A writer sees what is missing.
    good(room("a", to(name)))
    assert registry.blob_file(layers[1]).exists()


def test_a_registry_that_says_what_it_was_told(room: Room, secured_proxy: tuple[str, FaultProxy], tmp_path: Path) -> None:
    """A password comes in no message, whoever sends it."""
    (room.context / "Dockerfile").write_text(SMALL)
    host, proxy = secured_proxy
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}}))
    kind = {"artifactType": f"application/vnd.pybuild.cache.{PASSWORD}"}
    proxy.hit("GET /v2/own/cache/manifests", replaced(json.dumps(kind).encode(), Content_Type=MANIFEST))
    done = room("b", brought(f"{host}/own/cache"), env={"REGISTRY_AUTH_FILE": str(file)})
    assert (done.code, PASSWORD in str(done)) == (0, False)
    assert "its format is 'application/vnd.pybuild.cache.xxxxx'" in done.warnings[0]


@pytest.fixture
def secured_proxy(tmp_path: Path) -> Iterator[tuple[str, FaultProxy]]:
    with RegistryServer(tmp_path / "own", "htpasswd") as registry, FaultProxy(registry.host) as proxy:
        yield proxy.host, proxy


def source(name: str, idle: float) -> RegistrySource:
    access = RegistryAccess(limits=Limits(connect=30, idle=idle, attempts=2, backoff=0.001))
    place, platform = RegistryFrom(Reference.parse(name)), Platform("linux", "amd64")
    return RegistrySource(place, lambda: access, (platform,), Cancellation(), lambda _: None)


def opened(name: str, proxy: FaultProxy, idle: float = 30) -> RegistrySource:
    proxy.hit("manifests", replaced(b"{}", Content_Type=MANIFEST))
    cache = source(name, idle)
    assert cache.manifests() == [b"{}"]
    return cache


def test_what_ends_a_cache_and_what_a_layer_alone(proxy: FaultProxy) -> None:
    name, data = f"{proxy.host}/lost/cache", bytes(1000)
    cache = opened(name, proxy)
    blob = Descriptor("", Digest.of(data), len(data))
    with pytest.raises(BadBlob, match="has no blob"):
        cache.copy(blob, lambda _: None, lambda: None)
    proxy.hit("/blobs/", replaced(data[:-1]), times=2)
    with pytest.raises(BadBlob, match="sent less"):
        cache.copy(blob, lambda _: None, lambda: None)
    proxy.hit("/blobs/", replaced(data[:-1] + b"x"))
    with pytest.raises(BadBlob, match="that is not sha256"):
        cache.copy(blob, lambda _: None, lambda: None)
    for code in (500, 403):
        proxy.hit("/blobs/", status(code), times=3)
        with pytest.raises(Lost):
            cache.copy(blob, lambda _: None, lambda: None)
        proxy._faults.clear()
    proxy.hit("/blobs/", replaced(data))
    assert cache.read(blob, 1000) == data
    with pytest.raises(BuildError, match="is larger than"):
        cache.read(blob, 999)
    cache.close()


def test_a_registry_that_hangs_is_waited_for_once(proxy: FaultProxy) -> None:
    name, data = f"{proxy.host}/hangs/at", bytes(1000)
    blob = Descriptor("", Digest.of(data), len(data))
    whole = replaced(data)
    # Of its time no answer that comes needs more, on a busy machine too.
    cache = opened(name, proxy, idle=2)
    proxy.hit("/blobs/", lambda asked, answer: whole(asked, answer)._replace(cut=9, stall=True), times=3)
    with pytest.raises(Lost, match="did not answer for 2 s"):
        cache.copy(blob, lambda _: None, lambda: None)
    proxy._faults.clear()
    proxy.hit("/blobs/", lambda asked, answer: whole(asked, answer)._replace(drips=0.05))
    with pytest.raises(Lost, match="sends less than 1000 bytes a second"):
        cache.copy(blob, lambda _: None, lambda: None)
    cache.close()


def test_ctrl_c_while_a_registry_says_nothing(room: Room, pybuild: Pybuild) -> None:
    (room.context / "Dockerfile").write_text("FROM base AS a\nRUN : > /a\nFROM base\nRUN : > /b\nCOPY --from=a /a /a\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        flags = [f"--build-context=base={room.base}", brought(f"127.0.0.1:{silent.getsockname()[1]}/a")]
        with pybuild.start(*flags, room.context, cwd=room.folder) as process:
            asked, _ = silent.accept()
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=8)
            asked.close()
    assert (process.returncode, b"Traceback" in err) == (130, False)
    assert_nothing_left(pybuild.store)


def test_ctrl_c_while_a_layer_hangs(room: Room, pybuild: Pybuild, proxy: FaultProxy) -> None:
    (room.context / "Dockerfile").write_text(SMALL)
    name = f"{proxy.host}/hangs/cache"
    good(room("a", to(name)))
    layer = raw(name)["layers"][0]["digest"]
    before = len(proxy.passed)
    proxy.hit(f"blobs/{layer}", stalled(10), times=9)
    pybuild.store = room.folder / "store-b"
    with pybuild.start("--build-context", f"base={room.base}", brought(name), room.context, cwd=room.folder) as process:
        while not [one for one in proxy.passed[before:] if layer in one.path]:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=8)
    assert process.returncode == 130
    assert_nothing_left(pybuild.store)
