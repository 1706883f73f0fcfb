"""Contexts that are no folder of this machine: git repositories, archives and Dockerfiles from a URL or from standard input.

They are hostile. None of them becomes files of the host: a commit's files are ranges of a blob of the store, an archive's are
ranges of the archive, which lies uncompressed in a private scratch folder or in the store. Links are data, followed inside the
tree alone. What is fetched is kept in the store and not fetched again while it did not change; what is piped in is not kept.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from builder.context.listed import ListedTree, read_archive
from builder.engine.remotes import Remotes
from builder.errors import BuildError, DockerfileError, Span, UsageError
from builder.events import Notice
from builder.layers.decompression import decompress, is_tar, sniff
from builder.plan.giturl import GitRemote
from builder.plan.steps import GitSource, UrlSource
from builder.redact import redact
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.context.access import Access
    from builder.events import Emit
    from builder.store.store import Store

STDIN = "standard input"
_CHUNK = 1 << 20
_HEADER = 512
_NOWHERE = Span(1, 1, 1, 1)
"""What the command line names stands in no Dockerfile."""


class WebFile(NamedTuple):
    """A context that is downloaded: a tar, or, as the main one, a Dockerfile."""

    url: str


class Piped(NamedTuple):
    """A context that comes once, from a stream as standard input: a tar or a Dockerfile."""

    read: Callable[[int], bytes]
    """At most so many bytes; none at the end."""


Remote = GitRemote | WebFile | Piped


class Fetched(NamedTuple):
    tree: ListedTree
    text: bytes | None = None
    """What came when it was no archive: then it is a Dockerfile, and the tree is empty."""


class Fetcher:
    """Fetches the contexts of one build; for several threads. Close it: archives lie in scratch folders until then."""

    def __init__(self, store: Store, access: Access, emit: Emit) -> None:
        self._store = store
        self._emit = emit
        self._remotes = Remotes(store, access, emit)
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def fetch(self, remote: Remote, *, limit: int) -> Fetched:
        """The context; its text has at most `limit` bytes. Raises RegistryError for what network and servers do, UsageError for
        what is not there and for an archive that is no good."""
        try:
            match remote:
                case GitRemote():
                    with self._remotes.turn(remote.url):
                        return self._kept(ListedTree(self._remotes.folder(_git_source(remote), self._say)))
                case WebFile(url):
                    return self._opened(self._downloaded(url), redact(url), limit)
                case Piped(read):
                    return self._opened(self._spooled(read), STDIN, limit)
        except DockerfileError as error:
            raise UsageError(error.message, hint=error.hint) from None

    def text(self, url: str, limit: int) -> bytes:
        """The file behind a URL. Raises RegistryError, and UsageError for one of more than `limit` bytes."""
        return _text(self._downloaded(url), redact(url), limit)

    def verify(self) -> None:
        """Look for the cause of a content that is not its digest's. Raises StoreError where what was fetched is damaged."""
        self._remotes.verify()

    def _downloaded(self, url: str) -> str:
        with self._remotes.turn(url):
            return self._store.blob_path(self._remotes.download(UrlSource(url, "", _NOWHERE), self._say).digest)

    def _spooled(self, read: Callable[[int], bytes]) -> str:
        path = os.path.join(self._stack.enter_context(self._store.scratch()), "piped")
        with open(path, "wb") as file:
            while chunk := read(_CHUNK):
                file.write(chunk)
            size = file.tell()
        if not size:
            raise UsageError(
                f"{STDIN} is empty, and was to be the build context",
                hint="pipe an archive or a Dockerfile in: pybuild - < a.tar",
            )
        return path

    def _opened(self, path: str, name: str, limit: int) -> Fetched:
        with open(path, "rb") as file:
            head = file.read(_HEADER)
        form = sniff(head)
        if form:
            path = self._unpacked(path, name, form)
        elif not _is_archive(head):
            if b"\0" in head:
                raise UsageError(
                    f"{name} is neither a tar archive nor a Dockerfile",
                    hint="archives are tar, plain or compressed with gzip, bzip2, xz or zstd",
                )
            return self._kept(ListedTree(()), _text(path, name, limit))
        return self._kept(read_archive(path, name))

    def _unpacked(self, path: str, name: str, form: str) -> str:
        tar = os.path.join(self._stack.enter_context(self._store.scratch()), "tar")
        try:
            with open(tar, "wb") as file:
                decompress(path, file.write, name=name)
        except BuildError as error:
            if type(error) is not BuildError:
                raise
            raise UsageError(error.message, hint=error.hint) from error
        with open(tar, "rb") as file:
            if not _is_archive(file.read(_HEADER)):
                raise UsageError(f"{name} is compressed with {form} and holds no tar archive", hint="pack the context with tar")
        return tar

    def _kept(self, tree: ListedTree, text: bytes | None = None) -> Fetched:
        self._stack.callback(tree.close)
        return Fetched(tree, text)

    def _say(self, text: str) -> None:
        """What remains of progress: whole lines."""
        if text.endswith("\n"):
            self._emit(Notice(text.strip("\r\n")))


def _git_source(remote: GitRemote) -> GitSource:
    return GitSource(
        remote.url,
        remote.ref,
        remote.subdir,
        bool(remote.keep_git_dir),
        remote.checksum,
        _NOWHERE,
        remote.submodules is not False,
    )


def _is_archive(head: bytes) -> bool:
    """One without entries is zeros."""
    return is_tar(head) or (len(head) == _HEADER and not any(head))


def _text(path: str, name: str, limit: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UsageError(f"{name} is larger than a Dockerfile may be ({limit >> 20} MiB)", hint="is it the file that you mean?")
    return data
