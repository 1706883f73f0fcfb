"""What the child does between its birth in new namespaces and the exec of the command: two lists of steps, before it knows
what the command is and after.

The order is the kernel's: no_new_privs stays off, so that setuid programs work, and without it Landlock and seccomp need
CAP_SYS_ADMIN; so both come before the capabilities go. PDEATHSIG comes after the credentials.

Part of the fork server's program.
"""

from __future__ import annotations

import _socket
import errno
import os

from builder.sandbox import kernel, privileges, rights, terminal, wire
from builder.sandbox.rootfs import Root
from builder.sandbox.surroundings import Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sandbox.child import Child, Request
    from builder.sandbox.wire import Job, Shape

_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def enter(own: Child, server: int, missing: tuple[str, ...]) -> None:
    """Never returns: it becomes the command that comes on the child's channel, or says on its error channel what failed, and
    ends. `server` is the pidfd of the fork server.

    What can be done before there is a command is done at once.
    """
    stage = ""
    try:
        surroundings = Surroundings(own.shape, missing)
        for name, step in _beforehand(own, surroundings, server, missing):
            stage = name
            step()
        stage = "request"
        request = own.take()
        for name, step in _steps(own, request, surroundings, server, missing):
            stage = name
            step()
    except OSError as error:
        place = "" if stage in ("exec", "cwd") or not error.filename else f" {os.fsdecode(error.filename)}"
        os.write(own.errors, wire.pack_failure(error.errno or errno.EIO, stage + place))
    except BaseException as error:  # noqa: BLE001 whatever it is, the child must never come back into the server's loop
        os.write(own.errors, wire.pack_failure(errno.EIO, f"{stage}: {error!r}"))
    finally:
        os._exit(125)


def _beforehand(
    own: Child, surroundings: Surroundings, server: int, missing: tuple[str, ...]
) -> list[tuple[str, Callable[[], None]]]:
    network = own.network
    return [
        ("session", lambda: _session(own.shape, server)),
        # Those of other commands above all: what is open here would not end with them.
        ("descriptors", lambda: close_others((server, *own.descriptors()), missing)),
        ("loopback", lambda: _bring_up_loopback(own.shape)),
        ("mounts", lambda: _own_mounts(own.shape)),
        # Before /sys is mounted, which shows it.
        ("clone", lambda: network.enter() if network is not None else None),
        *surroundings.prepare(),
    ]


def _steps(
    own: Child, request: Request, surroundings: Surroundings, server: int, missing: tuple[str, ...]
) -> list[tuple[str, Callable[[], None]]]:
    job, network = request.job, own.network
    root = Root(job, missing)
    return [
        ("cgroup", lambda: join(job, request.cgroups)),
        ("circumstances", lambda: circumstances(job)),
        ("hostname", lambda: _name_host(job)),
        ("overlay", root.mount_overlay),
        ("prepare", root.prepare),
        ("root", lambda: privileges.become_root(server, job)),
        *surroundings.attach(lambda: root.folder),
        ("pivot_root", root.change),
        ("mount", root.mount_prepared),
        ("leave", root.leave_host),
        ("keyring", lambda: own_keyring(missing)),
        # As late as it can be: it has come up meanwhile.
        ("network", lambda: network.wait() if network is not None else None),
        ("streams", lambda: set_streams(job, request.streams)),
        ("descriptors", lambda: close_others((server, *own.kept()), missing)),
        ("cwd", lambda: change_folder(job)),
        ("landlock", lambda: scope(job, missing)),
        ("capabilities", lambda: privileges.drop_bounding(job)),
        ("seccomp", lambda: filter_calls(job)),
        ("supervisor", lambda: _ask(job, own.asks)),
        # Raising one takes CAP_SYS_RESOURCE, and few descriptors or little data would be too little for what comes before.
        ("ulimit", lambda: privileges.limit(job)),
        ("user", lambda: privileges.become(job)),
        ("pdeathsig", lambda: privileges.die_with(server, job)),
        ("init", lambda: terminal.become_second(has_terminal=bool(job.terminal)) if job.terminal or job.init else None),
        ("no-new-privileges", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1) if job.no_new_privileges else None),
        ("exec", lambda: execute(job)),
    ]


def _session(shape: Shape, server: int) -> None:
    privileges.die_with(server, shape)
    if "session" not in shape.without:
        os.setsid()


def _own_mounts(shape: Shape) -> None:
    """Nothing that is mounted here is seen by the host. What the host mounts and unmounts is followed: a child may wait for
    long, and would keep a disk busy that the host has left."""
    if "mount-namespace" not in shape.without:
        kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_SLAVE)


def join(job: Job, cgroups: tuple[int, ...]) -> None:
    for fd in cgroups:
        # Whoever writes it.
        os.write(fd, b"0")
    if cgroups and "cgroup-namespace" not in job.without:
        # What lies above them is not to be seen.
        kernel.unshare(kernel.CLONE_NEWCGROUP)


def circumstances(job: Job) -> None:
    """What has no say in a result that can be repeated."""
    if job.cpus:
        os.sched_setaffinity(0, job.cpus)
    if not job.random_addresses:
        # It counts from the next exec on.
        kernel.personality(kernel.ADDR_NO_RANDOMIZE)
    for _ in range(job.pids_taken):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)


def _name_host(job: Job) -> None:
    if "uts-namespace" not in job.without:
        kernel.sethostname(job.hostname)


def _bring_up_loopback(shape: Shape) -> None:
    if shape.network == "none":
        kernel.bring_up(b"lo")


def own_keyring(missing: tuple[str, ...]) -> None:
    if "session-keyring" not in missing:
        kernel.join_session_keyring()


def set_streams(job: Job, streams: tuple[int, int, int]) -> None:
    if job.terminal:
        opened = terminal.open_terminal(job, streams[0])
        streams = (opened, opened, opened)
    if streams[0] < 0:
        streams = (os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), streams[1], streams[2])
    # None of them is below 3: the server keeps its own three open.
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    if job.own_streams and job.emulate != "owners":
        # Else `echo > /dev/stdout`, which opens the pipe anew, is refused to the user. In a user namespace it is not root's.
        os.fchown(1, job.uid, job.gid)


def close_others(kept: tuple[int, ...], missing: tuple[str, ...]) -> None:
    """Nothing of the host may be reached through an open descriptor: not by the command, and not by a cwd like
    /proc/self/fd/8 before it (CVE-2024-21626). Those that are kept close at exec."""
    kernel.close_all_but(kept, by_range="close_range" not in missing)


def change_folder(job: Job) -> None:
    os.chdir(job.cwd)
    # ENOENT for a folder outside the root.
    os.getcwdb()


def scope(job: Job, missing: tuple[str, ...]) -> None:
    if job.network == "host" and "landlock-scope" not in missing and "landlock-scope" not in job.without:
        kernel.landlock_scope()


def filter_calls(job: Job) -> None:
    if "seccomp" not in job.without:
        kernel.load_seccomp(job.seccomp)


def _ask(job: Job, supervisor: int) -> None:
    """From here on some calls are answered, the first of them those that make the command its user."""
    if supervisor < 0:
        return
    listener = kernel.load_notifying_seccomp(job.notify)
    channel = _socket.socket(fileno=supervisor)
    rights.send(channel, b"l", listener)
    channel.close()
    os.close(listener)


def execute(job: Job) -> None:
    """As execvpe(3), but a file that is no program is an error and not a script for sh: so has runc it."""
    command = job.argv[0]
    env = dict(job.env)
    if b"/" in command:
        os.execve(command, job.argv, env)
    refused: OSError | None = None
    for folder in env.get(b"PATH", _DEFAULT_PATH).split(b":") if command else ():
        try:
            os.execve((folder or b".") + b"/" + command, job.argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            refused = error
    raise refused or OSError(errno.ENOENT, os.strerror(errno.ENOENT))
