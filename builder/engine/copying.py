"""What a COPY or ADD takes, its content digest, and whether the cache has that; a build without one does not import this.

Of a folder of this machine as little is read as can be: nothing where stat says that the last build's digest still holds, and
each file once where the layer is new.
"""

from __future__ import annotations

from builder.context.directory import DirectoryContext
from builder.context.hints import WORTH
from builder.engine import selection
from builder.engine.executor import Job
from builder.engine.roots import Root
from builder.engine.sources import StackTree, Stoppable, Unread, is_much
from builder.errors import StoreError
from builder.layers.source import ContentChanged
from builder.plan import keys
from builder.plan.steps import ContextOrigin, StageOrigin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.engine.executor import Executor, Result
    from builder.engine.roots import Roots, Use
    from builder.engine.selection import Picked
    from builder.engine.sources import Contexts, SourceTree
    from builder.layers.entry import Item
    from builder.plan.steps import CopyStep


class Copying:
    """The copying steps of one build; for several threads."""

    def __init__(self, executor: Executor, contexts: Contexts, roots: Roots) -> None:
        self._executor = executor
        self._contexts = contexts
        self._roots = roots
        self._stop = executor.stop

    def result(self, step: CopyStep, number: int, done: Mapping[int, Result], use: Use) -> Result:
        """As `Executor.execute`."""
        root = done[step.parent].root
        # --link: the layer is made on nothing and put on what lies below, whatever that is.
        below = Root() if step.link else root
        tree, where = self._source(step, done)
        folder = tree if isinstance(tree, DirectoryContext) else None
        if folder is not None and (known := self._recalled(step, number, folder, where, root, use)) is not None:
            return known
        view = Unread(folder) if folder is not None else Stoppable(tree, self._stop)
        picked = self._select(step, number, view, where)
        unread = selection.unread(picked) if folder is not None else (0, 0)
        if folder is not None and unread[0]:
            if is_much(*unread) and not step.unpack:
                return self._written(step, number, picked, folder, root, use)
            picked = selection.digested(picked, folder.digest_of, self._stop)
        key = keys.copy_key(step, below.chain, self._content(step, picked, folder))
        result = self._executor.known(step, key, root) or self._executor.made(
            Job(key, step, number, below, root, use), lambda: self._executor.worker().copy(step, picked, below, use)
        )
        if result.cached and result.diff_id is not None and use.as_folder:
            self._roots.remember(
                result.root.layers[-1], lambda scratch: self._executor.worker().place(step, picked, below, scratch)
            )
        return result

    def _select(self, step: CopyStep, number: int, tree: SourceTree, where: str) -> tuple[Picked, ...]:
        picked = selection.select(
            step.sources,
            tree,
            where=where,
            keyword=step.keyword,
            exclude=step.exclude,
            parents=step.parents,
            fetch=lambda source: self._executor.fetcher().pick(source, number),
        )
        if step.chmod is not None and not isinstance(step.chmod, int):
            picked = selection.with_modes(picked, step.chmod)
        return picked

    def _recalled(
        self, step: CopyStep, number: int, folder: DirectoryContext, where: str, root: Root, use: Use
    ) -> Result | None:
        """The cached result, where stat says that nothing of what is copied has changed."""
        asked = selection.plain(step, folder) if self._executor.takes(step) else None
        content = folder.recall(*asked) if asked is not None else ""
        if not content:
            return None
        below = Root() if step.link else root
        result = self._executor.known(step, keys.copy_key(step, below.chain, content), root)
        if result is not None and result.diff_id is not None and use.as_folder:

            def again(scratch: str) -> Iterable[Item]:
                picked = self._select(step, number, Stoppable(folder, self._stop), where)
                if self._content(step, picked, None) != content:
                    raise ContentChanged(
                        f"{where} changed while it was read", hint="build again when nothing else writes to it"
                    )
                return self._executor.worker().place(step, picked, below, scratch)

            self._roots.remember(result.root.layers[-1], again)
        return result

    def _keep(self, step: CopyStep, picked: tuple[Picked, ...], folder: DirectoryContext, content: str) -> None:
        """Remember what the selection holds, if it is worth it."""
        if sum(len(one.items) for one in picked) < WORTH:
            return
        asked = selection.plain(step, folder)
        if asked is not None:
            folder.keep(*asked, content)

    def _written(
        self, step: CopyStep, number: int, picked: tuple[Picked, ...], folder: DirectoryContext, root: Root, use: Use
    ) -> Result:
        """A COPY of much that must be read to know whether the cache has it: the layer is written in the same pass."""
        below = Root() if step.link else root

        def read() -> tuple[Picked, ...]:
            # What was not read yet is read now.
            return selection.digested(picked, folder.digest_of, self._stop)

        def key() -> keys.Key:
            return keys.copy_key(step, below.chain, self._content(step, read(), folder))

        def again(scratch: str) -> Iterable[Item]:
            return self._executor.worker().place(step, read(), below, scratch)

        with self._executor.worker().written(step, picked, below, use, folder) as layer:
            try:
                layer.write()
            except StoreError:
                # There is no room for what may not be wanted.
                known = self._executor.known(step, key(), root) if self._executor.takes(step) else None
                if known is None:
                    raise
                result = known
            else:
                made = Job(key(), step, number, below, root, use)
                known = self._executor.known(step, made.key, root)
                result = known or self._executor.made(made, lambda: layer.keep(below, again))
        if result.cached and result.diff_id is not None and use.as_folder:
            self._roots.remember(result.root.layers[-1], again)
        return result

    def _content(self, step: CopyStep, picked: tuple[Picked, ...], folder: DirectoryContext | None) -> str:
        """The digest of what is copied."""
        modes = not isinstance(step.chmod, int)
        content = selection.content_digest(picked, owners=not step.chown, modes=modes, unpacks=step.unpack)
        if folder is not None:
            self._keep(step, picked, folder, content)
            self._executor.keep_listing(content, picked, owners=not step.chown, modes=modes)
        return content

    def _source(self, step: CopyStep, done: Mapping[int, Result]) -> tuple[SourceTree, str]:
        match step.origin:
            case ContextOrigin(name=name):
                return self._contexts.open(name), self._contexts.describe(name)
            case StageOrigin(step=source):
                root = done[source].root
                tree = StackTree(self._roots.tree(root), lambda entry, layer: self._roots.locate(root, entry, layer))
                return tree, "the stage it copies from"
