"""A folder of the host as a build context: walked only where a COPY looks, read only when its content is asked for.

Context files arrive as 0:0 (SPEC section 2, "Owners"), with their permission bits, file capabilities and true times. Other
extended attributes stay behind: a checkout does not carry them, and a desktop's would make equal sources different images.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from _thread import RLock  # `threading` costs 1 ms at start

from builder.cancellation import NEVER
from builder.context import lookback
from builder.context.hints import key
from builder.context.seen import Folder, Seen, packed, row_of
from builder.errors import BuildError
from builder.layers.entry import Entry, FileSource
from builder.layers.names import show
from builder.layers.resolve import resolve
from builder.layers.source import CHUNK, SourcesPool, changed

MAX_IGNORED_DEPTH = 200
"""Levels of ignored folders that are searched for what `!` brings back. The search recurses, and nobody nests that deeply."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from typing import Protocol

    from builder.cancellation import Cancellation
    from builder.context.hints import Hints
    from builder.context.seen import Row
    from builder.layers.entry import Kind

    Xattrs = tuple[tuple[bytes, bytes], ...]

    class Ignore(Protocol):
        """What .dockerignore says (`builder.dockerfile.ignore.Matcher`)."""

        def ignored(self, path: bytes) -> bool: ...

        def may_contain(self, directory: bytes) -> bool: ...

        def leaves_nothing_of(self, source: str) -> bool: ...


class NothingIgnored:
    """A context without .dockerignore."""

    def ignored(self, path: bytes) -> bool:
        return False

    def may_contain(self, directory: bytes) -> bool:
        return True

    def leaves_nothing_of(self, source: str) -> bool:
        return False


_NO_DEVICE = (0, 0)
_KINDS: dict[int, Kind] = {8: "file", 4: "dir", 10: "symlink", 1: "fifo", 2: "char", 6: "block"}
"""By the type in a mode (inode(7)); sockets are left out."""
_new = tuple.__new__


class DirectoryContext:
    """A source tree for COPY, for several threads. `close` it.

    `warn` is told of what cannot be in an image (sockets). With `hints`, which must be new, files that did not change since an
    earlier build are not read. Methods raise BuildError for what cannot be read, Interrupted once `stop` was cancelled.
    """

    def __init__(
        self,
        root: str,
        ignore: Ignore,
        warn: Callable[[str], None],
        hints: Hints | None = None,
        stop: Cancellation = NEVER,
    ) -> None:
        self.root = os.path.abspath(root)
        self._stop = stop
        self._hints = hints
        if hints is not None:
            hints.ask(self._sure_rows)
        self._ignore = ignore
        self._warn = warn
        self._sources = SourcesPool()
        # Held while a folder is listed: what comes of it is seen whole or not at all, and is warned of once.
        self._listing = RLock()
        # Held while a digest becomes known.
        self._learning = RLock()
        self._folders: dict[bytes, Folder] = {}
        # What few have, by path.
        self.inodes: dict[bytes, Hashable] = {}
        """Of files with more names than one, what they share."""
        self._links: dict[bytes, bytes] = {}
        self._capable: dict[bytes, Xattrs] = {}
        self._devices: dict[bytes, tuple[int, int]] = {}
        # A file is asked for when it is opened, and once more when it was read.
        self._last: tuple[bytes, tuple[Folder, int] | None] = (b"", None)
        self._root = Seen(*row_of(os.stat(self.root)))

    def close(self) -> None:
        self._sources.close()

    def lookup(self, path: bytes) -> Entry | None:
        info = self._seen(path)
        return None if info is None else self.entry(path, path, info, "")

    def _seen(self, path: bytes) -> Seen | None:
        """What stat said of it; what is above is listed first."""
        found = self._find(path)
        if found is not None:
            return found[0].seen(found[1])
        return None if path else self._root

    def _find(self, path: bytes) -> tuple[Folder, int] | None:
        """The folder that has it, and its place there; None for what is not there, and for the root."""
        last, found = self._last
        if last is path or not path:
            return found if path else None
        above, _, name = path.rpartition(b"/")
        folder = self._folders.get(above) or self._reach(above)
        place = folder.place(name) if folder is not None else -1
        if folder is None or place < 0:
            return None
        found = folder, place
        self._last = path, found
        return found

    def _reach(self, path: bytes) -> Folder | None:
        """The folder at the path, listed after all above it; None for what is no folder."""
        folder, at = self._listed(b""), b""
        for name in path.split(b"/") if path else ():
            place = folder.place(name)
            if place < 0 or not stat.S_ISDIR(folder.seen(place).st_mode):
                return None
            at = at + b"/" + name if at else name
            folder = self._listed(at)
        return folder

    def children(self, path: bytes) -> list[bytes]:
        return self._listed(path).names

    def listed(self, path: bytes) -> Folder:
        """What is in the folder, with what is known of it from earlier builds."""
        folder = self._listed(path)
        self._recall(path, folder)
        return folder

    def _listed(self, path: bytes) -> Folder:
        folder = self._folders.get(path)
        if folder is None:
            with self._listing:
                folder = self._folders.get(path)
                if folder is None:
                    folder = self._folders[path] = self._list(path)
        return folder

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        return resolve(path, self.lookup, follow_last=follow_last)

    def ignored(self, path: bytes) -> bool:
        return self._ignore.ignored(path)

    def source(self, entry: Entry) -> FileSource:
        return FileSource(self.root, entry.path)

    def digest(self, entry: Entry) -> str:
        return self.digest_of(entry.path)

    def digest_of(self, path: bytes) -> str:
        """sha256 of the content of the file, which was looked up, in hex."""
        return self.known(path) or self._read(path)

    def known(self, path: bytes) -> str:
        """The file's digest where it need not be read for it, else nothing."""
        found = self._find(path)
        if found is None:
            return ""
        folder, place = found
        if not folder.known[place]:
            self._recall(path.rpartition(b"/")[0], folder)
        return folder.digest(place)

    def _recall(self, path: bytes, folder: Folder) -> None:
        """All that was kept of the folder's files, at once."""
        if folder.is_recalled:
            return
        with self._learning:
            rows = self._hints.recall(path) if self._hints is not None else {}
            if rows and self._hints is not None:
                device = self._hints.device()
                for place, (name, row) in enumerate(zip(folder.names, folder.all())):
                    if row[1] != device or folder.known[place] or not stat.S_ISREG(row[0]):
                        continue
                    digest = rows.get(key(name, row))
                    if digest is not None:
                        folder.learn(place, digest)
                        folder.vouched[place] = 1
            folder.is_recalled = True

    def opened(self, source: FileSource, file: int, info: os.stat_result) -> None:
        """Somebody else is about to read a file of the context, and will say what was in it (`learn`)."""
        found = self._find(source.path) if source.root == self.root else None
        if found is None:
            return
        folder, place = found
        # Before it is read: what changes it from here on changes its times.
        if self._hints is not None and self._hints.holds(file, info, folder.seen(place)):
            folder.held[place] = 1
        else:
            folder.unsteady[place] = 1

    def learn(self, source: FileSource, digest: str) -> None:
        """What was read of a file that was `opened`. Raises BuildError where somebody read something else before: one name has
        one content in a build."""
        found = self._find(source.path) if source.root == self.root else None
        if found is None:
            return
        folder, place = found
        with self._learning:
            if not folder.known[place]:
                folder.learn(place, digest)
            elif folder.digest(place) != digest:
                raise changed(source.path)
            if folder.held[place] and not folder.unsteady[place] and not folder.vouched[place] and self._hints is not None:
                folder.vouched[place] = 1
                self._hints.learned(source.path.rpartition(b"/")[0], folder.seen(place).st_size)

    def _read(self, path: bytes) -> str:
        digest = hashlib.sha256()
        source = FileSource(self.root, path)
        with self._sources.borrowed() as sources:
            file = sources.open(source)
            try:
                self.opened(source, file, os.fstat(file))
                while chunk := os.read(file, CHUNK):
                    self._stop.check()
                    digest.update(chunk)
            finally:
                os.close(file)
        self.learn(source, digest.hexdigest())
        return self.known(path)

    def _sure_rows(self, path: bytes) -> list[tuple[bytes, str]]:
        """What may be believed next time of the files in the folder: what stat says of each, and the digest."""
        folder = self._folders.get(path)
        if folder is None:
            return []
        sure = zip(folder.names, folder.all(), folder.vouched, range(len(folder.names)))
        return [(key(name, row), folder.digest(place)) for name, row, vouched, place in sure if vouched]

    # Looking back: sources are names, and paths that were looked up.

    def recall(self, spec: bytes, sources: Sequence[tuple[bytes, bytes]]) -> str:
        """The content's digest that `keep` was given for these sources, where stat says that all of them are as they were;
        else empty. No file is read."""
        hints = self._hints
        if hints is None:
            return ""
        looks, content = hints.selection(spec)
        if not looks:
            return ""
        try:
            found = lookback.digest(self._told(sources), self._look, hints.device())
        except (lookback.Unsure, OSError):
            # The longer way says what is wrong.
            return ""
        return content if found == looks else ""

    def keep(self, spec: bytes, sources: Sequence[tuple[bytes, bytes]], content: str) -> None:
        """Remember the content's digest of what was just selected, where stat can vouch for all of it."""
        hints = self._hints
        if hints is None:
            return
        try:
            told = self._told(sources)
            for _, path, info in told:
                found = self._find(path)
                if found is None or not found[0].vouched[found[1]]:
                    _check_sure(info, hints)
            looks = lookback.digest(told, lambda folder: self._vouched(folder, hints), hints.device())
        except lookback.Unsure:
            # What is known of it from before is not confirmed.
            hints.drop_selection(spec)
            return
        hints.keep_selection(spec, looks, content)

    def _told(self, sources: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, Row]]:
        told: list[tuple[bytes, bytes, Row]] = []
        for name, path in sources:
            info = self._seen(path)
            if info is None:
                raise lookback.Unsure
            told.append((name, path, info))
        return told

    def _look(self, folder: bytes) -> list[tuple[bytes, Row]]:
        """What is in the folder now, but for what is ignored."""
        out: list[tuple[bytes, Row]] = []
        with os.scandir(os.path.join(os.fsencode(self.root), folder) if folder else os.fsencode(self.root)) as listed:
            for item in listed:
                path = folder + b"/" + item.name if folder else item.name
                if not self._is_left_out(path, item):
                    out.append((item.name, row_of(item.stat(follow_symlinks=False))))
        # No name comes twice.
        out.sort()
        return out

    def _vouched(self, path: bytes, hints: Hints) -> Iterator[tuple[bytes, Row]]:
        """What was in the folder when it was listed. Raises Unsure for what may have changed since without another stat."""
        folder = self._folders.get(path)
        if folder is None:
            return
        for name, row, vouched in zip(folder.names, folder.all(), folder.vouched):
            if not vouched:
                _check_sure(row, hints)
            yield name, row

    def inode(self, entry: Entry) -> Hashable | None:
        return self.inodes.get(entry.path)

    def _list(self, folder: bytes) -> Folder:
        where = os.path.join(os.fsencode(self.root), folder) if folder else os.fsencode(self.root)
        found: list[tuple[bytes, bytes | Seen]] = []
        # What there is more to ask of than stat, and what an ignored folder must have inside to be there.
        more: list[tuple[bytes, int]] = []
        ignored: set[bytes] = set()
        try:
            with os.scandir(where) as listed:
                for item in listed:
                    name = item.name
                    path = folder + b"/" + name if folder else name
                    if self._ignore.ignored(path):
                        if not (item.is_dir(follow_symlinks=False) and self._ignore.may_contain(path)):
                            continue
                        ignored.add(name)
                    info = self._stat(path, item)
                    found.append((name, packed(info)))
                    mode = info.st_mode
                    if not stat.S_ISREG(mode) or mode & 0o111:
                        more.append((name, mode))
                        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                            self._devices[path] = (os.major(info.st_rdev), os.minor(info.st_rdev))
                    if stat.S_ISREG(mode) and info.st_nlink > 1:
                        self.inodes[path] = (info.st_dev, info.st_ino)
        except PermissionError as error:
            raise BuildError(
                f"the folder '{show(folder)}' of the context cannot be read: permission denied",
                hint="make it readable, or name it in .dockerignore",
            ) from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise changed(folder) from error
        more.sort()
        gone = set()
        for name, mode in more:
            # No comprehension: folders in ignored folders are listed by recursion.
            if not self._stays(folder, name, mode, is_ignored=name in ignored):
                gone.add(name)
        found = sorted(one for one in found if one[0] not in gone) if gone else sorted(found)
        return Folder([name for name, _ in found], [row for _, row in found])

    def _stat(self, path: bytes, item: os.DirEntry[bytes]) -> os.stat_result:
        try:
            return item.stat(follow_symlinks=False)
        except FileNotFoundError as error:
            raise changed(path) from error

    def _stays(self, folder: bytes, name: bytes, mode: int, *, is_ignored: bool) -> bool:
        """Whether it is part of the context; what stat does not say of it becomes known."""
        path = folder + b"/" + name if folder else name
        if is_ignored:
            # An ignored folder is there only for the sake of what `!` brings back inside it.
            return bool(self._inside_ignored(path).names)
        if stat.S_ISSOCK(mode):
            self._warn(f"the socket '{show(path)}' of the context is left out: an image cannot hold sockets")
            return False
        where = os.path.join(os.fsencode(self.root), path)
        if stat.S_ISLNK(mode):
            try:
                self._links[path] = os.readlink(where)
            except OSError as error:
                # EINVAL: the link became something else.
                if error.errno not in (errno.ENOENT, errno.EINVAL):
                    raise
                raise changed(path) from error
        elif stat.S_ISREG(mode) and (xattrs := _capabilities(where)):
            self._capable[path] = xattrs
        return True

    def _is_left_out(self, path: bytes, item: os.DirEntry[bytes]) -> bool:
        if not self._ignore.ignored(path):
            return False
        if not (item.is_dir(follow_symlinks=False) and self._ignore.may_contain(path)):
            return True
        return not self._inside_ignored(path).names

    def _inside_ignored(self, folder: bytes) -> Folder:
        if folder.count(b"/") > MAX_IGNORED_DEPTH:
            raise too_deep()
        return self._listed(folder)

    def entry(self, path: bytes, name: bytes, row: Row, digest: str) -> Entry:
        """What is at `path`, of which stat said this, under another name."""
        mode, _, _, size, mtime, _ = row
        kind = _KINDS[mode >> 12]
        # All fields, in order: names of fields cost 3 us, and there may be many files.
        if kind == "file":
            xattrs = self._capable.get(path, ()) if mode & 0o111 else ()
            return _new(Entry, (name, kind, mode & 0o7777, 0, 0, size, digest, b"", _NO_DEVICE, xattrs, mtime))
        if kind == "symlink":
            return _new(Entry, (name, kind, 0o777, 0, 0, 0, "", self._links[path], _NO_DEVICE, (), mtime))
        return _new(Entry, (name, kind, mode & 0o7777, 0, 0, 0, "", b"", self._devices.get(path, _NO_DEVICE), (), mtime))


def _check_sure(row: Row, hints: Hints) -> None:
    if stat.S_ISDIR(row[0]) or (not stat.S_ISREG(row[0]) and hints.is_old(row[5])):
        return
    raise lookback.Unsure


def too_deep() -> BuildError:
    return BuildError(
        f"folders of the context that .dockerignore leaves out are nested more than {MAX_IGNORED_DEPTH} levels deep",
        hint="write the pattern with '!' so that it does not begin with '*', or leave the folder out by a later line",
    )


def _capabilities(path: bytes) -> Xattrs:
    """capabilities(7) of a program, which somebody set on purpose; asked for where a file can be run."""
    try:
        return ((b"security.capability", os.getxattr(path, "security.capability", follow_symlinks=False)),)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT):
            return ()
        raise
