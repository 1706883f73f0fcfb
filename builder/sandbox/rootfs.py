"""The file system that a command sees: the overlay root, and the spec's mounts. What every root has is in `surroundings`.

Runs in the child, in its new mount namespace, and ends with the host's tree gone from it. What a path of the image can
lead astray is done at targets that were resolved without a link (`mounts`).

Part of the fork server's program.
"""

from __future__ import annotations

import os

from builder.sandbox import kernel, overlay, ownernotes
from builder.sandbox.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
from builder.sandbox.mounts import new_mounts, open_below, place_below
from builder.sandbox.wire import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox.mounts import Target
    from builder.sandbox.wire import Job

_QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC
# Whoever mounts it: in a user namespace that is not root yet.
_ROOTS = ((b"uid", b"0"), (b"gid", b"0"))
_PLACE = os.O_PATH | os.O_CLOEXEC


class Root:
    """The story of one root file system, in the order of its methods."""

    def __init__(self, job: Job, missing: tuple[str, ...]) -> None:
        self._job = job
        self._missing = missing
        self._mounts = new_mounts(missing)
        self._asked = [Mount(fields) for fields in job.mounts]
        self._prepared: list[_Prepared] = []
        self.folder = -1
        """A descriptor of it, from `mount_overlay` on."""

    def mount_overlay(self) -> None:
        """The root lies over the upper folder of the host for the moment: a root must be attached to become one."""
        job = self._job
        self.folder = self._overlay(job.lowers, job.upper, job.work, 0 if "nodev" in job.without else MS_NODEV)

    def _overlay(self, lowers: tuple[bytes, ...], upper: bytes, work: bytes, attributes: int) -> int:
        """A descriptor of the new overlay's root, which lies over `upper`."""
        if "overlay-lowerdir+" in self._missing:
            overlay.mount_at(upper, lowers, upper, work, attributes)
            return os.open(upper, _PLACE | os.O_DIRECTORY)
        tree = overlay.detached(lowers, upper, work, attributes)
        place = os.open(upper, _PLACE | os.O_DIRECTORY)
        kernel.move_mount(tree, place)
        os.close(place)
        return tree

    def prepare(self) -> None:
        """What comes from the host: bind mounts, and small files on a tmpfs of their own."""
        self._stage_files()
        for number, mount in enumerate(self._asked):
            self._prepare(mount, number)

    def _prepare(self, mount: Mount, number: int) -> None:
        """Overlays and tmpfs become read-only once all is attached: what lies in one may need a mount point there."""
        folder, late = False, 0
        if mount.kind == "bind":
            # nodev: a cache folder may hold what an earlier command put there with mknod.
            tree = self._mounts.clone(mount.source, MS_NODEV | (MS_RDONLY if mount.readonly else 0))
            folder = os.path.isdir(mount.source)
        elif mount.kind == "overlay":
            tree, folder = self._part_of_overlay(mount)
            late = MS_RDONLY if mount.readonly else 0
        elif mount.kind == "tmpfs":
            options = (*_ROOTS, (b"mode", b"%o" % mount.mode), *(((b"size", b"%d" % mount.size),) if mount.size else ()))
            tree, folder = self._mounts.filesystem(b"tmpfs", options, MS_NOSUID | MS_NODEV), True
            late = MS_RDONLY if mount.readonly else 0
        elif mount.kind == "file" and "detached-mounts" in self._job.without:
            _write_by_path(self._job.upper + mount.target, mount.content)
            return
        else:
            path = self._job.work + b"/%d" % number
            _write(path, mount, owned=self._job.emulate != "owners")
            tree = self._mounts.clone(path, self._file_attributes(mount))
        self._prepared.append(_Prepared(tree, mount.target, folder, late))

    def _part_of_overlay(self, mount: Mount) -> tuple[int, bool]:
        """A clone of the folder or file that is meant; the overlay goes with the host's tree, and the clone stays."""
        root = self._overlay(mount.lowers, mount.upper, mount.work, MS_NODEV)
        place = open_below(root, mount.source)
        tree = self._mounts.clone(b"/proc/self/fd/%d" % place, 0)
        folder = os.stat(place).st_mode & 0o170000 == 0o040000
        os.close(place)
        os.close(root)
        return tree, folder

    def _stage_files(self) -> None:
        """A tmpfs over the work folder, which nobody needs by its path any more: it goes with the host's tree."""
        contents = [mount.content for mount in self._asked if mount.kind in ("file", "script")]
        if contents:
            # Whole pages, and room for the names.
            size = sum(map(len, contents)) + 4096 * len(contents) + (1 << 20)
            options = ((b"size", b"%d" % size), (b"mode", b"0700"))
            # A clone can take more attributes than its source has, and none away: scripts must be executable.
            stage = self._mounts.filesystem(b"tmpfs", options, MS_NOSUID | MS_NODEV if self._scripts() else _QUIET)
            self._mounts.attach(stage, (self._job.work, os.open(self._job.work, _PLACE)))

    def _file_attributes(self, mount: Mount) -> int:
        return (MS_RDONLY if mount.readonly else 0) | (MS_NOEXEC if self._scripts() and mount.kind != "script" else 0)

    def _scripts(self) -> bool:
        return any(mount.kind == "script" for mount in self._asked)

    def change(self) -> None:
        """From here on `/` is the image. The host's tree is still there for the old mount calls, but under no name."""
        os.fchdir(self.folder)
        if "mount-namespace" in self._job.without:
            os.chroot(".")
        else:
            kernel.pivot_root(b".", b".")

    def mount_prepared(self) -> None:
        """What the spec asks for, in its order, since one may lie in another."""
        for mount in self._prepared:
            try:
                self._mounts.attach(mount.tree, self._place(mount))
            except OSError as error:
                raise OSError(error.errno, error.strerror, mount.target) from error
        for mount in self._prepared:
            if mount.late:
                self._mounts.restrict(self._place(mount), mount.late)
        if self._job.readonly:
            # The last of all: mount points may have been made in it until now.
            self._mounts.restrict((b"/proc/self/fd/%d" % self.folder, self.folder), MS_RDONLY)

    def _place(self, mount: _Prepared) -> Target:
        """Where the mount goes, and its own root once it is there. The descriptor is closed with all others at the end."""
        return place_below(self.folder, mount.target, folder=mount.folder)

    def leave_host(self) -> None:
        """Nothing of the host's tree stays but what was mounted by name."""
        os.fchdir(self.folder)
        if "mount-namespace" not in self._job.without:
            kernel.umount(b".", kernel.MNT_DETACH)
        os.chdir("/")


class _Prepared:
    """What the spec asks for, ready to be attached; `late` are attributes that it gets when all is."""

    def __init__(self, tree: int, target: bytes, folder: bool, late: int) -> None:
        self.tree = tree
        self.target = target
        self.folder = folder
        self.late = late


def _write(path: bytes, mount: Mount, *, owned: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # In this order: chown(2) clears set-id bits.
        if owned:
            os.fchown(fd, mount.uid, mount.gid)
        elif mount.uid or mount.gid:
            ownernotes.note_where_possible(fd, mount.uid, mount.gid)
        os.fchmod(fd, mount.mode)
        content = mount.content
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)


def _write_by_path(path: bytes, content: bytes) -> None:
    """The wrong way, for its negative control alone: a link of the image leads it to the host."""
    with open(path, "wb") as file:
        file.write(content)
