"""How a mount is made and put in its place, in two ways with one shape: `Mounts` by the calls of Linux 5.2 (a mount is a
descriptor, prepared while it is attached nowhere), `OldMounts` by mount(2).

A mount is prepared first (`filesystem`, `clone`), before or after the root has changed, and attached later, at a target
that was resolved inside the new root without a link. So nothing of the image can lead a mount, or a write, to the host.

Part of the fork server's program.
"""

from __future__ import annotations

import os

from builder.sandbox import kernel

_ATTRIBUTES = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
_ENOENT = 2
_EINVAL = 22
_ELOOP = 40
_MAX_LINKS = 40

# Where a prepared mount goes: a path that is known to have no link in it, and a descriptor of what lies there.
Target = tuple[bytes, int]


class Mounts:
    """By fsopen, fsconfig, fsmount, open_tree, move_mount."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        self._set_attributes = "mount_setattr" not in missing
        # Attributes that a mount must still get once it is attached.
        self._late: dict[int, int] = {}

    def filesystem(self, kind: bytes, options: tuple[tuple[bytes, bytes], ...], attributes: int) -> int:
        """A new file system. An option with an empty value is a flag."""
        context = kernel.fsopen(kind)
        try:
            for key, value in options:
                if value:
                    kernel.fsconfig_string(context, key, value)
                else:
                    kernel.fsconfig_flag(context, key)
            return kernel.fsmount(context, attributes)
        finally:
            os.close(context)

    def clone(self, path: bytes, attributes: int, *, whole: bool = False) -> int:
        """What is mounted at `path` and lies from there on, with the mounts below if it is to be `whole`; `attributes` are
        added to its own, not to theirs."""
        tree = kernel.open_tree_clone(path, recursive=whole)
        if attributes and self._set_attributes:
            kernel.mount_setattr(tree, attributes)
        elif attributes:
            self._late[tree] = attributes
        return tree

    def cover(self, folder: int, covers: list[tuple[bytes, bytes]]) -> bool:
        """Put each first file or folder over the one with the second name in the mount whose root `folder` is, where relative
        names are, too. They become read-only, as does what masks its folders. False where this kernel cannot do so: it takes
        one system call for each, where `clone` and `attach` take six."""
        if not self._set_attributes:
            return False
        os.fchdir(folder)
        for source, name in covers:
            kernel.mount(source, name, None, kernel.MS_BIND)
        kernel.mount_setattr(folder, kernel.MS_RDONLY, recursive=True)
        kernel.mount_setattr(folder, 0, cleared=kernel.MS_RDONLY)
        return True

    def attach(self, tree: int, target: Target) -> None:
        path, place = target
        kernel.move_mount(tree, place)
        late = self._late.pop(tree, 0)
        if late:
            _add_attributes(path, late)
        os.close(tree)

    def restrict(self, target: Target, attributes: int) -> None:
        """Add attributes to the mount that is attached there; `target` was looked for after that."""
        path, place = target
        if self._set_attributes:
            kernel.mount_setattr(place, attributes)
        else:
            _add_attributes(path, attributes)


class OldMounts:
    """By mount(2): what is prepared is remembered, and made where it is attached."""

    def __init__(self) -> None:
        self._prepared: list[tuple[bytes, bytes, int, bytes | None]] = []

    def filesystem(self, kind: bytes, options: tuple[tuple[bytes, bytes], ...], attributes: int) -> int:
        data = b",".join(key + b"=" + value if value else key for key, value in options)
        return self._prepare(kind, kind, attributes, data)

    def clone(self, path: bytes, attributes: int, *, whole: bool = False) -> int:
        # The descriptor keeps the host's path at hand when the root is another one already.
        source = os.open(path, os.O_PATH | os.O_CLOEXEC)
        return self._prepare(b"/proc/self/fd/%d" % source, b"", attributes | (kernel.MS_REC if whole else 0), None)

    def _prepare(self, source: bytes, kind: bytes, attributes: int, data: bytes | None) -> int:
        self._prepared.append((source, kind, attributes, data))
        return len(self._prepared) - 1

    def cover(self, folder: int, covers: list[tuple[bytes, bytes]]) -> bool:
        return False

    def attach(self, tree: int, target: Target) -> None:
        path = target[0]
        source, kind, attributes, data = self._prepared[tree]
        if kind:
            kernel.mount(source, path, kind, attributes, data)
            return
        kernel.mount(source, path, None, kernel.MS_BIND | attributes & kernel.MS_REC)
        if attributes & _ATTRIBUTES:
            _add_attributes(path, attributes & _ATTRIBUTES)

    def restrict(self, target: Target, attributes: int) -> None:
        _add_attributes(target[0], attributes)


def new_mounts(missing: tuple[str, ...]) -> Mounts | OldMounts:
    """What this kernel has."""
    return OldMounts() if "mount-api" in missing else Mounts(missing)


def _add_attributes(path: bytes, attributes: int) -> None:
    # A remount sets all flags: those that the mount has must be said again.
    kept = os.statvfs(path).f_flag & _ATTRIBUTES
    kernel.mount(None, path, None, kernel.MS_REMOUNT | kernel.MS_BIND | kept | attributes)


def open_below(root: int, path: bytes) -> int:
    """An O_PATH descriptor of `path` below `root`, name by name; a link in it is ELOOP."""
    return _walk(root, path)


def place_below(root: int, path: bytes, *, folder: bool) -> Target:
    """`path`, absolute, below `root`: links are followed, and never lead out of it. What is missing, a folder or a file, is
    made, but not in the root's own file system, where a trace of it would stay.

    Links are read and not walked through: what /proc calls a link may lead anywhere. `..` is never opened, since the host's
    tree may still lie over the root.
    """
    own = os.fstat(root).st_dev
    left = path.split(b"/")[::-1]
    done: list[bytes] = []
    links = 0
    while left:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            done = done[:-1]
            continue
        parent = _walk(root, b"/".join(done))
        try:
            link = _link(parent, name)
            if link is None and not _is_there(parent, name):
                if os.fstat(parent).st_dev == own:
                    raise OSError(_ENOENT, os.strerror(_ENOENT))
                _make(parent, name, folder=folder or any(part not in (b"", b".") for part in left))
        finally:
            os.close(parent)
        if link is None:
            done.append(name)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(_ELOOP, os.strerror(_ELOOP))
        if link.startswith(b"/"):
            done = []
        left += link.split(b"/")[::-1]
    real = b"/".join(done)
    return b"/" + real, _walk(root, real)


def _link(parent: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (_EINVAL, _ENOENT):
            return None
        raise


def _is_there(parent: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def _make(parent: int, name: bytes, *, folder: bool) -> None:
    try:
        if folder:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent))
    except FileExistsError:
        return  # In a cache that others use at this moment another may be first. A link of theirs is refused later.


def target_below(root: int, path: bytes, missing: tuple[str, ...]) -> Target:
    """`path` below the folder `root`; a symlink anywhere in it is ELOOP."""
    try:
        fd = _walk(root, path) if "openat2" in missing else kernel.open_target(root, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    return path, fd


def _walk(root: int, path: bytes) -> int:
    """openat2 with RESOLVE_NO_SYMLINKS, name by name. Whoever moves a folder meanwhile, in a cache that others use too, moves
    the mount with it, and nothing to anywhere else."""
    fd = os.open(b".", os.O_PATH | os.O_CLOEXEC, dir_fd=root)
    for name in path.split(b"/"):
        if name == b"..":
            raise OSError(_ELOOP, os.strerror(_ELOOP))
        below = os.open(name or b".", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=fd)
        os.close(fd)
        fd = below
        # O_PATH with O_NOFOLLOW opens a link itself.
        if os.stat(fd).st_mode & 0o170000 == 0o120000:
            raise OSError(_ELOOP, os.strerror(_ELOOP))
    return fd
