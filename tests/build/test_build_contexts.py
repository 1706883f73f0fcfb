"""Contexts of every kind, through the whole program: the same files give the same image, wherever they come from. Expectations
are of Docker's reference ("docker buildx build", "Build context"); what differs stands in docs/contexts.md."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.build.build_shipped import Member, a_base, a_dir, a_file, a_link, read, run_build
from tests.build.build_store import assert_nothing_left, assert_valid
from tests.conftest import Pybuild
from tests.context.context_git import Repository, daemon
from tests.context.context_server import Server, answer

FILES: dict[str, str | bytes | None] = {
    "Dockerfile": "FROM scratch\nCOPY . /all/\nCOPY link run* /few/\n",
    ".dockerignore": "no\n**/*.log\n!keep.log\n",
    "other/Other": "FROM scratch\nCOPY docs /docs\n",
    "other/Other.dockerignore": "docs/d\n",
    "run": "#!/bin/sh\n",
    "no/secret": "s",
    "a.log": "log",
    "keep.log": "kept",
    "docs/d": "doc\n",
    "docs/up": "-> ../run",
    "docs/out": "-> /etc/passwd",
    "link": "-> docs/d",
}
EXPECTED = {
    "all": a_dir(),
    "all/Dockerfile": a_file(str(FILES["Dockerfile"]).encode()),
    "all/.dockerignore": a_file(str(FILES[".dockerignore"]).encode()),
    "all/other": a_dir(),
    "all/other/Other": a_file(str(FILES["other/Other"]).encode()),
    "all/other/Other.dockerignore": a_file(b"docs/d\n"),
    "all/run": a_file(b"#!/bin/sh\n", 0o755),
    "all/keep.log": a_file(b"kept"),
    "all/docs": a_dir(),
    "all/docs/d": a_file(b"doc\n"),
    "all/docs/up": a_link(b"../run"),
    "all/docs/out": a_link(b"/etc/passwd"),
    "all/link": a_link(b"docs/d"),
    "few": a_dir(),
    "few/link": a_file(b"doc\n"),
    "few/run": a_file(b"#!/bin/sh\n", 0o755),
}


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


class Places:
    """The same files as a folder, as a repository and as archives, in several hands."""

    def __init__(self, root: Path, server: Server, git_url: str) -> None:
        self.www = root / "www"
        self.server = server
        self.git_url = git_url
        self.repository = Repository(root / "project", self.www / "project.git")
        below = {f"sub/dir/{name}": data for name, data in FILES.items()}
        self.repository.commit(below)
        self.repository("tag", "v1")
        self.repository.commit({**dict.fromkeys(below), **FILES})
        self.repository.publish()
        self.folder = root / "folder"
        subprocess.run(["cp", "-a", self.repository.folder, self.folder], check=True)
        subprocess.run(["rm", "-rf", self.folder / ".git", self.folder / "sub"], check=True)
        for path in self.folder.rglob("*"):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.name == "run" else 0o644)
        # As another user would pack it, with `./` before the names.
        command: list[str | Path] = ["tar", "--owner=7", "--group=8", "--xattrs", "-C", self.folder, "-cf", "-", "."]
        self.tar = subprocess.run(command, check=True, capture_output=True).stdout
        for end, packed in PACKERS.items():
            (self.www / f"c.{end}").write_bytes(packed(self.tar))

    def contexts(self) -> dict[str, tuple[str, bytes]]:
        """CONTEXT and stdin, by kind."""
        url = f"{self.server.url}/project.git"
        return {
            "folder": (str(self.folder), b""),
            "git over http": (f"{url}#main", b""),
            "git, a subfolder of a tag": (f"{url}#v1:sub/dir", b""),
            "git, queries": (f"{url}?tag=v1&subdir=sub/dir", b""),
            "git's own protocol": (f"{self.git_url}/project.git", b""),
            **{f"stdin, {end}": ("-", packed(self.tar)) for end, packed in PACKERS.items()},
            **{f"URL, {end}": (f"{self.server.url}/c.{end}", b"") for end in ("tar", "zst")},
        }


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    root = tmp_path_factory.mktemp("places")
    (root / "www").mkdir()
    with Server(root / "www") as server, daemon(root / "www") as git_url:
        yield Places(root, server, git_url)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "www").mkdir()
    with Server(tmp_path / "www") as running:
        yield running


def stdin_of(*members: Member) -> bytes:
    """A tar of these members, and a Dockerfile that copies all of them."""
    out = io.BytesIO()
    dockerfile = Member("Dockerfile", data=b"FROM scratch\nCOPY . /\n")
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in (dockerfile, *members):
            info = tarfile.TarInfo(member.name)
            info.type, info.mode, info.linkname, info.size = member.kind, member.mode, member.link, len(member.data)
            archive.addfile(info, io.BytesIO(member.data))
    return out.getvalue()


def failed(pybuild: Pybuild, *args: str | Path, code: int, stdin: bytes = b"") -> tuple[str, str]:
    """The message and the hint of a build that fails with this code; no traceback."""
    done = pybuild("--progress=plain", *args, stdin=stdin)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    message = re.search(r"error: (.*)", done.stderr)
    hint = re.search(r"  hint: (.*)", done.stderr)
    assert message, done.stderr
    return message[1], hint[1] if hint else ""


def test_the_same_files_give_the_same_image(pybuild: Pybuild, places: Places, tmp_path: Path) -> None:
    ids, others = {}, {}
    for kind, (context, stdin) in places.contexts().items():
        out = tmp_path / "out.tar"
        done = pybuild("-q", "-o", f"type=tar,dest={out}", context, stdin=stdin)
        assert done.returncode == 0, (kind, done.stderr)
        ids[kind] = done.stdout
        assert read(out) == EXPECTED, kind
        if kind.rpartition(", ")[2] in ("gz", "bz2", "xz", "queries"):
            continue
        dockerfile = "other/Other" if kind != "folder" else f"{context}/other/Other"
        done = pybuild("-q", "-o", f"type=tar,dest={out}", "-f", dockerfile, context, stdin=stdin)
        assert done.returncode == 0, (kind, done.stderr)
        others[kind] = done.stdout
        assert set(read(out)) == {"docs", "docs/up", "docs/out"}, kind
    assert len(set(ids.values())) == 1, ids
    assert len(set(others.values())) == 1, others
    assert_valid(pybuild.store)
    assert_nothing_left(pybuild.store)


def test_a_run_sees_true_times(pybuild: Pybuild, busybox_base: Path, places: Places) -> None:
    """Of the commit, and of the archive."""
    base = f"--build-context=base={busybox_base}"
    dockerfile = b"FROM base\nCOPY . /c\nRUN stat -c 'time %Y' /c/run\n"
    done = pybuild("--progress=plain", "-f", "-", base, f"{places.server.url}/project.git", stdin=dockerfile)
    assert done.returncode == 0 and "time 1594030272" in done.stderr, done.stderr
    # In another store: this one would take the COPY from the cache, whose key holds no time.
    again = ["--progress=plain", f"--root={pybuild.store}-2", "-f", "-", base, f"{places.server.url}/c.gz"]
    done = pybuild(*again, stdin=dockerfile)
    assert done.returncode == 0 and f"time {int((places.folder / 'run').stat().st_mtime)}" in done.stderr, done.stderr


def test_what_did_not_change_is_not_fetched_again(pybuild: Pybuild, places: Places, tmp_path: Path) -> None:
    url = f"{places.server.url}/project.git"
    commit = places.repository("rev-parse", "main")
    assert f"fetching {url} at commit {commit}" in build(pybuild, url)
    asked = len(places.server.asked)
    assert "fetching" not in build(pybuild, url)
    again = places.server.paths()[asked:]
    assert again and not any("objects" in path for path in again)
    # A full commit asks nobody.
    asked = len(places.server.asked)
    build(pybuild, f"{url}#{commit}")
    assert len(places.server.asked) == asked
    archive = places.tar
    places.server.routes["/dated.tar"] = answer(archive, ETag='"1"')
    assert "downloaded" in build(pybuild, f"{places.server.url}/dated.tar")
    told = build(pybuild, f"{places.server.url}/dated.tar")
    assert "has not changed" in told and "downloaded" not in told
    places.server.routes["/dated.tar"] = answer(stdin_of(), ETag='"2"')
    assert "downloaded" in build(pybuild, f"{places.server.url}/dated.tar")
    assert_valid(pybuild.store)


def build(pybuild: Pybuild, *args: str | Path, stdin: bytes = b"") -> str:
    done = pybuild("--progress=plain", *args, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_git_itself_stays_out_unless_asked_for(pybuild: Pybuild, places: Places, tmp_path: Path) -> None:
    url, out = f"{places.server.url}/project.git", f"type=local,dest={tmp_path}/out"
    arg = "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR"
    told = build(pybuild, f"{arg}=1", "-o", out, f"{url}#v1", "-f", "-", stdin=b"FROM scratch\nCOPY . /all/\n")
    assert "warning" not in told
    said = subprocess.run(["git", "-C", tmp_path / "out" / "all", "describe", "--tags"], capture_output=True, text=True)
    assert said.stdout == "v1\n", said.stderr
    for more, context in ((f"{arg}=0", f"{url}#v1:sub/dir"), (f"{arg}=1", f"{url}#v1:sub/dir"), (f"{arg}=no", f"{url}#main")):
        subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)
        build(pybuild, more, "-o", out, context)
        assert not (tmp_path / "out" / "all" / ".git").exists()


def test_git_asks_the_users_agent_for_contexts_alone(pybuild: Pybuild, tmp_path: Path) -> None:
    """As docker buildx does. A Dockerfile's ADD has no agent without --ssh."""
    tools, seen, context = tmp_path / "tools", tmp_path / "seen", tmp_path / "context"
    tools.mkdir()
    context.mkdir()
    (tools / "ssh").write_text(f'#!/bin/sh\necho "agent $SSH_AUTH_SOCK" >> {seen}\nexit 255\n')
    (tools / "ssh").chmod(0o755)
    env = {"PATH": f"{tools}:{pybuild.environment()['PATH']}", "SSH_AUTH_SOCK": "/the/agent"}
    assert pybuild("ssh://git@h.invalid/r.git", env=env).returncode == 5
    (context / "Dockerfile").write_text("FROM scratch\nADD git@h.invalid:r.git /\n")
    assert pybuild(context, env=env).returncode == 5
    (context / "Dockerfile").write_text("FROM scratch\nCOPY --from=x . /\n")
    assert pybuild("--build-context=x=git@h.invalid:r.git", context, env=env).returncode == 5
    assert seen.read_text().splitlines() == ["agent /the/agent", "agent ", "agent /the/agent"]


def test_a_dockerfile_that_comes_alone(pybuild: Pybuild, server: Server, tmp_path: Path) -> None:
    """On stdin or from a URL: there is no context beside it."""
    server.routes["/Dockerfile"] = answer(b"FROM scratch\nLABEL a=b\nCOPY . /\n")
    server.routes["/copies"] = answer(b"FROM scratch\nCOPY Dockerfile /\n")
    alone = pybuild("-q", "-", stdin=b"FROM scratch\nLABEL a=b\nCOPY . /\n")
    assert alone.returncode == 0, alone.stderr
    assert pybuild("-q", f"{server.url}/Dockerfile").stdout == alone.stdout
    folder = tmp_path / "empty"
    folder.mkdir()
    # -f takes a URL, too, and stdin beside a context.
    assert pybuild("-q", "-f", f"{server.url}/Dockerfile", folder).stdout == alone.stdout
    assert pybuild("-q", "-f", "-", folder, stdin=b"FROM scratch\nLABEL a=b\nCOPY . /\n").stdout == alone.stdout
    for context, stdin in (("-", b"FROM scratch\nCOPY Dockerfile /\n"), (f"{server.url}/copies", b"")):
        message, _ = failed(pybuild, context, stdin=stdin, code=3)
        assert message == "COPY: 'Dockerfile' is not in the build context, which is empty: the Dockerfile came alone"
    assert failed(pybuild, "-f", "x", "-", stdin=b"FROM scratch\n", code=2) == (
        "standard input is a Dockerfile itself, and -f names another",
        "leave -f out",
    )
    message, _ = failed(pybuild, "-f", "x", f"{server.url}/Dockerfile", code=2)
    assert message == f"{server.url}/Dockerfile is a Dockerfile itself, and -f names another"


def test_a_dockerfile_of_this_machine_beside_a_remote_context(pybuild: Pybuild, places: Places, tmp_path: Path) -> None:
    """An absolute path names it, as with buildx; its own .dockerignore comes first."""
    (tmp_path / "Mine").write_text("FROM scratch\nCOPY docs /\n")
    (tmp_path / "Mine.dockerignore").write_text("**/d\n")
    for context in (f"{places.server.url}/project.git", f"{places.server.url}/c.xz"):
        build(pybuild, "-f", tmp_path / "Mine", "-o", f"type=tar,dest={tmp_path}/out.tar", context)
        assert set(read(tmp_path / "out.tar")) == {"up", "out"}
    message, _ = failed(pybuild, "-f", tmp_path / "Mine", "-", stdin=places.tar, code=2)
    assert message == f"there is no Dockerfile '{tmp_path}/Mine' in the archive on standard input"


def test_stdin_that_cannot_be_used(pybuild: Pybuild) -> None:
    for args, stdin, message in (
        (["-"], b"", "standard input is empty, and was to be the build context"),
        (["-f", "-", "-"], b"FROM scratch\n", "standard input cannot be both the Dockerfile and the build context"),
        (["-"], gzip.compress(b"FROM scratch\n"), "standard input is compressed with gzip and holds no tar archive"),
        (["-"], gzip.compress(stdin_of())[:-20], "'standard input' is damaged: it ends too early"),
        (["-"], stdin_of(Member("a", data=b"x" * 5000))[:3000], "'standard input' is not a tar archive that can be read"),
        (["-"], b"PK\x03\x04\0\0", "standard input is neither a tar archive nor a Dockerfile"),
        (["-"], bytes(10240), "there is no Dockerfile in the archive on standard input"),
        (["-f", "Dockerfil", "-"], stdin_of(), "there is no Dockerfile 'Dockerfil' in the archive on standard input"),
        (["-f", "d", "-"], stdin_of(Member("d", tarfile.DIRTYPE)), "'d' of the build context is no file"),
    ):
        found, hint = failed(pybuild, *args, stdin=stdin, code=2)
        assert found.startswith(message)
        assert hint


HARD, SYM, DIR = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([Member("../evil")], "'../evil' leads out of it"),
        ([Member("a/../../evil")], "'a/../../evil' leads out of it"),
        ([Member("/../evil")], "'/../evil' leads out of it"),
        ([Member("h", HARD, link="../../etc/passwd")], "'../../etc/passwd' leads out of it"),
        ([Member("h", HARD, link="/etc/passwd")], "'h' is a hard link to 'etc/passwd', which is no file there"),
        (
            [Member("s", SYM, link="/etc"), Member("h", HARD, link="s/passwd")],
            "'h' is a hard link to 's/passwd', which is no file",
        ),
        ([Member("f"), Member("f/g")], "'/f' is no folder, but something is put into it"),
        ([Member("l", SYM, link="l"), Member("l/g")], "'l' leads through too many symbolic links"),
        ([Member("d", tarfile.CHRTYPE)], "'d' is a character device 0:0, which stands for a removed file"),
    ],
)
def test_hostile_archives(pybuild: Pybuild, members: list[Member], message: str) -> None:
    found, _ = failed(pybuild, "-", stdin=stdin_of(*members), code=2)
    assert message in found and "standard input" in found
    assert_valid(pybuild.store)


def test_links_of_an_archive_stay_inside(pybuild: Pybuild, tmp_path: Path) -> None:
    """They are data, and what is named below one lies where it leads inside of the archive. Nothing is written to the host."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "Dockerfile").write_text("FROM nothing\n")
    (victim / "f").write_text("the host's")
    stdin = stdin_of(
        Member("/abs", data=b"absolute"),
        Member("out", SYM, link=str(victim)),
        Member("out/f", data=b"the archive's"),
        Member("up", SYM, link="../../../../../../etc"),
        Member("up/new", data=b"new"),
        Member("twice", data=b"first"),
        Member("twice", data=b"second"),
        Member("h", HARD, link="twice"),
        Member(".dockerignore", SYM, link="../../../ignore"),
        Member("ignore", data=b"no\n"),
        Member("no", data=b"no"),
        Member("D", SYM, link=f"{victim}/Dockerfile"),
    )
    build(pybuild, "-o", f"type=tar,dest={tmp_path}/out.tar", "-", stdin=stdin)
    found = read(tmp_path / "out.tar")
    inside = str(victim).lstrip("/")
    assert found["abs"].data == b"absolute"
    assert found["out"] == a_link(str(victim).encode())
    assert found[f"{inside}/f"].data == b"the archive's"
    assert found["etc/new"].data == b"new"
    assert (found["h"].data, found["twice"].kind, found["twice"].data) == (b"second", "hardlink", b"h")
    assert "no" not in found
    assert sorted(path.name for path in victim.iterdir()) == ["Dockerfile", "f"] and (victim / "f").read_text() == "the host's"
    # The link leads to where the archive has nothing, whatever the host has there.
    message, hint = failed(pybuild, "-f", "D", "-", stdin=stdin, code=2)
    assert message.startswith("the Dockerfile 'D' in the archive on standard input is a link to '")
    assert (message[-19:], hint) == ("', where nothing is", "links are followed inside of the context alone")
    assert_valid(pybuild.store)


def test_links_of_a_repository_stay_inside(pybuild: Pybuild, server: Server, tmp_path: Path) -> None:
    (tmp_path / "host").write_text("FROM nothing\n")
    repository = Repository(tmp_path / "project", tmp_path / "www" / "p.git")
    repository.commit(
        {
            "Dockerfile": f"-> {tmp_path}/host",
            ".dockerignore": "-> ../../ignored",
            "ignored": "no\n",
            "no": "no",
            "D": "-> in/D",
            "in/D": "FROM scratch\nCOPY . /\n",
            "escape": f"-> {tmp_path}",
        }
    )
    repository.publish()
    url = f"{server.url}/p.git"
    message, _ = failed(pybuild, url, code=2)
    assert message == f"the Dockerfile 'Dockerfile' in the build context {url} is a link to '{tmp_path}/host', where nothing is"
    build(pybuild, "-f", "D", "-o", f"type=tar,dest={tmp_path}/out.tar", url)
    assert set(read(tmp_path / "out.tar")) == {"Dockerfile", ".dockerignore", "ignored", "D", "in", "in/D", "escape"}
    message, _ = failed(pybuild, "-f", "escape/host", url, code=2)
    assert message == f"there is no Dockerfile 'escape/host' in the build context {url}"


def test_a_link_of_a_folder_leads_to_no_ignore_file_outside(pybuild: Pybuild, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "outside").write_text("f\n")
    (context / "inside").write_text("g\n")
    (context / "f").write_text("f")
    (context / "g").write_text("g")
    for target, names in ((tmp_path / "outside", {"f", "g"}), ("inside", {"f"}), ("/inside", {"f"}), ("nothing", {"f", "g"})):
        (context / ".dockerignore").unlink(missing_ok=True)
        (context / ".dockerignore").symlink_to(target)
        run_build(pybuild, context, "FROM scratch\nCOPY f* g* /\n", "-o", f"type=tar,dest={tmp_path}/out.tar")
        assert set(read(tmp_path / "out.tar")) == names
    (context / ".dockerignore").unlink()
    for make in (os.mkfifo, os.mkdir):
        make(context / ".dockerignore")
        assert failed(pybuild, context, code=2)[0] == f"'{context}/.dockerignore' is no file"
        os.rename(context / ".dockerignore", tmp_path / make.__name__)


def test_a_mark_of_overlayfs_cannot_be_in_an_image(pybuild: Pybuild, tmp_path: Path) -> None:
    """As the upper folder of an overlay mount has them, and anybody may make."""
    context = tmp_path / "context"
    (context / "d").mkdir(parents=True)
    os.mknod(context / "d" / "gone", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    for dockerfile in ("FROM scratch\nCOPY d /d/\n", "FROM scratch\nCOPY --link d/gone /d/gone\n", "FROM d\n"):
        (context / "Dockerfile").write_text(dockerfile)
        message, hint = failed(pybuild, f"--build-context=d={context}/d", context, code=2 if dockerfile == "FROM d\n" else 1)
        name = "gone" if dockerfile == "FROM d\n" else "d/gone"
        assert message == f"'{name}' cannot be stored in an image: a character device 0:0 is overlayfs' mark of a removed file"
        assert hint == "remove it"


def test_what_is_not_there_is_told(pybuild: Pybuild, places: Places) -> None:
    url = f"{places.server.url}/project.git"
    for context, code, message, hint in (
        (f"{url}#mian", 2, f"{url} has no branch or tag 'mian'", "did you mean 'main'?"),
        (f"{url}#main:dosc", 2, f"{url} has no folder 'dosc' there", "did you mean 'docs'?"),
        (f"{url}#main:docs", 2, f"there is no Dockerfile in the build context {url}#main:docs", "name it with -f"),
        (f"{url}#{'0' * 40}", 2, f"{url} has no commit {'0' * 40}", "check the commit"),
        (f"{url}?checksum=abc&ref=main", 5, f"the checksum of {url} is not the one expected", "the branch or tag was moved"),
        (f"{places.server.url}/none.git", 5, f"git cannot fetch {places.server.url}/none.git", "check the URL"),
        (f"{places.server.url}/none.tar", 5, f"{places.server.url}/none.tar: the server answered 404", "check the URL"),
        ("http://127.0.0.1:1/c.tar", 5, "http://127.0.0.1:1/c.tar: no connection", "check the host"),
        ("git@-x:y", 2, "the context 'git@-x:y': 'git@-x:y' is no git repository", "for a file"),
        ("file:///tmp/x", 2, "the context 'file:///tmp/x': there are no contexts by file://", "give the path alone"),
    ):
        found = failed(pybuild, context, code=code)
        assert found[0].startswith(message) and found[1].startswith(hint), found


def test_named_contexts(pybuild: Pybuild, places: Places, tmp_path: Path) -> None:
    """Git and archives, for FROM and --from, each with its own .dockerignore; images of the store by another name."""
    a_base(pybuild, tmp_path, Member("etc/os", data=b"base"), name="example/base:1")
    url = f"{places.server.url}/project.git"
    text = (
        "FROM base AS one\nCOPY --from=repo . /repo/\nCOPY --from=tar docs/d run /tar/\n"
        "FROM repo AS two\nFROM nothing\nCOPY --from=one / /one/\nCOPY --from=two /docs /two/\nCOPY --from=base /etc/os /os\n"
    )
    context = tmp_path / "context"
    named = ["base=docker-image://example/base:1", f"repo={url}#v1:sub/dir", f"tar={places.server.url}/c.zst"]
    flags = [f"--build-context={each}" for each in [*named, "nothing=docker-image://scratch"]]
    run_build(pybuild, context, text, *flags, "-o", f"type=tar,dest={tmp_path}/out.tar")
    found = read(tmp_path / "out.tar")
    assert {name.removeprefix("one/repo/") for name in found if name.startswith("one/repo/")} == {
        name.removeprefix("all/") for name in EXPECTED if name.startswith("all/")
    }
    assert found["one/etc/os"].data == found["os"].data == b"base"
    assert (found["one/tar/d"], found["one/tar/run"]) == (a_file(b"doc\n"), a_file(b"#!/bin/sh\n", 0o755))
    assert found["two/d"].data == b"doc\n"
    # Of what no stage needs nothing is asked.
    asked = len(places.server.asked)
    run_build(pybuild, context, "FROM scratch\nCOPY Dockerfile /\n", *flags)
    assert len(places.server.asked) == asked


def test_mounts_from_contexts_of_every_kind(pybuild: Pybuild, busybox_base: Path, places: Places) -> None:
    """Of a repository, of an archive by URL and of the one on stdin; .dockerignore counts."""
    dockerfile = (
        b"FROM base\nRUN --mount=from=repo,target=/r --mount=from=tar,source=docs,target=/t --mount=target=/m \\\n"
        b"    cat /r/docs/d /t/d /m/docs/d && test ! -e /r/no && test ! -e /m/no && test -x /m/run && echo mounted\n"
    )
    stdin = stdin_of(
        Member("D", data=dockerfile),
        Member(".dockerignore", data=b"no\n"),
        Member("no"),
        Member("docs/d", data=b"doc\n"),
        Member("run", data=b"#!/bin/sh\n", mode=0o755),
    )
    named = (f"base={busybox_base}", f"repo={places.server.url}/project.git", f"tar={places.server.url}/c.bz2")
    told = build(pybuild, *(f"--build-context={each}" for each in named), "-f", "D", "-", stdin=stdin)
    assert len(re.findall(r"^#\d+ [\d.]+ doc$", told, re.MULTILINE)) == 3 and re.search(r" mounted$", told, re.MULTILINE), told
    assert_nothing_left(pybuild.store)


def test_named_contexts_that_are_no_good(pybuild: Pybuild, places: Places, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch AS nine\nFROM scratch\nCOPY --from=x a /\n")
    places.server.routes["/text"] = answer(b"FROM scratch\n")
    url = f"{places.server.url}/project.git"
    for value, code, message in (
        (
            "docker-image://example/none",
            3,
            "there is no image 'example/none:latest' in the store, and --pull=never forbids to fetch it",
        ),
        # It is no stage that was misspelt.
        ("docker-image://none", 3, "there is no image 'none:latest' in the store, and --pull=never forbids to fetch it"),
        (f"{places.server.url}/text", 2, "the build context 'x' is no tar archive"),
        (f"{url}#mian", 2, f"{url} has no branch or tag 'mian'"),
        (f"{url}#main", 3, "COPY: 'a' is not in the build context 'x'"),
        ("target:y", 2, "the build context 'x=target:y' names a target of a bake file, and there is none"),
    ):
        found, _ = failed(pybuild, "--pull=never", f"--build-context=x={value}", context, code=code)
        assert found.startswith(message)


def test_commands_that_build_nothing_take_them(pybuild: Pybuild, places: Places) -> None:
    url = f"{places.server.url}/project.git"
    for context, stdin in ((url, b""), (f"{places.server.url}/c.gz", b""), ("-", places.tar)):
        assert pybuild("check", context, stdin=stdin).stdout == "Check complete, no warnings found.\n"
        assert pybuild("--check", context, stdin=stdin).stdout == "Check complete, no warnings found.\n"
        assert "(default)" in pybuild("--call=targets", context, stdin=stdin).stdout
        assert "COPY . /all/" in pybuild("--print-plan", context, stdin=stdin).stdout
    ignored = stdin_of(Member(".dockerignore", data=b"a\n"), Member("D", data=b"FROM scratch\nCOPY a /\n"))
    done = pybuild("check", "-f", "D", "-", stdin=ignored)
    assert (done.returncode, "CopyIgnoredFile" in done.stdout) == (3, True), done.stdout
    assert_valid(pybuild.store)


def test_credentials_reach_the_server_and_nothing_else(pybuild: Pybuild, places: Places, tmp_path: Path) -> None:
    base = places.server.url.replace("//", "//me:s3cretword@")
    asked = len(places.server.asked)
    told = []
    for context in (f"{base}/project.git#v1:sub/dir", f"{base}/c.gz?token=s3crettoken"):
        for flags in (["--progress=json"], ["--debug", "--progress=plain"], ["--no-cache", "-q"]):
            done = pybuild(*flags, context)
            assert done.returncode == 0, done.stderr
            told += [done.stdout, done.stderr]
    told += failed(pybuild, f"{base}/project.git#none", code=2)
    told += failed(pybuild, f"{base}/none.tar?token=s3crettoken", code=5)
    told += failed(pybuild, f"{base}/project.git#a..b", code=2)
    told += failed(pybuild, "-f", "none", f"{base}/project.git", code=2)
    assert not [text for text in told if "s3cret" in text]
    assert {seen.headers.get("Authorization") for seen in places.server.asked[asked:]} == {"Basic bWU6czNjcmV0d29yZA=="}
    kept = subprocess.run(["grep", "-rlE", "s3cret|bWU6", pybuild.store], capture_output=True, text=True)
    assert kept.stdout == ""


def test_damage_in_the_store_is_told_as_such(pybuild: Pybuild, places: Places) -> None:
    """And not as a change of the context, which nobody can stop."""
    url = f"{places.server.url}/project.git"
    build(pybuild, url)
    for blob in (pybuild.store / "blobs" / "sha256").iterdir():
        data = blob.read_bytes()
        if b"#!/bin/sh\nlog" in data or (b"doc\n" in data and b"kept" in data and not data.startswith(b"{")):
            blob.chmod(0o600)
            blob.write_bytes(data.replace(b"doc\n", b"bad\n"))
    message, _ = failed(pybuild, "--no-cache", url, code=7)
    assert "is corrupt" in message or "is damaged" in message


def test_an_interrupt_while_stdin_is_read_leaves_nothing(pybuild: Pybuild) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [*pybuild.command, "-"], env=pybuild.environment(), stdin=reader, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        os.write(writer, stdin_of()[:700])
        try:
            deadline = time.monotonic() + 30
            # `os.walk` does not mind folders that vanish meanwhile.
            while not any("piped" in files for _, _, files in os.walk(pybuild.store / "tmp")):
                assert process.poll() is None and time.monotonic() < deadline
            os.kill(process.pid, signal.SIGINT)
            _, told = process.communicate(timeout=30)
        finally:
            process.kill()
            os.close(reader)
            os.close(writer)
    assert (process.returncode, b"Traceback" in told) == (130, False), told
    assert_valid(pybuild.store)
    assert_nothing_left(pybuild.store)


def test_a_file_that_two_names_have(pybuild: Pybuild, tmp_path: Path) -> None:
    """Hard links stay links where both are copied; the one that is left of them is a file."""
    stdin = stdin_of(
        Member("a", data=b"x"),
        Member("b", HARD, link="a"),
        Member("s", SYM, link="a"),
        Member("t", HARD, link="s"),
        Member("D", data=b"FROM scratch\nCOPY a b s t /\n"),
        Member("D.dockerignore", data=b"a\n!a/x\n"),
        Member("E", data=b"FROM scratch\nCOPY b /\n"),
        Member("E.dockerignore", data=b"a\n"),
    )
    build(pybuild, "-o", f"type=tar,dest={tmp_path}/all.tar", "-", stdin=stdin)
    found = read(tmp_path / "all.tar")
    assert (found["a"].data, found["b"].kind, found["b"].data, found["t"]) == (b"x", "hardlink", b"a", a_link(b"a"))
    message, _ = failed(pybuild, "-f", "D", "-", stdin=stdin, code=3)
    assert message == "COPY: 'a' is not in the build context"
    build(pybuild, "-f", "E", "-o", f"type=tar,dest={tmp_path}/b.tar", "-", stdin=stdin)
    assert read(tmp_path / "b.tar")["b"] == a_file(b"x")


def test_an_archive_of_many_forms(pybuild: Pybuild, tmp_path: Path) -> None:
    """What GNU tar writes: sparse files, long names, folders without an entry of their own."""
    folder = tmp_path / "folder"
    (folder / ("d" * 120) / ("e" * 120)).mkdir(parents=True)
    deep = folder / ("d" * 120) / ("e" * 120) / "file"
    deep.write_bytes(b"deep")
    with open(folder / "sparse", "wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"middle")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    names = ["Dockerfile", "sparse", str(deep.relative_to(folder))]
    for form in ("gnu", "pax", "--sparse"):
        flags = [f"--format={form}"] if not form.startswith("--") else [form]
        stdin = subprocess.run(["tar", *flags, "-C", folder, "-cf", "-", *names], capture_output=True, check=True).stdout
        build(pybuild, "-o", f"type=tar,dest={tmp_path}/out.tar", "-", stdin=stdin)
        found = read(tmp_path / "out.tar")
        assert found["sparse"].data == (folder / "sparse").read_bytes()
        assert found[names[2]].data == b"deep"
        assert found["d" * 120] == a_dir()
