"""The mounts of one RUN, for as long as it runs: folders and sockets that the sandbox is given, and secrets.

What a command writes to a bind mount goes into the upper folder of an overlay over what it shows, and with that: the files of
a context are copied once a build, and those of a stage are not copied at all.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import ExitStack
from functools import partial

from builder.engine.agents import Agents, Forward
from builder.engine.cachebases import here
from builder.engine.container import new_folder, refuse_too_many
from builder.engine.mountpoints import Attachment
from builder.engine.mountsources import FromContext
from builder.engine.secrets import Secrets, missing
from builder.engine.selection import folder as picked_folder
from builder.engine.sources import StackTree
from builder.errors import BuildError, StoreError, UsageError
from builder.events import StepLog
from builder.layers import owners
from builder.layers.folder import materialise, set_root
from builder.layers.index import Tree
from builder.layers.ownerform import noted
from builder.plan.mounts import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount
from builder.redact import redact
from builder.sandbox import spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal

    from builder.cancellation import Cancellation
    from builder.engine.mountsources import MountSource
    from builder.engine.provided import Provided
    from builder.engine.roots import Roots
    from builder.events import Emit
    from builder.layers.entry import Item
    from builder.plan.mounts import Mount
    from builder.plan.steps import RunStep
    from builder.store.store import Scratch, Store

    Caches = Literal["used", "fresh", "looked"]

_TOLD_AFTER, _TOLD_EVERY = 1.0, 60.0
"""Seconds of a wait, in the step's log."""


class Copies:
    """Files of contexts as folders: made once a build, and shown to any number of steps. For several threads; close it."""

    def __init__(self, store: Store, stop: Cancellation) -> None:
        self._store = store
        self._stop = stop
        self._lock = threading.Lock()
        self._scratch: Scratch | None = None
        self._root = ""
        self._made = 0
        self._known: dict[tuple[str, tuple[int, ...]], str] = {}

    def folder(self, source: FromContext) -> str:
        """A folder in which `source` lies under that very name."""
        with self._lock:
            # The digest knows no times, and two contexts may differ in these alone.
            key = source.digest, tuple(item.entry.mtime for item in source.picked.items)
            known = self._known.get(key)
            if known is None:
                if self._scratch is None:
                    self._scratch = self._store.scratch()
                    self._root = self._scratch.__enter__()
                self._made += 1
                known = new_folder(self._root, str(self._made))
                materialise([_below(item) for item in source.picked.items], known, Tree(), stop=self._stop)
                self._known[key] = known
            return known

    def close(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.__exit__(None, None, None)


def _below(item: Item) -> Item:
    entry = item.entry
    path = b"source/" + entry.path if entry.path else b"source"
    link = b"source/" + entry.link if entry.kind == "hardlink" else entry.link
    return item._replace(entry=entry._replace(path=path, link=link))


class MountTools:
    """What the steps of a build share for their mounts. Close it: it may have started agents. Of `fresh` caches each begins
    anew in each step, `looked` ones are as the store has them; nothing is kept of what either is given."""

    def __init__(
        self, store: Store, roots: Roots, emit: Emit, provided: Provided, stop: Cancellation, *, caches: Caches = "used"
    ) -> None:
        self.caches = caches
        self.store = store
        self.roots = roots
        self.emit = emit
        self.stop = stop
        self.copies = Copies(store, stop)
        self.secrets = Secrets(provided)
        self.agents = Agents(provided, store)

    def mounts(self, step: RunStep, number: int, sources: tuple[MountSource | None, ...], scratch: str) -> RunMounts:
        """For one step. Folders that it needs are made in `scratch`."""
        return RunMounts(step, number, sources, scratch, self)

    def close(self) -> None:
        try:
            self.agents.close()
        finally:
            self.copies.close()


class RunMounts:
    """``with RunMounts(...) as mounts``: `attachments` for the sandbox, `env` for the command. The end of the block gives back
    the caches and closes the sockets, however the command ended."""

    def __init__(
        self, step: RunStep, number: int, sources: tuple[MountSource | None, ...], scratch: str, tools: MountTools
    ) -> None:
        self.attachments: list[Attachment] = []
        self.env: list[tuple[str, str]] = []
        self._step = step
        self._number = number
        self._sources = sources
        self._scratch = scratch
        self._tools = tools
        self._folders = 0
        self._stack = ExitStack()

    def __enter__(self) -> RunMounts:
        with self._stack:
            caches: list[tuple[str, str, CacheMount, MountSource | None]] = []
            for mount, source in zip(self._step.mounts, self._sources, strict=True):
                if isinstance(mount, CacheMount):
                    # A build argument may have brought a byte that is no UTF-8, which no database takes as text.
                    id = mount.id.encode("utf-8", "backslashreplace").decode()
                    caches.append((id, _base(mount, source), mount, source))
                    continue
                try:
                    self._add(mount, source)
                except BuildError as error:
                    _told(error, mount)
                    raise
            self._add_caches(caches)
            # From here on it is `__exit__` that ends all.
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _add(self, mount: BindMount | TmpfsMount | SecretMount | SshMount, source: MountSource | None) -> None:
        match mount:
            case BindMount():
                assert source is not None
                self._attach(mount, self._bind(mount, source), is_folder=source.is_folder)
            case TmpfsMount():
                self._attach(mount, spec.TmpfsMount(mount.target, mount.size, readonly=mount.readonly), is_folder=True)
            case SecretMount():
                self._secret(mount)
            case SshMount():
                self._ssh(mount)

    def _attach(self, mount: Mount, made: spec.Mount, *, is_folder: bool) -> None:
        self.attachments.append(Attachment(made, is_folder, mount.span))

    def _new_folder(self, name: str) -> str:
        self._folders += 1
        return new_folder(self._scratch, f"{name}-{self._folders}")

    # bind

    def _bind(self, mount: BindMount, source: MountSource) -> spec.OverlayMount:
        upper, work = self._new_folder("upper"), self._new_folder("work")
        lowers: tuple[str, ...]
        if isinstance(source, FromContext):
            lowers, path = (self._tools.copies.folder(source),), "source"
        else:
            roots = self._tools.roots
            refuse_too_many(len(source.root.layers))
            # The upper's root *is* what is shown, where all is.
            set_root(upper, roots.tree(source.root))
            folders = tuple(reversed(roots.folders(source.root)))
            lowers, path = folders or (self._new_folder("nothing"),), source.path.decode("utf-8", "surrogateescape")
        return spec.OverlayMount(lowers, upper, work, path, mount.target, mount.readonly)

    # cache

    def _add_caches(self, caches: list[tuple[str, str, CacheMount, MountSource | None]]) -> None:
        """Always in the same order: two steps that want two locked caches must not wait for each other."""
        strictness = ("shared", "private", "locked")
        taken: dict[tuple[str, str], str] = {}
        for id, base, mount, source in sorted(caches, key=lambda each: each[:2]):
            if (id, base) not in taken and self._tools.caches == "fresh":
                taken[id, base] = self._new_folder("cache")
                self._fill(mount, source, taken[id, base])
            elif (id, base) not in taken:
                sharing = max((each[2].sharing for each in caches if each[:2] == (id, base)), key=strictness.index)
                use = self._tools.store.cache_mount(id, base, sharing, self._holder())
                wait = _Wait(self._tools, self._number, id)
                try:
                    use.acquire(partial(self._fill, mount, source), wait.tell)
                except BuildError as error:
                    _told(error, mount)
                    raise
                self._stack.callback(use.release)
                taken[id, base] = use.path
            path = taken[id, base]
            made: spec.Mount = spec.BindMount(path, mount.target, mount.readonly)
            if self._tools.caches == "looked":
                upper, work = self._new_folder("upper"), self._new_folder("work")
                _look_alike(path, upper)
                made = spec.OverlayMount((path,), upper, work, "", mount.target, mount.readonly)
            self._attach(mount, made, is_folder=True)

    def _holder(self) -> str:
        return f"process {os.getpid()}, in {redact(self._step.name)}"

    def _fill(self, mount: CacheMount, source: MountSource | None, folder: str) -> None:
        if source is not None:
            materialise(self._items(source), folder, Tree(), stop=self._tools.stop)
        if source is None or _owned(mount):
            owners.give_path(folder, mount.uid, mount.gid)
            os.chmod(folder, mount.mode)

    def _items(self, source: MountSource) -> tuple[Item, ...]:
        if isinstance(source, FromContext):
            return tuple(source.picked.items)
        roots, root = self._tools.roots, source.root
        tree = StackTree(roots.tree(root), lambda entry, layer: roots.locate(root, entry, layer))
        return tuple(picked_folder(source.path, tree).items)

    # secret and ssh

    def _secret(self, mount: SecretMount) -> None:
        data = self._tools.secrets.get(mount)
        if data is None:
            return
        if mount.env:
            if b"\0" in data:
                raise UsageError(
                    f"the secret '{mount.id}' has a NUL byte, so no variable can hold it", hint="mount it as a file"
                )
            self.env.append((mount.env, data.decode("utf-8", "surrogateescape")))
        if mount.target:
            # The bits beyond 0777 mean nothing for a secret, as in BuildKit.
            made = spec.FileMount(mount.target, data, mount.mode & 0o777, mount.uid, mount.gid, readonly=True)
            self._attach(mount, made, is_folder=False)

    def _ssh(self, mount: SshMount) -> None:
        if "SSH_AUTH_SOCK" not in dict((*self._step.env, *self.env)):
            # Of several it is the first, whether it was given or not (moby/buildkit, client/llb/exec.go).
            self.env.append(("SSH_AUTH_SOCK", mount.target))
        given = self._tools.agents.given
        agent = given.get(mount.id)
        if agent is None:
            if mount.required:
                raise missing("ssh agent", mount, given, f"--ssh {mount.id}")
            return
        socket = self._stack.enter_context(Forward(self._tools.agents, agent, self._new_folder("agent"))).path
        if not noted():
            os.chown(socket, mount.uid, mount.gid)
        os.chmod(socket, mount.mode & 0o777)
        self._attach(mount, spec.BindMount(socket, mount.target), is_folder=False)


def _look_alike(folder: str, upper: str) -> None:
    """The upper's root *is* what is shown: give it mode, owner and the note of one of the folder."""
    shutil.copystat(folder, upper)
    if not noted():
        status = os.stat(folder)
        os.chown(upper, status.st_uid, status.st_gid)


def _told(error: BuildError, mount: Mount) -> None:
    """Say whose error it is; the store's own are nobody's."""
    if not isinstance(error, StoreError):
        error.span = error.span or mount.span


def _owned(mount: CacheMount) -> bool:
    return (mount.mode, mount.uid, mount.gid) != (0o755, 0, 0)


def _base(mount: CacheMount, source: MountSource | None) -> str:
    """What tells it from other caches with its id: what a new one begins with, with owner and mode, as in BuildKit."""
    parts = [source.digest] if source is not None else []
    if _owned(mount):
        parts.append(f"{mount.mode:04o} {mount.uid}:{mount.gid}")
    return here(" ".join(parts))


class _Wait:
    """Says in a step's log who has a cache that the step waits for: soon, and then each minute."""

    def __init__(self, tools: MountTools, number: int, id: str) -> None:
        self._tools = tools
        self._number = number
        self._id = id
        self._next = time.monotonic() + _TOLD_AFTER

    def tell(self, holder: str) -> None:
        """Raises Interrupted once the build is cancelled."""
        self._tools.stop.check()
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _TOLD_EVERY
        text = f"waiting for the cache mount '{self._id}', held by {holder or 'others'}\n"
        self._tools.emit(StepLog(self._number, text.encode("utf-8", "backslashreplace")))
