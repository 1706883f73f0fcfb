"""What an image says of its build, in a registry: an artifact that refers to it, listed by the registry or under a tag."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pybuild
from tests.registry.registry_images import layout, push, skopeo
from tests.registry.registry_proxy import Answer, FaultProxy, Passed
from tests.registry.registry_runs import context, done, refused
from tests.registry.registry_server import RegistryServer

DOCKERFILE = "FROM base AS one\nARG A=1\nCOPY f /f\nRUN echo $A > /made\nFROM one AS two\nRUN exit 3\n"
FLAGS = ("--build-arg=A=2", "--target=one")
INDEX = "application/vnd.oci.image.index.v1+json"
KIND = "application/vnd.pybuild.request.v1+json"


@pytest.fixture
def program(pybuild: Pybuild, busybox_base: Path) -> Pybuild:
    done(pybuild, "import", busybox_base, "base")
    return pybuild


@pytest.fixture
def another(tmp_path: Path, busybox_base: Path) -> Pybuild:
    """The program with another store, which has the base alone."""
    (tmp_path / "elsewhere").mkdir()
    other = Pybuild(tmp_path / "elsewhere" / "store", tmp_path / "elsewhere")
    done(other, "import", busybox_base, "base")
    return other


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = context(tmp_path / "source", DOCKERFILE)
    (folder / "f").write_text("one\n")
    return folder


def tags(registry: RegistryServer, path: str) -> list[str]:
    with urllib.request.urlopen(f"http://{registry.host}/v2/{path}/tags/list") as answer:
        found: list[str] = json.load(answer)["tags"]
    return found


def raw(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{name}"))
    return found


@pytest.mark.parametrize("how", ["push", "type=registry", "type=image"])
def test_a_registry_that_lists_no_referrers_has_a_tag_for_them(
    program: Pybuild, another: Pybuild, registry: RegistryServer, source: Path, how: str
) -> None:
    path = f"requests/{how.replace('=', '-')}"
    name = f"{registry.host}/{path}:1"
    if how == "push":
        done(program, "-t", name, *FLAGS, source)
        digest = done(program, "push", "--request", name).stdout.strip()
        # Once more, it is there.
        assert done(program, "push", "--request", name).stdout.strip() == digest
    else:
        pushed = ",push=true" if how == "type=image" else ""
        done(program, "-o", f"{how},name={name},request=true{pushed}", *FLAGS, source)
        digest = json.loads(done(program, "inspect", f"docker://{name}").stdout)[0]["Digest"]
    tag = digest.replace(":", "-")
    assert sorted(tags(registry, path)) == ["1", tag]
    index = raw(f"{registry.host}/{path}:{tag}")
    assert index["mediaType"] == INDEX
    (entry,) = index["manifests"]
    assert entry["artifactType"] == KIND
    artifact = raw(f"{registry.host}/{path}@{entry['digest']}")
    assert artifact["subject"]["digest"] == digest
    # Another machine needs no flag of the build.
    verified = done(another, "verify", "--context", source, f"docker://{name}")
    assert "the request of the image is sha256:" in verified.stdout and "this one is the same" in verified.stdout
    (source / "f").write_text("two\n")
    other = another("verify", "--context", source, f"docker://{name}")
    assert other.returncode == 4
    assert "  line 3, COPY f /f: other files\n" in other.stdout


def test_a_registry_that_lists_them_gets_no_tag(
    program: Pybuild, another: Pybuild, registry: RegistryServer, source: Path
) -> None:
    """As version 1.1 of the specification has it, which Debian's registry does not know: the proxy does."""
    listed: list[dict[str, object]] = []

    def taken(passed: Passed, answer: Answer) -> Answer:
        digest = passed.path.rpartition("/")[2]
        listed.append({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "artifactType": KIND})
        return answer._replace(headers={**answer.headers, "OCI-Subject": "sha256:0"})

    def list_them(_: Passed, answer: Answer) -> Answer:
        size = len(json.dumps(raw(f"{registry.host}/listed/app@{listed[0]['digest']}"), separators=(",", ":")))
        body = json.dumps({"schemaVersion": 2, "manifests": [{**each, "size": size} for each in listed]}).encode()
        headers = {"Content-Type": INDEX, "Content-Length": str(len(body))}
        return answer._replace(status=200, headers=headers, body=body)

    with FaultProxy(registry.host) as proxy:
        name = f"{proxy.host}/listed/app:1"
        proxy.hit("PUT /v2/listed/app/manifests/sha256:", taken)
        done(program, "-o", f"type=registry,name={name},request=true", *FLAGS, source)
        assert tags(registry, "listed/app") == ["1"] and len(listed) == 1
        proxy.hit("GET /v2/listed/app/referrers/sha256:", list_them)
        verified = done(another, "verify", "--context", source, f"docker://{name}")
        assert "this one is the same" in verified.stdout


def test_it_is_pushed_where_that_was_asked_for_alone(
    program: Pybuild, another: Pybuild, registry: RegistryServer, source: Path
) -> None:
    """Build arguments are in it."""
    name = f"{registry.host}/alone/app:1"
    done(program, "-t", name, *FLAGS, "--push", source)
    assert tags(registry, "alone/app") == ["1"]
    found = another("verify", "--context", source, *FLAGS, f"docker://{name}")
    assert found.returncode == 0 and f"docker://{name} says nothing of its build" in found.stderr


def test_what_cannot_be(program: Pybuild, another: Pybuild, registry: RegistryServer, source: Path, tmp_path: Path) -> None:
    name = f"{registry.host}/wrong/app:1"
    push(layout(tmp_path / "foreign", [{"f": b"f"}]), f"{registry.host}/wrong/foreign:1")
    done(program, "pull", f"{registry.host}/wrong/foreign:1")
    assert refused(program, "push", "--request", f"{registry.host}/wrong/foreign:1", code=2) == (
        "error: the image says nothing of its build, and has no request to push\n"
        "  hint: leave it out; an image that pybuild built for one platform has one: pybuild inspect shows BuildRequest\n"
    )
    several = ("--platform=linux/amd64,linux/386", "-o", f"type=registry,name={name},request=true")
    assert "what an image says of its build is of one platform" in refused(program, *several, source, code=2)
    assert "'request' is for what is pushed" in refused(program, "-o", "type=image,request=true", source, code=2)
    assert "unknown key 'request'" in refused(program, "-o", "type=oci,dest=x,request=true", source, code=2)
    # What another one put under the tag.
    done(program, "-t", name, *FLAGS, source)
    digest = done(program, "push", "--request", name).stdout.strip()
    skopeo(
        *("copy", "--dest-tls-verify=false", "--src-tls-verify=false"),
        f"docker://{name}",
        f"docker://{registry.host}/wrong/app:{digest.replace(':', '-')}",
    )
    assert "is damaged: the list of referrers has no manifests" in refused(
        another, "verify", "--context", source, f"docker://{name}"
    )
    assert "is damaged: the list of referrers has no manifests" in refused(program, "push", "--request", name)
