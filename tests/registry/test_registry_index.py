"""Images for several platforms in registries: indexes pushed, pulled by platform and whole, and joined from what is there."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.registry.registry_images import layout, push, skopeo
from tests.registry.registry_runs import context, done, refused
from tests.registry.registry_server import PASSWORD, USER, RegistryServer

TWO = "linux/amd64,linux/arm64"
WHO = """\
FROM scratch
ARG TARGETPLATFORM
COPY <<EOF /who
$TARGETPLATFORM
EOF
"""
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return context(tmp_path / "context", WHO)


@pytest.fixture
def another(tmp_path: Path) -> Pybuild:
    """The program with another store, an empty one."""
    (tmp_path / "elsewhere").mkdir()
    return Pybuild(tmp_path / "elsewhere" / "store", tmp_path / "elsewhere")


def raw(name: str) -> bytes:
    command = ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name}"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put(registry: RegistryServer, repository: str, tag: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest or index as it is; its descriptor."""
    data = json.dumps(body).encode()
    where = f"http://{registry.host}/v2/{repository}/manifests/{tag or digest_of(data)}"
    answer = urllib3.request("PUT", where, body=data, headers={"Content-Type": body["mediaType"]})
    assert answer.status == 201, answer.data
    return {"mediaType": body["mediaType"], "digest": digest_of(data), "size": len(data)}


def put_blob(registry: RegistryServer, repository: str, data: bytes, media_type: str) -> dict[str, Any]:
    begun = urllib3.request("POST", f"http://{registry.host}/v2/{repository}/blobs/uploads/")
    where = f"{begun.headers['Location']}&digest={digest_of(data)}"
    assert urllib3.request("PUT", where, body=data).status == 201
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def index(*manifests: Mapping[str, Any], media_type: str = INDEX) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}


def images(registry: RegistryServer, repository: str, folder: Path, *more: str) -> dict[str, dict[str, Any]]:
    """An image for each of two architectures, tagged by its name, whose /who says it; their descriptors with the platform."""
    found = {}
    for name in ("amd64", "arm64"):
        made = layout(folder / name, [{"who": f"{name} made by hand\n".encode()}], architecture=name)
        push(made, f"{registry.host}/{repository}:{name}", *more)
        data = raw(f"{registry.host}/{repository}:{name}")
        kind = json.loads(data)["mediaType"]
        platform = {"os": "linux", "architecture": name}
        found[name] = {"mediaType": kind, "digest": digest_of(data), "size": len(data), "platform": platform}
    return found


def who(pybuild: Pybuild, folder: Path, base: str, *flags: str) -> str:
    """What the image says of itself that FROM takes."""
    project = context(folder / "from", f"FROM {base}\n")
    shutil.rmtree(folder / "who", ignore_errors=True)
    done(pybuild, *flags, "-o", folder / "who", project)
    return (folder / "who" / "who").read_text().strip()


def attested(registry: RegistryServer, repository: str, folder: Path) -> bytes:
    """An index as BuildKit pushes it, with an attestation first; under the tag `attested`."""
    found = images(registry, repository, folder)
    config = put_blob(
        registry, repository, b'{"os":"unknown","architecture":"unknown"}', "application/vnd.oci.image.config.v1+json"
    )
    layer = put_blob(registry, repository, b'{"predicate":{}}', "application/vnd.in-toto+json")
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    note = {
        **put(registry, repository, "", body),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": found["amd64"]["digest"],
        },
    }
    empty = put_blob(registry, repository, b"{}", "application/vnd.oci.empty.v1+json")
    signature = {"schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": [layer]}
    put(registry, repository, "attested", index(note, found["amd64"], found["arm64"], put(registry, repository, "", signature)))
    return raw(f"{registry.host}/{repository}:attested")


# Pushing and pulling


def test_an_index_is_pushed_and_each_platform_pulled(
    pybuild: Pybuild, another: Pybuild, registry: RegistryServer, project: Path, tmp_path: Path
) -> None:
    names = [f"{registry.host}/pushed:1", f"{registry.host}/pushed:2", f"{registry.host}/beside:1"]
    flags = [flag for name in names for flag in ("-t", name)]
    printed = done(pybuild, "-q", *flags, "--platform", TWO, "--push", project).stdout.strip()
    for name in names:
        assert digest_of(raw(name)) == printed
    # Nothing that an index names comes after it.
    puts = [one.path.rpartition("/")[2] for one in registry.asked("PUT") if "/pushed/manifests/" in one.path]
    members = [one["digest"] for one in json.loads(raw(names[0]))["manifests"]]
    assert puts == [*members, "1", "2"]
    assert done(pybuild, "push", "-q", names[0]).stdout.strip() == printed
    # By default this machine's platform comes, and others beside it when they are asked for.
    done(another, "pull", "-q", names[0])
    assert "PLATFORM" not in done(another, "images").stdout
    both = done(another, "pull", "-q", "--platform", TWO, names[0]).stdout.split()
    assert len(set(both)) == 2
    assert [line.split()[-1] for line in done(another, "images").stdout.splitlines()[1:]] == TWO.split(",")
    for platform in TWO.split(","):
        assert who(another, tmp_path, names[0], f"--platform={platform}", "--pull=never") == platform
    # What was pulled in parts is no index that could be pushed.
    assert json.loads(done(another, "inspect", names[0]).stdout)[0]["Index"] is None
    for store in (pybuild.store, another.store):
        assert_valid(store)
        assert_nothing_left(store)


def test_another_day_of_a_name_is_not_mixed_with_this_one(
    pybuild: Pybuild, another: Pybuild, registry: RegistryServer, project: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/moves:1"
    done(pybuild, "-t", name, "--platform", TWO, "--push", project)
    done(another, "pull", "-q", "--platform=linux/amd64", name)
    context(project, f"{WHO}COPY Dockerfile /new\n")
    done(pybuild, "-t", name, "--platform", TWO, "--push", project)
    done(another, "pull", "-q", "--platform=linux/arm64", name)
    listed = [line.split() for line in done(another, "images").stdout.splitlines()[1:]]
    assert [line[0] for line in listed] == ["<none>", name.removesuffix(":1")]
    # So a build for both brings what is lacking, of the same day.
    done(another, "--platform", TWO, "-o", tmp_path / "out", context(tmp_path / "from", f"FROM {name}\n"))
    assert len(list((tmp_path / "out").glob("*/new"))) == 2


def test_from_pulls_each_platform(another: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    found = images(registry, "from", tmp_path)
    put(registry, "from", "both", index(found["amd64"], found["arm64"], media_type=DOCKER_INDEX))
    name = f"{registry.host}/from:both"
    text = f"FROM --platform=linux/amd64 {name} AS x\nFROM {name}\nCOPY --from=x /who /x\nCOPY --from={name} /who /y\n"
    done(another, "--platform=linux/arm64", "-o", tmp_path / "out", context(tmp_path / "project", text))
    said = {path.name: path.read_text().split()[0] for path in (tmp_path / "out").iterdir()}
    assert said == {"who": "arm64", "x": "amd64", "y": "arm64"}
    before = len(registry.asked())
    done(another, "--platform", TWO, context(tmp_path / "project", text))
    # All is there, for both.
    assert len(registry.asked()) == before


def test_attestations_are_passed_over_and_kept_with_the_whole(
    another: Pybuild, registry: RegistryServer, tmp_path: Path
) -> None:
    whole = attested(registry, "notes", tmp_path)
    name = f"{registry.host}/notes:attested"
    for platform in ("amd64", "arm64"):
        assert who(another, tmp_path, name, f"--platform=linux/{platform}", "--pull=always").startswith(platform)
    assert "it is for linux/amd64, linux/arm64\n" in refused(another, "pull", "--platform=linux/s390x", name)
    digest = done(another, "pull", "-q", "--all-platforms", name).stdout.strip()
    assert digest == digest_of(whole)
    done(another, "prune", "--force", "--all")
    assert "nothing is damaged" in done(another, "doctor", "--store").stdout
    # It goes elsewhere as it came, also to a registry that has nothing of it, and under another name.
    done(another, "tag", name, "mine")
    assert done(another, "push", "-q", "mine", f"{registry.host}/elsewhere/notes:1").stdout.strip() == digest
    assert raw(f"{registry.host}/elsewhere/notes:1") == whole
    assert_valid(another.store)


def test_indexes_in_indexes(another: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    found = images(registry, "nested", tmp_path)
    inner = [put(registry, "nested", "", index(found[name])) for name in ("amd64", "arm64")]
    put(registry, "nested", "both", index(*inner))
    name = f"{registry.host}/nested:both"
    for platform in ("arm64", "amd64"):
        assert who(another, tmp_path, name, f"--platform=linux/{platform}", "--pull=always").startswith(platform)
    assert f"'{name}' is not there for linux/s390x" in refused(another, "pull", "--platform=linux/s390x", name)
    assert done(another, "pull", "-q", "--all-platforms", name).stdout.strip() == digest_of(raw(name))
    assert done(another, "push", "-q", name, f"{registry.host}/unnested:1").stdout.strip() == digest_of(raw(name))
    deep = inner[0]
    for _ in range(4):
        deep = put(registry, "nested", "deep", index(deep))
    assert "nested too deeply" in refused(another, "pull", f"{registry.host}/nested:deep")
    assert "nested too deeply" in refused(another, "pull", "--all-platforms", f"{registry.host}/nested:deep")


def test_what_runs_here_is_taken_in_the_order_of_what_is_best(
    another: Pybuild, registry: RegistryServer, tmp_path: Path
) -> None:
    """containerd's: older variants after newer ones, what is 32 bits wide last."""
    found = images(registry, "variants", tmp_path)
    as_platform = {
        "v6": {**found["amd64"], "platform": {"os": "linux", "architecture": "arm", "variant": "v6"}},
        "v7": {**found["arm64"], "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
        "i386": {**found["amd64"], "platform": {"os": "linux", "architecture": "386"}},
    }
    put(registry, "variants", "arm", index(as_platform["v6"], as_platform["v7"], as_platform["i386"]))
    name = f"{registry.host}/variants:arm"
    assert who(another, tmp_path, name, "--platform=linux/arm/v7", "--pull=always") == "arm64 made by hand"
    assert who(another, tmp_path, name, "--platform=linux/arm/v6", "--pull=always") == "amd64 made by hand"
    assert who(another, tmp_path, name, "--platform=linux/amd64", "--pull=always") == "amd64 made by hand"
    assert who(another, tmp_path, name, "--platform=linux/arm64", "--pull=always") == "arm64 made by hand"
    assert "it is for linux/arm/v6, linux/arm/v7, linux/386\n" in refused(another, "pull", "--platform=linux/arm/v5", name)


def test_run_takes_the_platform_that_is_asked_for(another: Pybuild, registry: RegistryServer, busybox_base: Path) -> None:
    name = f"{registry.host}/run:1"
    text = context(busybox_base.parent / "run", "FROM base\nARG TARGETPLATFORM\nLABEL for=$TARGETPLATFORM\n")
    own = "linux/amd64" if (busybox_base / "bin/busybox").read_bytes()[18] == 62 else "linux/arm64"
    done(another, "-t", name, f"--build-context=base={busybox_base}", "--platform", f"linux/s390x,{own}", "--push", text)
    assert done(another, "run", name, "echo", "here").stdout == "here\n"
    done(another, "rmi", name)
    # The one is there, the other is asked for.
    done(another, "pull", "-q", "--platform=linux/s390x", name)
    assert done(another, "run", f"--platform={own}", name, "echo", "pulled").stdout == "pulled\n"


# Joining


def test_images_of_native_runners_are_joined(
    pybuild: Pybuild, another: Pybuild, registry: RegistryServer, project: Path, tmp_path: Path
) -> None:
    """The same index as one build for all of them gives, byte for byte."""
    name = f"{registry.host}/runners"
    parts = []
    for platform in TWO.split(","):
        parts.append(f"{name}:{platform.partition('/')[2]}")
        done(pybuild, "--platform", platform, "-t", parts[-1], "--push", project)
    before = len(registry.asked("PUT", "POST"))
    made = done(another, "index", "create", "-t", f"{name}:1", "-t", f"{name}:2", *parts)
    assert len(registry.asked("PUT", "POST")) == before + 2
    assert made.stdout.strip() == digest_of(raw(f"{name}:1")) == digest_of(raw(f"{name}:2"))
    assert not another.store.exists()
    built = done(pybuild, "-q", "--platform", TWO, project)
    assert made.stdout == built.stdout
    dry = done(another, "index", "create", "--dry-run", *parts[::-1]).stdout
    assert [one["platform"]["architecture"] for one in json.loads(dry)["manifests"]] == ["arm64", "amd64"]
    skopeo("copy", "-q", "--all", "--src-tls-verify=false", f"docker://{name}:1", f"oci:{tmp_path}/all:1")
    home = [f"--root={tmp_path}/containers", f"--runroot={tmp_path}/running", "--storage-driver=vfs"]
    command = ["buildah", *home, "pull", "-q", "--tls-verify=false", "--arch=arm64", f"{name}:1"]
    pulled = subprocess.run(command, capture_output=True, text=True)
    assert pulled.returncode == 0, pulled.stderr
    inspected = json.loads(skopeo("inspect", "--config", "--override-arch=arm64", f"oci:{tmp_path}/all:1"))
    assert inspected["architecture"] == "arm64"


def test_images_of_another_repository_are_mounted(another: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    images(registry, "joined/a", tmp_path)
    sources = [f"{registry.host}/joined/a:{name}" for name in ("amd64", "arm64")]
    done(another, "index", "create", "-t", f"{registry.host}/joined/b:1", *sources)
    asked = [one for one in registry.asked() if "/joined/b/" in one.path]
    assert not [one for one in asked if one.method in ("PUT", "PATCH") and "/blobs/" in one.path]
    assert who(another, tmp_path, f"{registry.host}/joined/b:1", "--platform=linux/arm64").startswith("arm64")


@pytest.mark.parametrize("secured", ["token"], indirect=True)
def test_images_of_another_registry_are_copied(
    another: Pybuild, registry: RegistryServer, secured: RegistryServer, tmp_path: Path
) -> None:
    """With what attests them, and with credentials for the one alone."""
    whole = attested(registry, "copied", tmp_path)
    finished = another("login", "-u", USER, "--password-stdin", secured.host, stdin=PASSWORD.encode())
    assert finished.returncode == 0, finished.stderr
    target = f"{secured.host}/team/app:1"
    made = done(another, "index", "create", "-t", target, f"{registry.host}/copied:attested")
    # One index alone stays what it is.
    assert made.stdout.strip() == digest_of(whole)
    assert "copying" in made.stderr
    assert who(another, tmp_path, target, "--platform=linux/arm64").startswith("arm64")
    assert done(another, "index", "create", "-q", "-t", target, f"{registry.host}/copied:attested").stderr == ""
    assert list(Path(another.environment()["TMPDIR"]).glob("pybuild-*")) == []


def test_two_images_for_one_platform_are_refused_by_name(another: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    found = images(registry, "twice", tmp_path / "a")
    push(layout(tmp_path / "b", [{"who": b"another"}], architecture="arm64"), f"{registry.host}/twice:other")
    name = f"{registry.host}/twice"
    said = refused(another, "index", "create", "-t", f"{name}:1", f"{name}:arm64", f"{name}:other", code=2)
    assert f"error: two images are for linux/arm64: '{name}:arm64' ({found['arm64']['digest']}) and '{name}:other' (" in said
    # The same one twice is one.
    done(another, "index", "create", "-t", f"{name}:1", f"{name}:arm64", f"{name}:arm64", f"{name}@{found['arm64']['digest']}")
    assert [one["digest"] for one in json.loads(raw(f"{name}:1"))["manifests"]] == [found["arm64"]["digest"]]


def test_append_adds_and_replaces(another: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    attested(registry, "append", tmp_path / "a")
    name = f"{registry.host}/append"
    # A matrix of runners: the first has nothing to add to.
    done(another, "index", "create", "--append", "-t", f"{name}:1", f"{name}:amd64")
    done(another, "index", "create", "--append", "-t", f"{name}:1", f"{name}:arm64")
    found = json.loads(raw(f"{name}:1"))["manifests"]
    assert [one["platform"]["architecture"] for one in found] == ["amd64", "arm64"]
    push(layout(tmp_path / "new", [{"who": b"new"}]), f"{name}:new")
    done(another, "index", "create", "--append", "-t", f"{name}:attested", f"{name}:new")
    changed = json.loads(raw(f"{name}:attested"))["manifests"]
    # What attested the image that went has gone with it.
    assert [one.get("platform", {}).get("architecture") for one in changed] == ["arm64", None, "amd64"]
    assert changed[2]["digest"] == digest_of(raw(f"{name}:new"))


def test_docker_s_images_make_docker_s_list(another: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    images(registry, "dockers", tmp_path, "--format=v2s2")
    name = f"{registry.host}/dockers"
    done(another, "index", "create", "-t", f"{name}:1", f"{name}:amd64", f"{name}:arm64")
    made = json.loads(raw(f"{name}:1"))
    assert (made["mediaType"], {one["mediaType"] for one in made["manifests"]}) == (DOCKER_INDEX, {DOCKER_MANIFEST})
    assert who(another, tmp_path, f"{name}:1", "--platform=linux/arm64").startswith("arm64")
    done(another, "index", "create", "-t", f"{name}:2", "--annotation=index:a=b", "--annotation", "c=d", f"{name}:1")
    annotated = json.loads(raw(f"{name}:2"))
    assert (annotated["mediaType"], annotated["annotations"]) == (INDEX, {"a": "b", "c": "d"})


def test_what_cannot_be_joined(another: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    config = put_blob(registry, "odd", b"{}", "application/vnd.oci.empty.v1+json")
    put(registry, "odd", "artifact", {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []})
    name = f"{registry.host}/odd"
    create = ("index", "create", "-t", f"{name}:1")
    assert f"'{name}:artifact' does not say which platform it is for" in refused(another, *create, f"{name}:artifact", code=2)
    assert f"has no image '{name}:nothing'" in refused(another, *create, f"{name}:nothing")
    assert "an index needs images" in refused(another, *create, code=2)
    assert "the index needs a name" in refused(another, "index", "create", f"{name}:artifact", code=2)
    assert "did you mean 'create'" in refused(another, "index", "crate", "x", code=2)
    assert "are not built yet" in refused(another, *create, "--annotation=manifest:a=b", f"{name}:artifact", code=2)
    assert urllib3.request("GET", f"http://{registry.host}/v2/odd/manifests/1").status == 404
