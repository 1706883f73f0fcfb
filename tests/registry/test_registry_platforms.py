"""Several platforms with what else registries are for: mirrors, certificates, inline caches, and pushes that fail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.build_portable import Room
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.registry.registry_images import skopeo
from tests.registry.registry_proxy import Answer, FaultProxy, Passed, status
from tests.registry.registry_runs import context, done, refused
from tests.registry.registry_server import PASSWORD, USER, RegistryServer
from tests.registry.test_registry_index import TWO, WHO, digest_of, images, index, put, raw, who
from tests.registry.test_registry_mirrors import mirrored
from tests.registry.test_registry_trust import certificates

ANNOTATION = "vnd.pybuild.cache.v1"
DOWN = "nowhere.invalid:5000"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("mirror")) as running:
        yield running


@pytest.fixture
def proxy(mirror: RegistryServer) -> Iterator[FaultProxy]:
    """In front of the mirror."""
    with FaultProxy(mirror.host) as running:
        yield running


@pytest.fixture
def room(tmp_path: Path, busybox_base: Path, pybuild: Pybuild) -> Room:
    return Room(tmp_path / "room", busybox_base, pybuild)


# Mirrors


def test_a_whole_index_comes_from_mirrors(
    pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    """What one of them has lost comes from the next, of the index that the first one had."""
    found = images(mirror, "hub/whole", tmp_path)
    put(mirror, "hub/whole", "both", index(found["amd64"], found["arm64"]))
    mirrored(pybuild, DOWN, f"{proxy.host}/hub", f"{mirror.host}/hub")
    proxy.hit(f"/hub/whole/manifests/{found['arm64']['digest']}", status(404), times=2)
    name = f"{DOWN}/whole:both"
    pulled = done(pybuild, "pull", "--all-platforms", name)
    whole = raw(f"{mirror.host}/hub/whole:both")
    assert pulled.stdout.strip() == digest_of(whole)
    assert [line for line in pulled.stderr.splitlines() if "mirror" in line] == [
        f"warning: the mirror {proxy.host}/hub is passed over: {proxy.host} has lost the manifest {found['arm64']['digest']} "
        f"of '{name}' (Registry)"
    ]
    assert done(pybuild, "push", "-q", name, f"{registry.host}/whole:1").stdout.strip() == digest_of(whole)
    for platform in TWO.split(","):
        assert who(pybuild, tmp_path, name, f"--platform={platform}", "--pull=never").startswith(platform.partition("/")[2])
    assert_valid(pybuild.store)
    assert_nothing_left(pybuild.store)


def test_images_to_join_come_from_mirrors(
    pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    found = images(mirror, "hub/parts", tmp_path)
    mirrored(
        pybuild, DOWN, f"{proxy.host}/hub", f"{mirror.host}/hub", more=f'[registry."{registry.host}"]\nmirrors = ["{DOWN}"]\n'
    )
    proxy.hit("/hub/parts/blobs/", status(404))
    target = f"{registry.host}/joined/parts:1"
    made = done(pybuild, "index", "create", "-t", target, f"{DOWN}/parts:amd64", f"{DOWN}/parts:arm64")
    assert [one["digest"] for one in json.loads(raw(target))["manifests"]] == [one["digest"] for one in found.values()]
    assert made.stderr.count("is passed over") == 1
    # Where the index goes there the images have to be: no mirror of that registry is asked.
    more = done(pybuild, "index", "create", "-t", f"{registry.host}/joined/parts:2", f"{target}@{found['amd64']['digest']}")
    assert "passed over" not in more.stderr
    for platform in ("amd64", "arm64"):
        assert who(pybuild, tmp_path, target, f"--platform=linux/{platform}").startswith(platform)


def telling(passed: Passed, answer: Answer) -> Answer:
    body = json.dumps({"errors": [{"message": f"{USER} came with {PASSWORD}"}]}).encode()
    return Answer(400, {"Content-Length": str(len(body))}, body)


@pytest.mark.parametrize("secured", ["htpasswd"], indirect=True)
def test_what_a_registry_was_told_is_shown_by_no_command(
    pybuild: Pybuild, registry: RegistryServer, secured: RegistryServer, tmp_path: Path
) -> None:
    with FaultProxy(secured.host) as proxy:
        file = tmp_path / "auth.json"
        file.write_text(json.dumps({"auths": {proxy.host: {"username": USER, "password": PASSWORD}}}))
        env = {"REGISTRY_AUTH_FILE": str(file)}
        proxy.hit("/manifests/", telling, times=20)
        # The registry itself, and one that is asked as a mirror before it.
        name = f"{proxy.host}/secret:1"
        target = f"{registry.host}/secret:1"
        assert "came with xxxxx" in refused(pybuild, "pull", "--all-platforms", name, env=env)
        assert "came with xxxxx" in refused(pybuild, "index", "create", "-t", target, name, env=env)
        mirrored(pybuild, DOWN, proxy.host)
        for command in (("pull", "--all-platforms"), ("index", "create", "-t", target)):
            said = refused(pybuild, *command, f"{DOWN}/secret:1", env=env)
            assert f"the mirror {proxy.host} is passed over" in said
            assert "came with xxxxx" in said


def test_an_index_of_a_registry_with_a_certificate_of_its_own(pybuild: Pybuild, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "server", tls=True, known_only=True) as server:
        certificates(server, tmp_path / "certs", ours=True)
        where = f"--cert-dir={tmp_path}/certs"
        project = context(tmp_path / "context", WHO)
        name = f"{server.host}/own"
        for platform in ("amd64", "arm64"):
            done(pybuild, where, f"--platform=linux/{platform}", "-t", f"{name}:{platform}", "--push", project)
        create = ("index", "create", "-t", f"{name}:both", f"{name}:amd64", f"{name}:arm64")
        assert "self-signed certificate" in refused(pybuild, *create)
        made = done(pybuild, create[0], create[1], where, *create[2:])
        assert done(pybuild, "pull", "-q", "--all-platforms", where, f"{name}:both").stdout == made.stdout


# Pushes


def test_a_push_that_fails_leaves_the_index_under_its_names(
    pybuild: Pybuild, registry: RegistryServer, mirror: RegistryServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    name = f"{proxy.host}/failed:1"
    proxy.hit("PUT /v2/failed/manifests/1", status(403))
    project = context(tmp_path / "context", WHO)
    flags = ("--platform", TWO, "-t", name, "-t", "beside", "--cache-to=type=inline")
    said = refused(pybuild, *flags, "--push", project)
    assert f"the image is in the store: pybuild push {name}, or pybuild save {name}\n" in said
    built = done(pybuild, "-q", *flags, project).stdout
    assert done(pybuild, "inspect", "-f", "{{.Index}} {{.Platforms}}", "beside").stdout == (
        f"{built.strip()} [{TWO.replace(',', ' ')}]\n"
    )
    assert done(pybuild, "push", "-q", name).stdout == built
    # With what it carries.
    for one in json.loads(raw(f"{mirror.host}/failed:1"))["manifests"]:
        assert ANNOTATION in json.loads(raw(f"{mirror.host}/failed@{one['digest']}"))["annotations"]
    assert_valid(pybuild.store)


def test_an_index_is_packed_as_it_is(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    done(pybuild, "--platform", TWO, "-t", "app", context(tmp_path / "context", WHO))
    said = refused(pybuild, "push", "--compression=zstd", "app", f"{registry.host}/packed:1", code=2)
    assert said.startswith("error: 'app' is an index, whose digests say how its layers are compressed\n")


def test_one_platform_goes_alone(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    done(pybuild, "--platform", TWO, "-t", "app", context(tmp_path / "context", WHO))
    name = f"{registry.host}/alone:1"
    digest = done(pybuild, "push", "-q", "--platform=linux/arm64", "app", name).stdout.strip()
    manifest = json.loads(raw(name))
    assert "manifests" not in manifest
    ids = json.loads(done(pybuild, "inspect", "--platform=linux/arm64", "app").stdout)[0]["Id"]
    assert manifest["config"]["digest"] == ids
    assert digest == "sha256:" + hashlib.sha256(raw(name)).hexdigest()
    said = refused(pybuild, "push", "--platform=linux/s390x", "app", name, code=2)
    assert said == ("error: the image 'app' in the store is not for linux/s390x\n  hint: it is for linux/amd64, linux/arm64\n")


def test_what_registries_call_an_image_by_digest(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    """Docker's RepoDigests, and the column of images: where it went, and where it came from."""
    name = f"{registry.host}/digests:1"
    project = context(tmp_path / "context", WHO)

    def shown() -> tuple[list[str], str]:
        digests = json.loads(done(pybuild, "inspect", "-f", "{{json .RepoDigests}}", name).stdout)
        return digests, done(pybuild, "images", "--format", "{{.Digest}}", name).stdout.strip()

    done(pybuild, "-t", name, project)
    assert shown() == ([], "<none>")
    digest = done(pybuild, "push", "-q", name).stdout.strip()
    known = [f"{registry.host}/digests@{digest}"]
    assert shown() == (known, digest)
    done(pybuild, "rmi", name)
    done(pybuild, "pull", "-q", name)
    assert shown() == (known, digest)
    # Of an index: what the tag stands for, and the image's own.
    index = done(pybuild, "-q", "--platform", TWO, "-t", name, "--push", project).stdout.strip()
    done(pybuild, "rmi", name)
    done(pybuild, "pull", "-q", name)
    digests, column = shown()
    assert column == index
    assert f"{registry.host}/digests@{index}" in digests
    for one in digests:
        assert done(pybuild, "inspect", "--remote", "-f", "{{.Id}}", one).stdout.startswith("sha256:")


# Bases


def test_the_digest_of_a_tag_is_not_that_of_an_index_beside_it(
    pybuild: Pybuild, registry: RegistryServer, tmp_path: Path
) -> None:
    """The index is a tag of its own, which stands for the same images."""
    repository = f"{registry.host}/joined/digests"
    project = context(tmp_path / "context", WHO)
    own = {}
    for platform in TWO.split(","):
        tag = platform.partition("/")[2]
        done(pybuild, "--platform", platform, "-t", f"{repository}:{tag}", "--push", project)
        own[tag] = "sha256:" + hashlib.sha256(raw(f"{repository}:{tag}")).hexdigest()
    # Several, so that not all come behind the images' own by chance.
    for tag, tags in (("both", ("amd64", "arm64")), ("one", ("amd64",)), ("other", ("arm64",))):
        images = [f"{repository}:{one}" for one in tags]
        index = done(pybuild, "index", "create", "-t", f"{repository}:{tag}", *images).stdout.strip()
        platforms = ",".join(f"linux/{one}" for one in tags)
        done(pybuild, "pull", "-q", "--platform", platforms, f"{repository}:{tag}")
        own[tag] = index
    listed = done(pybuild, "images", "--format", "{{.Tag}} {{.Digest}}", repository).stdout.splitlines()
    assert set(listed) == {f"{tag} {digest}" for tag, digest in own.items()}
    assert len(listed) == 6


def test_platforms_of_one_base_are_pulled_side_by_side(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    found = images(registry, "beside", tmp_path)
    put(registry, "beside", "both", index(found["amd64"], found["arm64"]))
    name = f"{registry.host}/beside:both"
    text = f"FROM --platform=linux/amd64 {name} AS a\nFROM --platform=linux/arm64 {name}\nCOPY --from=a /who /a\n"
    project = context(tmp_path / "project", text)
    for number in range(3):
        pybuild.store = tmp_path / f"store-{number}"
        done(pybuild, project)
        # None of them took the name from the other.
        assert done(pybuild, "inspect", "-f", "{{.Platforms}}", name).stdout == "[linux/amd64 linux/arm64]\n"
    digest = digest_of(raw(name))
    before = len(registry.asked())
    done(pybuild, project)
    # The digest of the index says the same, for each platform.
    context(project, text.replace(":both", f":both@{digest}"))
    done(pybuild, project)
    assert len(registry.asked()) == before


# Inline caches


def test_each_image_of_an_index_carries_its_own_cache(room: Room, registry: RegistryServer, tmp_path: Path) -> None:
    text = "FROM --platform=$BUILDPLATFORM base AS make\nRUN echo > /same\n"
    text += "FROM scratch\nARG TARGETARCH\nCOPY --from=make /same /\n"
    (room.context / "Dockerfile").write_text(f"{text}COPY <<EOF /for\n$TARGETARCH\nEOF\n")
    name = f"{registry.host}/inline"
    layout = "type=oci,dest=layout,tar=false"
    built = room("a", "--platform", TWO, "-t", f"{name}:1", "--push", "-o", layout, "--cache-to=type=inline")
    assert (built.code, built.warnings) == (0, [])
    manifests = json.loads(raw(f"{name}:1"))["manifests"]
    said = [json.loads(raw(f"{name}@{one['digest']}"))["annotations"][ANNOTATION] for one in manifests]
    keys = [{record["key"] for record in json.loads(text)["records"]} for text in said]
    assert [len(each) for each in keys] == [2, 2]
    # The first COPY is the same for both.
    assert len(keys[0] & keys[1]) == 1
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", "-q", "--all", *insecure, f"docker://{name}:1", f"docker://{name}/copy:1")
    sources = (f"--cache-from={name}:1", f"--cache-from={name}/copy:1", "--cache-from=type=local,src=layout,tag=1")
    for number, source in enumerate(sources):
        again = room(f"b{number}", "--platform", TWO, source)
        assert (again.code, again.warnings, again.image) == (0, [], room("a", "--platform", TWO).image)
        assert {status for step, status in again.statuses.items() if step.startswith("COPY")} == {"cached"}
        assert_valid(room.folder / f"store-b{number}")
    # A build for one platform takes what is for that one, and one for others says what is not there.
    for platform in TWO.split(","):
        one = room(f"c-{platform[6:]}", f"--platform={platform}", f"--cache-from={name}:1")
        assert (one.code, one.imported[0][0]) == (0, 2)
    other = room("d", "--platform=linux/s390x,linux/riscv64", f"--cache-from={name}:1")
    assert other.warnings[0].endswith("is not used: it is not there for linux/s390x, linux/riscv64")
    # Without the flag it is the same images, in another index.
    bare = room("e", "--platform", TWO, "-t", f"{name}:2", "--push")
    assert bare.image != built.image
