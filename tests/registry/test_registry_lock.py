"""`pybuild lock`, `--locked` and `--offline`, with a registry, a server of files and a git server whose names move."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli.build import write_whole
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.context.context_git import Repository
from tests.context.context_server import Server
from tests.registry.registry_images import layout, push
from tests.registry.registry_runs import config_digest, done, refused
from tests.registry.registry_server import RegistryServer
from tests.registry.test_registry_index import digest_of, images, index, put, raw

DOCKERFILE = """\
ARG BASE
FROM {host}/lock/base:1 AS base
FROM base AS files
ADD {www}/file /file
ADD {www}/project.git#main /project
FROM {host}/lock/other:1
COPY --from=files /file /project /f/
RUN ["/bin/busybox", "true"]
"""


class Place:
    """A Dockerfile whose four names can be moved."""

    def __init__(self, folder: Path, registry: RegistryServer, server: Server, pybuild: Pybuild, busybox: bytes) -> None:
        self.folder = folder
        self.host = registry.host
        self.www = server.url
        self.pybuild = pybuild
        self._busybox = busybox
        self.context = folder / "context"
        self.context.mkdir()
        (self.context / "Dockerfile").write_text(DOCKERFILE.format(host=self.host, www=self.www))
        self.lock = self.context / "Dockerfile.lock"
        self.repository = Repository(folder / "project", folder / "www" / "project.git")
        self.ids: dict[str, str] = {}
        for name in ("base", "other"):
            self.move(name, "one")
        self.move_file("one\n")
        self.move_branch("one\n")

    def move(self, name: str, word: str) -> str:
        """The tag of an image; the id of what it is now."""
        folder = self.folder / f"{name}-{word}"
        if not folder.exists():
            layout(folder, [{"bin/busybox": self._busybox, "etc/word": f"{name} {word}\n".encode()}], cmd=["/bin/busybox"])
        push(folder, f"{self.host}/lock/{name}:1")
        return config_digest(folder)

    def move_file(self, text: str) -> None:
        (self.folder / "www" / "file").write_text(text)

    def move_branch(self, text: str) -> str:
        commit = self.repository.commit({"README": text})
        self.repository("branch", "-M", "main")
        self.repository.publish()
        return commit

    def move_all(self) -> None:
        self.move("base", "two")
        self.move("other", "two")
        self.move_file("two\n")
        self.move_branch("two\n")

    def build(self, *flags: str | Path) -> str:
        return done(self.pybuild, "-q", *flags, self.context).stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "www").mkdir()
    with Server(tmp_path / "www") as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, registry: RegistryServer, server: Server, pybuild: Pybuild, busybox_base: Path) -> Place:
    return Place(tmp_path, registry, server, pybuild, (busybox_base / "bin/busybox").read_bytes())


def other_store(pybuild: Pybuild, folder: Path) -> Pybuild:
    home = folder / "home"
    home.mkdir(parents=True)
    return Pybuild(folder / "store", home)


def test_what_was_locked_is_built_whatever_moves(place: Place, pybuild: Pybuild, tmp_path: Path) -> None:
    changes = done(pybuild, "lock", place.context).stdout.splitlines()
    assert [line.split()[:2] for line in changes] == [
        ["+", f"{place.host}/lock/base:1"],
        ["+", f"{place.host}/lock/other:1"],
        ["+", f"{place.www}/file"],
        ["+", f"{place.www}/project.git#main"],
    ]
    first = place.build("--locked")
    assert first == place.build()
    place.move_all()
    fresh = other_store(pybuild, tmp_path / "fresh")
    assert done(pybuild, "-q", "--locked", place.context).stdout == first
    # What a URL gave is in this store alone; nobody has the old file any more.
    told = refused(fresh, "-q", "--locked", place.context, code=4)
    assert f"{place.www}/file is not the file that the lock pins: sha256:2c8b08da5ce6" in told
    assert f"pybuild lock --upgrade={place.www}/file" in told
    place.move_file("one\n")
    assert done(fresh, "-q", "--locked", place.context).stdout == first
    # Without --locked the names mean what they mean today.
    today = done(other_store(pybuild, tmp_path / "today"), "-q", place.context).stdout
    assert today != first
    assert_valid(pybuild.store)
    assert_nothing_left(pybuild.store)


def test_what_is_pinned_stays_until_it_is_upgraded(place: Place, pybuild: Pybuild) -> None:
    done(pybuild, "lock", place.context)
    before = place.lock.read_text()
    place.move_all()
    assert done(pybuild, "lock", place.context).stdout == ""
    assert done(pybuild, "lock", "--check", place.context).stdout == ""
    assert place.lock.read_text() == before
    # By name: with the tag and without.
    (line,) = done(pybuild, "lock", f"--upgrade={place.host}/lock/base", place.context).stdout.splitlines()
    assert line.startswith(f"~ {place.host}/lock/base:1 linux/amd64 sha256:") and " -> sha256:" in line
    (line,) = done(pybuild, "lock", f"--upgrade={place.www}/project.git", place.context).stdout.splitlines()
    assert line.startswith(f"~ {place.www}/project.git#main ")
    # What moved is told, and nothing is written.
    text = place.lock.read_text()
    stale = pybuild("lock", "--upgrade", "--check", place.context)
    assert stale.returncode == 4 and "Dockerfile.lock is not up to date: 2 names are pinned otherwise now" in stale.stderr
    assert [line.split()[:2] for line in stale.stdout.splitlines()] == [
        ["~", f"{place.host}/lock/other:1"],
        ["~", f"{place.www}/file"],
    ]
    assert place.lock.read_text() == text
    assert len(done(pybuild, "lock", "--upgrade", place.context).stdout.splitlines()) == 2
    assert "does not pin 'nothing'" in refused(pybuild, "lock", "--upgrade=nothing", place.context, code=2)


def test_the_file_is_the_same_for_everybody(place: Place, pybuild: Pybuild, tmp_path: Path) -> None:
    """Whatever a store has."""
    done(pybuild, "pull", f"{place.host}/lock/base:1")
    place.build()
    done(pybuild, "lock", place.context)
    text = place.lock.read_text()
    place.lock.unlink()
    done(other_store(pybuild, tmp_path / "fresh"), "lock", place.context)
    assert place.lock.read_text() == text
    # What the store has is enough, too, but for a branch, which only the server knows.
    place.lock.unlink()
    assert "what 'main' is in" in refused(pybuild, "lock", "--offline", place.context)
    place.lock.write_text("version = 1\n\n" + text[text.index("[[git]]") :])
    done(pybuild, "lock", "--offline", place.context)
    assert place.lock.read_text() == text


def test_all_that_drifted_is_told_at_once(place: Place, pybuild: Pybuild) -> None:
    done(pybuild, "lock", place.context)
    dockerfile = place.context / "Dockerfile"
    text = dockerfile.read_text()
    dockerfile.write_text(text.replace("base:1", "base:2").replace("other:1", "other:2"))
    told = refused(pybuild, "--locked", place.context, code=4)
    assert (
        f"Dockerfile:2:6: error: Dockerfile.lock does not pin '{place.host}/lock/base:2' for linux/amd64, "
        f"'{place.host}/lock/other:2' for linux/amd64\n"
    ) in told
    assert "hint: `pybuild lock`, with the same flags, adds what the Dockerfile names now" in told
    dockerfile.write_text(text.replace("/file /file", "/other /file").replace("#main", "#next"))
    told = refused(pybuild, "--locked", place.context, code=4)
    assert f"Dockerfile:4:5: error: Dockerfile.lock does not pin '{place.www}/other', '{place.www}/project.git#next'\n" in told
    # A name that is gone is no drift for a build; the lock forgets it.
    dockerfile.write_text(f"FROM {place.host}/lock/base:1\n")
    done(pybuild, "-q", "--locked", place.context)
    removed = done(pybuild, "lock", place.context).stdout.splitlines()
    assert len(removed) == 3 and all(line.startswith("- ") for line in removed)


def test_an_edited_lock_is_told(place: Place, pybuild: Pybuild, tmp_path: Path) -> None:
    done(pybuild, "lock", place.context)
    text = place.lock.read_text()
    second = place.move("other", "two")
    digests = [line.split('"')[1] for line in text.splitlines() if line.startswith("digest")]
    # A digest that leads to another image of the same registry.
    push(tmp_path / "other-two", f"{place.host}/lock/base:9")
    manifest = json.loads((tmp_path / "other-two" / "index.json").read_text())["manifests"][0]["digest"]
    place.lock.write_text(text.replace(digests[0], manifest))
    told = refused(pybuild, "--locked", place.context, code=4)
    assert (
        f"Dockerfile:2:6: error: the lock pins '{place.host}/lock/base:1' to {manifest}, which is not the image that it was"
        in told
    )
    assert f"it is {second} for linux/amd64" in told
    # One that leads nowhere.
    place.lock.write_text(text.replace(digests[0], f"sha256:{'0' * 64}"))
    told = refused(pybuild, "--locked", place.context)
    assert f"has no image '{place.host}/lock/base:1@sha256:000" in told
    assert f"the lock pins '{place.host}/lock/base:1' to sha256:000" in told and "if it was not edited" in told
    # Of a file and of a commit.
    for key, code in (("checksum", 4), ("commit", 3)):
        line = next(line for line in text.splitlines() if line.startswith(key))
        edited = line[:-5] + ("0000" if line[-5:-1] != "0000" else "1111") + '"'
        place.lock.write_text(text.replace(line, edited))
        told = refused(pybuild, "-q", "--locked", place.context, code=code)
        assert "Dockerfile:" in told and ("is not the file that the lock pins" in told or "has no commit" in told)


def test_without_a_lock_file(place: Place, pybuild: Pybuild) -> None:
    told = refused(pybuild, "--locked", place.context, code=2)
    assert f"there is no lock file '{place.lock}'" in told and "`pybuild lock`, with the same flags, writes it" in told
    done_ = pybuild("--locked", "-f", "-", place.context, stdin=b"FROM scratch\n")
    assert done_.returncode == 2 and "--locked needs a lock file: the Dockerfile has no path" in done_.stderr
    refused(pybuild, "lock", "-f", "-", place.context, code=2)
    stale = pybuild("lock", "--check", place.context)
    assert stale.returncode == 4 and "there is no lock file" in stale.stderr and not place.lock.exists()


def test_several_platforms_have_a_digest_each(pybuild: Pybuild, registry: RegistryServer, tmp_path: Path) -> None:
    found = images(registry, "lock/many", tmp_path)
    put(registry, "lock/many", "both", index(found["amd64"], found["arm64"]))
    context = tmp_path / "context"
    context.mkdir()
    name = f"{registry.host}/lock/many:both"
    (context / "Dockerfile").write_text(f"FROM {name}\nCOPY Dockerfile /\n")
    assert len(done(pybuild, "lock", "--platform=linux/amd64,linux/arm64", context).stdout.splitlines()) == 2
    text = (context / "Dockerfile.lock").read_text()
    for architecture in ("amd64", "arm64"):
        assert f'platform = "linux/{architecture}"\ndigest = "{found[architecture]["digest"]}"' in text
    assert digest_of(raw(name)) not in text
    # One platform leaves the other's alone.
    done(pybuild, "lock", "--upgrade", "--platform=linux/arm64", context)
    assert (context / "Dockerfile.lock").read_text() == text
    put(registry, "lock/many", "both", index(found["amd64"]))
    done(pybuild, "-q", "--locked", "--platform=linux/amd64,linux/arm64", "-o", f"{tmp_path}/out.tar", context)
    told = refused(pybuild, "--locked", "--platform=linux/riscv64", context, code=4)
    assert f"does not pin '{name}' for linux/riscv64" in told


def test_offline_asks_nobody(place: Place, pybuild: Pybuild, registry: RegistryServer, server: Server, tmp_path: Path) -> None:
    done(pybuild, "lock", place.context)
    first = place.build("--locked")
    place.move_all()
    asked, paths = len(registry.asked()), len(server.paths())
    assert place.build("--locked", "--offline") == first
    assert place.build("--locked", "--offline", "--no-cache") == first
    assert (len(registry.asked()), len(server.paths())) == (asked, paths)
    empty = other_store(pybuild, tmp_path / "empty")
    told = refused(empty, "--locked", "--offline", place.context, code=3)
    assert "Dockerfile:2:6: error: there is no image" in told and "--offline forbids to fetch it" in told
    for flags, word in (
        (("--pull",), "--offline and --pull exclude each other"),
        (("--push", "-t", f"{place.host}/x"), "--offline and a push exclude each other"),
        ((f"--cache-from={place.host}/x",), "--offline asks no registry for --cache-from"),
    ):
        assert word in refused(pybuild, "--offline", *flags, place.context, code=2)
    assert (len(registry.asked()), len(server.paths())) == (asked, paths)


def test_offline_without_a_lock(place: Place, pybuild: Pybuild, server: Server) -> None:
    """URLs are what they were the last time; a branch is nothing that the store knows."""
    context = place.context
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {place.www}/file /\n")
    first = place.build()
    place.move_file("two\n")
    assert place.build("--offline") == first
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {place.www}/new /\n")
    told = refused(pybuild, "--offline", context)
    assert "Dockerfile:2:" in told and f"{place.www}/new is not in the store, and --offline asks nobody" in told
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {place.www}/project.git#main /\n")
    told = refused(pybuild, "--offline", context)
    assert f"what 'main' is in {place.www}/project.git is not in the store" in told


def test_images_of_no_registry_are_pinned_by_their_id(pybuild: Pybuild, tmp_path: Path, busybox_base: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM mine:1\nCOPY Dockerfile /\n")
    id = done(pybuild, "import", busybox_base, "mine:1").stdout.strip()
    done(pybuild, "lock", context)
    assert (
        f'name = "docker.io/library/mine:1"\nplatform = "linux/amd64"\nid = "{id}"\n'
        in (context / "Dockerfile.lock").read_text()
    )
    first = done(pybuild, "-q", "--locked", context).stdout
    (busybox_base / "tmp").mkdir(exist_ok=True)
    shutil.copytree(busybox_base, tmp_path / "other", symlinks=True)
    (tmp_path / "other" / "more").write_text("more\n")
    done(pybuild, "tag", "mine:1", "mine:old")
    done(pybuild, "import", tmp_path / "other", "mine:1")
    assert done(pybuild, "-q", "--locked", context).stdout == first != done(pybuild, "-q", context).stdout
    fresh = other_store(pybuild, tmp_path / "fresh")
    done(fresh, "import", tmp_path / "other", "mine:1")
    told = refused(fresh, "--locked", context, code=4)
    assert f"Dockerfile:1:6: error: the lock pins 'mine:1' to the image {id}, which is not in the store" in told


def test_stages_that_nothing_needs_are_locked_too(place: Place, pybuild: Pybuild) -> None:
    (place.context / "Dockerfile").write_text(
        f"FROM {place.host}/lock/other:1 AS test\nRUN ['true']\nFROM {place.host}/lock/base:1\n"
    )
    done(pybuild, "lock", place.context)
    done(pybuild, "-q", "--locked", place.context)
    assert "lock/other:1" in place.lock.read_text()
    done(pybuild, "lock", "--target=1", place.context)
    assert "lock/other:1" not in place.lock.read_text()
    assert "does not pin" in refused(pybuild, "--locked", "--target=test", place.context, code=4)


def test_a_lock_in_a_context_that_is_fetched(place: Place, pybuild: Pybuild) -> None:
    """It lies beside the Dockerfile, wherever that is."""
    done(pybuild, "lock", place.context)
    place.repository.commit({name: (place.context / name).read_text() for name in ("Dockerfile", "Dockerfile.lock")})
    place.repository.publish()
    first = done(pybuild, "-q", "--locked", place.context).stdout
    url = f"{place.www}/project.git#main"
    assert done(pybuild, "-q", "--locked", url).stdout == first
    place.move("other", "two")
    assert done(pybuild, "-q", "--locked", url).stdout == first
    assert "this one is no file of this machine" in refused(pybuild, "lock", url, code=2)


def test_a_hostile_lock(pybuild: Pybuild, tmp_path: Path) -> None:
    """It is a file of the sources: its names are shown with nothing that acts on a terminal, it is read whole or not at all."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    lock = tmp_path / "Dockerfile.lock"
    lock.write_text(f'version = 1\n[[url]]\nurl = "a\\u001b]0;title\\u0007b\\u202ec"\nchecksum = "sha256:{"a" * 64}"\n')
    found = pybuild("lock", "--check", tmp_path)
    assert found.returncode == 4
    assert found.stdout == f"- ab\\u202ec sha256:{'a' * 64}\n"
    lock.write_text("version = 1\n" + "#" * (4 << 20))
    found = pybuild("lock", tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert f"the lock file '{lock}' is larger than 4 MiB" in found.stderr


def test_a_link_of_the_sources_is_not_written_through(tmp_path: Path) -> None:
    """Neither to a file nor to a device."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    device = tmp_path / "device"
    os.mkfifo(device)
    path = tmp_path / "Dockerfile.lock"
    for target in (victim, device, tmp_path / "nothing"):
        path.symlink_to(target)
        write_whole(str(path), "new", streams=False)
        assert path.read_text() == "new" and not path.is_symlink()
        path.unlink()
    assert victim.read_text() == "kept" and sorted(os.listdir(tmp_path)) == ["device", "victim"]
