"""`--load`: images handed to Docker, to podman, and to engines that misbehave."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pybuild
from tests.docker.docker_engines import DockerEngine, Engine, FakeEngine, PodmanEngine, members

DOCKERFILE = "FROM base\nCOPY large /large\nRUN echo one > /one\n"


@pytest.fixture(scope="module", params=[DockerEngine, PodmanEngine])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with request.param() as running:
        yield running


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with DockerEngine() as running:
        yield running


class Project:
    def __init__(self, folder: Path, pybuild: Pybuild, base: Path) -> None:
        self.folder = folder
        self._pybuild = pybuild
        self._flags = ["--build-context", f"base={base}"]
        folder.mkdir()
        (folder / "large").write_bytes(b"large" * 200_000)

    def build(self, *flags: str, host: str = "", more: str = "", fails: bool = False) -> Any:
        (self.folder / "Dockerfile").write_text(DOCKERFILE + more)
        env = {"DOCKER_HOST": host} if host else {}
        done = self._pybuild(*self._flags, *flags, self.folder, env=env)
        assert (done.returncode != 0) == fails, done.stderr
        return done


@pytest.fixture
def project(tmp_path: Path, pybuild: Pybuild, busybox_base: Path) -> Project:
    return Project(tmp_path / "project", pybuild, busybox_base)


def id_of(pybuild: Pybuild, name: str) -> str:
    return pybuild("inspect", "--format={{.Id}}", name).stdout.strip()


def moved(stderr: str) -> str:
    return next(line for line in stderr.splitlines() if "wrote     engine" in line).rpartition(", ")[2].partition(" in ")[0]


def test_an_engine_takes_what_was_built(project: Project, pybuild: Pybuild, engine: Engine) -> None:
    project.build("-t", "app:1", "-t", "registry.example/team/app", "--load", host=engine.host)
    image = engine.image("app:1")
    assert image["Id"].removeprefix("sha256:") == id_of(pybuild, "app:1")[7:]
    assert "registry.example/team/app:latest" in image["RepoTags"]
    layers = json.loads(pybuild("inspect", "--format={{json .RootFS.Layers}}", "app:1").stdout)
    assert image["RootFS"]["Layers"] == layers
    # And it gives it back.
    assert pybuild("rmi", "app:1", "registry.example/team/app").returncode == 0
    done = pybuild("load", stdin=engine.saved("registry.example/team/app"))
    assert done.stdout == "Loaded image: registry.example/team/app:latest\n"
    assert id_of(pybuild, "registry.example/team/app") == f"sha256:{image['Id'].removeprefix('sha256:')}"


def test_only_what_docker_misses_moves(project: Project, pybuild: Pybuild, docker: Engine) -> None:
    first = project.build("-t", "app:1", "--load", host=docker.host)
    assert moved(first.stderr).endswith(" MB")
    # Nothing of an image that is there; it gets its name.
    again = project.build("-t", "app:2", "-o", "type=docker", host=docker.host)
    assert moved(again.stderr) == "0 B"
    assert {"app:1", "app:2"} <= set(docker.image("app:1")["RepoTags"])
    # Of a new one the layers above those that are there.
    more = project.build("-t", "app:3", "--load", host=docker.host, more="RUN echo two > /two\n")
    assert moved(more.stderr).endswith(" kB")
    assert docker.image("app:3")["Id"] == id_of(pybuild, "app:3")
    docker.remove("app:1")
    docker.remove("app:2")
    docker.remove("app:3")
    whole = project.build("-t", "app:3", "--load", host=docker.host, more="RUN echo two > /two\n")
    assert moved(whole.stderr).endswith(" MB")
    # What Docker stored is what was built.
    assert pybuild("rmi", "app:3").returncode == 0
    assert pybuild("load", stdin=docker.saved("app:3")).stdout == "Loaded image: app:3\n"
    assert pybuild("run", "app:3", "cat", "/one", "/two").stdout == "one\ntwo\n"


def without_docker(pybuild: Pybuild, *args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """As on a machine without an engine: where it would be is empty in a mount namespace."""
    hide = 'mount -t tmpfs none "$(realpath /var/run)"; exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", hide, "sh", *pybuild.command, *map(str, args)]
    return subprocess.run(command, env=pybuild.environment(env), capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_without_an_engine_the_image_stays(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    for flags in (["--load"], ["-o", "type=docker"]):
        done = without_docker(pybuild, "-t", "app", *flags, tmp_path / "context")
        assert done.returncode == 0, done.stderr
        notice = "no Docker engine here: the image is in pybuild's own store; podman takes it by: "
        notice += "pybuild save app:latest | podman load"
        assert notice in done.stderr
        assert "wrote" not in done.stderr
    assert pybuild("images", "-q").stdout.count("\n") == 1


def test_an_engine_that_is_named_has_to_be_there(project: Project, pybuild: Pybuild, tmp_path: Path) -> None:
    def refused(**env: str) -> str:
        done = pybuild("--load", "-t", "app", project.folder, env=env)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr

    (project.folder / "Dockerfile").write_text("FROM scratch\n")
    gone = tmp_path / "gone.sock"
    assert refused(DOCKER_HOST=f"unix://{gone}").startswith(
        f"error: there is no Docker engine at {gone}, which DOCKER_HOST names\n"
    )
    remote = "error: DOCKER_HOST is 'tcp://example:2375', and images are handed to engines on this machine alone\n"
    assert refused(DOCKER_HOST="tcp://example:2375").startswith(remote)
    assert refused(DOCKER_CONTEXT="other").startswith(
        "error: there is no Docker context 'other', which DOCKER_CONTEXT names\n  hint: see: docker context ls\n"
    )
    # As `docker context create` writes it, chosen by `docker context use`.
    config = tmp_path / "config"
    meta = config / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": "mine", "Endpoints": {"docker": {"Host": f"unix://{gone}"}}}))
    (config / "config.json").write_text('{"currentContext": "mine"}')
    message = f"error: there is no Docker engine at {gone}, which the Docker context 'mine' names\n"
    assert refused(DOCKER_CONFIG=str(config)).startswith(message)
    with FakeEngine(gone, {"POST /images/load": (200, {"stream": "Loaded image: app:latest\n"})}) as fake:
        done = pybuild("--load", "-t", "app", project.folder, env={"DOCKER_CONFIG": str(config)})
    assert done.returncode == 0, done.stderr
    assert fake.asked[-1] == "POST /images/load"
    # The context `default` is the usual socket.
    env = {"DOCKER_CONFIG": str(config), "DOCKER_CONTEXT": "default"}
    done = without_docker(pybuild, "--load", "-t", "app", project.folder, **env)
    assert done.returncode == 0 and "no Docker engine here" in done.stderr


def test_a_socket_that_nobody_listens_at(project: Project, tmp_path: Path) -> None:
    with FakeEngine(tmp_path / "s", {}):
        pass
    done = project.build("--load", "-t", "app", host=f"unix://{tmp_path}/s", fails=True)
    assert done.returncode == 5
    assert f"error: no Docker engine answers at {tmp_path}/s" in done.stderr


# An engine of ours: what no real one does when it is asked to.


def test_a_layer_that_vanished_is_sent_after_all(project: Project, pybuild: Pybuild, tmp_path: Path) -> None:
    layers = project.build("-q", "-t", "app") and json.loads(
        pybuild("inspect", "--format={{json .RootFS.Layers}}", "app").stdout
    )
    first = True

    def load(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        nonlocal first
        said = {"error": "open blobs/x: no such file or directory"} if first else {"stream": "Loaded image: app:latest\n"}
        first = False
        fake.loaded.append(members(body))
        data = (json.dumps(said) + "\r\n").encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    answers = {
        "GET /images/json": (200, [{"Id": "sha256:other", "Created": 5}]),
        "GET /images/sha256%3Aother/json": (200, {"RootFS": {"Layers": layers[:2]}}),
        "POST /images/load": load,
    }
    with FakeEngine(tmp_path / "s", answers) as fake:  # type: ignore[arg-type]
        project.build("-t", "app", "--load", host=fake.host)
    names = [{name.rpartition("/")[2] for name in archive} for archive in fake.loaded]
    id = id_of(pybuild, "app")[7:]
    assert names[0] == {"manifest.json", id, layers[2][7:]}
    assert names[1] >= {"manifest.json", "oci-layout", id, *(layer[7:] for layer in layers)}


@pytest.mark.parametrize(
    "engine",
    [
        ("GET /info", {"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}),
        ("GET /version", {"Version": "5.0", "Components": [{"Name": "Podman Engine"}]}),
    ],
    ids=["containerd", "podman"],
)
def test_engines_that_want_it_whole_get_it_whole(project: Project, tmp_path: Path, engine: tuple[str, object]) -> None:
    answers: dict[str, tuple[int, object]] = {engine[0]: (200, engine[1]), "POST /images/load": (200, {"stream": "ok"})}
    with FakeEngine(tmp_path / "s", answers) as fake:
        project.build("-t", "app", "--load", host=fake.host)
    assert fake.asked == ["GET /version", "GET /info", "POST /images/load"]
    (archive,) = fake.loaded
    (image,) = json.loads(archive["manifest.json"])
    assert image["RepoTags"] == ["app:latest"]
    assert {"oci-layout", "index.json", image["Config"], *image["Layers"]} <= set(archive)


def refusing(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_error(500)


def silent(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(40):
            handler.wfile.write(b"x" * (1 << 20))
    except OSError:
        time.sleep(0)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"GET /version": (200, "text")}, ""),
        ({"GET /version": refusing}, "refuses: Internal Server Error"),
        ({"GET /version": silent}, "broke off: Remote end closed connection without response"),
        ({"GET /version": endless}, "answers without end"),
        ({"POST /images/load": (500, {"message": "no\u001b[31m space"})}, "refuses: no?[31m space"),
        ({"POST /images/load": (200, {"error": "invalid tar header"})}, "does not take the image: invalid tar header"),
        ({"POST /images/load": silent}, "broke off: Remote end closed connection without response"),
    ],
)
def test_engines_that_misbehave(project: Project, pybuild: Pybuild, tmp_path: Path, answers: Any, message: str) -> None:
    fine = {"POST /images/load": (200, {"stream": "ok"})}
    with FakeEngine(tmp_path / "s", fine | answers) as fake:
        done = project.build("-t", "app", "--load", host=fake.host, fails=bool(message))
    if message:
        assert done.returncode == 5
        assert f"ngine at {tmp_path}/s {message}" in done.stderr
        assert "the image is in the store: pybuild push app:latest, or pybuild save app:latest" in done.stderr
        assert pybuild("images", "app").stdout.count("app") == 1
