"""A file system as a folder (`type=local`) or as one tar (`type=tar`): what ships, flattened (SPEC sections 4 and 5)."""

from __future__ import annotations

import errno
import os
import stat

from builder.errors import BuildError, UsageError
from builder.export.destination import Destination
from builder.layers import xattrs
from builder.layers.beneath import Beneath
from builder.layers.content import write_content
from builder.layers.entry import EPOCH, default_folder
from builder.layers.folder import check_path, times
from builder.layers.names import show
from builder.layers.order import sort_items
from builder.layers.ownerform import noted
from builder.layers.source import Sources
from builder.layers.tarwriter import write_archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.layers.entry import Entry, Item

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}


def write_tar(items: Iterable[Item], dest: str, *, mtime: int | None = EPOCH, stdout: int = 1) -> int:
    """Write the items as one canonical tar to the file `dest` or, for `-`, to `stdout`. Returns its bytes.

    All times are `mtime` (seconds); None: each entry's own, in whole seconds.
    Raises UsageError for a destination that cannot be a file, BuildError for content that changed.
    """
    with Destination(dest, stdout=stdout) as out:
        write_archive(sort_items(items), out.write, mtime=mtime)
    return out.size


def write_local(
    items: Iterable[Item], dest: str, *, mtime: int | None = EPOCH, warn: Callable[[str], None] | None = None
) -> int:
    """Write the items into the folder `dest`, which is made where it is not there. Returns the bytes of the files.

    What the folder holds already stays, unless the image has something of that name: files and links are replaced, folders
    are joined. Inside it no link is followed: one that stands where the image has a folder is replaced. Owners are set
    by root alone; `warn` is told of devices and attributes that another user, or the file system, cannot make. The
    folder's own mode, owner and time stay. All times become `mtime` (seconds); None: each
    entry's own.

    Raises UsageError for a destination that is no folder, and where a folder that is not empty stands in the way of a
    file (BuildKit removes it); BuildError for items that no folder can hold and content that changed. OSErrors propagate.
    """
    if dest == "-":
        raise UsageError("a folder cannot be written to standard output", hint="use type=tar, or give dest=FOLDER")
    try:
        os.makedirs(dest, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"the destination '{dest}' is not a folder", hint="give another name, or remove it") from None
    with Beneath(dest) as beneath, Sources() as sources:
        writer = _Writer(beneath, sources, mtime, warn or (lambda _: None))
        try:
            for item in sort_items(items):
                writer.put(item)
            writer.finish_folders()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # Whose disk is full; the name of a file inside, or none, says it not.
                error.filename = dest
            raise
        return writer.size


class _Writer:
    """One pass over the items. Folders get their metadata last: a mode may forbid writing, and each new name moves a time."""

    def __init__(self, beneath: Beneath, sources: Sources, mtime: int | None, warn: Callable[[str], None]) -> None:
        self._beneath = beneath
        self._sources = sources
        self._mtime = mtime
        self._warn = warn
        self._is_root = os.geteuid() == 0 and not noted()
        self._folders: dict[bytes, Entry | None] = {b"": None}
        """Those that are there, with the metadata that they get at the end; None: what they have stays."""
        self._not_folders: set[bytes] = set()
        self._left_out: set[bytes] = set()
        self.size = 0

    def put(self, item: Item) -> None:
        entry = item.entry
        check_path(entry.path)
        if not entry.path:
            return
        if entry.path in self._not_folders or self._folders.get(entry.path) is not None:
            raise BuildError(f"'{show(entry.path)}' occurs twice in the image")
        if entry.kind == "dir":
            self._make_folder(entry.path)
            self._folders[entry.path] = entry
            return
        self._not_folders.add(entry.path)
        if entry.kind in ("whiteout", "opaque"):
            raise ValueError(f"a flattened file system has no {entry.kind}")
        parent, name = self._parent(entry.path)
        # A hard link looks up another folder, which may close this one's descriptor.
        parent = os.dup(parent)
        try:
            self._put(item, parent, name)
        finally:
            os.close(parent)

    def _put(self, item: Item, parent: int, name: bytes) -> None:
        # What stands there is replaced in one step: whoever looks sees the old or the new.
        temporary = b".%s" % os.urandom(8).hex().encode() if _exists(parent, name) else name
        try:
            if self._make(item, parent, temporary) and temporary != name:
                self._replace(parent, temporary, name, item.entry.path)
        except BaseException:
            if _exists(parent, temporary):
                os.unlink(temporary, dir_fd=parent)
            raise

    def finish_folders(self) -> None:
        """Deepest first: a parent sorts before what it holds."""
        for path in sorted(self._folders, reverse=True):
            entry = self._folders[path]
            if entry is not None:
                folder = self._beneath.folder(path)
                if self._is_root:
                    os.fchown(folder, entry.uid, entry.gid)
                os.fchmod(folder, entry.mode)
                self._attributes(folder, entry)
                os.utime(folder, ns=self._times(entry))

    def _make(self, item: Item, parent: int, name: bytes) -> bool:
        """Make a new name; False where this user cannot, which was said."""
        entry = item.entry
        if entry.kind == "file":
            self._file(item, parent, name)
        elif entry.kind == "hardlink":
            return self._hard_link(entry, parent, name)
        elif entry.kind == "symlink":
            os.symlink(entry.link, name, dir_fd=parent)
            self._dress(entry, parent, name)
        else:
            try:
                os.mknod(name, _DEVICES[entry.kind] | 0o600, os.makedev(*entry.rdev), dir_fd=parent)
            except PermissionError:
                self._warn(f"the device '{show(entry.path)}' is left out: only root can make it")
                self._left_out.add(entry.path)
                return False
            self._dress(entry, parent, name)
        return True

    def _file(self, item: Item, parent: int, name: bytes) -> None:
        entry = item.entry
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            write_content(self._sources, item, descriptor)
            # In this order: chown(2) clears set-id bits and file capabilities, writing moves the time.
            if self._is_root:
                os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode)
            self._attributes(descriptor, entry)
            os.utime(descriptor, ns=self._times(entry))
        finally:
            os.close(descriptor)
        self.size += entry.size

    def _hard_link(self, entry: Entry, parent: int, name: bytes) -> bool:
        check_path(entry.link)
        if entry.link in self._left_out:
            self._left_out.add(entry.path)
            return False
        try:
            owner, old = self._beneath.parent(entry.link)
            os.link(old, name, src_dir_fd=owner, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:
            raise BuildError(f"'{show(entry.path)}' is a hard link to '{show(entry.link)}', which is not there") from error
        return True

    def _dress(self, entry: Entry, parent: int, name: bytes) -> None:
        if self._is_root:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != "symlink":
            # The name was made a moment ago and is no symlink.
            os.chmod(name, entry.mode, dir_fd=parent)
        os.utime(name, ns=self._times(entry), dir_fd=parent, follow_symlinks=False)

    def _times(self, entry: Entry) -> tuple[int, int]:
        return times(entry) if self._mtime is None else (self._mtime * 10**9,) * 2

    def _attributes(self, descriptor: int, entry: Entry) -> None:
        for name, value in entry.xattrs:
            try:
                xattrs.put(descriptor, name, value)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EACCES):
                    raise
                self._warn(f"the attribute {show(name)} of '{show(entry.path)}' is left out: {error.strerror}")

    def _replace(self, parent: int, temporary: bytes, name: bytes, path: bytes) -> None:
        try:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except IsADirectoryError:
            self._remove_empty(parent, name, path)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        if _exists(parent, temporary):
            # rename(2) of two names of one file does nothing: the old name is right as it is.
            os.unlink(temporary, dir_fd=parent)

    def _remove_empty(self, parent: int, name: bytes, path: bytes) -> None:
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            raise UsageError(
                f"'{show(path)}' is a folder in the destination and none in the image",
                hint="remove it, or choose another destination",
            ) from None

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        parent = path.rpartition(b"/")[0]
        if parent not in self._folders:
            self._folders[parent] = default_folder(parent) if self._make_folder(parent) else None
        return self._beneath.parent(path)

    def _make_folder(self, path: bytes) -> bool:
        """Make a folder; False where one is there already."""
        parent, name = self._parent(path)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                if not self._is_root:
                    # An earlier output may have made it read-only.
                    os.chmod(name, 0o700, dir_fd=parent)
                return False
            if path in self._not_folders:
                raise BuildError(f"'{show(path)}' is no folder but holds other names") from None
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)
        return True


def _exists(parent: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True
