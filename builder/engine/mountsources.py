"""What a bind mount shows and a new cache mount begins with: found in a context, a stage or an image, and digested.

Only names and digests are looked at here, so that a cached step copies nothing and makes no folder.
"""

from __future__ import annotations

import hashlib

from builder.engine import selection
from builder.engine.sources import StackTree, Stoppable
from builder.errors import BuildError, DockerfileError, StoreError
from builder.layers.entry import FileSource
from builder.plan.mounts import BindMount, CacheMount
from builder.plan.steps import ContextOrigin
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cancellation import Cancellation
    from builder.engine.roots import Root, Roots
    from builder.engine.selection import Picked
    from builder.engine.sources import Contexts, SourceTree
    from builder.plan.mounts import Mount
    from builder.plan.steps import RunStep


class FromContext(NamedTuple):
    """Files of a build context, without what .dockerignore leaves out."""

    picked: Picked
    digest: str

    @property
    def is_folder(self) -> bool:
        return self.picked.is_dir


class FromStack(NamedTuple):
    """A part of the file system of a stage or an image."""

    root: Root
    path: bytes
    """Canonical, without links; empty for all of it."""
    is_folder: bool
    digest: str


MountSource = FromContext | FromStack


def find(
    step: RunStep, done: Mapping[int, Root], contexts: Contexts, roots: Roots, stop: Cancellation
) -> tuple[MountSource | None, ...]:
    """For each mount of the step, None where nothing is mounted from anywhere. Raises DockerfileError with the mount's span for
    a source that is not there, and Interrupted once `stop` was cancelled."""
    return tuple(_find(mount, done, contexts, roots, stop) for mount in step.mounts)


def _find(mount: Mount, done: Mapping[int, Root], contexts: Contexts, roots: Roots, stop: Cancellation) -> MountSource | None:
    if not isinstance(mount, BindMount | CacheMount):
        return None
    if mount.origin is None:
        if mount.source != "/":
            raise DockerfileError(
                "'source' of a cache mount needs 'from'", mount.span, hint="as in from=STAGE,source=/folder; or leave it out"
            )
        return None
    found: MountSource
    try:
        if isinstance(mount.origin, ContextOrigin):
            name = mount.origin.name
            found = _in_context(mount, Stoppable(contexts.open(name), stop), contexts.describe(name))
        else:
            found = _in_stack(mount, done[mount.origin.step], roots)
    except BuildError as error:
        if not isinstance(error, StoreError):
            error.span = error.span or mount.span
        raise
    if isinstance(mount, CacheMount) and not found.is_folder:
        raise DockerfileError(
            f"a cache begins with a folder, and '{mount.source}' is none", mount.span, hint="name the folder that it lies in"
        )
    return found


def _in_context(mount: BindMount | CacheMount, tree: SourceTree, where: str) -> FromContext:
    picked = selection.folder(_resolved(mount, tree, where), tree)
    return FromContext(picked, digest(picked))


def _in_stack(mount: BindMount | CacheMount, root: Root, roots: Roots) -> FromStack:
    if mount.source == "/":
        # The chain ID says all, without a look at what may be a hundred thousand files.
        return FromStack(root, b"", True, f"root:{root.chain or ''}")
    # Names and digests alone count: nobody reads.
    tree = StackTree(roots.tree(root), lambda entry, _layer: FileSource("", entry.path))
    path = _resolved(mount, tree, "the stage that it is mounted from")
    picked = selection.folder(path, tree)
    return FromStack(root, path, picked.is_dir, digest(picked))


def _resolved(mount: BindMount | CacheMount, tree: SourceTree, where: str) -> bytes:
    path = tree.resolve(mount.source.encode("utf-8", "surrogateescape"))
    if tree.lookup(path) is None:
        raise DockerfileError(
            f"RUN --mount: '{mount.source}' is not in {where}", mount.span, hint=selection.near(mount.source, tree, where)
        )
    return path


def digest(picked: Picked) -> str:
    """All that a command can see of it but the times: as for a COPY, and the folder's own metadata, which shows here."""
    entry = picked.top.entry
    own = (b"%o %d:%d" % (entry.mode, entry.uid, entry.gid), *(part for pair in entry.xattrs for part in pair))
    content = selection.content_digest((picked._replace(name=b""),), owners=True, modes=True)
    text = b"".join(b"%d:%s" % (len(part), part) for part in (*own, content.encode()))
    return hashlib.sha256(b"pybuild-mounted-v1\0" + text).hexdigest()
