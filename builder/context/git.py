"""A folder of a git repository, as it is at a commit.

As BuildKit's git source (moby/buildkit, `source/git/source.go`): a name is looked up among branches first, then tags; a full
commit needs no look-up; a checksum is the start of the commit, or of the annotated tag; submodules are fetched, too; the `.git`
folder stays only where it is asked for, and never where a subfolder is taken. Other than there: folder links in the name of the
subfolder stay inside the repository, submodules leave no `.git` file behind, and `.git` has the same bytes everywhere
(`builder.context.gitfolder`).
"""

from __future__ import annotations

import os
import re

from builder.context.directory import DirectoryContext
from builder.context.gitcommand import Git, GitFailed
from builder.errors import BuildError, DockerfileError, RegistryError, did_you_mean
from builder.redact import redact
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.context.access import Access

_FETCHED = "refs/pybuild/fetched"
_NO_SHALLOW = ("shallow", "--depth", "depth")
_NO_SINGLE_COMMIT = ("not our ref", "unadvertised", "does not allow", "find remote ref", "does not support", "Unable to find")
_REF = re.compile(r"refs/[^\x00-\x20\x7f~^:?*\[\\]+")
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Commit(NamedTuple):
    """What a name stands for."""

    id: str
    name: str = ""
    """The full name, as `refs/heads/main`; empty where the commit itself was named."""
    tag: str = ""
    """The id of an annotated tag."""


class Checkout(NamedTuple):
    """The files: `path` of `tree` and all below it, modes 0644 and 0755, for as long as the folder lives that was given to
    `fetch`. `time` is the commit's, in seconds since 1970."""

    tree: DirectoryContext
    path: bytes
    time: int


def is_commit(ref: str) -> bool:
    """Whether it needs no look-up."""
    return _ID.fullmatch(ref) is not None


def resolve(url: str, ref: str, checksum: str, folder: str, access: Access, *, known: Commit | None = None) -> Commit:
    """The commit that `ref` is, empty for the default branch, at the server, or that it is `known` to be. `folder` is private
    scratch space.

    Raises DockerfileError for a name that is not there, RegistryError where the server cannot be asked, and where `checksum`,
    the first digits of a commit, does not fit.
    """
    commit = known or (Commit(ref) if is_commit(ref) else _look_up(Git(url, folder, access), ref))
    if checksum and not (commit.id.startswith(checksum) or commit.tag.startswith(checksum)):
        found = f"{commit.id} (tag {commit.tag})" if commit.tag else commit.id
        raise RegistryError(
            f"the checksum of {redact(url)} is not the one expected: expected {checksum}, got {found}",
            hint="the branch or tag was moved: check what changed, then write the new commit",
        )
    return commit


def fetch(
    url: str,
    commit: Commit,
    folder: str,
    access: Access,
    *,
    subdir: str = "",
    keep_git_dir: bool = False,
    submodules: bool = True,
) -> Checkout:
    """Fetch the commit and lay out its files below `folder`, which is private and must live as long as they are used.

    Raises DockerfileError where the commit or the subfolder is not there, RegistryError for what network and servers do.
    """
    git = Git(url, folder, access)
    git.init(sha256=len(commit.id) == 64)
    work_tree = os.path.join(folder, "tree")
    os.mkdir(work_tree)
    os.chmod(work_tree, 0o755)
    try:
        id = _fetch(git, commit)
        git.run("read-tree", "--reset", "-u", id, work_tree=work_tree)
        if submodules:
            _submodules(git, work_tree)
        if keep_git_dir and not subdir:
            from builder.context import gitfolder

            gitfolder.write(os.path.join(work_tree, ".git"), git, id, commit.name, commit.tag)
        time = _time(git.run("cat-file", "commit", id))
    except GitFailed as failed:
        raise git.failure(failed) from None
    tree = DirectoryContext(work_tree, _GitFolders(keep=keep_git_dir and not subdir), lambda _: None)
    return Checkout(tree, _subfolder(tree, subdir, git.shown), time)


class _GitFolders:
    """The names that no checkout has but the one `.git` that was asked for. Submodules have them as files."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep

    def ignored(self, path: bytes) -> bool:
        first, *others = path.split(b"/")
        return b".git" in others or (first == b".git" and not self._keep)

    def may_contain(self, directory: bytes) -> bool:
        return False

    def leaves_nothing_of(self, source: str) -> bool:
        return False


def _look_up(git: Git, ref: str) -> Commit:
    try:
        lines = git.run("ls-remote", "--symref", "--", git.url, *((ref, f"{ref}^{{}}") if ref else ("HEAD",)))
        found = _refs(lines)
        commit = _choose(found, ref)
        if commit is not None:
            return commit
        if not ref:
            raise DockerfileError(f"{git.shown} has no default branch", hint="name a branch: URL#BRANCH")
        known = _refs(git.run("ls-remote", "--heads", "--tags", "--", git.url))
    except GitFailed as failed:
        raise git.failure(failed) from None
    names = [name.split("/", 2)[2] for name in known if not name.endswith("^{}")]
    short = f"write all 40 digits of a commit, as in #{ref}..." if re.fullmatch("[0-9a-f]{4,39}", ref) else None
    hint = did_you_mean(ref.removeprefix("refs/heads/").removeprefix("refs/tags/"), names)
    raise DockerfileError(
        f"{git.shown} has no branch or tag '{ref}'", hint=hint or short or "git ls-remote URL shows which there are"
    )


def _refs(lines: bytes) -> dict[str, str]:
    """Name to id, and to the name that HEAD stands for: `git ls-remote --symref`, of a server that may say anything."""
    found = {}
    for line in lines.decode("utf-8", "replace").split("\n"):
        value, _, name = line.partition("\t")
        if value.startswith("ref: ") and name == "HEAD" and _REF.fullmatch(value[5:]):
            found["ref"] = value[5:]
        elif _ID.fullmatch(value) and (name == "HEAD" or _REF.fullmatch(name.removesuffix("^{}"))):
            found[name] = value
    return found


def _choose(found: dict[str, str], ref: str) -> Commit | None:
    if ref in ("", "HEAD"):
        return Commit(found["HEAD"], found.get("ref", "HEAD")) if "HEAD" in found else None
    full = f"refs/{ref.removeprefix('refs/')}"
    for name in (full, f"refs/heads/{ref.removeprefix('refs/heads/')}", f"refs/tags/{ref.removeprefix('refs/tags/')}"):
        if name in found:
            peeled = found.get(name + "^{}", "")
            return Commit(peeled or found[name], name, found[name] if peeled else "")
    return None


def _fetch(git: Git, commit: Commit) -> str:
    """Bring the commit, alone where the server can do that, and the tag that was named; the commit's id."""
    expected = commit.tag or commit.id
    if commit.name:
        _run_shallow(git, "fetch", "--quiet", "--no-tags", "origin", f"+{commit.name}:{_FETCHED}")
    # A name that moved since it was looked up: what was promised is fetched all the same.
    if not commit.name or git.run("rev-parse", "--verify", _FETCHED).decode().strip() != expected:
        try:
            _run_shallow(git, "fetch", "--quiet", "--no-tags", "origin", f"+{expected}:{_FETCHED}")
        except GitFailed as failed:
            if not failed.mentions(*_NO_SINGLE_COMMIT):
                raise
            # The server gives no single commits: all its branches and tags must be asked for.
            every = (f"+refs/{kind}/*:refs/pybuild/{kind}/*" for kind in ("heads", "tags"))
            git.run("fetch", "--quiet", "--no-tags", "origin", *every)
    try:
        return git.run("rev-parse", "--verify", f"{commit.id}^{{commit}}").decode().strip()
    except GitFailed:
        raise DockerfileError(
            f"{git.shown} has no commit {commit.id}", hint="check the commit; it must be on a branch or have a tag"
        ) from None


def _run_shallow(git: Git, *arguments: str, work_tree: str = "") -> None:
    """With one commit of history, or, where the server cannot do that, with all of it."""
    try:
        git.run(*arguments[:1], *_shallow(arguments), work_tree=work_tree)
    except GitFailed as failed:
        if not failed.mentions(*_NO_SHALLOW):
            raise
        git.run(*arguments, work_tree=work_tree)


def _shallow(arguments: tuple[str, ...]) -> tuple[str, ...]:
    return ("--depth=1", *arguments[1:]) if arguments[0] == "fetch" else (*arguments[1:], "--depth=1")


def _submodules(git: Git, work_tree: str) -> None:
    with git.output("ls-files", "--stage") as path, open(path, "rb") as file:
        if not any(line.startswith(b"160000 ") for line in file):
            return
    _run_shallow(git, "submodule", "--quiet", "update", "--init", "--recursive", work_tree=work_tree)


def _time(commit: bytes) -> int:
    found = re.search(rb"^committer .*> (\d{1,10}) [+-]\d+$", commit.partition(b"\n\n")[0], re.MULTILINE)
    # What a time in ns can hold.
    return min(int(found[1]), 1 << 33) if found else 0


def _subfolder(tree: DirectoryContext, subdir: str, shown: str) -> bytes:
    """Raises DockerfileError where it is no folder of the repository."""
    try:
        path = tree.resolve(os.fsencode(subdir))
        entry = tree.lookup(path)
    except BuildError as error:
        raise DockerfileError(error.message, hint=error.hint) from None
    if entry is None:
        folder, _, name = subdir.rpartition("/")
        near = did_you_mean(name, (child.decode("utf-8", "replace") for child in _children(tree, folder)))
        raise DockerfileError(f"{shown} has no folder '{subdir}' there", hint=near or _CHECK_FOLDER)
    if entry.kind != "dir":
        raise DockerfileError(f"{shown} has a file, and no folder, '{subdir}' there", hint=_CHECK_FOLDER)
    return path


_CHECK_FOLDER = "check the folder's name, after the colon"


def _children(tree: DirectoryContext, folder: str) -> list[bytes]:
    entry = tree.lookup(tree.resolve(os.fsencode(folder)))
    return tree.children(entry.path) if entry is not None and entry.kind == "dir" else []
