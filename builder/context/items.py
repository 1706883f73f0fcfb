"""A folder of a context as items: what a COPY takes of it. Each is made when it is asked for, every time anew, since there may
be hundreds of thousands."""

from __future__ import annotations

import stat
from copy import copy

from builder.layers.entry import FileSource, Item
from builder.values import new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from builder.context.directory import DirectoryContext
    from builder.context.seen import Folder

    Owners = dict[Hashable, tuple[bytes, Folder, int]]
    """By inode the path of the file, its folder and its place there."""


class FolderItems:
    """A collection of the folder itself and all below, bytewise by path, which is relative to the folder. Of hard links the
    first is the file. `read` gives the digests that are not known, by the path in the context; without it they are empty for as
    long as nobody else has read the file."""

    def __init__(self, path: bytes, context: DirectoryContext, read: Callable[[bytes], str] | None) -> None:
        """`path` is that of a folder."""
        self._path = path
        self._context = context
        self._read = read
        self._change: Callable[[Item], Item] | None = None
        self._count = 1
        self.unread = self.unread_bytes = 0
        """Names of files without a digest."""
        self.longest = 0
        """Bytes of a relative path, at most."""
        self.has_links = False
        self._survey()

    def _survey(self) -> None:
        folders = [self._path]
        start = len(self._path) + 1 if self._path else 0
        inodes: set[Hashable] = set()
        # The list grows while it is walked: folders add those that they hold.
        for path in folders:
            folder = self._context.listed(path)
            prefix = path + b"/" if path else b""
            self._count += len(folder.names)
            self.longest = max(self.longest, len(prefix) - start + max(map(len, folder.names), default=0))
            for name, row, known in zip(folder.names, folder.all(), folder.known):
                mode = row[0]
                if stat.S_ISDIR(mode):
                    folders.append(prefix + name)
                elif stat.S_ISREG(mode):
                    # Each name, since which of them is read is a matter of their order.
                    if not known:
                        self.unread += 1
                        self.unread_bytes += row[3]
                    if self._context.inodes and (inode := self._context.inodes.get(prefix + name)) is not None:
                        self.has_links = self.has_links or inode in inodes
                        inodes.add(inode)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, item: object) -> bool:
        return any(item == each for each in self)

    def changed(self, change: Callable[[Item], Item]) -> FolderItems:
        """The same items, each as `change` makes it; their paths and kinds stay."""
        other = copy(self)
        other._change = change
        return other

    def __iter__(self) -> Iterator[Item]:
        return map(self._change, self._each()) if self._change is not None else self._each()

    def _each(self) -> Iterator[Item]:
        top = self._context.lookup(self._path)
        assert top is not None
        yield Item(top._replace(path=b""))
        # No recursion: folders may be nested more deeply than Python's calls.
        owners: Owners = {}
        open_ = [self._inside(self._path, owners)]
        while open_:
            for found in open_[-1]:
                if isinstance(found, bytes):
                    open_.append(self._inside(found, owners))
                    break
                yield found
            else:
                open_.pop()

    def _inside(self, path: bytes, owners: Owners) -> Iterator[Item | bytes]:
        """What is in the folder; and the path alone of each folder in it, where all that it holds comes."""
        context, read = self._context, self._read
        folder = context.listed(path)
        prefix = path + b"/" if path else b""
        start = len(self._path) + 1 if self._path else 0
        relative = prefix[start:]
        # `a.b` stands between `a` and `a/b`.
        inner = sorted((name + b"/" for name, row in zip(folder.names, folder.all()) if stat.S_ISDIR(row[0])), reverse=True)
        for place, (name, row, known) in enumerate(zip(folder.names, folder.all(), folder.known)):
            while inner and inner[-1] < name:
                yield prefix + inner.pop()[:-1]
            whole = prefix + name
            if not stat.S_ISREG(row[0]):
                yield new(Item, (context.entry(whole, relative + name, row, ""), None))
                continue
            if context.inodes and (inode := context.inodes.get(whole)) is not None:
                owner, owned_in, owner_place = owners.setdefault(inode, (relative + name, folder, place))
                if owner != relative + name:
                    # Only the file itself is ever read.
                    link = context.entry(whole, relative + name, row, owned_in.digest(owner_place))
                    yield Item(link._replace(kind="hardlink", link=owner))
                    continue
            digest = folder.digest(place) if known else read(whole) if read is not None else ""
            entry = context.entry(whole, relative + name, row, digest)
            yield new(Item, (entry, new(FileSource, (context.root, whole))))
        while inner:
            yield prefix + inner.pop()[:-1]
