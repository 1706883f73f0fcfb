"""What every command finds at /proc, /sys and /dev, as Docker has them: made before there is a root to have them, or a command.

They are made on a tmpfs of their own, taken from there as mounts that are attached nowhere, and attached when there is a root.
Where the kernel has no such mounts, they are made in the root. Their targets there are resolved without a link (`mounts`).

Part of the fork server's program.
"""

from __future__ import annotations

import errno
import os
import stat

from builder.sandbox import kernel
from builder.sandbox.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
from builder.sandbox.mounts import new_mounts, target_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sandbox.wire import Shape

_DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
_LINKS = (
    (b"/proc/self/fd", b"fd"),
    (b"/proc/self/fd/0", b"stdin"),
    (b"/proc/self/fd/1", b"stdout"),
    (b"/proc/self/fd/2", b"stderr"),
    (b"pts/ptmx", b"ptmx"),
)
# Docker's own two lists (moby, oci/defaults.go), with the later additions.
_MASKED = (
    b"proc/acpi",
    b"proc/asound",
    b"proc/interrupts",
    b"proc/kcore",
    b"proc/keys",
    b"proc/latency_stats",
    b"proc/sched_debug",
    b"proc/scsi",
    b"proc/timer_list",
    b"proc/timer_stats",
    b"sys/devices/virtual/powercap",
    b"sys/firmware",
)
_READONLY = (b"proc/bus", b"proc/fs", b"proc/irq", b"proc/sys", b"proc/sysrq-trigger")
_QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC
# Whoever mounts it: in a user namespace that is not root yet.
_ROOTS = ((b"uid", b"0"), (b"gid", b"0"))
_PLACE = os.O_PATH | os.O_CLOEXEC
_NAMES = (b"proc", b"sys", b"dev")


class Surroundings:
    """The story of the three: `prepare`, before there is a root, then `attach`. While they are made, the current folder is the
    one they are in, and paths count from there."""

    def __init__(self, shape: Shape, missing: tuple[str, ...]) -> None:
        self._shape = shape
        self._missing = missing
        self._mounts = new_mounts(missing)
        self._covers: list[tuple[bytes, bytes]] = []
        """What is to lie over what in /proc, read-only."""
        self._folder = -1
        self._trees: list[int] = []
        # What lies over a root that others share would be theirs, too.
        self._in_root = "mount-api" in missing or "mount-namespace" in shape.without

    def prepare(self) -> list[tuple[str, Callable[[], None]]]:
        """The steps of it; none where all is to be made in the root."""
        return [] if self._in_root else [("mounts", self._stage), *self._make(), ("mounts", self._take)]

    def attach(self, root: Callable[[], int]) -> list[tuple[str, Callable[[], None]]]:
        """The steps that bring them below the folder `root`, which is attached, and has a folder for each."""
        if self._in_root:
            return [("mount", lambda: self._enter(root())), *self._make()]
        return [("mount", lambda: self._attach_all(root()))]

    def _make(self) -> list[tuple[str, Callable[[], None]]]:
        return [("mount", self._mount_all), ("mask", self._mask), ("seal", self._seal)]

    def _enter(self, folder: int) -> None:
        self._folder = folder
        os.fchdir(folder)

    def _stage(self) -> None:
        tree = self._mounts.filesystem(b"tmpfs", ((b"mode", b"0755"), (b"size", b"16k"), *_ROOTS), _QUIET)
        self._mounts.attach(tree, (b"/", os.open(b"/", _PLACE)))
        # What lies over the root is behind a `..` that comes there.
        self._enter(os.open(b"/..", _PLACE | os.O_DIRECTORY))
        for name in _NAMES:
            os.mkdir(name)

    def _take(self) -> None:
        """Nothing may lie over `/` while a path of the host is looked up: a relative link leads there by its `..`."""
        self._trees = [kernel.open_tree_clone(name, recursive=True) for name in _NAMES]
        kernel.umount(b".", kernel.MNT_DETACH)
        os.chdir("/")

    def _attach_all(self, root: int) -> None:
        for tree, name in zip(self._trees, _NAMES):
            try:
                _, place = target_below(root, name, self._missing)
                kernel.move_mount(tree, place)
            except OSError as error:
                raise OSError(error.errno, error.strerror, b"/" + name) from error

    def _mount_all(self) -> None:
        without = self._shape.without
        self._mount(b"proc", b"proc", (), _QUIET)
        readonly = 0 if "readonly-sys" in without else MS_RDONLY
        try:
            self._mount(b"sysfs", b"sys", (), _QUIET | readonly)
        except PermissionError:
            # The network, which /sys shows, is not that of this user namespace (or a container hides parts of its own /sys).
            self._mount_host_sys()
        if "own-dev" in without:
            self._attach(self._mounts.clone(b"/dev", 0), b"dev")
        else:
            self._mount_dev()

    def _mount(self, kind: bytes, target: bytes, options: tuple[tuple[bytes, bytes], ...], attributes: int) -> None:
        try:
            tree = self._mounts.filesystem(kind, options, attributes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, b"/" + target) from error
        self._attach(tree, target)

    def _mount_host_sys(self) -> None:
        """The host's, read-only; what others have mounted below is covered, since a fresh one has nothing there. It cannot be
        left out: the mounts of a namespace with more rights hold together (mount_namespaces(7))."""
        self._attach(self._mounts.clone(b"/sys", _QUIET | MS_RDONLY, whole=True), b"sys")
        covered: list[bytes] = []
        for path in sorted(_mounts_below(b"/sys/")):
            if not any(path.startswith(known + b"/") for known in covered):
                self._mount(b"tmpfs", path[1:], ((b"size", b"4k"), (b"mode", b"0555"), *_ROOTS), _QUIET | MS_RDONLY)
                covered.append(path)

    def _mount_dev(self) -> None:
        nodev = 0 if "nodev" in self._shape.without else MS_NODEV
        self._mount(b"tmpfs", b"dev", ((b"mode", b"0755"), (b"size", b"64k"), *_ROOTS), MS_NOSUID | nodev)
        self._fill_dev()
        pts = ((b"newinstance", b""), (b"ptmxmode", b"0666"), (b"mode", b"0620"))
        # Where a user namespace has a single group, nothing can belong to another.
        group = ((b"gid", b"5"),) if self._shape.emulate != "owners" else ()
        self._mount(b"devpts", b"dev/pts", (*pts, *group), MS_NOSUID | MS_NOEXEC)
        size = b"%d" % self._shape.shm_size
        self._mount(b"tmpfs", b"dev/shm", ((b"mode", b"1777"), (b"size", size), *_ROOTS), _QUIET)
        if "mqueue" not in self._missing:
            self._mount(b"mqueue", b"dev/mqueue", (), _QUIET)
            # It belongs to who made the namespace, which in a user namespace was not root yet.
            os.chown(b"dev/mqueue", 0, 0)
        for name in _DEVICES:
            if not stat.S_ISCHR(os.stat(b"/dev/" + name).st_mode):
                # Whoever writes an output to /dev/null may have put a file there; commands would be told so far from here.
                raise OSError(errno.ENODEV, "", b"/dev/" + name)
            self._attach(self._mounts.clone(b"/dev/" + name, self._node_attributes()), b"dev/" + name)

    def _fill_dev(self) -> None:
        os.chdir(b"dev")
        for name in _DEVICES:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        for target, link in _LINKS:
            os.symlink(target, link)
        folders = (b"pts", b"shm", b"mqueue")
        for folder in folders:
            os.mkdir(folder, 0o755)
        if os.geteuid() != 0 or os.getegid() != 0:
            for made in (*_DEVICES, *(link for _, link in _LINKS), *folders):
                os.lchown(made, 0, 0)
        os.fchdir(self._folder)

    def _node_attributes(self) -> int:
        """Read-only says nothing of what is written to a device, and keeps a command from the mode, owner and times of the
        node, which is the host's own."""
        return MS_NOSUID | MS_NOEXEC | (0 if "readonly-nodes" in self._shape.without else MS_RDONLY)

    def _mask(self) -> None:
        """Docker's masked and read-only paths: those of /proc are covered by `_seal`, but for folders that are masked. A masked
        file reads as empty, a masked folder too; none is needed."""
        if "masked-paths" in self._shape.without:
            return
        for path in _MASKED:
            if os.path.isdir(path):
                self._mount(b"tmpfs", path, ((b"size", b"4k"), *_ROOTS), _QUIET | MS_RDONLY)
            elif os.path.exists(path):
                self._cover(b"dev/null", path)
        for path in _READONLY:
            if os.path.exists(path):
                self._cover(path, path)

    def _cover(self, source: bytes, path: bytes) -> None:
        if path.startswith(b"proc/"):
            self._covers.append((source, path))
        else:
            self._cover_alone(source, path)

    def _cover_alone(self, source: bytes, path: bytes) -> None:
        attributes = self._node_attributes() if source == b"dev/null" else _QUIET | MS_RDONLY
        self._attach(self._mounts.clone(source, attributes), path)

    def _seal(self) -> None:
        """Cover what is to be masked or read-only in /proc, and what it has beside processes. That is the same in each /proc of
        the machine: root may give it another owner or mode, and that lasts until the machine boots anew. A mount for each keeps
        it. In a user namespace it is nobody's."""
        if "readonly-proc" not in self._shape.without and os.stat(b"proc/version").st_uid == 0:
            self._cover_the_rest()
        if not self._covers:
            return
        _, place = target_below(self._folder, b"proc", self._missing)
        try:
            is_done = self._mounts.cover(place, [(_from_proc(source), _from_proc(path)) for source, path in self._covers])
        except OSError as error:
            raise OSError(error.errno, error.strerror, b"/proc/" + os.fsencode(error.filename or b"")) from error
        os.close(place)
        os.fchdir(self._folder)
        for source, path in () if is_done else self._covers:
            self._cover_alone(source, path)

    def _cover_the_rest(self) -> None:
        done = {path.split(b"/")[1] for path in (*_MASKED, *_READONLY) if path.startswith(b"proc/")}
        if "masked-paths" in self._shape.without:
            done = {b"sys", b"keys"}
        for entry in os.scandir(b"proc"):
            # Links (self, net) lead to a process's own.
            if not entry.name.isdigit() and entry.name not in done and not entry.is_symlink():
                self._cover(entry.path, entry.path)

    def _attach(self, tree: int, target: bytes) -> None:
        try:
            place = target_below(self._folder, target, self._missing)
            self._mounts.attach(tree, place)
            os.close(place[1])
        except OSError as error:
            # Whatever call failed: the target is what the person knows.
            raise OSError(error.errno, error.strerror, b"/" + target) from error


def _from_proc(path: bytes) -> bytes:
    return path[len(b"proc/") :] if path.startswith(b"proc/") else b"../" + path


def _mounts_below(folder: bytes) -> set[bytes]:
    """Where something is mounted in the host's tree (proc_pid_mountinfo(5)), or in what lies over it."""
    with open("proc/self/mountinfo", "rb") as file:
        points = {line.split()[4] for line in file}
    return {_unescaped(point) for point in points if point.startswith(folder)}


def _unescaped(path: bytes) -> bytes:
    first, *rest = path.split(b"\\")
    return first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)
