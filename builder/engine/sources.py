"""Where COPY and bind mounts take files from: one view of a build context, of a stage and of an image."""

from __future__ import annotations

from builder.context.directory import DirectoryContext
from builder.context.items import FolderItems
from builder.errors import BuildError
from builder.layers.entry import Entry, Item
from builder.values import new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from typing import Protocol

    from builder.cancellation import Cancellation
    from builder.layers.entry import Source
    from builder.layers.index import Tree, View


if TYPE_CHECKING:

    class SourceTree(Protocol):
        """A file system to copy from. Paths are canonical (`builder.layers.entry`); `lookup` follows no link."""

        def lookup(self, path: bytes) -> Entry | None: ...

        def children(self, path: bytes) -> list[bytes]:
            """Names in the folder, sorted."""
            ...

        def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
            """The path without links; it stays inside, and a part that is missing is appended as it is."""
            ...

        def ignored(self, path: bytes) -> bool:
            """Whether a pattern leaves the path out."""
            ...

        def source(self, entry: Entry) -> Source:
            """The content of a file or hard link."""
            ...

        def digest(self, entry: Entry) -> str:
            """sha256 of the content of a file or hard link, in hex."""
            ...

        def inode(self, entry: Entry) -> Hashable | None:
            """What a file shares with its hard links, None when it has none."""
            ...

    class Contexts(Protocol):
        """The build contexts by name, `""` the main one; each is opened when a COPY first asks for it."""

        def open(self, name: str) -> SourceTree: ...

        def describe(self, name: str) -> str:
            """How a message names it."""
            ...

        def suspect(self) -> None:
            """To be called when a content is not what was seen before. Raises StoreError where the store is to blame."""
            ...


_MANY = 200
_LARGE = 8 << 20


class StackTree:
    """The merged file system of a stage or an image as a source."""

    def __init__(self, tree: Tree, locate: Callable[[Entry, int], Source]) -> None:
        self._tree = tree
        self._locate = locate
        self.lookup = tree.lookup
        self.children = tree.children

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        return self._tree.resolve(path, follow_last=follow_last)

    def ignored(self, path: bytes) -> bool:
        return False

    def source(self, entry: Entry) -> Source:
        return self._locate(entry, self._tree.layer_of(entry.path))

    def view(self, path: bytes) -> View:
        """What is there and below it, also when the tree has become another one."""
        return self._tree.view(path)

    def locate(self, entry: Entry, layer: int) -> Source:
        """The content of a file of the view."""
        return self._locate(entry, layer)

    def digest(self, entry: Entry) -> str:
        if not entry.digest:
            raise BuildError(f"the index of a layer lacks the digest of '{entry.path!r}'")
        return entry.digest

    def inode(self, entry: Entry) -> Hashable | None:
        owner = entry.link if entry.kind == "hardlink" else entry.path
        return (self._tree.layer_of(entry.path), owner)


class Stoppable:
    """A tree whose content is read only as long as it is wanted."""

    def __init__(self, tree: SourceTree, stop: Cancellation) -> None:
        self.tree = tree
        self._digest = tree.digest
        self._stop = stop
        self.lookup = tree.lookup
        self.children = tree.children
        self.resolve = tree.resolve
        self.ignored = tree.ignored
        self.source = tree.source
        self.inode = tree.inode

    def digest(self, entry: Entry) -> str:
        self._stop.check()
        return self._digest(entry)

    def read(self, path: bytes) -> str:
        """As `digest`, of a folder of the host."""
        assert isinstance(self.tree, DirectoryContext)
        self._stop.check()
        return self.tree.digest_of(path)


class Unread:
    """The same of a folder of the host, without the digests of what would have to be read for them."""

    def __init__(self, folder: DirectoryContext) -> None:
        self.folder = folder
        self.lookup = folder.lookup
        self.children = folder.children
        self.resolve = folder.resolve
        self.ignored = folder.ignored
        self.source = folder.source
        self.inode = folder.inode

    def digest(self, entry: Entry) -> str:
        return self.folder.known(entry.path)


def is_much(files: int, size: int) -> bool:
    """Whether to read so many files, of so many bytes together, twice would cost more than to write what may not be wanted."""
    return files >= _MANY or size >= _LARGE


class TreeItems:
    """A collection of a folder of a merged file system, or of what a tar or a commit holds, and all below, as `FolderItems` is
    one of a folder of the host: each item is made when it is asked for. None of them is a hard link."""

    has_links = False

    def __init__(self, path: bytes, found: View, tree: SourceTree) -> None:
        """`found` are the folder at the path and all below."""
        self._found = found
        self._digest = tree.digest
        self._start = len(path) + 1 if path else 0
        self._change: Callable[[Item], Item] | None = None
        self.longest = found.longest - self._start
        """Bytes of a relative path, at most."""
        whole = tree.tree if isinstance(tree, Stoppable) else tree
        self._locate = whole.locate if isinstance(whole, StackTree) else None
        self._source = tree.source

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, item: object) -> bool:
        return any(item == each for each in self)

    def __iter__(self) -> Iterator[Item]:
        return map(self._change, self._each()) if self._change is not None else self._each()

    def changed(self, change: Callable[[Item], Item]) -> TreeItems:
        """The same items, each as `change` makes it; their paths and kinds stay."""
        other = TreeItems.__new__(TreeItems)
        other.__dict__.update(self.__dict__)
        other._change = change
        return other

    def locate(self) -> None:
        """Find the files of each layer. To be called before another tree is asked for that must stay as it is: a tar among the
        layers is looked through with the trees of those below it, of which the other one may be made."""
        if self._locate is None:
            return
        for entry, layer in self._found.files():
            self._locate(entry, layer)

    def entries(self) -> Iterator[Entry]:
        """Those of the items. Nobody looks for the content of files: a layer that is but a tar would be looked through."""
        moved, change = self._moved, self._change
        if change is None:
            return (moved(entry) for entry, _ in self._found)
        return (change(Item(moved(entry))).entry for entry, _ in self._found)

    def _each(self) -> Iterator[Item]:
        moved, locate, source = self._moved, self._locate, self._source
        for entry, layer in self._found:
            content = None
            if entry.kind == "file":
                content = locate(entry, layer) if locate is not None else source(entry)
            yield new(Item, (moved(entry), content))

    def _moved(self, entry: Entry) -> Entry:
        path, kind, mode, uid, gid, size, digest, link, rdev, xattrs, mtime = entry
        if kind == "file":
            digest = self._digest(entry)
        # `_replace` would cost twice as much, and there may be many.
        return new(Entry, (path[self._start :], kind, mode, uid, gid, size, digest, link, rdev, xattrs, mtime))


def folder_items(path: bytes, tree: SourceTree) -> FolderItems | TreeItems | None:
    """The folder at `path`, and all below it; None where hard links are among that."""
    match tree:
        case DirectoryContext():
            return FolderItems(path, tree, tree.digest_of)
        case Unread():
            return FolderItems(path, tree.folder, None)
        case Stoppable() if isinstance(tree.tree, DirectoryContext):
            return FolderItems(path, tree.tree, tree.read)
    whole = tree.tree if isinstance(tree, Stoppable) else tree
    # For those who copy from no folder of the host.
    from builder.context.listed import ListedTree
    from builder.layers.index import View

    found = whole.view(path) if isinstance(whole, StackTree | ListedTree) else None
    if found is None:
        found = View.of(below(path, tree))
    return None if found.has_links else TreeItems(path, found, tree)


def below(path: bytes, tree: SourceTree) -> list[Entry]:
    """All entries at and below `path`, bytewise by path."""
    found: list[Entry] = []
    open_ = [path]
    while open_:
        at = open_.pop()
        entry = tree.lookup(at)
        if entry is None:
            continue
        found.append(entry)
        if entry.kind == "dir":
            open_ += [at + b"/" + name if at else name for name in tree.children(at)]
    found.sort(key=_path_of)
    return found


def _path_of(entry: Entry) -> bytes:
    return entry.path
