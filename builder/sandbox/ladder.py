"""Which rungs work here, found out by doing: each makes a whole sandbox, down to the exec of a program that is not there.

To create a user namespace proves nothing: Ubuntu's AppArmor lets one come to life without its powers, containers hide parts
of /proc, and a file system may carry no overlay. Whatever is made is made in the folder that the caller gives, which
lies on the store's file system, and by a child of its own: the caller stays as it is. It must have one thread.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` makes enums of
import errno
import marshal
import os
import select

from builder.errors import SandboxError
from builder.sandbox import capabilities, probe, subids, troubles
from builder.sandbox.namespace import SIGNALS, Entry, Maps, reap
from builder.sandbox.rungs import Verdict
from builder.sandbox.spawn import memory_file
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from builder.sandbox.emulation import Emulation
    from builder.sandbox.spec import SandboxSpec

_PROGRAM = "/nothing"
_FOLDERS = ("dev", "proc", "sys")
_CHROOT_NEEDS = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"),
)
_NEEDED_IDS = 6
"""The terminals' group, 5, is the highest id that a sandbox itself needs."""
_ALL_IDS = 65536
_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EUSERS, errno.EIO, errno.ETIMEDOUT)
"""Of a machine that is full or slow now; so says also what waits for a directory service, and for a child."""
_DIRECTORY_PATIENCE = 20.0
"""Seconds for the answer of a directory service."""
_PATIENCE = 30.0
"""Seconds for one attempt, which takes a twentieth of one."""


class Trial(NamedTuple):
    """How an attempt ended: `stage` is empty where all went well, else what failed, with errno and words for it."""

    stage: str
    errno: int
    said: str
    fallbacks: tuple[str, ...] = ()


class Found(NamedTuple):
    verdicts: tuple[Verdict, ...]
    maps: Maps | None
    """Of the user namespace, where that rung works."""
    own: Maps | None
    """Of the one with a single uid, likewise."""
    fallbacks: tuple[str, ...]
    """What the strongest rung that works does without (`spec.Outcome`)."""
    passing: bool = False
    """Something failed that may well work in a moment."""


def climb(folder: str, path: str) -> Found:
    """Try each rung in the empty `folder`, which is so again afterwards; `path` is where programs are looked for (PATH)."""
    machine = troubles.read_machine()
    root, done = _root(folder, machine)
    userns, maps, done_too = _userns(folder, path, machine)
    single, own, done_alone = _single_uid(folder, machine)
    chroot = _chroot(folder)
    passing = any(trial.stage and trial.errno in _PASSING for trial in (done, done_too, done_alone))
    if maps is not None and single.usable and _few(maps):
        # The emulation has all ids.
        taken = done if root.usable else done_alone
        return Found((root, single, userns, chroot), maps, own, taken.fallbacks, passing)
    taken = done if root.usable else done_too if userns.usable else done_alone
    return Found((root, userns, single, chroot), maps, own, taken.fallbacks, passing)


def _few(maps: Maps) -> bool:
    """Whether it lacks ids that images have."""
    return any(subids.reaches(subids.parsed(ids)) < _ALL_IDS for ids in (maps.uids, maps.gids))


def try_network(folder: str, found: Found, rung: str, program: str) -> bool:
    """Whether a command on this rung, which works, gets a network of its own by the stack `program` (`stack.find`)."""
    emulate: Emulation = "owners" if rung == "single-uid" else ""
    maps = found.own if emulate else found.maps
    if rung == "root" or maps is None:
        return not _apart(lambda: _try_sandbox(folder, program=program)).stage
    return not _apart(lambda: _try_namespace(maps, folder, emulate, program)).stage


def _root(folder: str, machine: troubles.Machine) -> tuple[Verdict, Trial]:
    if os.geteuid() != 0:
        return Verdict("root", False, "the builder is not root", "run it with sudo"), Trial("", 0, "")
    try:
        probe.require()
    except SandboxError as error:
        return Verdict("root", False, error.message, error.hint or ""), Trial("", 0, "")
    trial = _apart(lambda: _try_sandbox(folder))
    if trial.stage:
        return Verdict("root", False, *troubles.explain(trial.stage, trial.errno, trial.said, machine)), trial
    return Verdict("root", True, "namespaces of its own, and an overlay"), trial


def _userns(folder: str, path: str, machine: troubles.Machine) -> tuple[Verdict, Maps | None, Trial]:
    nothing = Trial("", 0, "")
    try:
        maps, reason = find_maps(path)
    except SandboxError as error:
        silent = isinstance(error.__cause__, TimeoutError)
        trial = Trial("ids", errno.ETIMEDOUT, "") if silent else nothing
        return Verdict("userns", False, error.message, error.hint or ""), None, trial
    trial = _apart(lambda: _try_namespace(maps, folder))
    if trial.stage:
        return Verdict("userns", False, *troubles.explain(trial.stage, trial.errno, trial.said, machine)), None, trial
    return Verdict("userns", True, reason), maps, trial


def _single_uid(folder: str, machine: troubles.Machine) -> tuple[Verdict, Maps | None, Trial]:
    own = (str(os.geteuid()), str(os.getegid()))
    maps = Maps("", "", (own[0], own[0], "1"), (own[1], own[1], "1"))
    trial = _apart(lambda: _try_namespace(maps, folder, emulate="owners"))
    if trial.stage in ("supervisor", "user"):
        hint = "a container's seccomp profile may refuse it; sysctl kernel.yama.ptrace_scope must not be 3"
        return (
            Verdict(
                "single-uid",
                False,
                f"no supervisor can answer system calls here: {trial.said or os.strerror(trial.errno)}",
                hint,
            ),
            None,
            trial,
        )
    if trial.stage:
        return Verdict("single-uid", False, *troubles.explain(trial.stage, trial.errno, trial.said, machine)), None, trial
    return Verdict("single-uid", True, "a user namespace with one id, where owners and users are emulated"), maps, trial


def _chroot(folder: str) -> Verdict:
    if os.geteuid() != 0:
        return Verdict("chroot", False, "the builder is not root", "leave --isolation out: it is for root in a container")
    if lacking := capabilities.absent(_CHROOT_NEEDS, "CapEff"):
        names = " ".join(f"--cap-add={name.removeprefix('CAP_')}" for name in lacking)
        return Verdict("chroot", False, f"root lacks {', '.join(lacking)}", f"in a container, start it with {names}")
    if os.statvfs(folder).f_flag & os.ST_NODEV:
        return Verdict(
            "chroot",
            False,
            "the store's file system is mounted with nodev: commands would have no /dev/null",
            "in a container, give the store a volume: -v pybuild:/var/lib/pybuild (Docker), -v pybuild:/var/lib/pybuild:dev"
            " (podman); or name another place with --root",
        )
    trial = _apart(lambda: _try_sandbox(folder, chroot=True))
    if trial.stage:
        return Verdict("chroot", False, f"it fails: {trial.stage}: {trial.said or os.strerror(trial.errno)}")
    return Verdict("chroot", True, "a copy of the root file system, and no namespaces: nothing but files is kept apart")


def find_maps(path: str) -> tuple[Maps, str]:
    """The map for this user, and words for it. Raises SandboxError when there can be none."""
    import pwd

    uid = os.geteuid()
    try:
        account = pwd.getpwuid(uid)
        name, gid = account.pw_name, account.pw_gid
    except KeyError:
        raise SandboxError(
            f"the uid {uid} has no account, and newuidmap serves no other",
            hint=f"make one with subordinate ids: sudo useradd --uid {uid} NAME",
        ) from None
    programs = [_find(program, path) for program in ("newuidmap", "newgidmap")]
    if not all(programs):
        raise SandboxError(
            "newuidmap and newgidmap are not installed",
            hint="install them: apt-get install uidmap (Debian, Ubuntu), dnf install shadow-utils (Fedora)",
        )
    ids = []
    for file, own in (("/etc/subuid", uid), ("/etc/subgid", gid)):
        extents = subids.extents(own, _ranges(file, name, uid, path))
        if subids.reaches(extents) < _NEEDED_IDS:
            raise SandboxError(f"{file} has no line for {name}", hint=f"give {name} ids: {_usermod(name)}")
        ids.append(extents)
    uids, gids = ids
    most = min(subids.reaches(uids), subids.reaches(gids))
    reason = f"a user namespace with the ids 0 to {most - 1}"
    if most < _ALL_IDS:
        reason += f", where images may need up to {_ALL_IDS - 1}"
    return Maps(programs[0], programs[1], _words(uids), _words(gids)), reason


def _ranges(file: str, name: str, uid: int, path: str) -> list[tuple[int, int]]:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            found = subids.ranges(opened.read(), name, uid)
    except FileNotFoundError:
        found = []
    program = "" if found else _find("getsubids", path)
    if program:
        # Where nsswitch.conf has another source than the files (`subid: sss`): "0: name first count".
        import subprocess

        words = [program, "-g", name] if file.endswith("gid") else [program, name]
        try:
            said = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_DIRECTORY_PATIENCE
            ).stdout
        except (subprocess.TimeoutExpired, OSError) as error:
            is_late = isinstance(error, subprocess.TimeoutExpired)
            why = "gave no answer" if is_late else str(error)
            raise SandboxError(
                f"{file} has no line for {name}, and getsubids, which asks other sources for ids, failed: {why}",
                hint=f"see 'subid' in /etc/nsswitch.conf, or give {name} ids: {_usermod(name)}",
            ) from (TimeoutError() if is_late else None)
        lines = (line.split() for line in said.splitlines())
        found = subids.ranges("".join(f"{line[1]}:{line[2]}:{line[3]}\n" for line in lines if len(line) == 4), name, uid)
    return found


def _usermod(name: str) -> str:
    """The command that gives the user ids that nobody has (useradd's own way: behind the last)."""
    ranges = []
    for option, file in (("--add-subuids", "/etc/subuid"), ("--add-subgids", "/etc/subgid")):
        first = 100000
        try:
            with open(file, encoding="utf-8", errors="replace") as opened:
                fields = [line.strip().split(":") for line in opened]
        except FileNotFoundError:
            fields = []
        for _, start, count in (field for field in fields if len(field) == 3):
            if start.isdigit() and count.isdigit():
                first = max(first, int(start) + int(count))
        ranges.append(f"{option} {first}-{first + _ALL_IDS - 1}")
    return f"sudo usermod {' '.join(ranges)} {name}"


def _words(extents: tuple[subids.Extent, ...]) -> tuple[str, ...]:
    return tuple(str(number) for extent in extents for number in extent)


def _find(program: str, path: str) -> str:
    """Where the program is; empty where it is not. Administrators' folders are on no user's PATH."""
    for folder in (*path.split(":"), "/usr/bin", "/usr/sbin") if path else ():
        found = os.path.join(folder, program)
        if folder.startswith("/") and os.access(found, os.X_OK):
            return found
    return ""


def _apart(attempt: Callable[[], Trial]) -> Trial:
    """What the attempt came to, made by a child. Signals wait: what the child makes nobody else may be able to remove."""
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, SIGNALS)
    try:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _attempt(attempt, writer)
        os.close(writer)
        with open(reader, "rb") as file:
            ready = select.select([file], [], [], _PATIENCE)[0]
            if not ready:
                os.kill(child, _signal.SIGKILL)
            data = file.read()
        reap(child)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    return Trial(*marshal.loads(data)) if data else Trial("probe", errno.EIO, "it was killed")


def _attempt(attempt: Callable[[], Trial], writer: int) -> NoReturn:
    trial = Trial("probe", errno.EIO, "")
    try:
        trial = attempt()
    except OSError as error:
        trial = Trial("probe", error.errno or errno.EIO, str(error))
    except SandboxError as error:
        trial = Trial("ids", 0, error.message)
    finally:
        os.write(writer, marshal.dumps(tuple(trial)))
        os._exit(0)


def _try_namespace(maps: Maps, folder: str, emulate: Emulation = "", program: str = "") -> Trial:
    entry = Entry(maps)
    try:
        entry.begin()
    except OSError as error:
        return Trial("user namespace", error.errno or errno.EIO, "")
    entry.finish()
    if lacking := capabilities.absent(("CAP_SYS_ADMIN", "CAP_CHOWN"), "CapEff"):
        return Trial("powers", errno.EPERM, ", ".join(lacking))
    # A security module lets a process have them, and refuses each use; NFS and FAT have no owners to give.
    gives = (("powers", _give_memory), ("owners", lambda: _give_folder(folder)))
    # Where owners are emulated nothing is given to anybody.
    for stage, give in gives if not emulate else ():
        try:
            give()
        except PermissionError:
            return Trial(stage, errno.EPERM, "chown")
    return _try_sandbox(folder, emulate, program)


def _give_memory() -> None:
    file = memory_file("chown")
    try:
        os.fchown(file, 0, 0)
    finally:
        os.close(file)


def _give_folder(folder: str) -> None:
    os.chown(folder, 0, 0)
    os.chown(folder, os.geteuid(), os.getegid())


def _try_sandbox(folder: str, emulate: Emulation = "", program: str = "", *, chroot: bool = False) -> Trial:
    from shutil import rmtree

    from builder.sandbox.launcher import Launcher

    lower, upper, work = (os.path.join(folder, name) for name in ("lower", "upper", "work"))
    try:
        for path in (lower, upper, work, *(os.path.join(lower, name) for name in _FOLDERS)):
            os.mkdir(path, 0o755)
        if emulate == "owners":
            try:
                os.setxattr(upper, "user.pybuild.owner", b"1:1")
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                return Trial("attributes", errno.EOPNOTSUPP, "")
        else:
            os.chown(upper, 0, 0)
        with Launcher() as launcher:
            outcome = launcher.run(_spec(lower, upper, work, emulate, program)._replace(chroot=chroot))
    finally:
        for path in (lower, upper, work):
            rmtree(path, ignore_errors=True)
    if emulate == "owners" and outcome.failed_at == "exec" and "switched:1" not in outcome.notes:
        return Trial("supervisor", 0, next(iter(outcome.notes), "it says nothing"), outcome.fallbacks)
    if outcome.failed_at != "exec":
        return Trial(outcome.failed_at or "exec", outcome.exec_error, "", outcome.fallbacks)
    return Trial("", 0, "", outcome.fallbacks)


def _spec(lower: str, upper: str, work: str, emulate: Emulation, program: str) -> SandboxSpec:
    from builder.sandbox.spec import SandboxSpec

    # A user, so that a supervisor has something to answer; a group, which it must read from the command's memory.
    number, groups = (1, (1,)) if emulate == "owners" else (0, ())
    spec = SandboxSpec((lower,), upper, work, (_PROGRAM,), (), "/", number, number, groups, emulate=emulate)
    return spec._replace(network="stack", stack=program) if program else spec
