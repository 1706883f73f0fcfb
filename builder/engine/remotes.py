"""URLs and git repositories, of ADD and as contexts: fetched at most once a build, kept in the store, and handed on as items
like any others.

What is kept for a URL is its content and what the server said of its version, so that the next build asks whether it changed;
with a checksum, whose content is there, nobody is asked. What is kept for git is the files of a commit; only where a name
stands for it is asked. Keys hold the content and the name, never the URL (DESIGN, "Keys").
"""

from __future__ import annotations

import hashlib
import os
import threading
import time

from builder import canonical
from builder.context import git, url
from builder.engine import selection
from builder.engine.selection import Picked
from builder.errors import BuildError, MismatchError, RegistryError, StoreError
from builder.events import StepLog
from builder.layers.entry import Entry, Item, RangeSource
from builder.layers.index import dump_index, load_index
from builder.layers.source import Sources
from builder.oci.digest import Digest
from builder.plan.steps import UrlSource
from builder.redact import redact
from builder.store.fetched import Checkout, Download

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.cancellation import Cancellation
    from builder.context.access import Access
    from builder.engine.pins import Pins
    from builder.events import Emit
    from builder.plan.steps import GitSource
    from builder.store.store import Store

UNNAMED = "__unnamed__"
"""What BuildKit calls a file whose URL has no name for it."""
_ENTRIES_LIMIT = 1 << 30
_TOLD_EVERY = 0.2


class Remotes:
    """The remote sources of one build, each fetched once, however many threads want it."""

    def __init__(self, store: Store, access: Access, emit: Emit, pins: Pins | None = None) -> None:
        self._store = store
        self._pins = pins
        self._access = access
        self._emit = emit
        self._used: dict[Digest, None] = {}
        self._downloads: dict[str, Download] = {}
        self._commits: dict[tuple[str, str, str], git.Commit] = {}
        self._guard = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    def pick(self, source: UrlSource | GitSource, step: int) -> Picked:
        """What the source holds, its content in the store. `step` is the step's number in events. Raises RegistryError
        (network, server, checksum) and DockerfileError (what is not there)."""

        def say(text: str) -> None:
            self._emit(StepLog(step, text.encode("utf-8", "replace")))

        with self.turn(source.url):
            return self._file(source, say) if isinstance(source, UrlSource) else self._folder(source, say)

    def turn(self, url: str) -> threading.Lock:
        """Who has it may fetch from `url`; who comes later finds what it brought."""
        with self._guard:
            return self._turns.setdefault(url.partition("#")[0], threading.Lock())

    def verify(self) -> None:
        """Look for the cause of a content that is not its digest's. Raises StoreError where what was picked is damaged."""
        for digest in list(self._used):
            self._store.verify_blob(digest)

    # URLs

    def _file(self, source: UrlSource, say: Callable[[str], None]) -> Picked:
        download = self.download(source, say)
        name = url.name_in(source.url) or download.name
        path = self._store.blob_path(download.digest)
        size = os.stat(path).st_size
        entry = Entry(b"", "file", 0o600, size=size, digest=download.digest.hex, mtime=download.mtime)
        return Picked(os.fsencode(name or UNNAMED), (Item(entry, RangeSource(path, 0, size)),), source.span, source.unpack)

    def download(self, source: UrlSource, say: Callable[[str], None]) -> Download:
        """The file of a URL, whose blob is in the store; `say` is told of what happens. For who has the turn. Raises
        RegistryError."""
        download = self._download(source, say)
        self._used[download.digest] = None
        return download

    def _download(self, source: UrlSource, say: Callable[[str], None]) -> Download:
        address = source.url.partition("#")[0]
        # No credentials: the server checks those, at each question whether the file changed.
        key = hashlib.sha256(redact(address).encode("utf-8", "surrogateescape")).hexdigest()
        known = self._store.download(key)
        pinned = self._pins.url(redact(address)) if self._pins is not None and not source.checksum else ""
        expected = Digest.parse(source.checksum or pinned) if source.checksum or pinned else None
        if expected is not None:
            known = known if known is not None and known.digest == expected else None
            if known is None and self._store.has_blob(expected) and url.name_in(address):
                known = Download(expected, "", "", "", 0)
            if known is not None:
                return known
        if self._access.offline:
            if known is not None and expected is None and self._store.has_blob(known.digest):
                return known
            raise _offline(redact(address))
        if expected is not None or address not in self._downloads:
            try:
                self._downloads[address] = self._fetch(address, known, expected, say)
            except _WrongContent as error:
                raise _drifted(redact(address), pinned, error) if pinned else error from None
            self._store.put_download(key, self._downloads[address])
        return self._downloads[address]

    def _fetch(self, address: str, known: Download | None, expected: Digest | None, say: Callable[[str], None]) -> Download:
        shown = redact(address)
        say(f"downloading {shown}\n")
        validators = url.Validators(known.etag, known.modified) if known is not None else url.Validators()
        with self._store.blob_writer() as blob:
            fetched = url.fetch(
                address,
                blob.write,
                known=validators,
                proxies=self._access.proxies,
                progress=_progress(shown, say, self._access.stop),
            )
            if known is not None and not fetched.changed:
                say(f"\r{shown} has not changed\n")
                digest = known.digest
            else:
                digest = self._commit(blob.commit, expected, shown)
                say(f"\rdownloaded {_megabytes(fetched.size)}\n")
        name = fetched.name or (known.name if known is not None and not fetched.changed else "")
        return Download(digest, name, *fetched.validators, fetched.mtime)

    def _commit(self, commit: Callable[[Digest | None], tuple[Digest, int]], expected: Digest | None, shown: str) -> Digest:
        try:
            return commit(expected)[0]
        except StoreError:
            raise
        except BuildError as error:
            hint = "if the new file is the right one, write its checksum"
            raise _WrongContent(f"the checksum of {shown} is not the one expected: {error.message}", hint=hint) from None

    # git

    def _folder(self, source: GitSource, say: Callable[[str], None]) -> Picked:
        return Picked(b"", self.folder(source, say), source.span)

    def folder(self, source: GitSource, say: Callable[[str], None]) -> tuple[Item, ...]:
        """A folder of a git repository, itself first, with its content in the store; `say` is told of what happens. For who has
        the turn. Raises RegistryError and DockerfileError as `pick` does."""
        checkout = self._checkout(source, say)
        items = [Item(Entry(b"", "dir", 0o755))]
        self._used[checkout.contents] = None
        contents = self._store.blob_path(checkout.contents)
        offset = 0
        for entry in load_index(self._store.read_blob(checkout.entries, _ENTRIES_LIMIT)):
            items.append(Item(entry, RangeSource(contents, offset, entry.size) if entry.kind == "file" else None))
            offset += entry.size
        return tuple(items)

    def commit(self, source: GitSource) -> git.Commit:
        """What the ref stands for. For who has the turn. Raises DockerfileError and RegistryError."""
        named = (source.url, source.ref, source.checksum)
        if named not in self._commits:
            pinned = self._pins.commit(redact(source.url), source.ref) if self._pins is not None else None
            if pinned is None and self._access.offline and not git.is_commit(source.ref):
                raise _offline(f"what '{source.ref or 'HEAD'}' is in {redact(source.url)}")
            with self._store.scratch() as folder:
                self._commits[named] = git.resolve(*named, folder, self._access, known=pinned)
        return self._commits[named]

    def _checkout(self, source: GitSource, say: Callable[[str], None]) -> Checkout:
        commit = self.commit(source)
        key = _checkout_key(source, commit)
        known = self._store.checkout(key)
        if known is None:
            if self._access.offline:
                raise _offline(f"commit {commit.id} of {redact(source.url)}")
            say(f"fetching {redact(source.url)} at commit {commit.id}\n")
            known = self._fetch_commit(source, commit)
            self._store.put_checkout(key, known)
        return known

    def _fetch_commit(self, source: GitSource, commit: git.Commit) -> Checkout:
        with self._store.scratch() as folder:
            found = git.fetch(
                source.url,
                commit,
                folder,
                self._access,
                subdir=source.subdir,
                keep_git_dir=source.keep_git_dir,
                submodules=source.submodules,
            )
            picked = selection.folder(found.path, found.tree)
            with self._store.blob_writer() as blob, Sources() as sources:
                for item in picked.items:
                    if item.source is not None:
                        for chunk in sources.chunks(item.source):
                            blob.write(chunk)
                contents, _ = blob.commit()
            found.tree.close()
        entries = [_normal(item.entry, found.time) for item in picked.inside()]
        return Checkout(self._store.put_blob(dump_index(entries))[0], contents)


class _WrongContent(RegistryError):
    """What a server gave has not the digest that was expected."""


def _drifted(shown: str, pinned: str, error: _WrongContent) -> MismatchError:
    reason = error.message.partition("one expected: ")[2]
    return MismatchError(
        f"{shown} is not the file that the lock pins: {reason or pinned}",
        hint=f"find out why it changed; `pybuild lock --upgrade={shown}` takes the file that is there now",
    )


def _offline(what: str) -> RegistryError:
    return RegistryError(f"{what} is not in the store, and --offline asks nobody", hint="build once without --offline")


def _checkout_key(source: GitSource, commit: git.Commit) -> str:
    """All that the files depend on: the commit holds its content, and `.git` says where it came from, too."""
    said: dict[str, object] = {"commit": commit.id, "subdir": source.subdir, "submodules": source.submodules, "version": 1}
    if source.keep_git_dir and not source.subdir:
        said["git"] = [redact(source.url), commit.name, commit.tag]
    return hashlib.sha256(canonical.dumps(said).encode()).hexdigest()


def _normal(entry: Entry, time: int) -> Entry:
    """As git knows it: run or not. Folders are 0755, and the time is the commit's."""
    mode = entry.mode if entry.kind == "symlink" else 0o755 if entry.kind == "dir" or entry.mode & 0o100 else 0o644
    return entry._replace(mode=mode, mtime=time * 10**9)


def _progress(shown: str, say: Callable[[str], None], stop: Cancellation) -> Callable[[int, int], None]:
    told = time.monotonic()

    def progress(done: int, size: int) -> None:
        nonlocal told
        stop.check()
        if time.monotonic() - told >= _TOLD_EVERY:
            told = time.monotonic()
            say(f"\r{shown}: {_megabytes(done)}{f' of {_megabytes(size)}' if size else ''}")

    return progress


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"
