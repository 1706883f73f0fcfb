"""Items at hand as a build context: what a tar holds, or the files of a commit. Nothing of them is a file of the host.

They arrive as the files of a folder do: owned by 0:0, with their permission bits, file capabilities and true times; other
extended attributes stay behind (`builder.context.directory`).
"""

from __future__ import annotations

import hashlib
from array import array

from builder.context.ignoring import MAX_IGNORED_DEPTH, NothingIgnored, too_deep
from builder.errors import BuildError, UsageError
from builder.layers.codec import Columns
from builder.layers.entry import RangeSource
from builder.layers.index import Tree
from builder.layers.resolve import resolve
from builder.layers.rows import Rows
from builder.layers.settle import settle
from builder.layers.source import SourcesPool
from builder.layers.tarreader import read_tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from builder.context.ignoring import Ignore
    from builder.layers.entry import Entry, Item, Source
    from builder.layers.index import View


class Packed:
    """What a plain archive holds, in canonical order: 140 bytes a file, where items take 1,000."""

    def __init__(self, tar: str, rows: Rows, offsets: array[int]) -> None:
        """`offsets` say where in the tar the content of each file begins, by its place in the rows."""
        self.rows = rows
        self._tar = tar
        self._offsets = offsets
        self._digests = bytearray(32 * len(rows))
        # Set once the digest is there: several threads look.
        self._known = bytearray(len(rows))

    def source(self, entry: Entry) -> Source:
        return RangeSource(self._tar, self._offsets[self._place(entry.path)], entry.size)

    def known(self, path: bytes) -> str:
        place = self._place(path)
        return self._digests[32 * place : 32 * place + 32].hex() if self._known[place] else ""

    def learn(self, path: bytes, digest: str) -> None:
        place = self._place(path)
        self._digests[32 * place : 32 * place + 32] = bytes.fromhex(digest)
        self._known[place] = 1

    def _place(self, path: bytes) -> int:
        place = self.rows.find(path)
        if place < 0:
            raise KeyError(path)
        return place


class ListedTree:
    """A source tree for COPY, for several threads. `close` it."""

    def __init__(self, items: Iterable[Item] | Packed) -> None:
        """`items` are canonical and unique, hard links after the file that they name."""
        self._tree = Tree()
        self._packed = items if isinstance(items, Packed) else None
        self._sources: dict[bytes, Source] = {}
        self._ignore: Ignore = NothingIgnored()
        self._ignores = False
        self._pool = SourcesPool()
        self._children: dict[bytes, list[bytes]] = {}
        self._seen: set[bytes] = set()
        self._digests: dict[bytes, str] = {}
        if isinstance(items, Packed):
            self._tree.apply(items.rows, 0)
            return
        entries = []
        for item in items:
            entry = _plain(item.entry)
            source = self._sources.get(entry.link) if entry.kind == "hardlink" else item.source
            if source is not None:
                self._sources[entry.path] = source
            entries.append(entry)
        self._tree.apply(entries, 0)

    def leave_out(self, ignore: Ignore) -> None:
        """From now on, what `ignore` says is not there. To be called once, before others use the tree."""
        self._ignore = ignore
        self._ignores = True
        self._children.clear()

    def close(self) -> None:
        self._pool.close()

    def lookup(self, path: bytes) -> Entry | None:
        entry = self._tree.lookup(path)
        if entry is None or not self._ignores or not path or path in self._seen:
            return entry
        at = b""
        for name in path.split(b"/"):
            at = at + b"/" + name if at else name
            if at not in self._seen:
                if not self._stays(at):
                    return None
                self._seen.add(at)
        return entry

    def children(self, path: bytes) -> list[bytes]:
        names = self._children.get(path)
        if names is None:
            prefix = path + b"/" if path else b""
            names = self._tree.children(path)
            if self._ignores:
                names = [name for name in names if self._stays(prefix + name)]
            self._children[path] = names
        return names

    def view(self, path: bytes) -> View | None:
        """All at the path and below it; None where something may be left out of that."""
        return None if self._ignores else self._tree.view(path)

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        return resolve(path, self.lookup, follow_last=follow_last)

    def ignored(self, path: bytes) -> bool:
        return self._ignore.ignored(path)

    def source(self, entry: Entry) -> Source:
        return self._packed.source(entry) if self._packed is not None else self._sources[entry.path]

    def digest(self, entry: Entry) -> str:
        if entry.digest:
            return entry.digest
        owner = entry.link if entry.kind == "hardlink" else entry.path
        packed = self._packed
        known = packed.known(owner) if packed is not None else self._digests.get(owner, "")
        if not known:
            digest = hashlib.sha256()
            with self._pool.borrowed() as sources:
                for chunk in sources.chunks(self.source(entry)):
                    digest.update(chunk)
            known = digest.hexdigest()
            if packed is not None:
                packed.learn(owner, known)
            else:
                self._digests[owner] = known
        return known

    def inode(self, entry: Entry) -> Hashable | None:
        return entry.link if entry.kind == "hardlink" else entry.path

    def _stays(self, path: bytes) -> bool:
        """Whether it is there once its folders are: not ignored, or a folder with something inside that `!` brings back."""
        if not self._ignore.ignored(path):
            return True
        entry = self._tree.lookup(path)
        if entry is None or entry.kind != "dir" or not self._ignore.may_contain(path):
            return False
        if path.count(b"/") > MAX_IGNORED_DEPTH:
            raise too_deep()
        return bool(self.children(path))


def read_archive(path: str, name: str) -> ListedTree:
    """The uncompressed tar file at `path`, which must live and stay as it is as long as the tree.

    As Docker unpacks one, in a folder of its own: later members replace earlier ones, names lose a leading `/`, links are
    followed inside alone. Raises UsageError, which calls the archive `name`, for what is damaged and for a name or a hard link
    that leads out.
    """
    try:
        found = _packed(path, name)
        return ListedTree(found or settle(read_tar(path, whiteouts=False, name=name), Tree()).items)
    except BuildError as error:
        if type(error) is not BuildError:
            raise
        message = error.message if name in error.message else f"{name} is no build context: {error.message}"
        raise UsageError(message, hint=error.hint or "make the archive again") from error


def _packed(path: str, name: str) -> Packed | None:
    """What `settle` would make of the archive where each name stands once, after or before its folder, and none is a hard link;
    else None, when it is to be read once more. Raises as `read_tar`."""
    columns, offsets, paths = Columns(), array("Q"), []
    for entry, source in read_tar(path, whiteouts=False, name=name, repeats=False):
        if entry.kind == "hardlink" or (entry.kind == "char" and entry.rdev == (0, 0)):
            return None
        if not (source is None or isinstance(source, RangeSource)):
            return None
        columns.add(_plain(entry))
        offsets.append(source.offset if source is not None else 0)
        paths.append(entry.path)
    order = sorted(range(len(paths)), key=paths.__getitem__)
    del paths
    found = Rows(columns.dump())
    columns = Columns()
    for place in order:
        columns.add(found[place])
    rows = Rows(columns.dump())
    if not rows.is_plain or rows.outside:
        return None
    return Packed(path, rows, array("Q", map(offsets.__getitem__, order)))


def _plain(entry: Entry) -> Entry:
    """As a file of the user's own folder would arrive."""
    runs = entry.kind in ("file", "hardlink") and entry.mode & 0o111
    xattrs = tuple(pair for pair in entry.xattrs if pair[0] == b"security.capability") if runs else ()
    return entry._replace(uid=0, gid=0, xattrs=xattrs)
