"""Steps done again, each from what it started from the first time, under other circumstances.

Nothing of it is recorded, and the folders of a RUN go with the scratch folder; a COPY that gives another layer leaves that to
the garbage collection.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from contextlib import contextmanager

from builder.engine.executor import Executor
from builder.engine.mountsources import FromStack
from builder.engine.roots import Root, Use
from builder.engine.shelf import Shelved, Stack
from builder.errors import StepError
from builder.layers.entry import FileSource, Item
from builder.layers.folder import materialise
from builder.layers.index import Tree
from builder.layers.scan import scan
from builder.layers.tarwriter import write_layer
from builder.plan.mounts import CacheMount
from builder.plan.steps import RunStep
from builder.sandbox.spec import FileMount, OverlayMount, ScriptMount
from builder.store.removal import remove_tree
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from builder.engine.container import Prepared
    from builder.engine.executor import Job, Result
    from builder.engine.mountsources import MountSource
    from builder.engine.roots import Roots
    from builder.errors import BuildError
    from builder.layers.entry import Entry, Source
    from builder.oci.digest import Digest
    from builder.plan.keys import Key
    from builder.plan.steps import Step
    from builder.sandbox.spec import Mount

_PIDS = 37
"""Numbers that are used up: fewer than make a step slow."""
_SHIFT = (3 * 86_400 + 5) * 10**9
"""Nanoseconds: another day, into the past, since nothing may be younger than what is made of it."""
_ROOM = "/dev/shm"
_PREFIX = "pybuild-verify-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_YOUNG = 60
"""Seconds in which a folder that was just made gets its lock, however busy the machine is."""
_SHARE = 2
"""The part of the memory's file system that copies may take: one half."""
_UNSEEN = 8 << 20
"""Bytes that a command may write and remove again."""
_LIBRARY = "/dev/verify/libfaketime.so.1"
_DAY = "/dev/verify/day"
_WORDS = 3
"""Last lines of a command that are told."""
_PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")


class Circumstances(NamedTuple):
    """What a command may meet otherwise than the builder's own would have it."""

    one_cpu: bool = False
    elsewhere: bool = False
    """Its file system, and what it writes, lie in memory: folders list their files in another order there."""
    shifted: bool = False
    """The files of the build's own layers have other times, all by the same."""
    pids: bool = False
    random_addresses: bool = True
    day: str = ""
    """What programs take for the time, `2031-05-06 07:08:09`, by libfaketime; empty for the true one."""
    network: bool = True
    user_namespace: bool = False
    """Root's command runs in one, in which all ids are as they are."""


class Repeated(NamedTuple):
    """A layer as a step gave it again."""

    diff_id: Digest | None
    entries: tuple[Entry, ...] = ()
    sources: Mapping[bytes, Source] | None = None
    """Where its files are; None where the store has the layer."""


class Repeater(Executor):
    """An executor that records nothing. `faketime` is a libfaketime of this machine, empty for none; `memory` a folder on a
    file system in memory, `disk` one on the store's: layers are copied there that a command is to find otherwise, each once."""

    faketime: bytes = b""
    memory: str = ""
    disk: str = ""

    def again(self, step: Step, done: Mapping[int, Result], circumstances: Circumstances, scratch: str) -> Repeated:
        """The step's layer, made from the results `done` of those that it needs. Files of a RUN lie in `scratch`, a new folder.
        Raises as `execute`."""
        number = step.id + 1
        if not isinstance(step, RunStep):
            result = self.execute(step, number, done, Use(as_folder=False))
            return Repeated(result.diff_id)
        root = done[step.parent].root
        if not circumstances.network:
            step = step._replace(network="none")
        mounted = self._mounted(step, done)
        caches = {mount.target for mount in step.mounts if isinstance(mount, CacheMount)}
        items = self.runner().repeat(
            step,
            number,
            root,
            mounted,
            scratch,
            lambda prepared: self._other(prepared, circumstances, root, mounted, caches),
            user_namespace=circumstances.user_namespace,
        )
        if not items:
            return Repeated(None)
        summary = write_layer(items, None, stop=self.stop)
        sources = {item.entry.path: item.source for item in items if item.source is not None}
        entries = tuple(summary.entries)
        for entry in entries:
            if entry.kind == "hardlink":
                sources[entry.path] = sources[entry.link]
        return Repeated(summary.diff_id, entries, sources)

    def _other(
        self,
        prepared: Prepared,
        circumstances: Circumstances,
        root: Root,
        sources: tuple[MountSource | None, ...],
        caches: Collection[str],
    ) -> Prepared:
        spec, folders = prepared.spec, prepared.folders
        if circumstances.elsewhere or circumstances.shifted:
            copies = [self._copy_of(root, number, folder, circumstances) for number, folder in enumerate(folders)]
            moved = dict(zip(folders, copies))
            spec = spec._replace(lowers=tuple(moved.get(folder, folder) for folder in spec.lowers))
            folders = copies
            if sources:
                spec = spec._replace(mounts=self._moved(spec.mounts, sources, caches, circumstances))
        if circumstances.one_cpu:
            spec = spec._replace(cpus=(min(os.sched_getaffinity(0)),))
        spec = spec._replace(pids_taken=_PIDS if circumstances.pids else 0, random_addresses=circumstances.random_addresses)
        if circumstances.day:
            faked = {
                "LD_PRELOAD": _LIBRARY,
                # A file, so that the environment is the same on every day.
                "FAKETIME_TIMESTAMP_FILE": _DAY,
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
            mounts = (ScriptMount(_LIBRARY, self.faketime), FileMount(_DAY, circumstances.day.encode() + b"\n"))
            spec = spec._replace(env=(*spec.env, *faked.items()), mounts=(*spec.mounts, *mounts))
        return prepared._replace(spec=spec, folders=folders)

    def _moved(
        self,
        mounts: tuple[Mount, ...],
        sources: tuple[MountSource | None, ...],
        caches: Collection[str],
        circumstances: Circumstances,
    ) -> tuple[Mount, ...]:
        """The mounts, with copies of what bind mounts show; `caches` are the targets of cache mounts."""
        layers: dict[str, tuple[Root, int]] = {}
        for source in sources:
            if isinstance(source, FromStack):
                numbered = enumerate(self._roots.folders(source.root))
                layers.update((folder, (source.root, number)) for number, folder in numbered)

        def copied(folder: str) -> str:
            if folder in layers:
                root, number = layers[folder]
                return self._copy_of(root, number, folder, circumstances)
            return self._copy_of_context(folder, circumstances)

        return tuple(
            mount._replace(lowers=tuple(map(copied, mount.lowers)))
            if isinstance(mount, OverlayMount) and mount.target not in caches
            else mount
            for mount in mounts
        )

    def to_copy(self, step: RunStep, done: Mapping[int, Result]) -> int:
        """Bytes that a command which is to find its files in memory takes there, and writes there as it did the first time,
        beside what is there already."""
        copied = {name.partition("-")[0] for name in os.listdir(self.memory)}
        layers = set(done[step.parent].root.layers)
        made = done[step.id].root.layers[len(done[step.parent].root.layers) :]
        size = _UNSEEN + sum(map(self._roots.layer_size, made))
        for source in self._mounted(step, done):
            if isinstance(source, FromStack):
                layers |= set(source.root.layers)
            elif source is not None:
                size += sum(item.entry.size for item in source.picked.items)
        return size + sum(self._roots.layer_size(layer) for layer in layers if layer.chain.hex not in copied)

    def _copy_of(self, root: Root, number: int, folder: str, circumstances: Circumstances) -> str:
        """The folder of a layer once more."""
        layer = root.layers[number]
        # What others built comes with its own times.
        shift = _SHIFT if circumstances.shifted and not self._roots.is_foreign(layer) else 0
        if not (circumstances.elsewhere or shift):
            return folder
        items = (_shifted(entry, folder, shift) for entry in self._roots.entries(layer))
        below = Root(root.layers[:number])
        return self._copied(f"{layer.chain.hex}-{shift}", items, below, circumstances)

    def _copy_of_context(self, folder: str, circumstances: Circumstances) -> str:
        """The folder that shows files of a context once more."""
        shift = _SHIFT if circumstances.shifted else 0
        items = (_shifted(item.entry, folder, shift) for item in scan(folder, owners="ours"))
        name = hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()
        return self._copied(f"{name}-{shift}", items, Root(), circumstances)

    def _copied(self, name: str, items: Iterable[Item], below: Root, circumstances: Circumstances) -> str:
        copy = os.path.join(self.memory if circumstances.elsewhere else self.disk, name)
        if not os.path.isdir(copy):
            part = f"{copy}.part"
            os.mkdir(part)
            # Whatever the builder's mask is.
            os.chmod(part, 0o755)
            materialise(list(items), part, self._roots.tree(below), stop=self.stop)
            os.rename(part, copy)
        return copy

    def _made(self, job: Job, make: Callable[[], Root]) -> Result:
        """Nobody is waited for, and nothing is recorded."""
        from builder.engine.executor import Result

        after = make()
        return Result(after, False, after.layers[-1].diff_id if after != job.below else None, 0, job.key)

    def _cached(self, step: Step, key: Key, onto: Root) -> None:
        return None


def _shifted(entry: Entry, folder: str, shift: int) -> Item:
    source = FileSource(folder, entry.path) if entry.kind == "file" else None
    return Item(entry._replace(mtime=entry.mtime - shift), source)


def stacks(roots: Roots, before: Root, a: Digest | None, b: Repeated) -> tuple[Stack, Stack]:
    """The file system after the step, as it was the first time and as it is now; to be looked into."""
    lower = tuple(Shelved(roots.entries(layer), not roots.is_foreign(layer)) for layer in before.layers)
    one = (*lower, *([_of_store(roots, before, a)] if a else []))
    if b.diff_id is None:
        other = lower
    elif b.sources is None:
        other = (*lower, _of_store(roots, before, b.diff_id))
    else:
        other = (*lower, Shelved(list(b.entries), constant=True, sources=b.sources))
    return _stack(roots, before, a, one), _stack(roots, before, b.diff_id, other)


def _of_store(roots: Roots, before: Root, diff_id: Digest) -> Shelved:
    return Shelved(roots.entries(before.on_top(diff_id).layers[-1]), constant=True)


def _stack(roots: Roots, before: Root, diff_id: Digest | None, layers: tuple[Shelved, ...]) -> Stack:
    tree = Tree()
    for number, layer in enumerate(layers):
        tree.apply(layer.entries, number)
    return Stack(before.on_top(diff_id) if diff_id else before, layers, tree, roots)


@contextmanager
def elsewhere() -> Iterator[str]:
    """A folder on a file system in memory; those that killed programs of this user left go. Raises OSError for none."""
    for name in os.listdir(_ROOM):
        if name.startswith(_PREFIX):
            _sweep(os.path.join(_ROOM, name))
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_ROOM)
    lock = os.open(folder, _FOLDER)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(lock)
        remove_tree(folder)


def _sweep(folder: str) -> None:
    try:
        lock = os.open(folder, _FOLDER)
    except OSError:
        return  # Another user's, or gone.
    try:
        # The kernel drops a lock when its process ends; a folder without one that is this young has it next.
        status = os.fstat(lock)
        if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _YOUNG:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(folder)
    except BlockingIOError:
        return  # Somebody verifies.
    finally:
        os.close(lock)


def fits(size: int) -> bool:
    """Whether copies of so many bytes have room in memory. Raises OSError."""
    space = os.statvfs(_ROOM)
    return size <= space.f_bavail * space.f_frsize // _SHARE


def lists_otherwise(folder: str, copy: str) -> bool:
    """Whether the copy lists its files in another order in at least one folder. Makes a folder in both and removes it."""
    names = [f"{number:x}" for number in range(16)]
    listed = []
    for place in (folder, copy):
        with tempfile.TemporaryDirectory(dir=place) as probe:
            for name in names:
                os.mkdir(os.path.join(probe, name))
            listed.append(os.listdir(probe))
    return listed[0] != listed[1]


def library() -> bytes:
    """This machine's libfaketime; empty where it is not installed."""
    for place in _PLACES:
        try:
            found = [place, *(entry.path for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False))]
        except OSError:
            continue
        for folder in found:
            try:
                with open(os.path.join(folder, "faketime", "libfaketime.so.1"), "rb") as file:
                    return file.read()
            except OSError:
                continue
    return b""


def failure(error: BuildError) -> str:
    """What a step that cannot be repeated is told with: a command's last words, too."""
    tail = error.tail[-_WORDS:] if isinstance(error, StepError) else ()
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    return "; it wrote last: ".join([text, *([" | ".join(tail)] if tail else [])])
