"""`pybuild doctor`: damage in the store is found and named; what this machine allows is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli_space import build
from tests.conftest import Pybuild

DOCKERFILE = """FROM base
RUN rm /bin/ls; rm -rf /etc; mkdir -p /etc /a/b; echo hello > /a/b/file; ln /a/b/file /a/link; ln -s file /a/b/soft
RUN chmod 4755 /a/b/file; chown 5:6 /a; mkfifo /a/pipe; rm /bin/cat
COPY context /copied
WORKDIR /work
"""


def doctor(pybuild: Pybuild) -> dict[str, Any]:
    done = pybuild("doctor", "--store", "--format", "json")
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)["store"]
    assert done.returncode == (7 if report["problems"] else 0)
    assert report["sound"] == (not report["problems"])
    return report


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, busybox_base: Path) -> Path:
    """A store with two images on a base of ours and on a foreign one, their compressed layers, and cache beside them."""
    place = tmp_path_factory.mktemp("doctor")
    pybuild = Pybuild(place / "store", place)
    context = place / "context"
    context.mkdir()
    (context / "context").write_text("text")
    (context / "Dockerfile").write_text(DOCKERFILE)
    build(pybuild, busybox_base, context, "-t", "app", "-o", "type=oci,dest=layout,tar=false", "-o", "type=image,name=two")
    # The layers come back as those of another: with opaque folders, no times of ours, and original blobs.
    (context / "Foreign").write_text("FROM foreign\nRUN rm -rf /a/b; mkdir /a/b; touch /a/b/new\n")
    other = Pybuild(place / "other", place)
    named = (
        "-f",
        "Foreign",
        "--build-context",
        "foreign=oci-layout://layout",
        "-t",
        "foreign",
        "-o",
        "type=oci,dest=f,tar=false",
    )
    build(other, busybox_base, context, *named)
    build(pybuild, busybox_base, context, *named[:2], "--build-context", "foreign=oci-layout://f", "-t", "foreign")
    (context / "Cache").write_text("FROM base\nRUN echo cache > /cache\n")
    build(pybuild, busybox_base, context, "-f", "Cache", "-t", "cache")
    assert pybuild("rmi", "cache").returncode == 0
    return place / "store"


@pytest.fixture
def store(template: Path, pybuild: Pybuild) -> Path:
    """A copy with all owners, times, attributes and hard links."""
    assert os.system(f"cp -a '{template}' '{pybuild.store}'") == 0
    return pybuild.store


def test_a_sound_store(pybuild: Pybuild, store: Path) -> None:
    report = doctor(pybuild)
    assert report["problems"] == report["leftovers"] == []
    assert report["images"] == 2 and report["snapshots"] > 6 and report["indexes"] >= report["snapshots"]
    assert report["blobs"] == len(os.listdir(store / "blobs" / "sha256"))
    done = pybuild("doctor", "--store")
    assert done.stdout.endswith("nothing is damaged\n")


def rows(store: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(store / "db.sqlite", isolation_level=None)) as db:
        return db.execute(sql).fetchall()


def folder_with(store: Path, name: str) -> Path:
    """The folder of the only layer that has this file as itself."""
    for folder in sorted((store / "snapshots").iterdir(), key=lambda path: int(path.name)):
        if os.path.lexists(folder / name):
            return folder
    raise AssertionError(name)


def flip(path: Path) -> None:
    """Another content of the same length, with the same times."""
    info = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def one(store: Path, sql: str) -> str:
    return str(rows(store, sql)[0][0])


def blob(store: Path, digest: str) -> Path:
    return store / "blobs" / "sha256" / digest.removeprefix("sha256:")


BLOBS = {
    "a config": "SELECT config FROM images WHERE name LIKE '%app%'",
    "a compressed layer": "SELECT digest FROM renderings WHERE form LIKE 'gzip%'",
    "an original layer": "SELECT digest FROM foreign_layers",
}


@pytest.mark.parametrize("name", BLOBS)
def test_a_corrupt_blob(pybuild: Pybuild, store: Path, name: str) -> None:
    digest = one(store, BLOBS[name])
    flip(blob(store, digest))
    problems = doctor(pybuild)["problems"]
    assert digest in {problem["id"] for problem in problems}
    told = [problem for problem in problems if "corrupt" in problem["message"]]
    assert [problem["id"] for problem in told] == [digest]
    assert str(blob(store, digest)) in told[0]["hint"]
    assert told[0]["images"], "an image needs it, which is told"
    text = pybuild("doctor", "--store").stdout
    assert f"damaged: blob {digest} is corrupt" in text and "  needed by docker.io/library/" in text and "  hint: " in text


def test_a_corrupt_tar(pybuild: Pybuild, store: Path) -> None:
    [digest] = [row[0] for row in rows(store, "SELECT diff_id FROM layers") if blob(store, row[0]).exists()][:1]
    flip(blob(store, digest))
    assert digest in {problem["id"] for problem in doctor(pybuild)["problems"]}


def test_a_corrupt_index(pybuild: Pybuild, store: Path) -> None:
    path = sorted((store / "index").iterdir())[0]
    flip(path)
    problems = doctor(pybuild)["problems"]
    assert any(problem["id"] == path.name and "index" in problem["message"] for problem in problems)
    path.unlink()
    report = doctor(pybuild)
    assert any(path.name in text for text in report["leftovers"])


DAMAGES = {
    "content": ("printf J | dd of=a/b/file bs=1 conv=notrunc", "the content of 'a/b/file' is not what was put there"),
    "size": ("echo longer than before > a/b/file", "another size"),
    "mode": ("chmod 640 a/b/file", "another mode"),
    "owner": ("chown 7:7 a", "'a' has another owner"),
    "link": ("ln -sfn other a/b/soft", "another target"),
    "type": ("rm a/b/soft; mkdir a/b/soft", "another type"),
    "attribute": ("", "extended attributes"),
    "hard link": ("cp -p a/link x; mv x a/link", "other hard links"),
    "missing": ("rm a/b/soft", "'a/b/soft' is missing"),
    "whiteout": ("rm bin/ls", "'bin/ls' is missing"),
    "more": ("touch a/more", "'a/more' is there and not in its index"),
    "a folder more": ("mkdir a/more", "'a/more' is there and not in its index"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder(pybuild: Pybuild, store: Path, name: str) -> None:
    script, message = DAMAGES[name]
    folder = folder_with(store, "a/b/soft")
    if name == "attribute":
        os.setxattr(folder / "a/b/file", "user.new", b"x")
    else:
        subprocess.run(["sh", "-ec", script], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    [problem] = [problem for problem in doctor(pybuild)["problems"] if "folder" in problem["message"]]
    assert f"the folder snapshots/{folder.name} of layer" in problem["message"] and message in problem["message"]
    assert "docker.io/library/app:latest" in problem["images"] and str(folder) in problem["hint"]


def test_the_hint_mends_it(pybuild: Pybuild, store: Path, busybox_base: Path, template: Path) -> None:
    """What is removed as the hint says is made again by the next build."""
    folder = folder_with(store, "a/b/soft")
    flip(folder / "a/b/file")
    shutil.rmtree(folder)
    # What an output compressed is as good.
    assert doctor(pybuild)["problems"] == []
    layer = one(store, f"SELECT diff_id FROM snapshots WHERE id = {folder.name}")
    blob(store, one(store, f"SELECT digest FROM renderings WHERE diff_id = '{layer}'")).unlink()
    problems = doctor(pybuild)["problems"]
    assert any("has lost its files" in problem["message"] for problem in problems)
    build(pybuild, busybox_base, template.parent / "context", "-t", "app", "--no-cache")
    assert doctor(pybuild)["problems"] == []


def test_a_lost_layer_of_an_image(pybuild: Pybuild, store: Path) -> None:
    rows(store, "DELETE FROM layers")
    problems = doctor(pybuild)["problems"]
    assert {name for problem in problems for name in problem["images"]} == {
        f"docker.io/library/{name}:latest" for name in ("app", "foreign", "two")
    }
    assert all("has lost its index" in problem["message"] for problem in problems)


def test_a_lost_config_stops_all_removal(pybuild: Pybuild, store: Path) -> None:
    """Nobody can say what that image needs."""
    blob(store, one(store, BLOBS["a config"])).unlink()
    done = pybuild("prune", "--all")
    assert done.returncode == 7 and "what the image sha256:" in done.stderr and "pybuild rmi" in done.stderr
    assert any("is missing" in problem["message"] for problem in doctor(pybuild)["problems"])
    assert pybuild("rmi", "app", "two").returncode == 0
    assert pybuild("prune", "--all").returncode == 0
    assert doctor(pybuild)["problems"] == []


def test_a_damaged_image_does_not_hide_the_others(pybuild: Pybuild, store: Path) -> None:
    sound = pybuild("images").stdout
    config = one(store, BLOBS["a config"])
    flip(blob(store, config))
    done = pybuild("images")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(sound.splitlines())
    (row,) = [line for line in done.stdout.splitlines() if config[7:19] in line and "app" in line]
    assert row.split()[-1] == "damaged"
    assert done.stderr.startswith(f"warning: the image {config} is damaged: ")


def test_a_damaged_database(pybuild: Pybuild, store: Path) -> None:
    path = store / "db.sqlite"
    data = bytearray(path.read_bytes())
    # Past the first pages, which opening reads.
    for at in range(8 * 4096, len(data), 64):
        data[at : at + 16] = b"\xff" * 16
    path.write_bytes(data)
    done = pybuild("doctor", "--store")
    assert done.returncode == 7 and "database" in done.stdout + done.stderr


def test_what_a_killed_build_left_is_cleaned_up(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nRUN head -c 100000 /dev/urandom > /x; sleep 60\n")
    process = pybuild.start("--build-context", f"base={busybox_base}", ".", cwd=context)
    deadline = time.monotonic() + 20
    while not list(pybuild.store.glob("tmp/*/*/upper/x")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert os.listdir(pybuild.store / "tmp")
    report = doctor(pybuild)
    assert report["problems"] == report["leftovers"] == []
    assert os.listdir(pybuild.store / "tmp") == []


@pytest.mark.parametrize("shelf", ["blobs/sha256", "index"])
def test_a_pipe_in_place_of_a_file(pybuild: Pybuild, store: Path, shelf: str) -> None:
    victim = sorted((store / shelf).iterdir())[0]
    victim.unlink()
    os.mkfifo(victim)
    # Nobody waits for what will never be written.
    assert victim.name.removeprefix("sha256:") in " ".join(problem["message"] for problem in doctor(pybuild)["problems"])


def test_a_file_among_the_folders_of_blobs_is_none(pybuild: Pybuild, store: Path) -> None:
    (store / "blobs" / "note").write_text("mine")
    assert doctor(pybuild)["problems"] == []


def test_builds_and_removals_beside_it_are_no_damage(pybuild: Pybuild, store: Path, busybox_base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nARG N\n" + "RUN echo $N >> /n\n" * 20)

    def others() -> None:
        for number in range(4):
            done = pybuild(
                "-q", "--build-context", f"base={busybox_base}", "--build-arg", f"N={number}", "-t", "x", ".", cwd=context
            )
            assert done.returncode == 0, done.stderr
            assert pybuild("prune", "--all").returncode == 0

    with ThreadPoolExecutor() as pool:
        beside = pool.submit(others)
        while not beside.done():
            report = doctor(pybuild)
            assert report["problems"] == report["leftovers"] == []
        beside.result()


def test_no_store(pybuild: Pybuild) -> None:
    done = pybuild("doctor", "--store")
    assert done.returncode == 7 and "there is no store at" in done.stderr
    assert not pybuild.store.exists()


def test_what_this_machine_allows(pybuild: Pybuild) -> None:
    done = pybuild("doctor")
    assert done.returncode == 0 and done.stdout.startswith(f"Linux {os.uname().release}\nRUN steps: yes")
    sandbox = json.loads(pybuild("doctor", "--format", "json").stdout)["sandbox"]
    assert sandbox["usable"] is True and sandbox["reason"] is None
    assert not pybuild.store.exists()
