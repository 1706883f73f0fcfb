"""`pybuild du` and `pybuild prune`: what takes space, and giving it back."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from builder.store.store import Store
from tests.build.build_store import assert_nothing_left
from tests.conftest import Pybuild
from tests.store.test_store_open import picture

DOCKERFILE = """FROM base
COPY file /file
RUN cat /file /file > /two; ln /two /three; mkdir -p /deep/er; head -c 200000 /dev/urandom > /deep/er/noise
"""
DAY = 86400


def disk_use(store: Path) -> int:
    done = subprocess.run(["du", "-s", "--block-size=1", store], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def du(pybuild: Pybuild, *flags: str) -> dict[str, Any]:
    done = pybuild("du", "--format", "json", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def types(pybuild: Pybuild) -> dict[str, int]:
    """Bytes by type, of those that there are."""
    return {one["type"]: one["bytes"] for one in du(pybuild)["types"] if one["items"]}


def freed(pybuild: Pybuild, *flags: str) -> int:
    done = pybuild("prune", "--format", "json", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    total: int = json.loads(done.stdout)["bytes"]
    return total


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "file").write_text("text\n" * 1000)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


@pytest.fixture
def app(pybuild: Pybuild, busybox_base: Path, context: Path) -> str:
    """The id of the image `app`, of which an archive was written as well."""
    return build(pybuild, busybox_base, context, "-t", "app", "-o", "type=oci,dest=app.tar")


def build(pybuild: Pybuild, base: Path, context: Path, *flags: str) -> str:
    done = pybuild("-q", "--build-context", f"base={base}", *flags, ".", cwd=context)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def backdate(store: Path, days: int) -> None:
    """Let all have been used so long ago."""
    with closing(sqlite3.connect(store / "db.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE used SET at = at - ?", (days * DAY,))
        db.execute("UPDATE records SET created = created - ?", (days * DAY,))
        db.execute("UPDATE images SET created = created - ?", (days * DAY,))
    then = time.time() - days * DAY
    for path in [*(store / "blobs" / "sha256").iterdir(), *(store / "index").iterdir()]:
        os.utime(path, (then, then))


def _deep(folder: str) -> None:
    """Folders in folders, far beyond what a path can say."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=fd)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def test_the_sum_is_what_the_disk_says(pybuild: Pybuild, busybox_base: Path, context: Path, app: str) -> None:
    """With everything in the store that there can be, and while a process is at work."""
    build(pybuild, busybox_base, context, "--build-arg", "X=1")
    (context / "Fails").write_text("FROM base\nRUN echo left > /left; false\n")
    assert pybuild("-q", "-f", "Fails", "--build-context", f"base={busybox_base}", ".", cwd=context).returncode == 1
    (context / "other").write_text("FROM scratch\nCOPY file /\n")
    build(pybuild, busybox_base, context, "-f", "other", "-t", "other")
    assert pybuild("rmi", "other").returncode == 0
    with Store(str(pybuild.store)) as store:
        mount = store.cache_mount("id", "", "shared", "a test")
        mount.acquire(lambda folder: (Path(folder) / "cached").write_bytes(b"x" * 50_000))
        os.link(f"{mount.path}/cached", f"{mount.path}/linked")
        _deep(mount.path)
        mount.release()
        with store.scratch() as scratch, store.lock("name", "a test"):
            Path(scratch, "half").write_bytes(b"x" * 10_000)
            found = du(pybuild)
            assert found["bytes"] == disk_use(pybuild.store)
            assert {one["type"] for one in found["types"] if one["bytes"]} >= {
                *("image", "build-cache", "compressed", "cache-mount", "failed-step", "temporary", "store"),
            }
    found = du(pybuild)
    assert found["bytes"] == disk_use(pybuild.store) == sum(one["bytes"] for one in found["items"])
    assert [one["bytes"] for one in found["types"]] == [
        sum(item["bytes"] for item in found["items"] if item["type"] == one["type"]) for one in found["types"]
    ]
    assert found["reclaimable"] == sum(item["bytes"] for item in found["items"] if item["reclaimable"])
    assert next(one for one in found["items"] if one["type"] == "cache-mount")["bytes"] > 50_000


def test_what_a_file_system_has_of_its_own_is_not_the_stores(pybuild: Pybuild, app: str) -> None:
    before = du(pybuild)["bytes"]
    lost = pybuild.store / "lost+found"
    lost.mkdir()
    (lost / "#12").write_bytes(b"x" * 100_000)
    assert du(pybuild)["bytes"] == before


def test_du_for_people(pybuild: Pybuild, app: str) -> None:
    done = pybuild("du", "--verbose")
    assert done.returncode == 0
    details, kinds, totals = done.stdout.split("\n\n")
    assert "docker.io/library/app:latest" in details and "RUN cat /file /file > /two" in details
    assert app.removeprefix("sha256:")[:12] in details
    assert kinds.splitlines()[0].split() == ["TYPE", "ITEMS", "SIZE", "RECLAIMABLE"]
    assert totals.splitlines()[0].startswith("Reclaimable: ") and totals.splitlines()[1].startswith("Total: ")


def test_du_changes_nothing(pybuild: Pybuild, app: str) -> None:
    before = picture(pybuild.store)
    du(pybuild)
    assert pybuild("why").returncode == 0
    assert picture(pybuild.store) == before


def test_du_reads_a_store_that_cannot_be_written(pybuild: Pybuild, app: str, tmp_path: Path) -> None:
    total = du(pybuild)["bytes"]
    subprocess.run(["mount", "--bind", pybuild.store, pybuild.store], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", pybuild.store], check=True)
        assert du(pybuild)["bytes"] == total
        assert pybuild("why").stdout.startswith("the build of ")
        done = pybuild("prune")
        assert done.returncode == 7 and "cannot be written" in done.stderr
    finally:
        subprocess.run(["umount", pybuild.store], check=True)


def test_no_store_is_made_by_looking(pybuild: Pybuild) -> None:
    assert du(pybuild)["bytes"] == freed(pybuild) == 0
    assert pybuild("why").stderr.startswith("error: no build is remembered in this store\n")
    assert not pybuild.store.exists()


@pytest.mark.parametrize("command", [("du",), ("prune",), ("prune", "--all"), ("doctor", "--store"), ("why",), ("shell", "2")])
@pytest.mark.parametrize("newer", ["format", "database"])
def test_a_newer_store_is_refused_and_nothing_is_touched(
    pybuild: Pybuild, app: str, command: tuple[str, ...], newer: str
) -> None:
    if newer == "format":
        (pybuild.store / "VERSION").write_text("2\n")
    else:
        with closing(sqlite3.connect(pybuild.store / "db.sqlite")) as db:
            db.execute("PRAGMA user_version=999")
    before = picture(pybuild.store)
    done = pybuild(*command)
    assert done.returncode == 7 and "was written by a newer pybuild" in done.stderr and done.stdout == ""
    assert picture(pybuild.store) == before


def test_prune_keeps_what_images_need(pybuild: Pybuild, busybox_base: Path, context: Path, app: str) -> None:
    (context / "file").write_text("other")
    nameless = build(pybuild, busybox_base, context)
    archive = (context / "app.tar").read_bytes()
    before = types(pybuild)
    assert freed(pybuild) == before["compressed"]
    assert types(pybuild) == {kind: size for kind, size in before.items() if kind not in ("compressed", "build-cache")}
    # Nothing has to be done again, and outputs are the same bytes.
    (context / "file").write_text("text\n" * 1000)
    named = ("--build-context", f"base={busybox_base}", "-t", "app", "-o", "type=oci,dest=app.tar")
    done = pybuild("--progress=json", *named, ".", cwd=context)
    assert json.loads(done.stderr.splitlines()[-1])["ran"] == 0
    assert (context / "app.tar").read_bytes() == archive
    assert pybuild("run", nameless, "cat", "/two").stdout == "otherother"
    # Images without a name go when that is asked for; those with one never.
    assert freed(pybuild, "--all") > 200_000
    assert pybuild("inspect", nameless).returncode == 2
    assert pybuild("run", "app", "cat", "/two").stdout == "text\n" * 2000
    assert pybuild("doctor", "--store").returncode == 0


def test_space_comes_back_after_rmi(pybuild: Pybuild, app: str) -> None:
    with_image = disk_use(pybuild.store)
    assert pybuild("rmi", "app").returncode == 0
    # Removing an image removes no content: a build finds it.
    assert disk_use(pybuild.store) == with_image
    planned = freed(pybuild, "--dry-run")
    assert disk_use(pybuild.store) == with_image
    assert freed(pybuild) == planned == with_image - disk_use(pybuild.store)
    assert set(types(pybuild)) <= {"store", "build-cache"}
    assert os.listdir(pybuild.store / "snapshots") == os.listdir(pybuild.store / "blobs" / "sha256") == []


def test_filters(pybuild: Pybuild, app: str) -> None:
    assert pybuild("rmi", "app").returncode == 0
    assert freed(pybuild, "--filter", "until=24h") == 0
    assert freed(pybuild, "--filter", "unused-for=1d") == 0
    backdate(pybuild.store, 3)
    assert freed(pybuild, "--dry-run", "--filter", "until=73h") == 0
    everything = freed(pybuild, "--dry-run", "--filter", "until=71h")
    compressed = types(pybuild)["compressed"]
    assert everything > compressed == freed(pybuild, "--filter", "type=compressed")
    layer = max((one for one in du(pybuild)["items"] if one["type"] == "build-cache"), key=lambda one: one["bytes"])
    shown = pybuild("prune", "--verbose", "--filter", f"id={layer['id'][7:19]}").stdout
    assert shown.splitlines()[1].split()[0] == layer["id"][7:19]
    assert freed(pybuild, "--filter", "type=regular") == everything - compressed - layer["bytes"]


@pytest.mark.parametrize("flag", ["--keep-storage", "--reserved-space", "--max-used-space"])
def test_what_was_used_last_stays_longest(pybuild: Pybuild, busybox_base: Path, context: Path, app: str, flag: str) -> None:
    assert pybuild("prune").returncode == 0
    backdate(pybuild.store, 3)
    (context / "file").write_text("newer")
    build(pybuild, busybox_base, context, "-t", "new")
    assert pybuild("rmi", "app", "new").returncode == 0
    cache = types(pybuild)["build-cache"]
    assert freed(pybuild, flag, str(cache)) == 0
    assert 0 < freed(pybuild, flag, str(cache - 1)) < cache
    # The two layers of the older image were unused for longest; the base is new again.
    done = pybuild("--progress=json", "--build-context", f"base={busybox_base}", ".", cwd=context)
    assert json.loads(done.stderr.splitlines()[-1])["cached"] == 2


def test_cache_mounts_go_when_that_is_asked_for(pybuild: Pybuild) -> None:
    with Store(str(pybuild.store)) as store:
        used, idle = (store.cache_mount(name, "", "shared", "a test") for name in ("used", "idle"))
        for mount in (used, idle):
            mount.acquire(lambda folder: (Path(folder) / "file").write_bytes(b"x" * 10_000))
        idle.release()
        assert freed(pybuild) == freed(pybuild, "--all") == 0
        assert freed(pybuild, "--cache-mounts") > 10_000
        assert [mount.id for mount in store.cache_mounts()] == ["used"]
        used.release()
    assert freed(pybuild, "--filter", "type=exec.cachemount") > 10_000
    assert "cache-mount" not in types(pybuild)


def test_what_failed_steps_left_goes_unless_somebody_looks_into_it(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nRUN head -c 50000 /dev/zero > /left; false\n")
    assert pybuild("-q", "--build-context", f"base={busybox_base}", ".", cwd=context).returncode == 1
    assert types(pybuild)["failed-step"] > 50_000
    with Store(str(pybuild.store)) as store, store.failed_in_use(store.failed_steps()[0]):
        freed(pybuild, "--filter", "type=failed-step")
    assert types(pybuild)["failed-step"] > 50_000
    assert freed(pybuild, "--filter", "type=failed-step") > 50_000
    assert "failed-step" not in types(pybuild)
    # Who removes it by other means is right, too.
    assert pybuild("-q", "--build-context", f"base={busybox_base}", ".", cwd=context).returncode == 1
    shutil.rmtree(pybuild.store / "failed")
    assert "failed-step" not in types(pybuild)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--filter", "untill=24h"), "did you mean 'until'?"),
        (("--filter", "id="), "the filter 'id=' names nothing"),
        (("--filter", "id=sha256:"), "names nothing"),
        (("--filter", "until"), "it looks like until=..."),
        (("--filter", "until=yesterday"), "'yesterday' is not a duration"),
        (("--filter", "type=compresed"), "did you mean 'compressed'?"),
        (("--filter", "type=image"), "remove images by 'pybuild rmi'"),
        (("--filter", "type=store"), "nothing that prune removes"),
        (("--keep-storage", "much"), "'much' is not a size"),
    ],
)
def test_what_cannot_be_asked_for(pybuild: Pybuild, flags: tuple[str, ...], message: str) -> None:
    done = pybuild("prune", *flags)
    assert done.returncode == 2 and message in done.stderr
    assert not pybuild.store.exists()


def test_a_person_is_asked(pybuild: Pybuild, app: str) -> None:
    assert pybuild("rmi", "app").returncode == 0

    def answer(text: bytes, *flags: str) -> str:
        ours, theirs = pty.openpty()
        try:
            command = [*pybuild.command, "prune", *flags]
            with subprocess.Popen(
                command, env=pybuild.environment(), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process:
                os.write(ours, text)
                out, err = process.communicate(timeout=30)
            assert process.returncode == 0
            assert (b"[y/N]" in err) == ("--force" not in flags and "--dry-run" not in flags)
            return out.decode()
        finally:
            os.close(ours)
            os.close(theirs)

    assert answer(b"\n") == "Nothing was removed.\n"
    assert answer(b"", "--dry-run").endswith("MB\n")
    assert os.listdir(pybuild.store / "snapshots")
    assert answer(b"y\n").endswith("MB\n")
    assert os.listdir(pybuild.store / "snapshots") == []
    assert answer(b"", "--force") == "Total: 0 B\n"


def test_a_running_build_loses_nothing(pybuild: Pybuild, busybox_base: Path, context: Path) -> None:
    """Its base, its finished steps and its own output, none of which an image needs yet."""
    (context / "Dockerfile").write_text(
        "FROM base AS one\nCOPY file /file\nRUN cat /file > /copy\nRUN echo waiting; sleep 1.5; cat /copy > /done\n"
        "FROM base\nCOPY --from=one /done /copy /\nRUN cat /done /copy > /all\n"
    )
    named = ("--build-context", f"base={busybox_base}", "-t", "late", "-o", "type=oci,dest=late.tar")
    process = pybuild.start("--progress=plain", *named, ".", cwd=context)
    assert process.stderr is not None
    said = b""
    while b" waiting" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    for _ in range(3):
        assert freed(pybuild, "--all", "--cache-mounts") == 0
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said + rest
    assert pybuild("run", "late", "cat", "/all").stdout == "text\n" * 2000
    assert pybuild("doctor", "--store").returncode == 0


def test_a_killed_prune_leaves_a_store_that_is_valid(pybuild: Pybuild, busybox_base: Path, context: Path, app: str) -> None:
    for delay in (0.03, 0.06, 0.09, 0.12):
        process = pybuild.start("prune", "--all")
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
        assert pybuild("doctor", "--store").returncode == 0
        assert build(pybuild, busybox_base, context, "-t", "app")
    assert_nothing_left(pybuild.store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_prune_makes_room_on_a_full_disk(small_disk: Path, tmp_path: Path, busybox_base: Path, context: Path) -> None:
    pybuild = Pybuild(small_disk / "store", tmp_path)
    build(pybuild, busybox_base, context, "-t", "app", "-o", "type=oci,dest=app.tar")
    with open(small_disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    assert pybuild("images").returncode == 7
    before = du(pybuild)["bytes"]
    done = pybuild("prune", "--verbose")
    assert done.returncode == 0, done.stderr
    assert "compressed" in done.stdout and not done.stdout.endswith("Total: 0 B\n")
    assert du(pybuild)["bytes"] < before
    assert pybuild("run", "app", "cat", "/file").stdout == "text\n" * 1000
    assert pybuild("doctor", "--store").stdout.endswith("nothing is damaged\n")
    # Now all that is left belongs to the image.
    with open(small_disk / "filler", "ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    done = pybuild("prune")
    assert done.returncode == 7 and "free some space by other means" in done.stderr
