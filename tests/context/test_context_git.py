"""Fetching from real repositories, by the dumb http protocol and by git's own server. Expectations are of BuildKit's git
source (moby/buildkit, source/git/source.go) and of git's manual pages."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.context import git
from builder.context.access import Access
from builder.errors import BuildError, DockerfileError, RegistryError
from tests.context.context_git import COMMITTED, Repository, daemon
from tests.context.context_git import git as run_git
from tests.context.context_server import Server, answer

ACCESS = Access(path=os.environ.get("PATH", os.defpath))
FILES = {
    "README": "hello\n",
    "bin/run": "#!/bin/sh\n",
    "docs/guide.md": "guide\n",
    "docs/out": "-> /etc",
    "docs/up": "-> ../bin",
    "loop": "-> /loop",
}


class Net:
    """Repositories below one folder, over http and over git."""

    def __init__(self, folder: Path, server: Server, url: str) -> None:
        self.http, self.git = server.url, url
        self.server = server
        self.folder = folder
        self._scratch = 0

    def repository(self, name: str, *init: str) -> Repository:
        return Repository(self.folder / "work" / name, self.folder / "www" / f"{name}.git", *init)

    def scratch(self) -> str:
        self._scratch += 1
        path = self.folder / f"scratch-{self._scratch}"
        path.mkdir(0o700)
        return str(path)

    def resolve(self, url: str, ref: str = "", checksum: str = "") -> git.Commit:
        return git.resolve(url, ref, checksum, self.scratch(), ACCESS)

    def fetch(self, url: str, ref: str = "", **options: object) -> dict[str, tuple[int, bytes]]:
        """The files: path to mode and content, or the target of a link."""
        folder = self.scratch()
        commit = self.resolve(url, ref)
        found = git.fetch(url, commit, folder, ACCESS, **options)  # type: ignore[arg-type]  # as they are named there
        assert found.time == COMMITTED
        out = {}
        open_ = [found.path]
        for at in open_:
            entry = found.tree.lookup(at)
            assert entry is not None
            if entry.kind == "dir":
                assert entry.mode == 0o755
                open_ += [at + b"/" + name if at else name for name in found.tree.children(at)]
            else:
                assert entry.kind in ("file", "symlink")
                data = (
                    entry.link
                    if entry.kind == "symlink"
                    else Path(os.fsdecode(folder + "/tree/"), os.fsdecode(at)).read_bytes()
                )
                out[os.fsdecode(at[len(found.path) :].lstrip(b"/"))] = (entry.mode, data)
        found.tree.close()
        return out


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    folder = tmp_path_factory.mktemp("net")
    (folder / "www").mkdir()
    with Server(folder / "www") as server, daemon(folder / "www") as url:
        yield Net(folder, server, url)


@pytest.fixture(scope="module")
def project(net: Net) -> dict[str, str]:
    """The ids of what is in `project.git`: `v1` is an annotated tag, `v2` a plain one, `twin` a branch and a tag."""
    repository = net.repository("project")
    ids = {"v1^{}": repository.commit(FILES)}
    repository("tag", "-a", "-m", "first", "v1")
    ids["v1"] = repository("rev-parse", "v1")
    repository("tag", "twin")
    ids["v2"] = repository.commit({"README": "second\n"})
    repository("tag", "v2")
    repository("branch", "side/twin")
    repository("branch", "twin")
    ids["main"] = repository.commit({"README": "third\n"})
    repository.publish()
    return ids


def test_names_are_looked_up_as_buildkit_does(net: Net, project: dict[str, str]) -> None:
    commit = git.Commit
    url = f"{net.git}/project.git"
    main = commit(project["main"], "refs/heads/main")
    assert net.resolve(url) == net.resolve(url, "main") == net.resolve(url, "heads/main") == main
    assert net.resolve(url, "refs/heads/main") == net.resolve(f"{net.http}/project.git") == main
    tag = commit(project["v1^{}"], "refs/tags/v1", project["v1"])
    assert net.resolve(url, "v1") == net.resolve(f"{net.http}/project.git", "refs/tags/v1") == tag
    assert net.resolve(url, "v2") == commit(project["v2"], "refs/tags/v2")
    # Branches come before tags.
    assert net.resolve(url, "twin") == commit(project["v2"], "refs/heads/twin")
    assert net.resolve(url, "refs/tags/twin") == commit(project["v1^{}"], "refs/tags/twin")
    assert net.resolve("git://nobody.invalid/", project["v2"]) == commit(project["v2"])
    # The start of the commit, or of the annotated tag.
    for ref, checksum in (("main", project["main"]), ("main", project["main"][:1]), ("v1", project["v1"][:9])):
        assert net.resolve(url, ref, checksum).id == project[ref + "^{}" if ref == "v1" else ref]
    with pytest.raises(RegistryError, match=rf"expected 0000, got {project['v1^{}']} \(tag {project['v1']}\)"):
        net.resolve(url, "v1", "0000")


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("mian", "has no branch or tag 'mian'", "did you mean 'main'?"),
        ("refs/heads/v1", "has no branch or tag 'refs/heads/v1'", "did you mean 'v1'?"),
        ("abcdef12", "has no branch or tag 'abcdef12'", "write all 40 digits of a commit, as in #abcdef12..."),
        ("--upload-pack=false", "has no branch or tag '--upload-pack=false'", "git ls-remote URL shows which there are"),
    ],
)
def test_names_that_are_not_there(net: Net, project: dict[str, str], ref: str, message: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        net.resolve(f"{net.git}/project.git", ref)
    assert (caught.value.message, caught.value.hint) == (f"{net.git}/project.git {message}", hint)


def test_files_are_those_of_the_commit(net: Net, project: dict[str, str]) -> None:
    """By each protocol and name: 0644 or 0755, links as they are, no `.git`."""
    expected = {
        "README": (0o644, b"hello\n"),
        "bin/run": (0o755, b"#!/bin/sh\n"),
        "docs/guide.md": (0o644, b"guide\n"),
        "docs/out": (0o777, b"/etc"),
        "docs/up": (0o777, b"../bin"),
        "loop": (0o777, b"/loop"),
    }
    for url in (net.git, net.http):
        for ref in ("v1", project["v1^{}"]):
            assert net.fetch(f"{url}/project.git", ref) == expected
    assert net.fetch(f"{net.git}/project.git")["README"] == (0o644, b"third\n")
    # A commit that no name has, at a server that gives it all the same.
    assert net.fetch(f"{net.git}/project.git", project["v2"])["README"] == (0o644, b"second\n")
    # The id of a tag stands for its commit.
    assert net.fetch(f"{net.git}/project.git", project["v1"]) == expected
    for url in (net.git, net.http):
        with pytest.raises(DockerfileError, match=r"has no commit 0{39}1"):
            net.fetch(f"{url}/project.git", "0" * 39 + "1")


def test_subfolders_stay_inside(net: Net, project: dict[str, str]) -> None:
    url = f"{net.git}/project.git"
    docs = {"guide.md": (0o644, b"guide\n"), "out": (0o777, b"/etc"), "up": (0o777, b"../bin")}
    assert net.fetch(url, "v1", subdir="docs") == net.fetch(url, "v1", subdir="docs", keep_git_dir=True) == docs
    assert net.fetch(url, "v1", subdir="docs/up") == {"run": (0o755, b"#!/bin/sh\n")}
    for subdir, message, hint in (
        ("dosc", "has no folder 'dosc' there", "did you mean 'docs'?"),
        ("docs/nothing", "has no folder 'docs/nothing' there", "check the folder's name, after the colon"),
        ("README", "has a file, and no folder, 'README' there", "check the folder's name, after the colon"),
        ("docs/out/ssl", "has no folder 'docs/out/ssl' there", "check the folder's name, after the colon"),
        (".git", "has no folder '.git' there", "check the folder's name, after the colon"),
    ):
        with pytest.raises(DockerfileError) as caught:
            net.fetch(url, "v1", subdir=subdir)
        assert (caught.value.message, caught.value.hint) == (f"{url} {message}", hint)
    with pytest.raises(DockerfileError, match="'loop' leads through too many symbolic links"):
        net.fetch(url, "v1", subdir="loop")


def test_a_link_and_a_folder_of_one_name(net: Net, tmp_path: Path) -> None:
    """No tree that git makes has both; nothing is written through the link."""
    repository = net.repository("both")
    repository.commit({})
    inner = repository("mktree", stdin=f"100755 blob {repository.blob('evil')}\tconfig\n".encode())
    repository.tree(f"120000 blob {repository.blob(str(tmp_path))}\ta", f"040000 tree {inner}\ta")
    repository.publish()
    assert net.fetch(f"{net.git}/both.git") in ({"a/config": (0o755, b"evil")}, {"a": (0o777, os.fsencode(tmp_path))})
    assert os.listdir(tmp_path) == []


def test_the_git_folder_is_one_that_git_likes_and_the_same_everywhere(net: Net, project: dict[str, str]) -> None:
    url = f"{net.git}/project.git"
    folders = []
    for source, ref in ((url, "v1"), (url, "v1"), (f"{net.http}/project.git", "v1"), (url, "main"), (url, project["v2"])):
        folder = net.scratch()
        git.fetch(source, net.resolve(source, ref), folder, ACCESS, keep_git_dir=True)
        folders.append(Path(folder, "tree"))
    pictures = [_picture(folder / ".git") for folder in folders]
    assert pictures[0] == pictures[1]
    config = pictures[2].pop("config")
    assert config == pictures[0].pop("config").replace(net.git.encode(), net.http.encode())
    assert pictures[0] == pictures[2]
    assert sorted(name for name in pictures[0] if "pack-" not in name) == [
        "HEAD", "index", "objects/", "objects/info/", "objects/pack/", "packed-refs", "refs/", "refs/heads/", "refs/tags/",
    ]  # fmt: skip
    for tree, commit, decorated in zip(
        (folders[0], folders[3], folders[4]),
        (project["v1^{}"], project["main"], project["v2"]),
        ("(HEAD, tag: v1)", "(grafted, HEAD, main)", "(grafted, HEAD)"),
    ):
        assert run_git(tree, "status", "--short") == ""
        assert run_git(tree, "log", "--format=%H %d") == f"{commit}  {decorated}"
        assert run_git(tree, "fsck", "--full", "--strict") == ""
        assert run_git(tree, "remote", "get-url", "origin").endswith("/project.git")
    assert run_git(folders[0], "describe") == "v1"
    (folders[0] / "README").write_text("changed\n")
    assert run_git(folders[0], "status", "--short") == " M README"


def _picture(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        assert not path.is_symlink()
        found[name + "/" if path.is_dir() else name] = b"" if path.is_dir() else path.read_bytes()
    return found


def test_repositories_of_sha256(net: Net) -> None:
    repository = net.repository("sha256", "--object-format=sha256")
    first = repository.commit({"f": "1"})
    repository.commit({"f": "2"})
    repository.publish()
    url = f"{net.git}/sha256.git"
    assert len(first) == 64
    assert net.fetch(url) == {"f": (0o644, b"2")}
    folder = net.scratch()
    git.fetch(url, git.Commit(first), folder, ACCESS, keep_git_dir=True)
    assert run_git(Path(folder, "tree"), "status", "--short") == ""
    assert run_git(Path(folder, "tree"), "fsck", "--strict") == ""
    assert run_git(Path(folder, "tree"), "log", "--format=%H") == first


def test_odd_names_attributes_and_an_empty_commit(net: Net) -> None:
    repository = net.repository("odd")
    empty = repository.commit({})
    repository.commit(
        {
            ".gitattributes": "*.txt eol=crlf\n* filter=evil\n*.id ident\n",
            "dos.txt": "a\nb\n",
            "x.id": "$Id$\n",
            "new\nline": "n",
            os.fsdecode(b"\xff"): "f",
            "-dash": "d",
            "a" * 250: "long",
        }
    )
    repository.publish()
    url = f"{net.git}/odd.git"
    found = net.fetch(url, keep_git_dir=True)
    assert {name: data for name, (_, data) in found.items() if not name.startswith((".git/", ".gitattr"))} == {
        "dos.txt": b"a\r\nb\r\n",
        "x.id": f"$Id: {repository('rev-parse', 'HEAD:x.id')} $\n".encode(),
        "new\nline": b"n",
        os.fsdecode(b"\xff"): b"f",
        "-dash": b"d",
        "a" * 250: b"long",
    }
    assert net.fetch(url, empty) == {}


def test_submodules(net: Net) -> None:
    """Absolute and relative URLs, nested; their `.git` files stay out; and none where none is wanted."""
    leaf, branch, root = (net.repository(name) for name in ("leaf", "branch", "root"))
    one = leaf.commit({"leaf": "l"})
    leaf.publish()
    branch.commit({".gitmodules": '[submodule "l"]\n\tpath = l\n\turl = ../leaf.git\n', "branch": "b"})
    branch("update-index", "--add", "--cacheinfo", f"160000,{one},l")
    branch("commit", "-q", "-m", "link")
    branch.publish()
    root.commit({".gitmodules": f'[submodule "b"]\n\tpath = mod/b\n\turl = {net.http}/branch.git\n', "root": "r"})
    root("update-index", "--add", "--cacheinfo", f"160000,{branch('rev-parse', 'HEAD')},mod/b")
    root("commit", "-q", "-m", "link")
    root.publish()
    files = {"root": b"r", "mod/b/branch": b"b", "mod/b/l/leaf": b"l"}
    for url in (net.git, net.http):
        found = net.fetch(f"{url}/root.git")
        assert {name: data for name, (_, data) in found.items() if ".gitmodules" not in name} == files
    assert net.fetch(f"{net.git}/root.git", subdir="mod/b/l") == {"leaf": (0o644, b"l")}
    assert set(net.fetch(f"{net.git}/root.git", submodules=False)) == {".gitmodules", "root"}
    kept = net.fetch(f"{net.git}/root.git", keep_git_dir=True)
    assert {name for name in kept if not name.startswith(".git")} == set(files) | {"mod/b/.gitmodules"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ext::sh -c touch% PWNED", "transport 'ext' not allowed"),
        ("file:///FOLDER/www/project.git", "transport 'file' not allowed"),
        ("/FOLDER/www/project.git", "transport 'file' not allowed"),
        ("--upload-pack=touch PWNED", "No url found for submodule path 's'"),
        ("UPDATE", "invalid value for 'submodule.s.update'"),
        ("http://127.0.0.1:1/x.git", "unable to access 'http://127.0.0.1:1/x.git/'"),
    ],
)
def test_submodules_of_a_hostile_repository(net: Net, project: dict[str, str], url: str, message: str, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    name = f"hostile-{''.join(filter(str.isalnum, url))}"
    repository = net.repository(name)
    where = url.replace("PWNED", str(mark)).replace("/FOLDER", str(net.folder))
    update = f"\tupdate = !touch {mark}\n" if url == "UPDATE" else ""
    repository.commit({".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = "{where}"\n{update}'})
    repository("update-index", "--add", "--cacheinfo", f"160000,{project['main']},s")
    repository("commit", "-q", "-m", "link")
    repository.publish()
    with pytest.raises(RegistryError, match=f"git cannot fetch {net.git}/{name}.git: .*{message}"):
        net.fetch(f"{net.git}/{name}.git")
    assert not mark.exists()


def test_trees_that_lead_elsewhere(net: Net, tmp_path: Path) -> None:
    """Names that git itself never writes."""
    for number, line in enumerate(
        ("100644 blob {blob}\t.git", "040000 tree {tree}\t.GIT", "040000 tree {tree}\t..", "120000 blob {blob}\t.")
    ):
        repository = net.repository(f"tree-{number}")
        repository.commit({})
        ids = {"blob": repository.blob(str(tmp_path))}
        ids["tree"] = repository("mktree", stdin=f"100755 blob {ids['blob']}\tconfig\n".encode())
        repository.tree(line.format(**ids))
        repository.publish()
        with pytest.raises(BuildError) as caught:
            net.fetch(f"{net.git}/tree-{number}.git")
        assert caught.value.exit_code == 5
        assert os.listdir(tmp_path) == []


def test_servers_that_refuse(net: Net) -> None:
    net.server.routes["/secret.git/info/refs?service=git-upload-pack"] = answer(status=401, WWW_Authenticate="Basic realm=x")
    for url, message, hint in (
        (f"{net.git}/nothing.git", "access denied or repository not exported: /nothing.git", "check the URL"),
        (f"{net.http}/nothing.git", f"repository '{net.http}/nothing.git/' not found", "check the URL"),
        (f"{net.http}/secret.git", "could not read Username", "only the credentials that the URL has are sent"),
        ("http://nobody.invalid/r.git", "Could not resolve host: nobody.invalid", "check the host's name and the network"),
        ("git://127.0.0.1:1/r.git", "unable to connect to 127.0.0.1", "check the URL, and the network"),
    ):
        with pytest.raises(RegistryError) as caught:
            net.resolve(url)
        assert message in caught.value.message, caught.value.message
        assert caught.value.hint == hint
    with pytest.raises(DockerfileError, match="has no default branch"):
        net.repository("empty").publish()
        net.resolve(f"{net.git}/empty.git")


def test_credentials_are_sent_and_are_no_arguments(net: Net, project: dict[str, str], tmp_path: Path) -> None:
    """To the host of the URL alone; a wrapper of git shows what every user of the machine could see."""
    seen = tmp_path / "seen"
    wrapper = tmp_path / "git"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {_real_git()} "$@"\n')
    wrapper.chmod(stat.S_IRWXU)
    net.server.asked.clear()
    url = net.http.replace("//", "//me:s3cret%21@") + "/project.git"
    access = ACCESS._replace(path=f"{tmp_path}:{ACCESS.path}")
    folder = net.scratch()
    commit = git.resolve(url, "v1", "", net.scratch(), access)
    git.fetch(url, commit, folder, access, keep_git_dir=True)
    assert {asked.headers.get("Authorization") for asked in net.server.asked} == {"Basic bWU6czNjcmV0IQ=="}
    assert "s3cret" not in seen.read_text()
    assert "xxxxx:xxxxx@127.0.0.1" in Path(folder, "tree", ".git", "config").read_text()
    assert not any("s3cret" in path.read_text(errors="replace") for path in Path(folder).rglob("*") if path.is_file())


def _real_git() -> str:
    import shutil

    found = shutil.which("git")
    assert found
    return found


def test_no_git(net: Net, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="git is not installed"):
        git.resolve("git://h/r", "", "", net.scratch(), Access(path=str(tmp_path)))


def test_ssh_is_asked_for_nothing_but_the_agents_keys(net: Net, tmp_path: Path) -> None:
    """A stand-in for ssh shows the command line that git is told to use."""
    seen = tmp_path / "seen"
    wrapper = tmp_path / "ssh"
    wrapper.write_text(f'#!/bin/sh\necho "$@ $SSH_AUTH_SOCK" >> {seen}\nexit 255\n')
    wrapper.chmod(stat.S_IRWXU)
    access = Access(f"{tmp_path}:{ACCESS.path}", ssh_auth_sock="/agent", known_hosts="/my hosts")
    with pytest.raises(RegistryError, match=r"git cannot fetch git@h\.invalid:me/r\.git: Could not read from remote"):
        git.resolve("git@h.invalid:me/r.git", "", "", net.scratch(), access)
    told = seen.read_text()
    for option in (
        "-F /dev/null",
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "IdentityFile=none",
        "UserKnownHostsFile=/my hosts",
    ):
        assert option in told
    assert "git@h.invalid git-upload-pack 'me/r.git' /agent" in told
