"""A root file system without an overlay: a copy of the layers' folders, and afterwards what a command changed in it.

Where nothing can be mounted, the lower folders are copied into one tree, in which the command runs; then the whole tree is
walked, and what is not as it was moves into the upper folder, in overlay's own format: as if an overlay had been there.

Files are changed where their inode or its change time is another one than right after the copy. Hard links are copied as
files of their own, since a copy-up of an overlay without an index breaks them, too.

Part of the fork server's program.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_KIND, _FOLDER, _FILE, _LINK, _CHAR, _BLOCK, _FIFO = 0o170000, 0o040000, 0o100000, 0o120000, 0o020000, 0o060000, 0o010000
_FICLONE = 0x40049409
_OPAQUE = b"user.overlay.opaque"
_OVERLAY = "user.overlay."
_CHUNK = 1 << 20
# linux/time.h: the clock that files get their times from.
_REALTIME_COARSE = 5
_NO_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM)

State = tuple[int, int, int]
"""Mode, inode and change time in nanoseconds."""


class Tree:
    """The copy in the new folder `path`. `apart` are the paths in it (without a slash in front) whose contents are nobody's
    change: where others would have something mounted."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._before: dict[bytes, dict[bytes, State]] = {}
        self._own: set[int] = set()
        self._devices: set[bytes] = set()
        self.apart: set[bytes] = set()

    def fill(self, lowers: tuple[bytes, ...], target: bytes = b"") -> None:
        """Copy what an overlay of the folders `lowers`, the topmost first, would show."""
        dressed: list[tuple[bytes, bytes]] = []
        left: list[tuple[bytes, tuple[bytes, ...]]] = [(target, lowers)]
        while left:
            below, folders = left.pop()
            made = os.path.join(self._path, below) if below else self._path
            if not os.path.isdir(made):
                os.mkdir(made, 0o700)
            dressed.append((folders[0], made))
            deeper, devices = _merged(folders, made)
            left += [(os.path.join(below, name), each) for name, each in deeper]
            self._devices |= {os.path.join(below, name) for name in devices}
        for source, made in reversed(dressed):
            _dress(source, made, os.lstat(source))

    def remember(self) -> None:
        """What it is like before the command. From here on the clock shows another time than the last of the files has."""
        latest = 0
        for path in self.apart:
            # Not what is in a folder: that is a copy, and may become a file of the layer. It stays open: the number of what is
            # gone may be another file's, else.
            held = os.open(os.path.join(self._path, path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._own.add(os.fstat(held).st_ino)
        # What a mount has hidden is not there, and a path below it may lead anywhere.
        self._devices = {path for path in self._devices if not any(_is_below(path, other) for other in self.apart)}
        if self._devices:
            # The same for what stands for them, by links: there may be more than one can hold open.
            held_devices = self._path + b"-devices"
            os.mkdir(held_devices, 0o700)
            for number, path in enumerate(sorted(self._devices)):
                os.link(os.path.join(self._path, path), b"%s/%d" % (held_devices, number), follow_symlinks=False)
        for folder, entries in self._walk():
            self._before[folder] = {entry.name: _state(entry.stat(follow_symlinks=False)) for entry in entries}
            latest = max((latest, *(state[2] for state in self._before[folder].values())))
        # Files get the time of the last tick: one that is changed in the same tick would look unchanged.
        while time.clock_gettime_ns(_REALTIME_COARSE) <= latest:
            time.sleep(0.001)

    def move_changes(self, upper: bytes) -> None:
        """Move what changed into the folder `upper`, and make a whiteout (a character device 0:0) for what is gone. EBUSY where
        something that would be mounted was moved or linked to another place, which nobody can do with a mount; and where what
        stands for a device was changed, moved or linked: it is none."""
        found = {
            folder: {entry.name: entry.stat(follow_symlinks=False) for entry in entries} for folder, entries in self._walk()
        }
        stand_ins = {self._before[folder][name][1] for folder, name in map(os.path.split, self._devices)}
        for folder, inside in found.items():
            for name, status in inside.items():
                same = os.path.join(folder, name) in self._devices and self._before[folder].get(name) == _state(status)
                if status.st_mode & _KIND == _CHAR and not status.st_rdev:
                    # Elsewhere the kernel lets nobody make one: in an overlay it would be a file that was removed.
                    raise OSError(errno.EPERM, os.strerror(errno.EPERM), b"/" + os.path.join(folder, name))
                if status.st_ino in self._own or (status.st_ino in stand_ins and not same):
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), b"/" + os.path.join(folder, name))
        top = os.lstat(self._path)
        made: dict[bytes, tuple[bytes, os.stat_result]] = {b"": (upper, top)}
        _dress(self._path, upper, top)

        def folder_above(path: bytes) -> bytes:
            missing = []
            while path not in made:
                missing.append(path)
                path = path.rpartition(b"/")[0]
            for each in reversed(missing):
                parent, _, name = each.rpartition(b"/")
                status = found[parent][name]
                target = os.path.join(made[parent][0], name)
                os.mkdir(target, 0o700)
                _dress(os.path.join(self._path, each), target, status)
                made[each] = target, status
            return made[missing[0] if missing else path][0]

        for folder, entries in sorted(found.items()):
            before = self._before.get(folder, {})
            for name, status in entries.items():
                path = os.path.join(folder, name)
                if before.get(name) == _state(status):
                    continue
                if status.st_mode & _KIND == _FOLDER:
                    folder_above(path)
                else:
                    _strip(os.path.join(self._path, path), status)
                    os.rename(os.path.join(self._path, path), os.path.join(folder_above(folder), name))
            for name in before.keys() - entries.keys():
                if os.path.join(folder, name) not in self.apart:
                    os.mknod(os.path.join(folder_above(folder), name), _CHAR, 0)
        # The last: what was moved in has touched them.
        for target, status in made.values():
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _walk(self) -> Iterable[tuple[bytes, list[os.DirEntry[bytes]]]]:
        """Each folder with what is in it, but for what is apart."""
        left = [b""]
        while left:
            folder = left.pop()
            with os.scandir(os.path.join(self._path, folder) if folder else self._path) as entries:
                inside = [entry for entry in entries if os.path.join(folder, entry.name) not in self.apart]
            yield folder, inside
            left += [os.path.join(folder, entry.name) for entry in inside if entry.is_dir(follow_symlinks=False)]


def _merged(folders: tuple[bytes, ...], made: bytes) -> tuple[list[tuple[bytes, tuple[bytes, ...]]], set[bytes]]:
    """Copies all but folders into `made`: those, each with the folders that it is made of; and the names of devices, of which
    there are empty files that nobody may open. Nothing else would keep a command from the machine's own."""
    seen: set[bytes] = set()
    deeper: dict[bytes, list[bytes]] = {}
    closed: set[bytes] = set()
    devices: set[bytes] = set()
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                name = entry.name
                if status.st_mode & _KIND == _FOLDER and name not in closed and (name not in seen or name in deeper):
                    deeper.setdefault(name, []).append(entry.path)
                elif name not in seen and not _is_whiteout(status):
                    if status.st_mode & _KIND in (_CHAR, _BLOCK):
                        devices.add(name)
                    copy(entry.path, os.path.join(made, name), status)
                if name in deeper and status.st_mode & _KIND != _FOLDER:
                    # What lies under a file or a whiteout is hidden.
                    closed.add(name)
                seen.add(name)
        if _is_opaque(folder):
            break
    return [(name, tuple(found)) for name, found in deeper.items()], devices


def _is_below(path: bytes, other: bytes) -> bool:
    return path == other or path.startswith(other + b"/")


def _strip(path: bytes, status: os.stat_result) -> None:
    """No attribute of overlay's own: a command could not set one there."""
    if status.st_mode & _KIND == _FILE:
        for name in os.listxattr(path):
            if name.startswith(_OVERLAY):
                os.removexattr(path, name)


def _is_whiteout(status: os.stat_result) -> bool:
    return status.st_mode & _KIND == _CHAR and status.st_rdev == 0


def _is_opaque(folder: bytes) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return False


def _state(status: os.stat_result) -> State:
    return status.st_mode, status.st_ino, status.st_ctime_ns


def copy(source: bytes, target: bytes, status: os.stat_result) -> None:
    """All but a folder, with owner, mode, times and attributes; `status` is the source's. Of a device an empty file without a
    mode. OSError for what cannot be copied."""
    kind = status.st_mode & _KIND
    if kind == _FILE:
        _copy_content(source, target, status.st_size)
    elif kind == _LINK:
        os.symlink(os.readlink(source), target)
    elif kind == _FIFO:
        os.mknod(target, status.st_mode)
    elif kind in (_CHAR, _BLOCK):
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        os.chown(target, status.st_uid, status.st_gid)
        return
    else:
        return  # A socket means nothing where nobody listens; no layer has one.
    _dress(source, target, status)


def _copy_content(source: bytes, target: bytes, size: int) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if size and not _cloned(reader, writer):
                _copy_data(reader, writer, size)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_data(reader: int, writer: int, size: int) -> None:
    """Holes stay holes (lseek(2), SEEK_DATA)."""
    at = 0
    while at < size:
        try:
            at = os.lseek(reader, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(reader, at, os.SEEK_HOLE)
        os.lseek(writer, at, os.SEEK_SET)
        while at < end:
            copied = os.sendfile(writer, reader, at, min(end - at, _CHUNK))
            if not copied:
                break
            at += copied
    os.ftruncate(writer, size)


def _cloned(reader: int, writer: int) -> bool:
    """By reference, where the file system can do that (ioctl_ficlone(2))."""
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        return False
    return True


def _dress(source: bytes, target: bytes, status: os.stat_result) -> None:
    """Owner, mode, attributes and times, in this order: chown(2) clears set-id bits and capabilities."""
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if status.st_mode & _KIND != _LINK:
        os.chmod(target, status.st_mode & 0o7777)
    if status.st_mode & _KIND in (_FILE, _FOLDER):
        for name in os.listxattr(source):
            if name == "security.capability" or (name.startswith("user.") and not name.startswith(_OVERLAY)):
                os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def remove(path: bytes) -> None:
    """A folder with all that is in it, or anything else; nothing is followed."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    empty(path)
    os.rmdir(path)


def empty(path: bytes) -> None:
    """All that is in the folder `path`."""
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            place = os.path.join(folder, name)
            if os.path.islink(place):
                os.unlink(place)
            else:
                os.rmdir(place)
