"""The contexts of a build: from what a request says of them to the Dockerfile, what .dockerignore says, and opened trees.

A folder of this machine is looked into where it is; all else is `builder.engine.fetching`. In each of them .dockerignore
counts, `<Dockerfile>.dockerignore` before it where the Dockerfile belongs to the main context.
"""

from __future__ import annotations

import os
from _thread import RLock, allocate_lock  # `threading` costs 1 ms at start

from builder.cancellation import NEVER
from builder.context.ignoring import NothingIgnored
from builder.dockerfile.text import decode
from builder.errors import BuildError, StoreError, UsageError
from builder.events import BuildWarning
from builder.reading import (
    DOCKERFILE_LIMIT,
    check_folder,
    dockerfile_inside,
    ignore_beside,
    ignore_in,
    ignore_of,
    read_dockerfile,
    read_inside,
    read_lock,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from builder.cancellation import Cancellation
    from builder.context.directory import DirectoryContext
    from builder.context.hints import Hints
    from builder.context.ignoring import Ignore
    from builder.engine.fetching import Fetched, Fetcher, Remote
    from builder.engine.sources import SourceTree
    from builder.errors import SourceFile
    from builder.events import Emit
    from builder.request import Request
    from builder.store.store import Store


class BuildContexts:
    """Each is opened when it is first asked for, and all are closed with the build; for several threads.

    `store` may be None where the request does not fetch (`Request.fetches`). `stop`, once cancelled, ends what is fetched.
    Methods raise UsageError for what is not there and RegistryError for what the network does.
    """

    def __init__(self, request: Request, store: Store | None, emit: Emit, stop: Cancellation = NEVER) -> None:
        self._request = request
        self._store = store
        self._emit = emit
        self._stop = stop
        self._guard = allocate_lock()
        # One for each context, held while it is opened: what takes long for one is nothing to the others.
        self._locks: dict[str, RLock] = {}
        self._open: dict[str, SourceTree] = {}
        self._folders: list[DirectoryContext] = []
        self._hints: list[Hints] = []
        self._fetched: dict[str, Fetched] = {}
        self._ignores: dict[str, Ignore] = {}
        self._fetcher: Fetcher | None = None
        self._beside = self._inside = ""
        """Where the Dockerfile lies that has a .dockerignore of its own: on this machine, or in the main context's tree."""

    def __enter__(self) -> BuildContexts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for folder in self._folders:
            folder.close()
        if self._fetcher is not None:
            self._fetcher.close()
        try:
            # What was read counts for a build that failed, too; one that is interrupted is to end.
            if kind is None or issubclass(kind, BuildError):
                for hints in self._hints:
                    hints.save()
        except StoreError:
            # They can be made again: the build's own error says more.
            if kind is None:
                raise

    def dockerfile(self) -> SourceFile:
        """The Dockerfile. To be called first: where it lies says which .dockerignore counts. Raises DockerfileError when it is
        no text."""
        request = self._request
        if "" not in request.remotes:
            check_folder(f"the build context '{request.context}'", request.context)
        for name, path in request.directories.items():
            check_folder(f"the build context '{name}={path}'", path)
        if request.dockerfile_text is not None:
            return decode("Dockerfile", request.dockerfile_text)
        if request.dockerfile.startswith(("http://", "https://")):
            from builder.redact import redact

            return decode(redact(request.dockerfile), self._fetching().text(request.dockerfile, DOCKERFILE_LIMIT))
        remote = request.remotes.get("")
        if remote is None or self._is_local(request.dockerfile, remote):
            source = read_dockerfile(request.context, request.dockerfile)
            self._beside = source.name
            return source
        fetched = self._fetch("")
        if fetched.text is not None:
            if request.dockerfile:
                shown = "standard input" if request.context == "-" else request.context
                raise UsageError(f"{shown} is a Dockerfile itself, and -f names another", hint="leave -f out")
            return decode("Dockerfile", fetched.text)
        shown = "the archive on standard input" if request.context == "-" else f"the build context {request.context}"
        source = dockerfile_inside(fetched.tree, shown, request.dockerfile)
        self._inside = source.name
        return source

    @property
    def lock_path(self) -> str:
        """Where the lock lies, `<Dockerfile>.lock`; empty for a Dockerfile that is no file of this machine. To be asked after
        `dockerfile`."""
        return f"{self._beside}.lock" if self._beside else ""

    def lock(self) -> SourceFile:
        """The lock. To be called after `dockerfile`."""
        if self.lock_path:
            return read_lock(self.lock_path)
        data = read_inside(self._fetch("").tree, f"{self._inside}.lock") if self._inside else None
        if data is None:
            where = f"{self._inside}.lock is not in the build context" if self._inside else "the Dockerfile has no path"
            raise UsageError(f"--locked needs a lock file: {where}", hint="`pybuild lock` writes one beside a Dockerfile")
        return decode(f"{self._inside}.lock", data)

    def open(self, name: str) -> SourceTree:
        with self._lock(name):
            known = self._open.get(name)
            if known is None:
                known = self._open[name] = self._opened(name)
            return known

    def leaves_nothing_of(self, path: str) -> bool:
        """Whether the main context's .dockerignore hides all that a COPY of `path` could find."""
        return self._ignore("").leaves_nothing_of(path)

    def openers(self) -> Mapping[str, Callable[[], SourceTree]]:
        """For each named context that files are copied from: what opens it."""
        return {name: self._opener(name) for name in self._request.trees}

    def _opener(self, name: str) -> Callable[[], SourceTree]:
        return lambda: self.open(name)

    def _opened(self, name: str) -> SourceTree:
        ignore = self._ignore(name)
        if name in self._request.remotes:
            tree = self._fetch(name).tree
            if not isinstance(ignore, NothingIgnored):
                tree.leave_out(ignore)
            return tree
        from builder.context.directory import DirectoryContext  # for those who copy
        from builder.context.hints import Hints

        hints = None
        if self._store is not None:
            hints = Hints(os.path.abspath(self._path(name)), self._store.hints, believed=not self._request.no_cache)
            self._hints.append(hints)
        folder = DirectoryContext(self._path(name), ignore, self._warn, hints, self._stop)
        self._folders.append(folder)
        return folder

    def _lock(self, name: str) -> RLock:
        with self._guard:
            return self._locks.setdefault(name, RLock())

    def _ignore(self, name: str) -> Ignore:
        with self._lock(name):
            known = self._ignores.get(name)
            if known is None:
                known = self._ignores[name] = self._read_ignore(name)
            return known

    def _read_ignore(self, name: str) -> Ignore:
        if not name and self._beside and (own := ignore_beside(self._beside)) is not None:
            return own
        if name not in self._request.remotes:
            return ignore_in(self._path(name))
        tree = self._fetch(name).tree
        for path in (*([f"{self._inside}.dockerignore"] if self._inside and not name else []), ".dockerignore"):
            data = read_inside(tree, path)
            if data is not None:
                return ignore_of(data, path)
        return NothingIgnored()

    def _fetch(self, name: str) -> Fetched:
        """What was fetched, before anything is left out of it."""
        with self._lock(name):
            known = self._fetched.get(name)
            if known is None:
                known = self._fetching().fetch(self._remote(name), limit=DOCKERFILE_LIMIT)
                if name and known.text is not None:
                    raise UsageError(
                        f"the build context '{name}' is no tar archive",
                        hint="a context is a folder, an archive or a git repository; single files come by ADD",
                    )
                self._fetched[name] = known
            return known

    def _remote(self, name: str) -> Remote:
        from builder.plan.giturl import GitRemote, is_true
        from builder.plan.running import KEEP_GIT_ARG

        remote = self._request.remotes[name]
        if isinstance(remote, GitRemote) and not name and is_true(self._request.build_args.get(KEEP_GIT_ARG, "")):
            return remote._replace(keep_git_dir=True)
        return remote

    def _fetching(self) -> Fetcher:
        from builder.engine.fetching import Fetcher

        with self._guard:
            if self._fetcher is None:
                assert self._store is not None, "a request that fetches has a store"
                access = self._request.access
                # The user named these: they may use the user's agent, as with docker buildx.
                access = access._replace(ssh_auth_sock=access.ssh_auth_sock or self._request.ssh_auth_sock, stop=self._stop)
                self._fetcher = Fetcher(self._store, access, self._emit)
            return self._fetcher

    def _is_local(self, dockerfile: str, remote: Remote) -> bool:
        """Whether -f names a file of this machine beside a context that is fetched: an absolute path does, as with buildx."""
        from builder.engine.fetching import Piped

        return os.path.isabs(dockerfile) and not isinstance(remote, Piped)

    def _path(self, name: str) -> str:
        return self._request.directories[name] if name else self._request.context

    def describe(self, name: str) -> str:
        if name:
            return f"the build context '{name}'"
        fetched = self._fetched.get("")
        alone = fetched is not None and fetched.text is not None
        return "the build context, which is empty: the Dockerfile came alone" if alone else "the build context"

    def suspect(self) -> None:
        for hints in self._hints:
            hints.forget()
        if self._fetcher is not None:
            self._fetcher.verify()

    def _warn(self, message: str) -> None:
        self._emit(BuildWarning("ContextContent", message))
