"""What the result of a step is: its key, the record of the cache, and, when there is none, the work that makes it.

A fully cached build goes through here and no further: `builder.engine.work` and all that it needs (the sandbox, the layer
writers) are imported at the first step that the cache does not know.
"""

from __future__ import annotations

from builder.context.access import Access
from builder.engine import selection
from builder.engine.roots import Root, damaged
from builder.engine.sources import StackTree
from builder.errors import BuildError, StoreError
from builder.layers.source import ContentChanged
from builder.plan import keys
from builder.plan.steps import BaseStep, ContextOrigin, CopyStep, RunStep, StageOrigin, WorkdirStep
from builder.store.store import Record
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.engine.remotes import Remotes
    from builder.engine.roots import Roots
    from builder.engine.sources import SourceTree
    from builder.engine.work import Worker
    from builder.events import Emit
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.plan.steps import Step
    from builder.store.store import Store


class Contexts(NamedTuple):
    """The build contexts by name, `""` the main one; each is opened when a COPY first asks for it."""

    open: Callable[[str], SourceTree]
    describe: Callable[[str], str]
    """How a message names it."""


class Result(NamedTuple):
    """What a step gave."""

    root: Root
    cached: bool
    diff_id: Digest | None
    size: int
    key: keys.Key | None = None
    """What the result depends on; a base has none."""


class Executor:
    """Runs steps of one build, one at a time. Close it: it may have started the fork server."""

    def __init__(
        self,
        store: Store,
        contexts: Contexts,
        platform: Platform,
        emit: Emit,
        *,
        roots: Roots,
        use_cache: bool,
        access: Access = Access(),  # noqa: B008  a frozen value
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._platform = platform
        self._emit = emit
        self._use_cache = use_cache
        self._roots = roots
        self._access = access
        self._remotes: Remotes | None = None
        self._worker: Worker | None = None
        self._rung_class = ""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def execute(self, step: Step, number: int, done: dict[int, Root], *, as_folder: bool) -> Result:
        """The step's result, from the cache or by doing it. `number` is its number in events; `as_folder` says that a RUN
        will look into a layer that is made here. Raises BuildError kinds with the step's span.
        """
        try:
            match step:
                case BaseStep():
                    return Result(Root.of(step.base.diff_ids), True, None, 0)
                case RunStep():
                    return self._run(step, number, done[step.parent])
                case CopyStep():
                    return self._copy(step, number, done, as_folder)
                case WorkdirStep():
                    return self._workdir(step, done[step.parent], as_folder)
        except ContentChanged as error:
            if self._remotes is not None:
                self._remotes.verify()
            if isinstance(step, CopyStep) and isinstance(step.origin, StageOrigin):
                # Snapshots never change.
                raise damaged(error) from error
            error.span = error.span or step.span
            raise
        except BuildError as error:
            if error.span is None and not isinstance(error, StoreError):
                error.span = step.span
            raise

    def _run(self, step: RunStep, number: int, root: Root) -> Result:
        key = keys.run_key(step, root.chain, self._platform, self._rung())
        hit = self._cached(key, root)
        return hit or self._record(key, root, self._work().run(step, number, root))

    def _copy(self, step: CopyStep, number: int, done: dict[int, Root], as_folder: bool) -> Result:
        root = done[step.parent]
        # --link: the layer is made on nothing and put on what lies below, whatever that is.
        below = Root() if step.link else root
        tree, where = self._source(step, done)
        picked = selection.select(
            step.sources,
            tree,
            where=where,
            keyword=step.keyword,
            exclude=step.exclude,
            parents=step.parents,
            fetch=lambda source: self._fetcher().pick(source, number),
        )
        if step.chmod is not None and not isinstance(step.chmod, int):
            picked = selection.with_modes(picked, step.chmod)
        modes = not isinstance(step.chmod, int)
        content = selection.content_digest(picked, owners=not step.chown, modes=modes, unpacks=step.unpack)
        key = keys.copy_key(step, below.chain, content)
        hit = self._cached(key, root)
        if hit is None:
            made = self._work().copy(step, picked, below, as_folder=as_folder)
            return self._record(key, below, made, onto=root)
        if hit.diff_id is not None and as_folder:
            self._roots.remember(hit.root.layers[-1], lambda scratch: self._work().place(step, picked, below, scratch))
        return hit

    def _source(self, step: CopyStep, done: dict[int, Root]) -> tuple[SourceTree, str]:
        match step.origin:
            case ContextOrigin(name=name):
                return self._contexts.open(name), self._contexts.describe(name)
            case StageOrigin(step=source):
                root = done[source]
                tree = StackTree(self._roots.tree(root), lambda entry, layer: self._roots.locate(root, entry, layer))
                return tree, "the stage it copies from"

    def _workdir(self, step: WorkdirStep, root: Root, as_folder: bool) -> Result:
        key = keys.workdir_key(step, root.chain)
        hit = self._cached(key, root)
        return hit or self._record(key, root, self._work().workdir(step, root, as_folder=as_folder))

    def _rung(self) -> str:
        """The class of sandbox that this machine gives, as keys name it (DESIGN: root and user namespaces give the same
        results). What the builder lacks itself, as in a container, a command can see."""
        if not self._rung_class:
            from builder.sandbox import capabilities

            seen = [f"without {name}" for name in capabilities.withheld()]
            if capabilities.absent(("CAP_SYS_RESOURCE",), "CapEff"):
                from builder.sandbox.limits import lowered

                seen += [f"with {limit}" for limit in lowered()]
            self._rung_class = " ".join(["root", *seen])
        return self._rung_class

    def _work(self) -> Worker:
        if self._worker is None:
            from builder.engine.work import Worker

            self._worker = Worker(self._store, self._roots, self._emit)
        return self._worker

    def _fetcher(self) -> Remotes:
        if self._remotes is None:
            from builder.engine.remotes import Remotes

            self._remotes = Remotes(self._store, self._access, self._emit)
        return self._remotes

    def _cached(self, key: keys.Key, root: Root) -> Result | None:
        record = self._store.lookup(key.hex) if self._use_cache else None
        return self._result(record, root, key, cached=True) if record is not None else None

    def _record(self, key: keys.Key, before: Root, after: Root, *, onto: Root | None = None) -> Result:
        """Record what a step gave, and return what counts: another process may have been first. `onto` is what the new layer
        lies on in the image, where that is not `before`."""
        diff_id = after.layers[-1].diff_id if after != before else None
        kept = self._store.put_record(Record(key.hex, key.preimage, diff_id), replace=not self._use_cache)
        return self._result(kept, before if onto is None else onto, key, cached=False)

    def _result(self, record: Record, before: Root, key: keys.Key, *, cached: bool) -> Result:
        if record.diff_id is None:
            return Result(before, cached, None, 0, key)
        root = before.on_top(record.diff_id)
        return Result(root, cached, record.diff_id, self._roots.layer_size(root.layers[-1]), key)
