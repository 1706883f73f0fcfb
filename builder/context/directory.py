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
from builder.context.seen import Sight
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
    from builder.context.seen import Info, Seen

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
        self._stats: dict[bytes, Seen] = {}
        self._sight = Sight()
        self._ignore = ignore
        self._warn = warn
        self._sources = SourcesPool()
        # Held while a folder is listed: what comes of it is seen whole or not at all, and is warned of once.
        self._listing = RLock()
        self._entries: dict[bytes, Entry] = {}
        self._children: dict[bytes, list[bytes]] = {}
        self._inodes: dict[bytes, Hashable] = {}
        self._digests: dict[bytes, str] = {}
        # Files that hold still since they were opened.
        self._held: set[bytes] = set()
        # Files that did not, when anybody opened them: who had them first may have read what was there before.
        self._unsteady: set[bytes] = set()
        info = self._stats[b""] = self._sight.seen(os.stat(self.root))
        self._entries[b""] = Entry(b"", "dir", stat.S_IMODE(info.st_mode), mtime=info.st_mtime_ns)

    def close(self) -> None:
        self._sources.close()

    def lookup(self, path: bytes) -> Entry | None:
        entry = self._entries.get(path)
        if entry is not None:
            return entry
        at = b""
        for name in path.split(b"/"):
            parent = self._entries.get(at)
            if parent is None or parent.kind != "dir":
                return None
            self.children(at)
            at = at + b"/" + name if at else name
        return self._entries.get(at)

    def children(self, path: bytes) -> list[bytes]:
        names = self._children.get(path)
        if names is None:
            with self._listing:
                names = self._children.get(path)
                if names is None:
                    names = self._children[path] = self._list(path)
        return names

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
        known = self._digests.get(path, "")
        if not known and self._hints is not None:
            info = self._stats.get(path)
            if info is not None and (known := self._hints.recall(path, info)):
                self._digests[path] = known
        return known

    def opened(self, source: FileSource, file: int) -> None:
        """Somebody else is about to read a file of the context, and will say what was in it (`learn`)."""
        info = self._stats.get(source.path)
        # Before it is read: what changes it from here on changes its times.
        if info is not None and self._hints is not None and self._hints.holds(file, info):
            self._held.add(source.path)
        else:
            self._unsteady.add(source.path)

    def learn(self, path: bytes, digest: str) -> None:
        """What was read of a file that was `opened`. Raises BuildError where somebody read something else before: one name has
        one content in a build."""
        if self._digests.setdefault(path, digest) != digest:
            raise changed(path)
        if path in self._held and path not in self._unsteady and self._hints is not None:
            self._hints.remember(path, self._stats[path], digest)

    def _read(self, path: bytes) -> str:
        digest = hashlib.sha256()
        with self._sources.borrowed() as sources:
            source = FileSource(self.root, path)
            file = sources.open(source)
            try:
                self.opened(source, file)
                while chunk := os.read(file, CHUNK):
                    self._stop.check()
                    digest.update(chunk)
            finally:
                os.close(file)
        self.learn(path, digest.hexdigest())
        return self._digests[path]

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
                self._check_sure(path, info)
            looks = lookback.digest(told, self._vouched, hints.device())
        except lookback.Unsure:
            # What is known of it from before is not confirmed.
            hints.drop_selection(spec)
            return
        hints.keep_selection(spec, looks, content)

    def _told(self, sources: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, Info]]:
        return [(name, path, self._stats[path]) for name, path in sources]

    def _look(self, folder: bytes) -> list[tuple[bytes, Info]]:
        """What is in the folder now, but for what is ignored."""
        out: list[tuple[bytes, Info]] = []
        with os.scandir(os.path.join(os.fsencode(self.root), folder) if folder else os.fsencode(self.root)) as listed:
            for item in listed:
                path = folder + b"/" + item.name if folder else item.name
                if not self._is_left_out(path, item):
                    out.append((item.name, item.stat(follow_symlinks=False)))
        # No name comes twice.
        out.sort()
        return out

    def _vouched(self, folder: bytes) -> Iterator[tuple[bytes, Info]]:
        """What was in the folder when it was listed. Raises Unsure for what may have changed since without another stat."""
        for name in self._children.get(folder, ()):
            path = folder + b"/" + name if folder else name
            info = self._stats[path]
            self._check_sure(path, info)
            yield name, info

    def _check_sure(self, path: bytes, info: Info) -> None:
        hints = self._hints
        if stat.S_ISREG(info.st_mode):
            sure = hints is not None and hints.vouches(path, info)
        else:
            sure = stat.S_ISDIR(info.st_mode) or (hints is not None and hints.is_old(info))
        if not sure:
            raise lookback.Unsure

    def inode(self, entry: Entry) -> Hashable | None:
        return self._inodes.get(entry.path)

    def _list(self, folder: bytes) -> list[bytes]:
        names: list[bytes] = []
        entries: dict[bytes, Entry] = {}
        where = os.path.join(os.fsencode(self.root), folder) if folder else os.fsencode(self.root)
        try:
            with os.scandir(where) as listed:
                found = sorted(listed, key=lambda entry: entry.name)
        except PermissionError as error:
            raise BuildError(
                f"the folder '{show(folder)}' of the context cannot be read: permission denied",
                hint="make it readable, or name it in .dockerignore",
            ) from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise changed(folder) from error
        for item in found:
            path = folder + b"/" + item.name if folder else item.name
            if self._is_left_out(path, item):
                continue
            entry = self._entry(path, item)
            if entry is not None:
                entries[path] = entry
                names.append(item.name)
        self._entries.update(entries)
        return names

    def _is_left_out(self, path: bytes, item: os.DirEntry[bytes]) -> bool:
        if not self._ignore.ignored(path):
            return False
        if not (item.is_dir(follow_symlinks=False) and self._ignore.may_contain(path)):
            return True
        # An ignored folder is there only for the sake of what `!` brings back inside it.
        return not self._inside_ignored(path)

    def _inside_ignored(self, folder: bytes) -> list[bytes]:
        if folder.count(b"/") > MAX_IGNORED_DEPTH:
            raise too_deep()
        return self.children(folder)

    def _entry(self, path: bytes, item: os.DirEntry[bytes]) -> Entry | None:
        try:
            info = item.stat(follow_symlinks=False)
            link = os.readlink(item.path) if stat.S_ISLNK(info.st_mode) else b""
        except OSError as error:
            # EINVAL: the link became something else.
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise
            raise changed(path) from error
        mode = stat.S_IMODE(info.st_mode)
        seen = self._sight.seen(info)
        if self._hints is not None:
            self._stats[path] = seen
        match stat.S_IFMT(info.st_mode):
            case stat.S_IFREG:
                xattrs = _capabilities(item.path) if mode & 0o111 else ()
                # All of them, in order: names of fields cost 3 us, and there may be many files.
                entry = Entry(path, "file", mode, 0, 0, seen.st_size, "", b"", _NO_DEVICE, xattrs, seen.st_mtime_ns)
                if info.st_nlink > 1:
                    self._inodes[path] = (seen.st_dev, seen.st_ino)
            case stat.S_IFDIR:
                entry = Entry(path, "dir", mode, mtime=info.st_mtime_ns)
            case stat.S_IFLNK:
                entry = Entry(path, "symlink", 0o777, link=link, mtime=info.st_mtime_ns)
            case stat.S_IFIFO:
                entry = Entry(path, "fifo", mode, mtime=info.st_mtime_ns)
            case stat.S_IFCHR | stat.S_IFBLK as kind:
                rdev = (os.major(info.st_rdev), os.minor(info.st_rdev))
                entry = Entry(path, "char" if kind == stat.S_IFCHR else "block", mode, rdev=rdev, mtime=info.st_mtime_ns)
            case _:
                self._warn(f"the socket '{show(path)}' of the context is left out: an image cannot hold sockets")
                return None
        return entry


def too_deep() -> BuildError:
    return BuildError(
        f"folders of the context that .dockerignore leaves out are nested more than {MAX_IGNORED_DEPTH} levels deep",
        hint="write the pattern with '!' so that it does not begin with '*', or leave the folder out by a later line",
    )


def _capabilities(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """capabilities(7) of a program, which somebody set on purpose; asked for where a file can be run."""
    try:
        return ((b"security.capability", os.getxattr(path, "security.capability", follow_symlinks=False)),)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT):
            return ()
        raise
