"""A folder of the host as a build context: walked only where a COPY looks, read only when its content is asked for.

Context files arrive as 0:0 (SPEC section 2, "Owners"), with their permission bits, file capabilities and true times. Other
extended attributes stay behind: a checkout does not carry them, and a desktop's would make equal sources different images.
"""

from __future__ import annotations

import os
import stat
from _thread import RLock  # `threading` costs 1 ms at start

from builder.cancellation import NEVER
from builder.context import lookback
from builder.context.folders import Folders
from builder.context.hints import key
from builder.context.seen import row_of
from builder.hashing import sha256
from builder.layers.entry import FileSource
from builder.layers.leases import may_be_written
from builder.layers.resolve import resolve
from builder.layers.source import CHUNK, SourcesPool, changed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from builder.cancellation import Cancellation
    from builder.context.hints import Hints, Opened
    from builder.context.ignoring import Ignore
    from builder.context.seen import Folder, Row
    from builder.layers.entry import Entry

_SMALL = 1 << 16
"""Bytes that are read at once: who opens the file for writing meanwhile waits so long."""


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
        self._sources = SourcesPool()
        # Held while a digest becomes known.
        self._learning = RLock()
        self._folders = Folders(self.root, ignore, warn)
        self.entry = self._folders.entry
        self.inodes = self._folders.inodes

    def close(self) -> None:
        self._sources.close()

    def lookup(self, path: bytes) -> Entry | None:
        info = self._folders.seen(path)
        return None if info is None else self.entry(path, path, info, "")

    def children(self, path: bytes) -> list[bytes]:
        return self._folders.listed(path).names

    def listed(self, path: bytes) -> Folder:
        """What is in the folder, with what is known of it from earlier builds."""
        folder = self._folders.listed(path)
        self._recall(path, folder)
        return folder

    def expect(self, paths: Sequence[bytes]) -> None:
        """These folders are going to be `listed`."""
        if self._hints is not None:
            known = self._folders.known
            self._hints.expect([path for path in paths if (folder := known(path)) is None or not folder.is_recalled])

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
        found = self._folders.find(path)
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
        found = self._folders.find(source.path) if source.root == self.root else None
        if found is None:
            return
        folder, place = found
        # Before it is read: what changes it from here on changes its times.
        opened = (info.st_ino, info.st_ctime_ns, info.st_size)
        is_steady = (
            self._hints is not None
            and self._hints.holds(opened, folder.seen(place))
            and not may_be_written(file, briefly=info.st_size <= _SMALL)
        )
        (folder.held if is_steady else folder.unsteady)[place] = 1

    def learn(self, source: FileSource, digest: str) -> None:
        """What was read of a file that was `opened`. Raises BuildError where somebody read something else before: one name has
        one content in a build."""
        found = self._folders.find(source.path) if source.root == self.root else None
        if found is not None:
            self._learn(*found, source.path, digest)

    def learn_beside(self, source: FileSource, opened: Opened, may_be_written: bool, digest: str) -> None:
        """The same of a file that another process opened and read, and whether somebody may have been writing to it then."""
        found = self._folders.find(source.path) if source.root == self.root else None
        if found is None:
            return
        folder, place = found
        is_steady = self._hints is not None and not may_be_written and self._hints.holds(opened, folder.seen(place))
        (folder.held if is_steady else folder.unsteady)[place] = 1
        self._learn(folder, place, source.path, digest)

    def _learn(self, folder: Folder, place: int, path: bytes, digest: str) -> None:
        with self._learning:
            if not folder.known[place]:
                folder.learn(place, digest)
            elif folder.digest(place) != digest:
                raise changed(path)
            if folder.held[place] and not folder.unsteady[place] and not folder.vouched[place] and self._hints is not None:
                folder.vouched[place] = 1
                self._hints.learned(path.rpartition(b"/")[0], folder.seen(place).st_size)

    def _read(self, path: bytes) -> str:
        source = FileSource(self.root, path)
        with self._sources.borrowed() as sources:
            file = sources.open(source)
            try:
                self.opened(source, file, os.fstat(file))
                digest = sha256(os.read(file, CHUNK))
                while chunk := os.read(file, CHUNK):
                    self._stop.check()
                    digest.update(chunk)
            finally:
                os.close(file)
        self.learn(source, digest.hexdigest())
        return self.known(path)

    def _sure_rows(self, path: bytes) -> list[tuple[bytes, str]]:
        """What may be believed next time of the files in the folder: what stat says of each, and the digest."""
        folder = self._folders.known(path)
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
                found = self._folders.find(path)
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
            info = self._folders.seen(path)
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
                if not self._folders.is_left_out(path, item):
                    out.append((item.name, row_of(item.stat(follow_symlinks=False))))
        # No name comes twice.
        out.sort()
        return out

    def _vouched(self, path: bytes, hints: Hints) -> Iterator[tuple[bytes, Row]]:
        """What was in the folder when it was listed. Raises Unsure for what may have changed since without another stat."""
        folder = self._folders.known(path)
        if folder is None:
            return
        for name, row, vouched in zip(folder.names, folder.all(), folder.vouched):
            if not vouched:
                _check_sure(row, hints)
            yield name, row

    def inode(self, entry: Entry) -> Hashable | None:
        return self.inodes.get(entry.path)


def _check_sure(row: Row, hints: Hints) -> None:
    if stat.S_ISDIR(row[0]) or (not stat.S_ISREG(row[0]) and hints.is_old(row[5])):
        return
    raise lookback.Unsure
