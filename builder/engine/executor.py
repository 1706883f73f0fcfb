"""What the result of a step is: its key, the record of the cache, and, when there is none, the work that makes it.

A fully cached build goes through here and no further: `builder.engine.work`, `builder.engine.running` and all that they need
(the layer writers, the sandbox) are imported at the first step that the cache does not know.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread  # `threading` costs 1 ms at start

from builder.cancellation import Cancellation
from builder.context.access import Access
from builder.engine.provided import Provided
from builder.engine.roots import Root, damaged
from builder.errors import BuildError, Interrupted, StoreError
from builder.layers.ownerform import ids, noted
from builder.layers.source import ContentChanged
from builder.plan import keys
from builder.plan.steps import BaseStep, CopyStep, RunStep, StageOrigin, WorkdirStep, parents
from builder.sandbox.rungs import Isolation
from builder.store.store import Record
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from builder.engine.copying import Copying
    from builder.engine.imports import Imports
    from builder.engine.journal import Journal
    from builder.engine.mountsources import MountSource
    from builder.engine.pins import Pins
    from builder.engine.remotes import Remotes
    from builder.engine.roots import Roots, Use
    from builder.engine.runmounts import Caches
    from builder.engine.running import Runner
    from builder.engine.selection import Picked
    from builder.engine.sources import Contexts
    from builder.engine.work import Worker
    from builder.events import Emit
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.plan.steps import Step
    from builder.sandbox.cgroups import Groups
    from builder.store.store import Store

    Keyed = RunStep | CopyStep | WorkdirStep

_SIGINT = 2
_ALL_IDS = 65536
"""As many as images have."""


class Result(NamedTuple):
    """What a step gave."""

    root: Root
    cached: bool
    diff_id: Digest | None
    size: int
    key: keys.Key | None = None
    """What the result depends on; a base has none."""


class Job(NamedTuple):
    """A step that the cache does not know."""

    key: keys.Key
    step: Keyed
    number: int
    below: Root
    """What its layer is made on."""
    onto: Root
    """What the layer lies on in the image: the same, but for `--link`."""
    use: Use
    """What becomes of it."""
    apart: keys.Key | None = None
    """The key of a result that root's would not be."""


class Executor:
    """Runs the steps of one build, several at once if need be. Close it: it may have started the fork server.

    `use_cache=False` does every step anew; `uncached` those of some stages, by their names in lower case. `stop`, once
    cancelled, ends what runs, and every further step with Interrupted.
    """

    def __init__(
        self,
        store: Store,
        contexts: Contexts,
        platform: Platform,
        emit: Emit,
        *,
        roots: Roots,
        use_cache: bool,
        uncached: frozenset[str] = frozenset(),
        imports: Imports | None = None,
        access: Access = Access(),  # noqa: B008  a frozen value
        provided: Provided = Provided(),  # noqa: B008  a frozen value
        isolation: Isolation = Isolation(),  # noqa: B008  a frozen value
        stop: Cancellation | None = None,
        journal: Journal | None = None,
        groups: Groups | None = None,
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._platform = platform
        self._emit = emit
        self._use_cache = use_cache
        self._uncached = uncached
        self._imports = imports
        self._roots = roots
        self.stop = stop or Cancellation()
        self._access = access._replace(stop=self.stop)
        self._journal = journal
        # Guards what is made once, at the first step that needs it.
        self._lock = allocate_lock()
        self._provided = provided
        self._isolation = isolation
        # Closed with this.
        self._groups = groups
        self._remotes: Remotes | None = None
        self.pins: Pins | None = None
        """What remote sources are taken to be; set before the first step."""
        self._worker: Worker | None = None
        self._runner: Runner | None = None
        self._is_expected = False
        """A command is going to run."""
        self._copies: Copying | None = None
        self.caches: Caches = "used"
        """What becomes of cache mounts (`MountTools`); set before the first step."""
        self._rung_class = ""
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            runner, self._runner, self._closed = self._runner, None, True
        if self._imports is not None:
            self._imports.close()
        if runner is not None:
            runner.close()
        if self._groups is not None:
            self._groups.close()

    def warm(self) -> None:
        """A Dockerfile with commands is new, and going to be parsed: ask the caches, and make ready for the commands."""
        if self._imports is not None:
            self._imports.warm()
        self._expect_command()

    def _expect_command(self) -> None:
        """Start the fork server in the background, once: it takes 40 ms, in which others have something to do."""
        with self._lock:
            is_expected, self._is_expected = self._is_expected, True
        if is_expected:
            return
        # Imported here, and not beside the parser's imports: two threads that import `collections.abc` first get in each
        # other's way (seen in Python 3.13), and there is nothing to gain.
        runner = self.runner()
        try:
            start_new_thread(self._warm, (runner,))
        except RuntimeError:
            # No thread is to be had. The command itself meets the same, and says so.
            return

    def _warm(self, runner: Runner) -> None:
        try:
            runner.warm()
        except (BuildError, OSError, RuntimeError):
            # The first command that needs it meets the same, and says so.
            return

    def execute(self, step: Step, number: int, done: Mapping[int, Result], use: Use) -> Result:
        """The step's result, from the cache or by doing it; `done` has those of the steps that it needs. `number` is its
        number in events; `use` is of a layer that is made here. Raises BuildError kinds with
        the step's span.
        """
        # A RUN that cannot run says so itself: no layer is made ready for it.
        use = use._replace(as_folder=use.as_folder and self._isolation.rung is not None)
        try:
            self.stop.check()
            match step:
                case BaseStep():
                    return Result(Root.of(step.base.diff_ids), True, None, 0)
                case RunStep():
                    return self._run(step, number, done, use)
                case CopyStep():
                    return self._copying().result(step, number, done, use)
                case WorkdirStep():
                    return self._workdir(step, number, done[step.parent].root, use)
        except ContentChanged as error:
            if self._remotes is not None:
                self._remotes.verify()
            self._contexts.suspect()
            if isinstance(step, CopyStep) and isinstance(step.origin, StageOrigin):
                # Snapshots never change.
                raise damaged(error) from error
            error.span = error.span or step.span
            raise
        except BuildError as error:
            if error.span is None and not isinstance(error, StoreError):
                error.span = step.span
            raise

    def _run(self, step: RunStep, number: int, done: Mapping[int, Result], use: Use) -> Result:
        root = done[step.parent].root
        sources = self._mounted(step, done)
        contents = [source and source.digest for source in sources]
        key = keys.run_key(step, root.chain, step.platform or self._platform, self._rung(), contents)
        known = self.known(step, key, root)
        apart = None
        if known is None and self._isolation.rung == "userns":
            # What shows device nodes to programs that are none there is no result of root's (`Runner.apart`).
            apart = keys.run_key(step, root.chain, step.platform or self._platform, f"userns {self._rung()}", contents)
            known = self.known(step, apart, root)
        return known or self.made(
            Job(key, step, number, root, root, use, apart), lambda: self._ran(step, number, root, key, use, sources)
        )

    def _mounted(self, step: RunStep, done: Mapping[int, Result]) -> tuple[MountSource | None, ...]:
        if not step.mounts:
            return ()
        from builder.engine import mountsources  # for those who mount

        roots = {need: done[need].root for need in parents(step)}
        sources = mountsources.find(step, roots, self._contexts, self._roots, self.stop)
        for source in sources:
            if isinstance(source, mountsources.FromContext):
                self.keep_listing(source.digest, (source.picked._replace(name=b""),))
        return sources

    def _ran(
        self, step: RunStep, number: int, root: Root, key: keys.Key, use: Use, sources: tuple[MountSource | None, ...]
    ) -> Root:
        if step.mounts and self._imports is not None:
            self._imports.bring_mounts(step)
        return self.runner().run(step, number, root, key, use, sources)

    def keep_listing(self, content: str, picked: tuple[Picked, ...], *, owners: bool = True, modes: bool = True) -> None:
        """Remember which files have this content digest: an image says it of its build."""
        if not self._store.has_listing(content):
            from builder.engine import listings  # for what is new

            listings.keep(self._store, content, picked, owners=owners, modes=modes)

    def _workdir(self, step: WorkdirStep, number: int, root: Root, use: Use) -> Result:
        key = keys.workdir_key(step, root.chain)
        return self.known(step, key, root) or self.made(
            Job(key, step, number, root, root, use), lambda: self.worker().workdir(step, root, use)
        )

    def _rung(self) -> str:
        """The class of sandbox that this machine gives, as keys name it (DESIGN: root and user namespaces give the same
        results). What the builder lacks itself, as in a container, a command can see."""
        if not self._rung_class:
            from builder.sandbox import capabilities

            seen = [f"without {name}" for name in capabilities.withheld()]
            if self._isolation.rung == "userns" or capabilities.absent(("CAP_SYS_RESOURCE",), "CapEff"):
                from builder.sandbox.limits import lowered

                # How many processes a user may have differs on every machine, and decides no result but a failure.
                seen += [f"with {limit}" for limit in lowered() if not limit.startswith("NPROC=")]
            if 0 < (most := ids()) < _ALL_IDS:
                # A command that gives files to others, as `nobody`, may go on without.
                seen.append(f"with ids below {most}")
            kind = "chroot" if self._isolation.rung == "chroot" else "single-uid" if noted() else "root"
            self._rung_class = " ".join([kind, *seen])
        return self._rung_class

    def worker(self) -> Worker:
        """What places files."""
        from builder.engine.work import Worker

        with self._lock:
            if self._worker is None:
                self._worker = Worker(self._store, self._roots, self._emit, self.stop)
            return self._worker

    def runner(self) -> Runner:
        """What runs commands."""
        # Not while the lock is held: the fork server's client and the readers of layers take a while.
        from builder.engine.running import Runner

        with self._lock:
            if self._closed:
                raise Interrupted(_SIGINT)
            if self._runner is None:
                self._runner = Runner(
                    self._store,
                    self._roots,
                    self._emit,
                    self._provided,
                    self._isolation,
                    self.stop,
                    self._groups,
                    caches=self.caches,
                )
            return self._runner

    def _copying(self) -> Copying:
        from builder.engine.copying import Copying  # for those who copy

        with self._lock:
            if self._copies is None:
                self._copies = Copying(self, self._contexts, self._roots)
            return self._copies

    def fetcher(self) -> Remotes:
        with self._lock:
            if self._remotes is None:
                from builder.engine.remotes import Remotes

                self._remotes = Remotes(self._store, self._access, self._emit, self.pins)
            return self._remotes

    # Of steps that look their results up themselves (`builder.engine.copying`), too:

    def takes(self, step: Keyed) -> bool:
        """Whether what is known already counts for the step."""
        return self._use_cache and step.stage.lower() not in self._uncached

    def known(self, step: Keyed, key: keys.Key, onto: Root) -> Result | None:
        """What a cache has under `key`; `onto` is what its layer lies on."""
        if not self.takes(step):
            return None
        record = self._store.lookup(key.hex)
        if record is None and self._imports is not None:
            found = self._imports.find(key, onto)
            if found is not None:
                record, cache = found
                if self._journal is not None:
                    self._journal.imported(step, cache)
        return self._result(record, onto, key, cached=True) if record is not None else None

    def made(self, job: Job, make: Callable[[], Root]) -> Result:
        """The result of doing a step; of another's doing it where another thread or process is at the same key already."""
        if self._journal is not None:
            refused = "" if self.takes(job.step) else "--no-cache-filter" if self._use_cache else "--no-cache"
            self._journal.missed(job.step, job.key, refused)
        if job.use.as_folder or isinstance(job.step, RunStep):
            self._expect_command()
        if not self.takes(job.step):
            return self._recorded(job, make())
        from builder.engine.turns import Turn

        with Turn(self._store, job.key, job.step.name, self._emit, job.number, self.stop) as turn:
            # Who had to wait finds it made, unless the other failed.
            known = self.known(job.step, job.key, job.onto) if turn.waited else None
            if known is None and job.apart is not None and turn.waited:
                known = self.known(job.step, job.apart, job.onto)
            return known or self._recorded(job, make())

    def _recorded(self, job: Job, after: Root) -> Result:
        """Record what a step gave, and return what counts: another process may have been first."""
        diff_id = after.layers[-1].diff_id if after != job.below else None
        key = job.key
        if job.apart is not None and self._runner is not None and job.number in self._runner.apart:
            key = job.apart
        made = Record(key.hex, key.preimage, diff_id)
        if self._runner is not None and job.number in self._runner.crippled:
            return self._result(made, job.onto, key, cached=False)
        kept = self._store.put_record(made, replace=not self.takes(job.step))
        return self._result(kept, job.onto, key, cached=False)

    def _result(self, record: Record, before: Root, key: keys.Key, *, cached: bool) -> Result:
        if record.diff_id is None:
            return Result(before, cached, None, 0, key)
        root = before.on_top(record.diff_id)
        return Result(root, cached, record.diff_id, self._roots.layer_size(root.layers[-1]), key)
