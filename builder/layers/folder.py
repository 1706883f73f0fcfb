"""The folder form of a layer: overlayfs' own format with `userxattr`, usable as a lower folder at once.

Whiteout: char device 0:0. Opaque: `user.overlay.opaque=y`. Where no device can be made something stands for it (`nodes`):
the index is right. Promises: nothing is written outside the folder, whatever the
items say; modes, owners, attributes and true times are the entries' own, whatever the umask or the default ACLs of the
place. Does not protect against other processes that write into the folder meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing

from builder.cancellation import NEVER
from builder.errors import BuildError
from builder.layers import nodes, owners, xattrs
from builder.layers.beneath import Beneath
from builder.layers.content import SMALL, write_content, write_read
from builder.layers.entry import default_folder
from builder.layers.filling import Filling
from builder.layers.names import show
from builder.layers.readahead import contents
from builder.layers.source import Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

    from builder.cancellation import Cancellation
    from builder.layers.entry import Entry, Item, Source
    from builder.layers.index import Tree
    from builder.layers.readahead import Read

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LAST_ID = (1 << 32) - 2
"""uid_t's highest value means "leave it" to chown(2)."""
_TIME = (1 << 63) - 1


def materialise(
    items: Iterable[Item],
    folder: str,
    below: Tree,
    *,
    lower_source: Callable[[bytes], Source] | None = None,
    stop: Cancellation = NEVER,
    hand_on: Callable[[], object] | None = None,
) -> bool:
    """Write the folder form of a layer into the empty `folder`; the root gets the metadata of its item, else of `below`.

    Items are canonical. Parents that they leave out are made with `below`'s metadata. `lower_source` gives the content
    of a file whose source is None and whose `link` names a path of a lower layer (see `settle`). `hand_on`, in a user
    namespace, lets a process that a thread starts have its capabilities, which it takes to give files away.

    Returns True when the folder is right on top of `below` alone: a parent was left out, or a whiteout lies deeper than
    the root, where overlayfs would list it as a broken name on a base that has not its folder. The root's own metadata
    does not count: a mount takes it from its upper folder. Raises BuildError for items that no folder can hold (a path
    that leaves the root or occurs twice, a parent that is no folder, a link to nothing) and for content that is not the
    entry's, Interrupted once `stop` was cancelled; then the folder holds part of the layer. OSErrors propagate.
    """
    with (
        Beneath(folder) as beneath,
        Sources(stop) as sources,
        closing(contents(items, SMALL)) as pairs,
        Filling(folder, hand_on) as filling,
    ):
        xattrs.drop_acls(beneath.root)
        writer = _Writer(beneath, sources, below, lower_source)
        for item, read in pairs:
            stop.check()
            if filling.wants(item):
                writer.make_parents(item.entry.path)
                filling.add(item)
            else:
                writer.put(item, read)
        for item in filling.left():
            stop.check()
            writer.put(item, None)
        for item in filling.unsure:
            stop.check()
            writer.remove(item.entry.path)
            writer.put(item, None)
        writer.link_all()
        writer.finish_folders()
        return writer.tied


def set_root(folder: str, below: Tree) -> None:
    """Give the folder the metadata that `/` has in `below`, for an upper folder before its mount: it *is* `/` there."""
    with Beneath(folder) as beneath:
        xattrs.drop_acls(beneath.root)
        _dress_folder(beneath.root, below.lookup(b"") or default_folder(b""))


class _Writer:
    """One pass over the items. Folders get their metadata last: a mode may forbid writing, and each new name moves a time."""

    def __init__(self, beneath: Beneath, sources: Sources, below: Tree, lower_source: Callable[[bytes], Source] | None) -> None:
        self._beneath = beneath
        self._sources = sources
        self._below = below
        self._lower_source = lower_source
        self._folders: dict[bytes, Entry | None] = {b"": None}
        self._links: list[Entry] = []
        self.tied = False

    def put(self, item: Item, read: Read | None) -> None:
        entry = item.entry
        check_path(entry.path)
        if entry.kind == "hardlink":
            self._links.append(entry)
            return
        try:
            if entry.kind == "dir":
                self._put_folder(entry)
            elif entry.kind == "opaque":
                self._put_opaque(entry.path)
            else:
                self._make_parents(entry.path)
                self._put_other(item, read)
        except OSError as error:
            _explain(error, entry.path)

    def make_parents(self, path: bytes) -> None:
        """Of what somebody else is going to put there."""
        check_path(path)
        try:
            self._make_parents(path)
        except OSError as error:
            _explain(error, path)

    def remove(self, path: bytes) -> None:
        """The file that somebody else has put there, perhaps."""
        parent, name = self._beneath.parent(path)
        try:
            if stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass  # He did not come to it.

    def link_all(self) -> None:
        """Hard links come after all that they may name."""
        for entry in self._links:
            check_path(entry.link)
            self._make_parents(entry.path)
            try:
                owner, name = self._beneath.parent(entry.link)
                # The next look-up may close the descriptor.
                owner = os.dup(owner)
                try:
                    to, new = self._beneath.parent(entry.path)
                    os.link(name, new, src_dir_fd=owner, dst_dir_fd=to, follow_symlinks=False)
                finally:
                    os.close(owner)
            except FileNotFoundError as error:
                raise BuildError(f"'{show(entry.path)}' is a hard link to '{show(entry.link)}', which is not there") from error
            except PermissionError as error:
                # So says link(2) of a folder.
                raise BuildError(f"'{show(entry.path)}' is a hard link to '{show(entry.link)}', which is no file") from error
            except OSError as error:
                _explain(error, entry.path)

    def finish_folders(self) -> None:
        """Deepest first: a parent sorts before what it holds."""
        for path in sorted(self._folders, reverse=True):
            entry = self._folders[path]
            if entry is None:
                entry = self._below.lookup(path) or default_folder(path)
            descriptor = self._beneath.folder(path)
            _dress_folder(descriptor, entry)

    def _put_folder(self, entry: Entry) -> None:
        if self._folders.get(entry.path) is not None:
            raise BuildError(f"'{show(entry.path)}' occurs twice in a layer")
        if entry.path not in self._folders:
            self._make_parents(entry.path)
            self._make_folder(entry.path)
        self._folders[entry.path] = entry

    def _put_opaque(self, path: bytes) -> None:
        if not path:
            raise ValueError("overlayfs knows no opaque root: its whiteouts are explicit")
        self._make_parents(path + b"/")
        xattrs.put(self._beneath.folder(path), xattrs.OPAQUE.encode(), b"y")

    def _put_other(self, item: Item, read: Read | None) -> None:
        entry = item.entry
        parent, name = self._beneath.parent(entry.path)
        if entry.kind == "file":
            self._put_file(item, read, parent, name)
            return
        if entry.kind == "whiteout":
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
            self.tied = self.tied or b"/" in entry.path
            return
        device = _device(entry) if entry.kind in ("char", "block") else 0
        if entry.kind == "symlink":
            os.symlink(_target(entry), name, dir_fd=parent)
        elif entry.kind == "fifo":
            os.mknod(name, stat.S_IFIFO | 0o600, dir_fd=parent)
        else:
            nodes.make(entry, device, parent, name)
        owners.give_name(parent, name, *_owner(entry))
        if entry.kind != "symlink":
            # The name was made a moment ago and is no symlink. chown(2) clears set-id bits: the mode comes after it.
            os.chmod(name, entry.mode, dir_fd=parent)
        _put_attributes(xattrs.child(parent, name), entry)
        os.utime(name, ns=times(entry), dir_fd=parent, follow_symlinks=False)

    def _put_file(self, item: Item, read: Read | None, parent: int, name: bytes) -> None:
        entry = item.entry
        if item.source is None and entry.link and self._lower_source is not None:
            item = item._replace(source=self._lower_source(entry.link))
        descriptor = os.open(name, NEW_FILE, 0o600, dir_fd=parent)
        try:
            fill(descriptor, item, self._sources, read)
        finally:
            os.close(descriptor)

    def _make_parents(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        if parent in self._folders:
            return
        self._make_parents(parent)
        try:
            self._make_folder(parent)
        except FileExistsError as error:
            raise BuildError(f"'{show(parent)}' is no folder but holds '{show(path)}'") from error
        self._folders[parent] = None
        self.tied = True

    def _make_folder(self, path: bytes) -> None:
        parent, name = self._beneath.parent(path)
        os.mkdir(name, 0o700, dir_fd=parent)


def fill(descriptor: int, item: Item, sources: Sources, read: Read | None = None) -> None:
    """Let the open new file be what the item says; `read` is its content where that was read already. Raises BuildError;
    OSErrors propagate."""
    entry = item.entry
    if read is None:
        write_content(sources, item, descriptor)
    else:
        write_read(entry, read, descriptor)
    # In this order: chown(2) clears set-id bits and file capabilities, writing moves the time.
    owners.give(descriptor, *_owner(entry))
    os.fchmod(descriptor, entry.mode)
    _put_attributes(descriptor, entry)
    os.utime(descriptor, ns=times(entry))


def check_path(path: bytes) -> None:
    """Refuse what is no canonical path of a layer. Raises BuildError."""
    for name in path.split(b"/") if path else ():
        if name in (b"", b".", b"..") or b"\0" in name:
            raise BuildError(f"'{show(path)}' is no path that a layer can have")
        if name.startswith(b".wh."):
            raise BuildError(f"'{show(path)}' cannot be in a layer: names that begin with '.wh.' mean deleted files there")


def _explain(error: OSError, path: bytes) -> NoReturn:
    match error.errno:
        case errno.EEXIST:
            raise BuildError(f"'{show(path)}' occurs twice in a layer") from error
        case errno.ENOTDIR | errno.ELOOP:
            raise BuildError(f"'{show(path)}' lies in something that is no folder") from error
        case errno.ENAMETOOLONG:
            raise BuildError(f"the name of '{show(path)}' is too long for the store's file system") from error
        case _:
            raise error


def _dress_folder(descriptor: int, entry: Entry) -> None:
    owners.give(descriptor, *_owner(entry))
    os.fchmod(descriptor, entry.mode)
    _put_attributes(descriptor, entry)
    os.utime(descriptor, ns=times(entry))


def _put_attributes(target: int | bytes, entry: Entry) -> None:
    for name, value in entry.xattrs:
        if not xattrs.is_kept(name):
            raise BuildError(f"'{show(entry.path)}' has the extended attribute {show(name)}, which no layer may carry")
        try:
            xattrs.put(target, name, value)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ERANGE, errno.E2BIG):
                raise
            raise BuildError(
                f"the store cannot keep the extended attribute {show(name)} of '{show(entry.path)}': {error.strerror}",
                hint="the store's file system must know user.* and security.* attributes, as ext4, xfs and btrfs do",
            ) from error


def _target(entry: Entry) -> bytes:
    if not entry.link or b"\0" in entry.link:
        raise BuildError(f"the symbolic link '{show(entry.path)}' leads nowhere: its target is no path")
    return entry.link


def _device(entry: Entry) -> int:
    major, minor = entry.rdev
    if entry.kind == "char" and entry.rdev == (0, 0):
        raise BuildError(f"'{show(entry.path)}' is the device 0:0, which means a deleted file and cannot be in a layer")
    # Linux has 12 and 20 bits and would cut the rest off in silence.
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise BuildError(f"'{show(entry.path)}' is the device {major}:{minor}, which Linux does not have")
    return os.makedev(major, minor)


def _owner(entry: Entry) -> tuple[int, int]:
    if not (0 <= entry.uid <= _LAST_ID and 0 <= entry.gid <= _LAST_ID):
        raise BuildError(f"'{show(entry.path)}' has the owner {entry.uid}:{entry.gid}, which no file can have")
    return entry.uid, entry.gid


def times(entry: Entry) -> tuple[int, int]:
    """Access and modification; a time that the kernel's 64 bits of seconds cannot say becomes the nearest."""
    seconds = min(max(entry.mtime // 10**9, -_TIME), _TIME)
    time = entry.mtime if seconds == entry.mtime // 10**9 else seconds * 10**9
    return time, time
