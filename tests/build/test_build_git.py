"""ADD of git repositories, through the whole program and to what ships. Expectations are of Docker's reference ("Adding files
from a Git repository", "ADD --keep-git-dir", "ADD --checksum")."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.build_shipped import a_dir, a_file, a_link, read, refused, run_build, under
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.context.context_git import COMMITTED, Repository, daemon
from tests.context.context_git import git as run_git
from tests.context.context_server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "www").mkdir()
    with Server(tmp_path / "www") as running:
        yield running


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "project", tmp_path / "www" / "project.git")
    made.commit({"README": "one\n", "bin/run": "#!/bin/sh\n", "docs/d": "doc\n", "docs/link": "-> /etc/passwd"})
    made("tag", "-a", "-m", "first", "v1")
    made.commit({"README": "two\n"})
    made.publish()
    return made


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "context").mkdir()
    return tmp_path / "context"


def ran(stderr: str) -> str:
    found = re.search(r"steps +(.*)", stderr)
    assert found
    return found[1]


def test_a_repository_arrives_as_the_reference_says(
    pybuild: Pybuild, context: Path, server: Server, repository: Repository, tmp_path: Path
) -> None:
    """Files 644 or 755, folders 755, no `.git`; the settings of whoever builds say nothing."""
    (context / "local").write_text("l")
    (tmp_path / "www" / "f").write_text("f")
    home = tmp_path / "home"
    hook = home / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    (home / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {hook.parent}\n\tautocrlf = true\n[url "http://127.0.0.1:1/"]\n\tinsteadOf = {server.url}/\n'
    )
    (context / "Dockerfile").write_text(
        f"FROM scratch\nARG HOST={server.host} REF=v1\nWORKDIR /w\n"
        "ADD http://$HOST/project.git#$REF /all/\n"
        "ADD http://$HOST/project.git?branch=main&subdir=docs sub\n"
        "ADD --chown=7:8 --chmod=640 http://$HOST/project.git#v1:docs /mine\n"
        "ADD --keep-git-dir=true http://$HOST/project.git#v1 /kept\n"
        "ADD local http://$HOST/f http://$HOST/project.git#v1:docs /mixed/\n"
    )
    out = tmp_path / "out.tar"
    environment = {"GIT_DIR": "/nowhere", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.bare", "GIT_CONFIG_VALUE_0": "x"}
    done = pybuild("--progress=plain", "-o", f"type=tar,dest={out}", context, env={**environment, "GIT_TRACE": "1"})
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "hooked").exists()
    found = read(out)
    docs = {"d": a_file(b"doc\n"), "link": a_link(b"/etc/passwd")}
    everything = {
        "README": a_file(b"one\n"),
        "bin": a_dir(),
        "bin/run": a_file(b"#!/bin/sh\n", 0o755),
        "docs": a_dir(),
        **{f"docs/{name}": entry for name, entry in docs.items()},
    }
    assert under(found, "all") == {".": a_dir(), **everything}
    assert under(found, "w/sub") == {".": a_dir(), **docs}
    assert under(found, "mine") == {
        ".": a_dir(0o640, "7:8"),
        "d": a_file(b"doc\n", 0o640, "7:8"),
        "link": a_link(b"/etc/passwd", "7:8"),
    }
    assert under(found, "mixed") == {".": a_dir(), "local": a_file(b"l"), "f": a_file(b"f", 0o600), **docs}
    kept = under(found, "kept")
    assert {name: entry for name, entry in kept.items() if name.split("/")[0] != ".git"} == {".": a_dir(), **everything}
    assert {entry.mode for name, entry in kept.items() if name.startswith(".git/")} == {0o644, 0o755}
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", out, "-C", unpacked], check=True)
    assert run_git(unpacked / "kept", "describe", "--dirty") == "v1"
    assert run_git(unpacked / "kept", "status", "--short") == ""
    assert_valid(pybuild.store)


def test_a_run_sees_the_commits_time(
    pybuild: Pybuild, context: Path, server: Server, repository: Repository, busybox_base: Path
) -> None:
    text = f"FROM base\nADD {server.url}/project.git /p\nRUN stat -c '%Y %n' /p/README /p/bin/run /p/docs/d\n"
    told = run_build(pybuild, context, text, f"--build-context=base={busybox_base}")
    assert all(f"{COMMITTED} /p/{name}" in told for name in ("README", "bin/run", "docs/d"))


def test_a_commit_is_fetched_once(
    pybuild: Pybuild, context: Path, server: Server, repository: Repository, tmp_path: Path
) -> None:
    """A branch is looked up each time, a full commit asks nobody; equal files are a hit, whatever the name."""
    one, two = repository("rev-parse", "v1^{}"), repository("rev-parse", "main")
    text = f"FROM scratch\nADD {server.url}/project.git#main /p\n"
    told = run_build(pybuild, context, text)
    assert ran(told) == "1 ran, 0 cached"
    assert f"fetching {server.url}/project.git at commit {two}" in told
    asked = len(server.asked)
    told = run_build(pybuild, context, text)
    assert ran(told) == "0 ran, 1 cached" and "fetching" not in told
    looked_up = server.paths()[asked:]
    assert not any("objects" in path for path in looked_up) and looked_up
    for line in (f"ADD {server.url}/project.git#{two} /p", f"ADD --checksum={two} git://nobody.invalid/r#{two} /p"):
        asked = len(server.asked)
        assert ran(run_build(pybuild, context, f"FROM scratch\n{line}\n")) == "0 ran, 1 cached"
        assert len(server.asked) == asked
    # That the commit is known says nothing of what the tag is.
    (context / "Dockerfile").write_text(f"FROM scratch\nADD --checksum={two} {server.url}/project.git#v1 /p\n")
    moved = pybuild(context)
    assert (moved.returncode, "is not the one expected" in moved.stderr) == (5, True), moved.stderr
    # By another protocol and another commit of the same files.
    repository.commit({}, "nothing new")
    repository.publish()
    with daemon(tmp_path / "www") as url:
        told = run_build(pybuild, context, f"FROM scratch\nADD {url}/project.git /p\n")
        assert ran(told) == "0 ran, 1 cached" and "fetching" in told
        assert (
            ran(run_build(pybuild, context, f"FROM scratch\nADD --checksum={one[:7]} {url}/project.git#v1 /p\n"))
            == "1 ran, 0 cached"
        )
    assert_valid(pybuild.store)
    assert_nothing_left(pybuild.store)


def test_the_image_is_the_same_in_another_store(
    pybuild: Pybuild, context: Path, server: Server, repository: Repository, tmp_path: Path
) -> None:
    """`.git` included: over git's own protocol the packs come another way."""
    (context / "Dockerfile").write_text(f"FROM scratch\nADD --keep-git-dir {server.url}/project.git#v1 /p\n")
    first = pybuild("-q", context)
    second = pybuild("-q", f"--root={tmp_path}/other", context)
    assert first.returncode == 0 and first.stdout == second.stdout


def test_patterns_leave_out_what_was_fetched(
    pybuild: Pybuild, context: Path, server: Server, repository: Repository, tmp_path: Path
) -> None:
    """`--exclude` holds for repositories, URLs and heredocs as it does for files."""
    (tmp_path / "www" / "f.md").write_text("f")
    (context / "Dockerfile").write_text(
        f"FROM scratch\nADD --exclude=docs --exclude=*.md {server.url}/project.git#v1 {server.url}/f.md <<a.md <<b /p/\n"
        "A\na.md\nB\nb\n"
    )
    done = pybuild("-o", f"type=local,dest={tmp_path}/out", context)
    assert done.returncode == 0, done.stderr
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert found == ["p", "p/README", "p/b", "p/bin", "p/bin/run"]


def test_what_goes_wrong_is_told_with_its_place(
    pybuild: Pybuild, context: Path, server: Server, repository: Repository, tmp_path: Path
) -> None:
    url = f"{server.url}/project.git"
    head = repository("rev-parse", "main")
    for source, code, message, hint in (
        (f"{url}#mian", 3, f"{url} has no branch or tag 'mian'", "did you mean 'main'?"),
        (f"{url}#main:dosc", 3, f"{url} has no folder 'dosc' there", "did you mean 'docs'?"),
        (f"{server.url}/none.git", 5, f"git cannot fetch {server.url}/none.git: repository", "check the URL"),
        ("git://127.0.0.1:1/r", 5, "git cannot fetch git://127.0.0.1:1/r: unable to connect", "check the URL, and the network"),
        (
            f"{url}?checksum=abc&ref=main",
            5,
            f"the checksum of {url} is not the one expected: expected abc, got {head}",
            "the branch",
        ),
    ):
        told = refused(pybuild, context, f"FROM scratch\nADD {source} /d/\n", code=code).splitlines()
        assert told[-4].startswith(f"{context}/Dockerfile:2:5: error: {message}"), told
        assert told[-2] == f"    |     {'^' * len(source)}"
        assert told[-1].startswith(f"  hint: {hint}")
    assert "git is not installed" in refused_without_git(pybuild, tmp_path, context)
    assert_valid(pybuild.store)


def refused_without_git(pybuild: Pybuild, tmp_path: Path, context: Path) -> str:
    done = pybuild("--progress=plain", context, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    return done.stderr


def test_credentials_reach_the_server_and_nothing_else(
    pybuild: Pybuild, context: Path, server: Server, repository: Repository, tmp_path: Path
) -> None:
    url = server.url.replace("//", "//me:s3cretword@") + "/project.git"
    out = tmp_path / "image.tar"
    told = run_build(
        pybuild,
        context,
        f"FROM scratch\nADD --keep-git-dir {url}#v1 /d/\n",
        "--progress=json",
        "-t",
        "x",
        "-o",
        f"type=oci,dest={out}",
    )
    assert {asked.headers.get("Authorization") for asked in server.asked} == {"Basic bWU6czNjcmV0d29yZA=="}
    failed = refused(pybuild, context, f"FROM scratch\nADD {url}#nothing /d/\n")
    for text in (told, failed, pybuild("history", "x").stdout):
        assert "s3cret" not in text and "xxxxx:xxxxx@" in text
    kept = subprocess.run(["grep", "-rlE", "s3cret|bWU6", pybuild.store, out], capture_output=True, text=True)
    assert kept.stdout == ""


def test_an_interrupt_ends_git_and_leaves_nothing(pybuild: Pybuild, context: Path, server: Server) -> None:
    begun, done = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        begun.set()
        done.wait(30)

    server.routes["/r.git/info/refs?service=git-upload-pack"] = hang
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {server.url}/r.git /d/\n")
    with pybuild.start("--progress=plain", context) as process:
        assert begun.wait(30)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=30)
        done.set()
    assert process.returncode == 130, told
    assert_nothing_left(pybuild.store, f"{server.url}/r.git")
    assert_valid(pybuild.store)
