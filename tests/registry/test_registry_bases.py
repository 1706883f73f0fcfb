"""Several images that one build needs: pulled side by side, and their errors told in the Dockerfile's order."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.build_store import assert_nothing_left
from tests.conftest import Pybuild
from tests.registry.registry_images import layout, push, skopeo
from tests.registry.registry_proxy import Answer, FaultProxy, Passed, stalled
from tests.registry.registry_runs import context, done, refused
from tests.registry.registry_server import RegistryServer


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[FaultProxy]:
    with FaultProxy(registry.host) as running:
        yield running


def test_bases_are_pulled_side_by_side(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path) -> None:
    for name in ("one", "two"):
        push(layout(tmp_path / name, [{"shared": b"s" * 9000}, {name: b"x"}]), f"{proxy.host}/side/{name}:1")
    # Each is answered when both were asked for.
    both = threading.Barrier(2)

    def together(_: Passed, answer: Answer) -> Answer:
        both.wait(30)
        return answer

    for name in ("one", "two"):
        proxy.together(f"GET /v2/side/{name}/manifests/1", together)
    dockerfile = f"FROM {proxy.host}/side/one:1\nCOPY --from={proxy.host}/side/two:1 /two /\n"
    before = len(proxy.passed)
    done(pybuild, "-o", tmp_path / "out", context(tmp_path / "context", dockerfile))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"shared", "one", "two"}
    # The layer that both have came once.
    blobs = [one.path.rpartition("/")[2] for one in proxy.passed[before:] if one.method == "GET" and "/blobs/" in one.path]
    assert len(blobs) == len(set(blobs)) == 5


def test_the_first_in_the_dockerfile_is_told(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path) -> None:
    push(layout(tmp_path / "layout", [{"a": b"a"}]), f"{proxy.host}/order/good:1")
    lines = [f"FROM {proxy.host}/order/none-{number}:1 AS s{number}\n" for number in range(3)]
    last = f"FROM {proxy.host}/order/good:1\n" + "".join(f"COPY --from=s{number} /a /\n" for number in range(3))
    # What fails at once is not what is told, when something before it fails late.
    proxy.late("GET /v2/order/none-0/", 0.5)
    said = refused(pybuild, context(tmp_path / "context", "".join([*lines, last])))
    assert f"Dockerfile:1:6: error: {proxy.host} has no image '{proxy.host}/order/none-0:1'\n" in said


def test_what_nobody_needs_any_more_is_given_up(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path) -> None:
    push(layout(tmp_path / "layout", [{"a": b"a" * 50_000}]), f"{proxy.host}/given/up:1")
    proxy.hit("GET /v2/given/up/blobs/", stalled(0), times=9)
    dockerfile = f"FROM {proxy.host}/given/none:1 AS none\nFROM {proxy.host}/given/up:1\nCOPY --from=none /a /\n"
    with pybuild.start(context(tmp_path / "context", dockerfile)) as process:
        # Much less than the server's silence is borne.
        _, said = process.communicate(timeout=20)
    assert process.returncode == 5 and b"given/none:1'" in said
    assert_nothing_left(pybuild.store)


def test_ctrl_c_ends_all_of_them(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path) -> None:
    for name in ("one", "two"):
        push(layout(tmp_path / name, [{name: b"a" * 50_000}]), f"{proxy.host}/ctrl/{name}:1")
    proxy.hit("GET /v2/ctrl/", stalled(0), times=9)
    before = len(proxy.passed)
    dockerfile = f"FROM {proxy.host}/ctrl/one:1\nCOPY --from={proxy.host}/ctrl/two:1 /two /\n"
    with pybuild.start(context(tmp_path / "context", dockerfile)) as process:
        while len([one for one in proxy.passed[before:] if "/manifests/1" in one.path]) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        # Much less than the server's silence is borne.
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert_nothing_left(pybuild.store)


def test_a_base_is_unpacked_for_a_command_of_what_is_built(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    """A stage that the target does not need has no say; a trigger of the base itself has."""
    for name, triggers in (("plain", ()), ("trigger", ("RUN true",))):
        push(layout(tmp_path / name, [{"a": b"a"}], onbuild=triggers), f"{registry.host}/unpacked/{name}:1")
    text = (
        f"FROM {registry.host}/unpacked/plain:1 AS other\nRUN true\nFROM {registry.host}/unpacked/plain:1\nCOPY Dockerfile /\n"
    )
    done(pybuild, context(tmp_path / "context", text))
    assert list((pybuild.store / "snapshots").iterdir()) == []
    # The trigger finds no shell: that is after the base is a folder.
    said = refused(pybuild, context(tmp_path / "other", f"FROM {registry.host}/unpacked/trigger:1\n"), code=1)
    assert "/bin/sh" in said
    assert len(list((pybuild.store / "snapshots").iterdir())) == 1


def test_a_digest_beside_a_tag_that_is_there(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    name = f"{registry.host}/beside:1"
    push(layout(tmp_path / "layout", [{"a": b"a"}]), name)
    digest = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))["Digest"]
    done(pybuild, "pull", name)
    before = len(registry.asked())
    done(pybuild, "--pull", context(tmp_path / "context", f"FROM {name}@{digest}\n"))
    assert len(registry.asked()) == before
    # Another digest is another image, and the tag does not count.
    said = refused(pybuild, context(tmp_path / "other", f"FROM {name}@sha256:{'0' * 64}\n"))
    assert "has no image" in said


def test_a_tag_that_moves_while_it_is_pulled(pybuild: Pybuild, proxy: FaultProxy, tmp_path: Path) -> None:
    """It is resolved once: layers and config are those of the manifest that was seen."""
    name = f"{proxy.host}/moves:1"
    push(layout(tmp_path / "old", [{"file": b"old"}]), name)
    new = layout(tmp_path / "new", [{"file": b"new"}])

    def moved(_: Passed, answer: Answer) -> Answer:
        push(new, name.replace(proxy.host, proxy.upstream))
        return answer

    proxy.together("GET /v2/moves/manifests/1", moved)
    folder = context(tmp_path / "context", f"FROM {name} AS base\nFROM {name}\nCOPY --from=base /file /copy\n")
    done(pybuild, "-o", tmp_path / "out", folder)
    assert [(tmp_path / "out" / file).read_text() for file in ("file", "copy")] == ["old", "old"]
    assert len([one for one in proxy.passed if one.path == "/v2/moves/manifests/1" and one.method == "GET"]) == 1
