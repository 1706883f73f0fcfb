"""The file system that a command sees: the overlay root, /proc, /sys and /dev as Docker has them, and the spec's mounts.

Runs in the child, in its new mount namespace, and ends with the host's tree gone from it. What a path of the image can
lead astray is done after the root has changed, at targets that were resolved without a link (`mounts`).

Part of the fork server's program.
"""

from __future__ import annotations

import os

from builder.sandbox import kernel, overlay
from builder.sandbox.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
from builder.sandbox.mounts import Mounts, OldMounts, target_below

TYPE_CHECKING = False
if TYPE_CHECKING:
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


class Root:
    """The story of one root file system, in the order of its methods."""

    def __init__(self, job: Job, missing: tuple[str, ...]) -> None:
        self._job = job
        self._missing = missing
        self._mounts: Mounts | OldMounts = OldMounts() if "mount-api" in missing else Mounts(missing)
        self._prepared: list[tuple[int, bytes]] = []
        self._root = -1
        self._host = -1

    def mount_overlay(self) -> None:
        """The root lies over the upper folder of the host for the moment: a root must be attached to become one."""
        job = self._job
        if "mount-namespace" not in job.without:
            kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        attributes = 0 if "nodev" in job.without else MS_NODEV
        if "overlay-lowerdir+" in self._missing:
            overlay.mount_at(job.upper, job.lowers, job.upper, job.work, attributes)
            self._root = os.open(job.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            return
        self._root = overlay.detached(job.lowers, job.upper, job.work, attributes)
        place = os.open(job.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        kernel.move_mount(self._root, place)

    def prepare(self) -> None:
        """All that comes from the host: its device nodes one by one, bind mounts, and small files on a tmpfs of their own."""
        own_dev = "own-dev" not in self._job.without
        for name in _DEVICES if own_dev else ():
            self._prepare(self._mounts.clone(b"/dev/" + name, self._node_attributes()), b"/dev/" + name)
        if not own_dev:
            self._prepare(self._mounts.clone(b"/dev", 0), b"/dev")
        self._prepare_mounts()

    def _node_attributes(self) -> int:
        """Read-only says nothing of what is written to a device, and keeps a command from the mode, owner and times of the
        node, which is the host's own."""
        return MS_NOSUID | MS_NOEXEC | (0 if "readonly-nodes" in self._job.without else MS_RDONLY)

    def _prepare(self, tree: int, target: bytes) -> None:
        self._prepared.append((tree, target))

    def _prepare_mounts(self) -> None:
        """In the spec's order, since one may lie in another."""
        self._stage_files()
        for number, (kind, target, source, size, mode) in enumerate(self._job.mounts):
            if kind == "bind":
                # nodev: a cache folder may hold what an earlier command put there with mknod.
                self._prepare(self._mounts.clone(source, MS_NODEV | (MS_RDONLY if mode else 0)), target)
            elif kind == "tmpfs":
                options = ((b"mode", b"%o" % mode),) + (((b"size", b"%d" % size),) if size else ())
                self._prepare(self._mounts.filesystem(b"tmpfs", options, MS_NOSUID | MS_NODEV), target)
            elif kind == "file" and "detached-mounts" in self._job.without:
                _write_by_path(self._job.upper + target, source)
            else:
                path = self._job.work + b"/%d" % number
                _write(path, source, mode)
                self._prepare(self._mounts.clone(path, self._file_attributes(kind)), target)

    def _stage_files(self) -> None:
        """A tmpfs over the work folder, which nobody needs by its path any more: it goes with the host's tree."""
        contents = [content for kind, _, content, _, _ in self._job.mounts if kind in ("file", "script")]
        if contents:
            size = sum(map(len, contents)) + (1 << 20)
            options = ((b"size", b"%d" % size), (b"mode", b"0700"))
            # A clone can take more attributes than its source has, and none away: scripts must be executable.
            stage = self._mounts.filesystem(b"tmpfs", options, MS_NOSUID | MS_NODEV if self._scripts() else _QUIET)
            self._mounts.attach(stage, (self._job.work, os.open(self._job.work, os.O_PATH | os.O_CLOEXEC)))

    def _file_attributes(self, kind: str) -> int:
        if kind == "script":
            return MS_RDONLY
        return MS_NOEXEC if self._scripts() else 0

    def _scripts(self) -> list[bytes]:
        return [target for kind, target, _, _, _ in self._job.mounts if kind == "script"]

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
        self._mount(b"sysfs", b"/sys", (), _QUIET | readonly)
        if own_dev:
            self._mount_dev()

    def _mount(self, kind: bytes, target: bytes, options: tuple[tuple[bytes, bytes], ...], attributes: int) -> None:
        self._attach(self._mounts.filesystem(kind, options, attributes), target)

    def _mount_dev(self) -> None:
        nodev = 0 if "nodev" in self._job.without else MS_NODEV
        self._mount(b"tmpfs", b"/dev", ((b"mode", b"0755"), (b"size", b"64k")), MS_NOSUID | nodev)
        for name in _DEVICES:
            os.close(os.open(b"/dev/" + name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        for target, link in _LINKS:
            os.symlink(target, link)
        for folder in (b"/dev/pts", b"/dev/shm", b"/dev/mqueue"):
            os.mkdir(folder, 0o755)
        for target in self._scripts():
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755))
        pts = ((b"newinstance", b""), (b"ptmxmode", b"0666"), (b"mode", b"0620"), (b"gid", b"5"))
        self._mount(b"devpts", b"/dev/pts", pts, MS_NOSUID | MS_NOEXEC)
        self._mount(b"tmpfs", b"/dev/shm", ((b"mode", b"1777"), (b"size", b"%d" % self._job.shm_size)), _QUIET)
        if "mqueue" not in self._missing:
            self._mount(b"mqueue", b"/dev/mqueue", (), _QUIET)

    def mount_prepared(self) -> None:
        """The devices, then what the spec asks for, in its order."""
        for tree, target in self._prepared:
            self._attach(tree, target)

    def mask(self) -> None:
        """Docker's masked and read-only paths. A masked file reads as empty, a masked folder too; none is needed."""
        if "masked-paths" in self._job.without:
            return
        for path in _MASKED:
            if os.path.isdir(path):
                self._mount(b"tmpfs", path, ((b"size", b"4k"),), _QUIET | MS_RDONLY)
            elif os.path.exists(path):
                self._attach(self._mounts.clone(b"/dev/null", self._node_attributes()), path)
        for path in _READONLY:
            if os.path.exists(path):
                self._attach(self._mounts.clone(path, _QUIET | MS_RDONLY), path)

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


def _write(path: bytes, content: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, mode)
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)


def _write_by_path(path: bytes, content: bytes) -> None:
    """The wrong way, for its negative control alone: a link of the image leads it to the host."""
    with open(path, "wb") as file:
        file.write(content)
