"""What a COPY takes: sources resolved in their tree, and the digest of what they hold.

BuildKit's rules (its reference, "COPY", and fsutil's copy): paths are relative to the tree's root and cannot leave it, a
link named as a source is followed and one inside a folder is kept, of a folder the contents are taken, wildcards are
Go's filepath.Match and do not look through links.
"""

from __future__ import annotations

import time

from builder.context.items import FolderItems, described
from builder.engine.sources import TreeItems, below, folder_items
from builder.errors import BuildError, DockerfileError, Interrupted, StoreError, did_you_mean
from builder.hashing import hasher, sha256
from builder.layers.entry import BytesSource, Entry, FileSource, Item
from builder.layers.names import show
from builder.plan import fields
from builder.plan.steps import CopySource, InlineSource
from builder.values import NamedTuple, new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator

    from builder.cancellation import Cancellation
    from builder.engine.filtering import Filter
    from builder.engine.sources import SourceTree
    from builder.errors import Span
    from builder.plan.modes import SymbolicMode
    from builder.plan.steps import CopyStep, GitSource, Source, UrlSource

_MANY = 2000
"""Items whose rows are worth OpenSSL's sha256."""


class Picked(NamedTuple):
    """One source. The paths of its items are relative to it: `b""` is the source itself, a file or a folder."""

    name: bytes
    """Its last component as it was named, before links were followed."""
    items: Collection[Item]
    span: Span | None = None
    """Where the Dockerfile names it."""
    unpack: bool = True
    """Whether ADD may unpack it, should it be an archive."""
    ways: frozenset[bytes] = frozenset()
    """Folders among the items that only hold what is copied: where they are there already, they keep their owner."""

    @property
    def top(self) -> Item:
        """The source itself."""
        return next(iter(self.items))

    @property
    def is_dir(self) -> bool:
        return self.top.entry.kind == "dir"

    def inside(self) -> Iterator[Item]:
        """All but the source itself."""
        items = iter(self.items)
        next(items)
        return items


def select(
    sources: tuple[Source, ...],
    tree: SourceTree,
    *,
    where: str,
    keyword: str,
    exclude: tuple[str, ...] = (),
    parents: bool = False,
    fetch: Callable[[UrlSource | GitSource], Picked] | None = None,
) -> tuple[Picked, ...]:
    """The sources in the order of the instruction, wildcards in the order of their names; none where all are excluded.

    `where` names the tree for messages; `fetch` brings what is remote, and its errors go through. Raises DockerfileError for
    a source that is not there, and when the wildcards among the sources match nothing at all (but for `parents`, as BuildKit
    has it).
    """
    picked: list[Picked] = []
    matched = parents
    for source in sources:
        if not isinstance(source, CopySource):
            brought = _inline(source) if isinstance(source, InlineSource) else _fetched(source, fetch)
            picked += _without_excluded(brought, exclude) if exclude else [brought]
            matched = True
            continue
        try:
            if parents:
                found = _with_parents(source.path, tree, exclude)
            else:
                paths = list(_paths(source.path, tree))
                found = [_pick(path, tree) for path in paths] if not exclude else _without(paths, tree, exclude)
                matched = matched or bool(paths)
                if not paths and not _has_meta(source.path):
                    found = None
        except (Interrupted, StoreError):
            raise
        except BuildError as error:
            raise DockerfileError(error.message, source.span, hint=error.hint) from None
        if found is None:
            message = f"{keyword}: '{source.path}' is not in {where}"
            raise DockerfileError(message, source.span, hint=near(source.path, tree, where))
        picked += [one._replace(span=source.span) for one in found]
    if not matched:
        patterns = ", ".join(f"'{source.path}'" for source in sources if isinstance(source, CopySource))
        raise DockerfileError(
            f"{keyword}: no file in {where} matches {patterns}",
            sources[0].span if sources else None,
            hint=_check("the pattern", where),
        )
    return tuple(picked)


def plain(step: CopyStep, tree: SourceTree) -> tuple[bytes, list[tuple[bytes, bytes]]] | None:
    """What identifies a selection of files and folders of the context beside what is in them, and its sources: of each the name
    and the path, links followed. None where more is asked for than these, or one is not there."""
    if step.parents or step.exclude or not all(isinstance(source, CopySource) for source in step.sources):
        return None
    found: list[tuple[bytes, bytes]] = []
    paths = [source.path for source in step.sources if isinstance(source, CopySource)]
    try:
        for path in (each for source in paths for each in _paths(source, tree)):
            target = tree.resolve(path)
            if tree.lookup(target) is None:
                return None
            found.append((path.rpartition(b"/")[2], target))
    except (Interrupted, StoreError):
        raise
    except BuildError:
        # `select` says it, with its place.
        return None
    mode = "a number" if isinstance(step.chmod, int) else step.chmod
    spec = repr((paths, not step.chown, mode, step.unpack)).encode("utf-8", "surrogateescape")
    return sha256(spec).digest(), found


def content_digest(
    selection: tuple[Picked, ...],
    *,
    owners: bool,
    modes: bool,
    unpacks: bool = False,
) -> str:
    """sha256, in hex, over all that makes the result: names, types, modes (unless --chmod), owners (unless --chown), sizes,
    content, link targets, hard-link groups, devices and xattrs; no times, no place, and nothing of a source folder itself.
    `unpacks`: archives among them are unpacked, but those that must not be."""
    few = sum(len(picked.items) for picked in selection) < _MANY
    version = b"pybuild-selection-v1\0"
    whole = sha256(version) if few else hasher("sha256", version)
    for picked in selection:
        whole.update(b"%d:%s%d\n" % (len(picked.name), picked.name, len(picked.items)))
        if unpacks and not picked.unpack:
            whole.update(b"packed\n")
        if (
            isinstance(picked.items, FolderItems)
            and not picked.ways
            and (rows := picked.items.rows(owners=owners, modes=modes))
        ):
            # There may be many files: no item is made of them.
            for some in rows:
                whole.update(b"".join(some))
            continue
        items = picked.items
        for entry in items.entries() if isinstance(items, TreeItems) else (item.entry for item in items):
            whole.update(described(entry, owners=owners, modes=modes, is_way=entry.path in picked.ways))
    return whole.hexdigest()


def _inline(source: InlineSource) -> Picked:
    digest = sha256(source.data).hexdigest()
    entry = Entry(b"", "file", 0o644, size=len(source.data), digest=digest, mtime=time.time_ns())
    return Picked(_encode(source.name), (Item(entry, BytesSource(source.data)),), source.span, unpack=False)


def with_modes(selection: tuple[Picked, ...], mode: SymbolicMode) -> tuple[Picked, ...]:
    """The selection with the modes that a symbolic `--chmod` makes of its own."""

    def changed(item: Item) -> Item:
        entry = item.entry
        if entry.kind == "symlink":
            return item
        return item._replace(entry=entry._replace(mode=mode.apply(entry.mode, folder=entry.kind == "dir")))

    return tuple(
        picked._replace(
            items=picked.items.changed(changed)
            if isinstance(picked.items, FolderItems | TreeItems)
            else tuple(map(changed, picked.items))
        )
        for picked in selection
    )


def unread(selection: tuple[Picked, ...]) -> tuple[int, int]:
    """How many files have no digest, and their bytes."""
    files = size = 0
    for picked in selection:
        if isinstance(picked.items, FolderItems):
            files, size = files + picked.items.unread, size + picked.items.unread_bytes
            continue
        for entry, source in picked.items:
            if entry.kind == "file" and not entry.digest and isinstance(source, FileSource):
                files, size = files + 1, size + entry.size
    return files, size


def digested(selection: tuple[Picked, ...], digest: Callable[[bytes], str], stop: Cancellation) -> tuple[Picked, ...]:
    """The selection with the digests that it lacks; `digest` gives them by the paths in the context."""

    def known(item: Item) -> Item:
        entry = item.entry
        if entry.kind != "file" or entry.digest or not isinstance(item.source, FileSource):
            return item
        stop.check()
        path, kind, mode, uid, gid, size, _, link, rdev, xattrs, mtime = entry
        found = digest(item.source.path)
        return Item(Entry(path, kind, mode, uid, gid, size, found, link, rdev, xattrs, mtime), item.source)

    def read(path: bytes) -> None:
        stop.check()
        digest(path)

    out = []
    for picked in selection:
        if isinstance(picked.items, FolderItems):
            # Its tree knows them from now on.
            picked.items.read_all(read)
            out.append(picked)
        else:
            out.append(picked._replace(items=_linked(map(known, picked.items))))
    return tuple(out)


def _linked(items: Iterable[Item]) -> tuple[Item, ...]:
    """A hard link repeats the digest of the file that it names."""
    digests: dict[bytes, str] = {}
    out = []
    for item in items:
        entry = item.entry
        if entry.kind == "file":
            digests[entry.path] = entry.digest
        elif entry.kind == "hardlink" and not entry.digest:
            item = item._replace(entry=entry._replace(digest=digests[entry.link]))
        out.append(item)
    return tuple(out)


def folder(path: bytes, tree: SourceTree) -> Picked:
    """The folder at `path`, links followed, and all that it holds. Raises BuildError where it is not there."""
    return _pick(path, tree)


def whole(tree: SourceTree) -> Picked:
    """Everything in the tree but the root itself: a folder that stands for an image."""
    picked = _pick(b"", tree)
    return picked._replace(items=tuple(picked.inside()))


def _without(paths: list[bytes], tree: SourceTree, exclude: tuple[str, ...]) -> list[Picked]:
    """What `--exclude` leaves of the sources: patterns are relative to a folder, and to the folder of anything else.

    The second is the reference's rule; BuildKit itself copies such a file (moby/buildkit issue 5489).
    """
    from builder.engine.filtering import Filter  # for those who use it

    kept = Filter(exclude)
    found = [_pick(path, tree, kept) for path in paths]
    return [picked for picked in found if picked.is_dir or not kept.excludes(picked.name)]


def _with_parents(source: str, tree: SourceTree, exclude: tuple[str, ...]) -> list[Picked] | None:
    """The folders that the source starts from, with what matches below them; None when a plain path is not there."""
    from builder.engine.filtering import Filter, pivot  # for those who use it

    start, pattern = pivot(source)
    folders = [tree.resolve(path) for path in _paths(start, tree)]
    if not folders and not _has_meta(start):
        return None
    if _has_meta(start):
        folders = [folder for folder in folders if (there := tree.lookup(folder)) is not None and there.kind == "dir"]
    for folder in folders:
        entry = tree.lookup(folder)
        if entry is None or entry.kind != "dir":
            raise BuildError(f"'{show(folder)}' is no folder", hint="what stands before '/./' is the folder to start from")
        if not _has_meta(start) and not _has_meta(pattern) and not _is_there(folder, _encode(pattern), tree):
            return None
    kept = Filter(exclude, pattern)
    return [_pick(folder, tree, kept)._replace(name=b"") for folder in folders]


def _is_there(folder: bytes, path: bytes, tree: SourceTree) -> bool:
    full = folder + b"/" + path if folder and path else folder or path
    if tree.lookup(full) is not None:
        return True
    if tree.lookup(tree.resolve(full)) is not None:
        raise BuildError(
            f"'{show(full)}' leads through a link, and --parents copies links as they are",
            hint=f"name the folder itself: '{show(tree.resolve(full))}'",
        )
    return False


def _without_excluded(picked: Picked, exclude: tuple[str, ...]) -> list[Picked]:
    """What `--exclude` leaves of something that lies in no tree."""
    from builder.engine.filtering import Filter  # for those who use it
    from builder.layers.index import Tree

    kept = Filter(exclude)
    if not picked.is_dir:
        return [] if kept.excludes(picked.name) else [picked]
    tree = Tree()
    tree.apply((item.entry for item in picked.items), 0)
    entries, ways = kept.apply(b"", tree)
    paths = {entry.path for entry in entries}
    return [picked._replace(items=tuple(item for item in picked.items if item.entry.path in paths), ways=ways)]


def _fetched(source: UrlSource | GitSource, fetch: Callable[[UrlSource | GitSource], Picked] | None) -> Picked:
    if fetch is None:
        raise AssertionError("a remote source, and nobody to fetch it")
    try:
        return fetch(source)
    except BuildError as error:
        if not isinstance(error, StoreError):
            error.span = error.span or source.span
        raise


def _paths(source: str, tree: SourceTree) -> Iterator[bytes]:
    """Canonical paths, links followed in the part before a wildcard only; the last component is not followed yet."""
    parts = [part for part in fields.join("/", source).split("/") if part]
    plain = 0
    while plain < len(parts) and not _has_meta(parts[plain]):
        plain += 1
    prefix = _encode("/".join(parts[:plain]))
    if plain == len(parts):
        path = tree.resolve(prefix, follow_last=False)
        if tree.lookup(path) is not None:
            yield path
        return
    start = tree.resolve(prefix)
    yield from _match(start, parts[plain:], tree)


def _match(folder: bytes, patterns: list[str], tree: SourceTree) -> Iterator[bytes]:
    from builder.dockerfile import goglob  # for those who use wildcards

    entry = tree.lookup(folder)
    if entry is None or entry.kind != "dir":
        return
    for name in tree.children(folder):
        if not goglob.match(patterns[0], name.decode("utf-8", "surrogateescape")):
            continue
        path = folder + b"/" + name if folder else name
        if len(patterns) == 1:
            yield path
        else:
            yield from _match(path, patterns[1:], tree)


def _has_meta(path: str) -> bool:
    """Whether a wildcard, or an escape of one, is in it (Go's filepath.Match)."""
    return any(char in path for char in "*?[\\")


def _pick(path: bytes, tree: SourceTree, kept: Filter | None = None) -> Picked:
    target = tree.resolve(path)
    top = tree.lookup(target)
    if top is None:
        raise BuildError(
            f"'{show(path)}' is a link to '{show(target)}', which is not there", hint="copy the file that is meant"
        )
    owners: dict[Hashable, bytes] = {}
    name = path.rpartition(b"/")[2]
    if kept is None and top.kind == "dir" and (items := folder_items(target, tree)) is not None:
        return Picked(name, items)
    if kept is None:
        return Picked(name, tuple(_item(entry, target, tree, owners) for entry in below(target, tree)))
    entries, ways = kept.apply(target, tree)
    return Picked(name, tuple(_item(entry, target, tree, owners) for entry in entries), ways=ways)


def _item(entry: Entry, root: bytes, tree: SourceTree, owners: dict[Hashable, bytes]) -> Item:
    relative = entry.path[len(root) :].lstrip(b"/")
    if entry.kind not in ("file", "hardlink"):
        return Item(entry._replace(path=relative))
    inode = tree.inode(entry)
    digest = tree.digest(entry)
    if inode is not None and (owner := owners.setdefault(inode, relative)) != relative:
        return Item(entry._replace(path=relative, kind="hardlink", link=owner, digest=digest))
    path, kind, mode, uid, gid, size, known, _, rdev, xattrs, mtime = entry
    if relative == path and kind == "file" and digest == known:
        # All of the context: there may be many files, and an entry for each is enough.
        return Item(entry, tree.source(entry))
    # `_replace` would cost twice as much.
    return Item(new(Entry, (relative, "file", mode, uid, gid, size, digest, b"", rdev, xattrs, mtime)), tree.source(entry))


def near(source: str, tree: SourceTree, where: str) -> str | None:
    """A hint for a name that is not there: what leaves it out, or the nearest one in its folder."""
    path = fields.join("/", source).strip("/")
    if tree.ignored(_encode(path)):
        return "a pattern of .dockerignore leaves it out; a later line with '!' before the name brings it back"
    folder, _, name = path.rpartition("/")
    at = tree.resolve(_encode(folder))
    entry = tree.lookup(at)
    if entry is None or entry.kind != "dir":
        return f"there is no folder '{folder}'; {_check('the path', where)}"
    if ".." in source.split("/"):
        return f"'..' does not lead out of {where}: '{source}' is '{path}' there"
    close = did_you_mean(name, (child.decode("utf-8", "replace") for child in tree.children(at)))
    return close or _check("the path", where)


def _check(what: str, where: str) -> str:
    return f"check {what}, and .dockerignore" if "context" in where else f"check {what}"


def _encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
