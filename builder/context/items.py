"""A folder of a context as items: what a COPY takes of it. Each is made when it is asked for, every time anew, since there may
be hundreds of thousands."""

from __future__ import annotations

import stat
from itertools import chain

from builder.layers.entry import Entry, FileSource, Item
from builder.values import new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from typing import TypeVar

    from builder.context.directory import DirectoryContext
    from builder.context.seen import Folder, Row

    Made = TypeVar("Made")
    Owners = dict[Hashable, tuple[bytes, Folder, int]]
    """By inode the path of the file, its folder and its place there."""

_EXPECTED = 64
"""Folders whose records are read at once."""
_TOGETHER = 64
"""Items that are made at once: a file is read after those of its part were looked up, which costs memory and nothing else."""


def described(entry: Entry, *, owners: bool, modes: bool, is_way: bool = False) -> bytes:
    """A line of what makes a content digest (`builder.engine.selection.content_digest`): each field with its length."""
    if entry.kind == "dir" and not entry.path:
        # Of a folder the contents are copied: its own metadata reaches nothing.
        entry = Entry(b"", "dir")
    path, kind, mode, uid, gid, size, content, link, rdev, xattrs, _ = entry
    if kind == "file" and not xattrs and len(content) == 64 and rdev == (0, 0) and not link and not is_way:
        # The same in one piece: there may be many files.
        octal, owner, digits = b"%o" % mode if modes else b"", b"%d:%d" % (uid, gid) if owners else b"", b"%d" % size
        head = (len(path), path, len(octal), octal, len(owner), owner, len(digits), digits, content.encode())
        return b"%d:%s4:file%d:%s%d:%s%d:%s64:%s0:3:0:0\n" % head
    row = [
        path,
        kind.encode(),
        b"%o" % mode if modes else b"",
        b"%d:%d" % (uid, gid) if owners else b"",
        b"%d" % size,
        content.encode(),
        link,
        b"%d:%d" % rdev,
    ]
    for pair in xattrs:
        row += pair
    if is_way:
        row.append(b"way")
    return b"".join([b"%d:%s" % (len(part), part) for part in row]) + b"\n"


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
        expected = 0
        # The list grows while it is walked: folders add those that they hold.
        for number, path in enumerate(folders):
            if number == expected:
                self._context.expect(folders[number : number + _EXPECTED])
                expected = min(len(folders), number + _EXPECTED)
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
        other = FolderItems.__new__(FolderItems)
        other.__dict__.update(self.__dict__)
        other._change = change
        return other

    def __iter__(self) -> Iterator[Item]:
        return map(self._change, self._each()) if self._change is not None else self._each()

    def _each(self) -> Iterator[Item]:
        context = self._context
        root = context.root

        def file(whole: bytes, name: bytes, row: Row, digest: str) -> Item:
            return new(Item, (context.entry(whole, name, row, digest), new(FileSource, (root, whole))))

        return chain.from_iterable(self.parts(file, Item))

    def read_all(self, read: Callable[[bytes], object]) -> None:
        """Have each file read, by its path in the context, whose digest is not known."""
        if self._context.inodes:
            for entry, source in self._each():
                if not entry.digest and isinstance(source, FileSource):
                    read(source.path)
            return
        for path, folder in self._all_folders():
            for name, row, known in zip(folder.names, folder.all(), folder.known):
                if not known and stat.S_ISREG(row[0]):
                    read(path + b"/" + name if path else name)

    def rows(self, *, owners: bool, modes: bool) -> Iterator[list[bytes]] | None:
        """What `described` says of each, some at a time; None where items are changed."""
        if self._change is not None:
            return None
        context = self._context
        owner = b"3:0:0" if owners else b"0:"

        def file(whole: bytes, name: bytes, row: Row, digest: str) -> bytes:
            mode = row[0]
            if mode & 0o111 or len(digest) != 64:
                return described(context.entry(whole, name, row, digest), owners=owners, modes=modes)
            # The same, in one piece.
            octal, digits = b"%o" % (mode & 0o7777) if modes else b"", b"%d" % row[3]
            head = (len(name), name, len(octal), octal, owner, len(digits), digits, digest.encode())
            return b"%d:%s4:file%d:%s%s%d:%s64:%s0:3:0:0\n" % head

        def other(entry: Entry) -> bytes:
            return described(entry, owners=owners, modes=modes)

        return self.parts(file, other)

    def _all_folders(self) -> Iterator[tuple[bytes, Folder]]:
        paths = [self._path]
        # The list grows while it is walked: folders add those that they hold.
        for path in paths:
            folder = self._context.listed(path)
            yield path, folder
            prefix = path + b"/" if path else b""
            paths += [prefix + name for name, row in zip(folder.names, folder.all()) if stat.S_ISDIR(row[0])]

    def parts(self, file: Callable[[bytes, bytes, Row, str], Made], other: Callable[[Entry], Made]) -> Iterator[list[Made]]:
        """All of it in order, some at a time: what `file` makes of a file's path in the context, its relative path, its row and
        its digest, and `other` of the entry of anything else. Changes do not count here."""
        top = self._context.lookup(self._path)
        assert top is not None
        yield [other(top._replace(path=b""))]
        # No recursion: folders may be nested more deeply than Python's calls.
        owners: Owners = {}
        open_ = [self._inside(self._path, owners, file, other)]
        while open_:
            for found in open_[-1]:
                if isinstance(found, bytes):
                    open_.append(self._inside(found, owners, file, other))
                    break
                yield found
            else:
                open_.pop()

    def _inside(
        self,
        path: bytes,
        owners: Owners,
        file: Callable[[bytes, bytes, Row, str], Made],
        other: Callable[[Entry], Made],
    ) -> Iterator[list[Made] | bytes]:
        """What is in the folder; and the path alone of each folder in it, where all that it holds comes."""
        context, read = self._context, self._read
        folder = context.listed(path)
        prefix = path + b"/" if path else b""
        start = len(self._path) + 1 if self._path else 0
        relative = prefix[start:]
        found: list[Made] = []
        # A hard link repeats what was read of its file, which may be the one before.
        together = _TOGETHER if not context.inodes else 1
        # `a.b` stands between `a` and `a/b`.
        inner = sorted((name + b"/" for name, row in zip(folder.names, folder.all()) if stat.S_ISDIR(row[0])), reverse=True)
        for place, (name, row, known) in enumerate(zip(folder.names, folder.all(), folder.known)):
            if (inner and inner[-1] < name) or len(found) >= together:
                yield found
                found = []
            while inner and inner[-1] < name:
                yield prefix + inner.pop()[:-1]
            whole = prefix + name
            if not stat.S_ISREG(row[0]):
                found.append(other(context.entry(whole, relative + name, row, "")))
                continue
            if context.inodes and (inode := context.inodes.get(whole)) is not None:
                owner, owned_in, owner_place = owners.setdefault(inode, (relative + name, folder, place))
                if owner != relative + name:
                    # Only the file itself is ever read.
                    link = context.entry(whole, relative + name, row, owned_in.digest(owner_place))
                    found.append(other(link._replace(kind="hardlink", link=owner)))
                    continue
            digest = folder.digest(place) if known else read(whole) if read is not None else ""
            found.append(file(whole, relative + name, row, digest))
        yield found
        while inner:
            yield prefix + inner.pop()[:-1]
