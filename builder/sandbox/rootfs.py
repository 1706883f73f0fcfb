"""The file system that a command sees: the overlay root, /proc, /sys and /dev as Docker has them, and the spec's mounts.

Runs in the child, in its new mount namespace, and ends with the host's tree gone from it. What a path of the image can
lead astray is done after the root has changed, at targets that were resolved without a link (`mounts`).

Part of the fork server's program.
"""

from __future__ import annotations

import errno
import os
import stat

from builder.sandbox import kernel, overlay, ownernotes
from builder.sandbox.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
from builder.sandbox.mounts import Mounts, OldMounts, open_below, place_below, target_below
from builder.sandbox.wire import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sandbox.mounts import Target
    from builder.sandbox.wire import Job

_DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
_LINKS = (
    (b"/proc/self/fd", b"/dev/fd"),
    (b"/proc/self/fd/0", b"/dev/stdin"),
    (b"/proc/self/fd/1", b"/dev/stdout"),
    (b"/proc/self/fd/2", b"/dev/stderr"),
    (b"pts/ptmx", b"/dev/ptmx"),
)
# Docker's own two lists (moby, oci/defaults.go), with the later additions.
_MASKED = (
    b"/proc/acpi",
    b"/proc/asound",
    b"/proc/interrupts",
    b"/proc/kcore",
    b"/proc/keys",
    b"/proc/latency_stats",
    b"/proc/sched_debug",
    b"/proc/scsi",
    b"/proc/timer_list",
    b"/proc/timer_stats",
    b"/sys/devices/virtual/powercap",
    b"/sys/firmware",
)
_READONLY = (b"/proc/bus", b"/proc/fs", b"/proc/irq", b"/proc/sys", b"/proc/sysrq-trigger")
_QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC
# Whoever mounts it: in a user namespace that is not root yet.
_ROOTS = ((b"uid", b"0"), (b"gid", b"0"))
_PLACE = os.O_PATH | os.O_CLOEXEC


class Root:
    """The story of one root file system, in the order of its methods."""

    def __init__(self, job: Job, missing: tuple[str, ...]) -> None:
        self._job = job
        self._missing = missing
        self._mounts: Mounts | OldMounts = OldMounts() if "mount-api" in missing else Mounts(missing)
        self._asked = [Mount(fields) for fields in job.mounts]
        self._devices: list[tuple[int, bytes]] = []
        self._prepared: list[_Prepared] = []
        self._covers: list[tuple[bytes, bytes]] = []
        """What is to lie over what in /proc, read-only."""
        self._root = -1
        self._host = -1

    def mount_overlay(self) -> None:
        """The root lies over the upper folder of the host for the moment: a root must be attached to become one."""
        job = self._job
        if "mount-namespace" not in job.without:
            kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        self._root = self._overlay(job.lowers, job.upper, job.work, 0 if "nodev" in job.without else MS_NODEV)

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
        """All that comes from the host: its device nodes one by one, bind mounts, and small files on a tmpfs of their own."""
        own_dev = "own-dev" not in self._job.without
        for name in _DEVICES if own_dev else ():
            if not stat.S_ISCHR(os.stat(b"/dev/" + name).st_mode):
                # Whoever writes an output to /dev/null may have put a file there; commands would be told so far from here.
                raise OSError(errno.ENODEV, "", b"/dev/" + name)
            self._devices.append((self._mounts.clone(b"/dev/" + name, self._node_attributes()), b"/dev/" + name))
        if not own_dev:
            self._devices.append((self._mounts.clone(b"/dev", 0), b"/dev"))
        self._stage_files()
        for number, mount in enumerate(self._asked):
            self._prepare(mount, number)

    def _node_attributes(self) -> int:
        """Read-only says nothing of what is written to a device, and keeps a command from the mode, owner and times of the
        node, which is the host's own."""
        return MS_NOSUID | MS_NOEXEC | (0 if "readonly-nodes" in self._job.without else MS_RDONLY)

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
        self._host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(self._root)
        if "mount-namespace" in self._job.without:
            os.chroot(".")
        else:
            kernel.pivot_root(b".", b".")

    def mount_kernel_filesystems(self) -> None:
        own_dev = "own-dev" not in self._job.without
        self._mount(b"proc", b"/proc", (), _QUIET)
        readonly = 0 if "readonly-sys" in self._job.without else MS_RDONLY
        try:
            self._mount(b"sysfs", b"/sys", (), _QUIET | readonly)
        except PermissionError:
            # The network, which /sys shows, is not that of this user namespace (or a container hides parts of its own /sys).
            self._mount_host_sys()
        if own_dev:
            self._mount_dev()

    def _mount(self, kind: bytes, target: bytes, options: tuple[tuple[bytes, bytes], ...], attributes: int) -> None:
        try:
            tree = self._mounts.filesystem(kind, options, attributes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, target) from error
        self._attach(tree, target)

    def _mount_host_sys(self) -> None:
        """The host's, read-only; what others have mounted below is covered, since a fresh one has nothing there. It cannot be
        left out: the mounts of a namespace with more rights hold together (mount_namespaces(7))."""
        source = b"/proc/self/fd/%d/sys" % self._host
        self._attach(self._mounts.clone(source, _QUIET | MS_RDONLY, whole=True), b"/sys")
        covered: list[bytes] = []
        for path in sorted(_mounts_below(b"/sys/")):
            if not any(path.startswith(known + b"/") for known in covered):
                self._mount(b"tmpfs", path, ((b"size", b"4k"), (b"mode", b"0555")), _QUIET | MS_RDONLY)
                covered.append(path)

    def _mount_dev(self) -> None:
        nodev = 0 if "nodev" in self._job.without else MS_NODEV
        self._mount(b"tmpfs", b"/dev", ((b"mode", b"0755"), (b"size", b"64k")), MS_NOSUID | nodev)
        for name in _DEVICES:
            os.close(os.open(b"/dev/" + name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        for target, link in _LINKS:
            os.symlink(target, link)
        for folder in (b"/dev/pts", b"/dev/shm", b"/dev/mqueue"):
            os.mkdir(folder, 0o755)
        pts = ((b"newinstance", b""), (b"ptmxmode", b"0666"), (b"mode", b"0620"))
        # Where a user namespace has a single group, nothing can belong to another.
        group = ((b"gid", b"5"),) if self._job.emulate != "owners" else ()
        self._mount(b"devpts", b"/dev/pts", (*pts, *group), MS_NOSUID | MS_NOEXEC)
        self._mount(b"tmpfs", b"/dev/shm", ((b"mode", b"1777"), (b"size", b"%d" % self._job.shm_size)), _QUIET)
        if "mqueue" not in self._missing:
            self._mount(b"mqueue", b"/dev/mqueue", (), _QUIET)
            # It belongs to who made the namespace, which in a user namespace was not root yet.
            os.chown(b"/dev/mqueue", 0, 0)

    def mount_prepared(self) -> None:
        """The devices, then what the spec asks for, in its order, since one may lie in another."""
        for tree, target in self._devices:
            self._attach(tree, target)
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
            self._mounts.restrict((b"/proc/self/fd/%d" % self._root, self._root), MS_RDONLY)

    def _place(self, mount: _Prepared) -> Target:
        """Where the mount goes, and its own root once it is there. The descriptor is closed with all others at the end."""
        return place_below(self._root, mount.target, folder=mount.folder)

    def mask(self) -> None:
        """Docker's masked and read-only paths: those of /proc are covered by `seal`, but for folders that are masked. A masked
        file reads as empty, a masked folder too; none is needed."""
        if "masked-paths" in self._job.without:
            return
        for path in _MASKED:
            if os.path.isdir(path):
                self._mount(b"tmpfs", path, ((b"size", b"4k"),), _QUIET | MS_RDONLY)
            elif os.path.exists(path):
                self._cover(b"/dev/null", path)
        for path in _READONLY:
            if os.path.exists(path):
                self._cover(path, path)

    def _cover(self, source: bytes, path: bytes) -> None:
        if path.startswith(b"/proc/"):
            self._covers.append((source, path))
        else:
            self._cover_alone(source, path)

    def _cover_alone(self, source: bytes, path: bytes) -> None:
        attributes = self._node_attributes() if source == b"/dev/null" else _QUIET | MS_RDONLY
        self._attach(self._mounts.clone(source, attributes), path)

    def seal(self) -> None:
        """Cover what is to be masked or read-only in /proc, and what it has beside processes. That is the same in each /proc of
        the machine: root may give it another owner or mode, and that lasts until the machine boots anew. A mount for each keeps
        it. In a user namespace it is nobody's."""
        if "readonly-proc" not in self._job.without and os.stat("/proc/version").st_uid == 0:
            self._cover_the_rest()
        if not self._covers:
            return
        _, place = target_below(self._root, b"/proc", self._missing)
        length = len(b"/proc/")
        try:
            is_done = self._mounts.cover(
                place, [(path[length:] if source == path else source, path[length:]) for source, path in self._covers]
            )
        except OSError as error:
            raise OSError(error.errno, error.strerror, b"/proc/" + os.fsencode(error.filename or b"")) from error
        os.close(place)
        os.fchdir(self._root)
        for source, path in () if is_done else self._covers:
            self._cover_alone(source, path)

    def _cover_the_rest(self) -> None:
        done = {path.split(b"/")[2] for path in (*_MASKED, *_READONLY) if path.startswith(b"/proc/")}
        if "masked-paths" in self._job.without:
            done = {b"sys", b"keys"}
        for entry in os.scandir(b"/proc"):
            # Links (self, net) lead to a process's own.
            if not entry.name.isdigit() and entry.name not in done and not entry.is_symlink():
                self._cover(entry.path, entry.path)

    def _attach(self, tree: int, target: bytes) -> None:
        try:
            place = target_below(self._root, target, self._missing)
            self._mounts.attach(tree, place)
            os.close(place[1])
        except OSError as error:
            # Whatever call failed: the target is what the person knows.
            raise OSError(error.errno, error.strerror, target) from error

    def leave_host(self) -> None:
        """Nothing of the host's tree stays but what was mounted by name."""
        os.fchdir(self._root)
        if "mount-namespace" not in self._job.without:
            kernel.umount(b".", kernel.MNT_DETACH)
        os.chdir("/")


def _mounts_below(folder: bytes) -> set[bytes]:
    """Where something is mounted (proc_pid_mountinfo(5)), the host's tree included, which still lies over the root."""
    with open("/proc/self/mountinfo", "rb") as file:
        points = {line.split()[4] for line in file}
    return {_unescaped(point) for point in points if point.startswith(folder)}


def _unescaped(path: bytes) -> bytes:
    first, *rest = path.split(b"\\")
    return first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)


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
