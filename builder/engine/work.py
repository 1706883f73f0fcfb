"""Doing a step that brings files: they are placed, and what comes of it is put on the file system below.

What runs commands is `builder.engine.running`: a build without a RUN loads nothing of the sandbox.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial

from builder.engine import accounts
from builder.engine.placement import Dress, Owner, make_folders, place, place_alone
from builder.engine.sources import TreeItems
from builder.errors import BuildError
from builder.events import BuildWarning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.cancellation import Cancellation
    from builder.context.directory import DirectoryContext
    from builder.engine.packing import Written
    from builder.engine.placement import Alone
    from builder.engine.roots import Root, Roots, Use
    from builder.engine.selection import Picked
    from builder.errors import Span
    from builder.events import Emit
    from builder.layers.entry import Item
    from builder.plan.steps import CopyStep, WorkdirStep
    from builder.store.store import Store


class Worker:
    """Places files, for several threads."""

    def __init__(self, store: Store, roots: Roots, emit: Emit, stop: Cancellation) -> None:
        self._store = store
        self._roots = roots
        self._emit = emit
        self._stop = stop

    def copy(self, step: CopyStep, picked: tuple[Picked, ...], root: Root, use: Use) -> Root:
        """COPY and ADD: `root` with what was picked at its destination."""
        with self._store.scratch() as scratch:
            return self._roots.add(root, self.place(step, picked, root, scratch), use)

    def written(self, step: CopyStep, picked: tuple[Picked, ...], root: Root, use: Use, folder: DirectoryContext) -> Written:
        """The layer of a COPY, written before it is known whether it is wanted; `folder` learns what was read of it."""
        return self._roots.written(self.place(step, picked, root, ""), use, folder)

    def place(self, step: CopyStep, picked: tuple[Picked, ...], root: Root, scratch: str) -> list[Item] | Alone:
        """The items of the layer. What archives hold is unpacked in the folder `scratch`, which must outlive their use."""
        with _at(step.chown_span):
            owner = self._owner(step.chown, root)
        unpack = None
        if step.unpack:
            from builder.engine.unpacking import unpacker  # for those who ADD

            unpack = unpacker(scratch, lambda message: self._warn(message, step), self._stop)
        for one in picked:
            if isinstance(one.items, TreeItems):
                one.items.locate()
        below = self._roots.tree(root)
        with _at(step.dest_span):
            # A symbolic mode was applied to what was picked.
            dress = Dress(owner, step.chmod if isinstance(step.chmod, int) else None, time.time_ns())
            alone = place_alone(picked, below, step.dest, dress) if not step.unpack else None
            if alone is not None:
                return alone
            lower = partial(self._roots.content, root)
            return place(picked, below, step.dest, dress, unpack=unpack, lower_source=lower)

    def workdir(self, step: WorkdirStep, root: Root, use: Use) -> Root:
        """WORKDIR: `root` with the folder, which an existing one leaves as it is."""
        owner = self._owner(step.user, root)
        items = make_folders(step.path, self._roots.tree(root), owner, now=time.time_ns())
        return self._roots.add(root, items, use)

    def _owner(self, name: str, root: Root) -> Owner | None:
        return Owner(*accounts.owner(name, accounts.of_image(self._roots, root))) if name else None

    def _warn(self, message: str, step: CopyStep) -> None:
        self._emit(BuildWarning("LayerContent", message, step.span.line))


@contextmanager
def _at(span: Span) -> Iterator[None]:
    """Errors from here are about this piece of the instruction."""
    try:
        yield
    except BuildError as error:
        error.span = error.span or span
        raise
