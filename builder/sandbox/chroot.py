"""The last rung: a command in a copy of its root file system, by chroot(2) alone, where no namespace and no mount can be had.

A keeper, forked from the server, makes the copy, runs the command in it, ends all that the command has left, moves what it
changed into the upper folder and ends as the command did. Processes that lose their parent come to the keeper
(PR_SET_CHILD_SUBREAPER), so that all of them can be found; and to the server, should the keeper itself be killed.

It keeps files apart and nothing else: the command is root of the builder's own processes, network and machine, less some
capabilities. Without CAP_SYS_CHROOT it does not leave its root by itself (a process outside that works with it can hand it a
descriptor of another folder: who starts commands lets them take turns); without CAP_MKNOD it makes no disk.

Part of the fork server's program.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` makes enums of
import errno
import os
import stat
import time

from builder.sandbox import copytree, enter, kernel, privileges, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sandbox.wire import Job, Mount

_SYS_ADMIN = 1 << 21
_SET_CHILD_SUBREAPER = 36
_SIGCHLD = 17
_MOMENT = 0.0001
"""Seconds, in which what was killed ends."""
_LISTS = 8
"""How often all processes are listed until none is new: those that grow without end are stopped in two or three."""
_TURN = 0.2
"""Seconds, after which those below the keeper's children are listed again."""
_HANDED_ON = (1, 2, 3, 10, 12, 15)
"""HUP, INT, QUIT, USR1, USR2, TERM."""
_DEVICES = ((b"null", 1, 3), (b"zero", 1, 5), (b"full", 1, 7), (b"random", 1, 8), (b"urandom", 1, 9), (b"tty", 5, 0))
_LINKS = (
    (b"/proc/self/fd", b"fd"),
    (b"/proc/self/fd/0", b"stdin"),
    (b"/proc/self/fd/1", b"stdout"),
    (b"/proc/self/fd/2", b"stderr"),
)


def keep(
    job: Job, streams: tuple[int, int, int], errors: int, server: int, missing: tuple[str, ...], cgroups: tuple[int, ...]
) -> None:
    """Never returns. As `enter.enter`, for a keeper: what fails is said on the descriptor `errors`."""
    stage = "keeper"
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_SIGCHLD, wire.END, *_HANDED_ON))
        kernel.prctl(kernel.PR_SET_PDEATHSIG, wire.END)
        adopt()
        if kernel.has_ended(server):
            os._exit(0)
        # Those of other commands above all: what is open here would not end with them.
        kept = (errors, *(fd for fd in {*streams, *cgroups} if fd > 2))
        kernel.close_all_but(kept, by_range="close_range" not in missing)
        os.setsid()
        enter.join(job, cgroups)
        enter.circumstances(job)
        stage = "copy"
        place = _Place(job)
        place.make()
        stage = "command"
        child = os.fork()
        if not child:
            _command(job, place.tree, streams, errors, missing)
        for stream in {*streams} - {-1}:
            os.close(stream)
        status = _wait(child)
        stage = "collect"
        if status is not None:
            place.collect()
    except OSError as error:
        at = f" {os.fsdecode(error.filename)}" if error.filename else ""
        _give_up(errors, error.errno or errno.EIO, stage + at)
    except BaseException as error:  # noqa: BLE001 whatever it is, the keeper must never come back into the server's loop
        _give_up(errors, errno.EIO, f"{stage}: {error!r}")
    else:
        _end_as(status)
    finally:
        os._exit(125)


def _give_up(errors: int, code: int, said: str) -> None:
    os.write(errors, wire.pack_failure(code, said))
    end_all()


class _Place:
    """The copy, with what others would mount in it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.tree = job.work + b"/tree"
        self._copy = copytree.Tree(self.tree)

    def make(self) -> None:
        job = self._job
        os.mkdir(self.tree, 0o755)
        # The upper has nothing but what `/` is like.
        self._copy.fill((job.upper, *job.lowers))
        for name in (b"proc", b"sys", b"dev"):
            copytree.empty(os.path.join(self.tree, name))
            self._copy.apart.add(name)
        self._make_devices()
        for fields in job.mounts:
            self._mount(wire.Mount(fields))
        self._copy.remember()

    def _make_devices(self) -> None:
        dev = self.tree + b"/dev/"
        for name, major, minor in _DEVICES:
            os.mknod(dev + name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            os.chmod(dev + name, 0o666)
        for target, name in _LINKS:
            os.symlink(target, dev + name)
        for name, mode in ((b"pts", 0o755), (b"shm", 0o1777), (b"mqueue", 0o1777)):
            os.mkdir(dev + name)
            os.chmod(dev + name, mode)

    def _mount(self, mount: Mount) -> None:
        """Something at the mount's target that is as if it were mounted. What the image has there is gone from the copy, which
        nobody keeps."""
        target, path = self._target(mount.target), mount.target.strip(b"/")
        if os.path.lexists(target):
            copytree.remove(target)
        # What was put below before is hidden, as by a mount.
        self._copy.apart = {other for other in self._copy.apart if not other.startswith(path + b"/")} | {path}
        # A path of the host may be a link; it is the user's, and no image's.
        source = os.path.realpath(mount.source) if mount.kind == "bind" else b""
        match mount.kind:
            case "file" | "script":
                _write(target, mount)
            case "tmpfs":
                os.mkdir(target)
                os.chmod(target, mount.mode)
            case "overlay":
                self._copy_part(mount, target)
            case "bind" if stat.S_ISSOCK(os.stat(source).st_mode):
                os.link(source, target)
            case "bind" if os.path.isdir(source):
                # A cache, or a folder of the host: never by links, and nothing goes back. What a command makes of it may lead
                # anywhere.
                copytree.Tree(target).fill((source,))
            case _:
                copytree.copy(source, target, os.stat(source))

    def _copy_part(self, mount: Mount, target: bytes) -> None:
        """`source` in the file system that is made of the mount's layers."""
        whole = self._job.work + b"/part"
        os.mkdir(whole)
        copytree.Tree(whole).fill((mount.upper, *mount.lowers))
        os.rename(_inside(whole, mount.source), target)
        if os.path.lexists(whole):
            copytree.remove(whole)

    def _target(self, path: bytes) -> bytes:
        """Where `path` lies in the copy; folders that are missing are made. A link on the way is ELOOP."""
        *above, name = path.strip(b"/").split(b"/")
        return os.path.join(_inside(self.tree, b"/".join(above), make=True), name)

    def collect(self) -> None:
        self._copy.move_changes(self._job.upper)


def _inside(folder: bytes, path: bytes, *, make: bool = False) -> bytes:
    """`path` below `folder`, name by name: nothing of an image leads anywhere else."""
    done = folder
    for name in path.split(b"/"):
        if name in (b"", b"."):
            continue
        if name == b".." or os.path.islink(done):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        done = os.path.join(done, name)
        if make and not os.path.lexists(done):
            os.mkdir(done, 0o755)
    if make and not stat.S_ISDIR(os.lstat(done).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return done


def _write(path: bytes, mount: Mount) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(mount.content)
        os.fchown(fd, mount.uid, mount.gid)
        os.fchmod(fd, mount.mode)


# The command


def _command(job: Job, tree: bytes, streams: tuple[int, int, int], errors: int, missing: tuple[str, ...]) -> None:
    """Never returns."""
    keeper = os.getppid()
    stage = ""
    try:
        for name, step in _steps(job, tree, streams, errors, missing, keeper):
            stage = name
            step()
    except OSError as error:
        os.write(errors, wire.pack_failure(error.errno or errno.EIO, stage))
    except BaseException as error:  # noqa: BLE001 the child must never come back into the server's loop
        os.write(errors, wire.pack_failure(errno.EIO, f"{stage}: {error!r}"))
    finally:
        os._exit(125)


def _steps(
    job: Job, tree: bytes, streams: tuple[int, int, int], errors: int, missing: tuple[str, ...], keeper: int
) -> list[tuple[str, Callable[[], None]]]:
    return [
        ("session", os.setsid),
        ("chroot", lambda: os.chroot(tree)),
        ("chroot", lambda: os.chdir("/")),
        ("keyring", lambda: enter.own_keyring(missing)),
        ("streams", lambda: enter.set_streams(job, streams)),
        ("descriptors", lambda: enter.close_others((errors,), missing)),
        ("cwd", lambda: enter.change_folder(job)),
        ("landlock", lambda: enter.scope(job, missing)),
        ("capabilities", lambda: privileges.drop_bounding(job)),
        ("seccomp", lambda: enter.filter_calls(job) if "seccomp" not in missing else None),
        ("ulimit", lambda: privileges.limit(job)),
        ("user", lambda: privileges.become(job)),
        ("pdeathsig", lambda: _die_with(keeper)),
        ("signals", lambda: _signal.pthread_sigmask(_signal.SIG_SETMASK, ())),
        ("no-new-privileges", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1) if job.no_new_privileges else None),
        ("exec", lambda: enter.execute(job)),
    ]


def _die_with(keeper: int) -> None:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
    if os.getppid() != keeper:
        os._exit(kernel.SIGKILL)


# Its end


def _wait(child: int) -> int | None:
    """Until the command has ended, and nothing of it is left: its wait status, None where it was to be ended."""
    status = None
    while status is None:
        number = _signal.sigwaitinfo((_SIGCHLD, wire.END, *_HANDED_ON)).si_signo
        if number == wire.END:
            break
        if number != _SIGCHLD:
            os.kill(child, number)
            continue
        while True:
            pid, ended = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                status = ended
            if pid in (0, child):
                break
    end_all()
    return status


def adopt() -> None:
    """What loses its parent comes to this process."""
    kernel.prctl(_SET_CHILD_SUBREAPER, 1)


def end_all() -> None:
    """Kill what there is of this process' descendants, until there are none. They are stopped first, all of them, so that none
    starts another one meanwhile. One that ends as soon as it has started another may be in every list and out of reach: what is
    left of such a chain comes to this process, and is killed as a child of its own. Each way has its turn until nothing is
    left: the first is for those that become more and more, the second for those that are gone when they are seen."""
    while True:
        stopped: set[int] = set()
        for _ in range(_LISTS):
            if not _reap():
                return
            new = _descendants() - stopped
            if not new:
                break
            for pid in new:
                _tell(pid, _signal.SIGSTOP)
            stopped |= new
        for pid in stopped:
            _tell(pid, kernel.SIGKILL)
        _end_children()


def _end_children() -> None:
    """Until there are none, or its turn is over."""
    told: list[int] = []
    until = time.monotonic() + _TURN
    while _reap() and time.monotonic() < until:
        children = _children()
        # The last of a chain comes last.
        for pid in reversed(children):
            _tell(pid, kernel.SIGKILL)
        if children == told:
            time.sleep(_MOMENT)
        told = children


def _reap() -> bool:
    """All that has ended, at once: who is looked for among thousands of the dead is gone when he is found. Whether there are
    children still. Who has none has no descendants: they would have come to it."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    """Of this process, which has one thread (proc_pid_task_children(5)): read at once, and not process by process."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:
        return []  # A kernel without CONFIG_PROC_CHILDREN: the list of all processes is what there is.


def _tell(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _descendants() -> set[int]:
    """All processes below this one that have not ended (proc_pid_stat(5))."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b") ")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != b"Z":
                parents[int(name)] = int(parent)
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new}
        found |= new
    return found


def _end_as(status: int | None) -> None:
    """Never returns."""
    if status is None:
        os._exit(128 + kernel.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    # It dumps no core: that is the command's.
    kernel.setrlimit(4, 0, 0)
    if -code != kernel.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (-code,))
    os.kill(os.getpid(), -code)
    os._exit(125)


def beyond(permitted: int) -> tuple[str, ...]:
    """What takes CAP_SYS_ADMIN, or else no_new_privs, which would take from set-user-id programs what they are for (seccomp(2),
    landlock_restrict_self(2))."""
    return () if permitted & _SYS_ADMIN else ("seccomp", "landlock-scope")
