"""What there is in a folder of the host that is a build context: names, and what stat(2) says, listed where somebody looks."""

from __future__ import annotations

import errno
import os
import stat
from _thread import RLock  # `threading` costs 1 ms at start

from builder.context.ignoring import MAX_IGNORED_DEPTH, too_deep
from builder.context.seen import Folder, Seen, packed, row_of
from builder.errors import BuildError
from builder.layers.entry import Entry
from builder.layers.names import show
from builder.layers.source import changed
from builder.values import new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from builder.context.ignoring import Ignore
    from builder.context.seen import Row
    from builder.layers.entry import Kind

    Xattrs = tuple[tuple[bytes, bytes], ...]


_NO_DEVICE = (0, 0)
_KINDS: dict[int, Kind] = {8: "file", 4: "dir", 10: "symlink", 1: "fifo", 2: "char", 6: "block"}
"""By the type in a mode (inode(7)); sockets are left out."""


class Folders:
    """Of one context, for several threads. Methods raise BuildError for what cannot be read, or is another thing than a moment
    ago; `warn` is told of what cannot be in an image."""

    def __init__(self, root: str, ignore: Ignore, warn: Callable[[str], None]) -> None:
        """`root` is an absolute path."""
        self._root = os.fsencode(root)
        self._ignore = ignore
        self._warn = warn
        # Held while a folder is listed: what comes of it is seen whole or not at all, and is warned of once.
        self._listing = RLock()
        self._folders: dict[bytes, Folder] = {}
        # What few have, by path.
        self.inodes: dict[bytes, Hashable] = {}
        """Of files with more names than one, what they share."""
        self._links: dict[bytes, bytes] = {}
        self._capable: dict[bytes, Xattrs] = {}
        self._devices: dict[bytes, tuple[int, int]] = {}
        # A file is asked for when it is opened, and once more when it was read.
        self._last: tuple[bytes, tuple[Folder, int] | None] = (b"", None)
        self._top = Seen(*row_of(os.stat(root)))

    def seen(self, path: bytes) -> Seen | None:
        """What stat said of it; what is above is listed first."""
        found = self.find(path)
        if found is not None:
            return found[0].seen(found[1])
        return None if path else self._top

    def find(self, path: bytes) -> tuple[Folder, int] | None:
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
        folder, at = self.listed(b""), b""
        for name in path.split(b"/") if path else ():
            place = folder.place(name)
            if place < 0 or not stat.S_ISDIR(folder.seen(place).st_mode):
                return None
            at = at + b"/" + name if at else name
            folder = self.listed(at)
        return folder

    def known(self, path: bytes) -> Folder | None:
        """The folder, if it was listed."""
        return self._folders.get(path)

    def listed(self, path: bytes) -> Folder:
        folder = self._folders.get(path)
        if folder is None:
            with self._listing:
                folder = self._folders.get(path)
                if folder is None:
                    folder = self._folders[path] = self._list(path)
        return folder

    def _list(self, folder: bytes) -> Folder:
        where = os.path.join(self._root, folder) if folder else self._root
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
        where = os.path.join(self._root, path)
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

    def is_left_out(self, path: bytes, item: os.DirEntry[bytes]) -> bool:
        if not self._ignore.ignored(path):
            return False
        if not (item.is_dir(follow_symlinks=False) and self._ignore.may_contain(path)):
            return True
        return not self._inside_ignored(path).names

    def _inside_ignored(self, folder: bytes) -> Folder:
        if folder.count(b"/") > MAX_IGNORED_DEPTH:
            raise too_deep()
        return self.listed(folder)

    def entry(self, path: bytes, name: bytes, row: Row, digest: str) -> Entry:
        """What is at `path`, of which stat said this, under another name."""
        mode, _, _, size, mtime, _ = row
        kind = _KINDS[mode >> 12]
        # All fields, in order: names of fields cost 3 us, and there may be many files.
        if kind == "file":
            xattrs = self._capable.get(path, ()) if mode & 0o111 else ()
            return new(Entry, (name, kind, mode & 0o7777, 0, 0, size, digest, b"", _NO_DEVICE, xattrs, mtime))
        if kind == "symlink":
            return new(Entry, (name, kind, 0o777, 0, 0, 0, "", self._links[path], _NO_DEVICE, (), mtime))
        return new(Entry, (name, kind, mode & 0o7777, 0, 0, 0, "", b"", self._devices.get(path, _NO_DEVICE), (), mtime))


def _capabilities(path: bytes) -> Xattrs:
    """capabilities(7) of a program, which somebody set on purpose; asked for where a file can be run."""
    try:
        return ((b"security.capability", os.getxattr(path, "security.capability", follow_symlinks=False)),)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT):
            return ()
        raise
