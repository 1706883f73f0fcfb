"""Users of this machine made for the tests, and `pybuild` as they run it.

A user may not enter what CI's folders lie in: a home of root's, pytest's own folders. So the users have a mount namespace in
which the folders on the way to the checkout, to Python and to their room are others, readable ones, and the paths are the
same. A process holds it; nothing of it is seen outside.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.conftest import _MARK, ROOT, SEARCH_PATH

PYBUILD = Path(sys.executable).with_name("pybuild")


class Account(NamedTuple):
    name: str
    uid: int
    gid: int
    """Of the group of its own: no account tool promises that it is the same number."""
    home: Path


_TUN = """\
stage=$(mktemp -d)
mount -t tmpfs tmpfs $stage
mknod -m 666 $stage/tun c 10 200
mount --bind $stage/tun /dev/net/tun
umount $stage
rmdir $stage"""
"""Who may open it differs from machine to machine; for the users it is as on a desktop."""


class Machine:
    """The mount namespace of the users, held by a process that sleeps."""

    def __init__(self, room: Path) -> None:
        self.room = room
        script = f"umask 022\n{_readable([ROOT, Path(sys.prefix), Path(sys.base_prefix), room])}\n{_opened()}\n{_TUN}"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f"{script}\necho ready\nexec sleep infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None and self._holder.stdout.readline() == b"ready\n"

    def beside(self) -> list[str]:
        """What a command of root's begins with that is to run in the namespace."""
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--"]

    def command(self, account: Account, *words: str, before: tuple[str, ...] = ()) -> list[str]:
        """The words as the user says them; `before` goes before all, as root."""
        identity = ["setpriv", f"--reuid={account.name}", f"--regid={account.name}", "--init-groups", "--inh-caps=-all"]
        return [*self.beside(), *before, *identity, *words]

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()


def _readable(paths: list[Path]) -> str:
    """A shell script that puts each path, as it is, below folders that everybody may enter."""
    closed = {top for path in paths for top in (*reversed(path.parents), path) if not top.stat().st_mode & 0o001}
    covered = sorted(top for top in closed if not any(parent in closed for parent in top.parents))
    inside = [path for path in paths if any(top == path or top in path.parents for top in covered)]
    # A path that lies in another one comes with it.
    moved = sorted({path for path in inside if not any(parent in inside for parent in path.parents)})
    if not moved:
        return ""
    lines = ["stage=$(mktemp -d)", "mount -t tmpfs -o mode=755 tmpfs $stage"]
    for number, path in enumerate(moved):
        lines += [f"mkdir $stage/{number}", f"mount --rbind {shlex.quote(str(path))} $stage/{number}"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(top))}" for top in covered]
    for number, path in enumerate(moved):
        lines += [f"mkdir -p {shlex.quote(str(path))}", f"mount --move $stage/{number} {shlex.quote(str(path))}"]
    return "\n".join([*lines, "umount $stage", "rmdir $stage"])


def _opened() -> str:
    """The same for a checkout, or its Python, whose files were made with a strict umask: an overlay with other modes."""
    for path, file in ((ROOT, "builder/errors.py"), (Path(sys.prefix), "pyvenv.cfg")):
        if not (path / file).stat().st_mode & 0o004:
            place = shlex.quote(str(path))
            return (
                "stage=$(mktemp -d)\nmount -t tmpfs tmpfs $stage\nmkdir $stage/upper $stage/work"
                f"\nmount -t overlay -o lowerdir={place},upperdir=$stage/upper,workdir=$stage/work,metacopy=on overlay {place}"
                f"\nchmod -R a+rX {place}\numount $stage\nrmdir $stage"
            )
    return ""


class UserPybuild:
    """`pybuild` as a user runs it, with a store where the user has it."""

    def __init__(self, machine: Machine, account: Account) -> None:
        self.machine = machine
        self.account = account
        self.store = account.home / ".local/share/pybuild"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        name, _, value = _MARK.partition("=")
        own = {"HOME": str(self.account.home), "USER": self.account.name, "PATH": SEARCH_PATH, "LANG": "C.UTF-8", name: value}
        return {**own, "TMPDIR": str(self.account.home), **(extra or {})}

    def sh(self, script: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A shell script as the user runs it, in the home."""
        return self._run("sh", "-ec", script, env=env)

    def __call__(
        self,
        *args: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
        stdin: bytes = b"",
        program: tuple[str, ...] = (str(PYBUILD),),
    ) -> subprocess.CompletedProcess[str]:
        return self._run(*program, *(os.fspath(arg) for arg in args), env=env, before=before, stdin=stdin)

    def _run(
        self, *words: str, env: Mapping[str, str] | None = None, before: tuple[str, ...] = (), stdin: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        command = self.machine.command(self.account, "env", "-C", str(self.account.home), *words, before=before)
        done = subprocess.run(command, env=self.environment(env), input=stdin, capture_output=True, timeout=300)
        out, err = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, out, err)

    def start(self, *args: str | os.PathLike[str]) -> subprocess.Popen[bytes]:
        """The running process, in a session of its own. (`env` and `setpriv` become the program: its pid is this one's.)"""
        words = (str(PYBUILD), *(os.fspath(arg) for arg in args))
        return subprocess.Popen(
            self.machine.command(self.account, "env", "-C", str(self.account.home), *words),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )


class Frozen(UserPybuild):
    """The same where the accounts stay as they are, whatever other tests do to those of the machine meanwhile: what the ladder
    said is kept for as long as their files are the same."""

    def __init__(self, machine: Machine, account: Account) -> None:
        super().__init__(machine, account)
        self._before = with_etc(machine.room / f"{account.name}-etc")

    def _run(
        self, *words: str, env: Mapping[str, str] | None = None, before: tuple[str, ...] = (), stdin: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        return super()._run(*words, env=env, before=(*self._before, *before), stdin=stdin)


def with_etc(copy: Path) -> tuple[str, ...]:
    """What a command of root's begins with that is to find a copy in the place of /etc, made now. Not of some files alone: the
    kernel takes a mount away from a file that is renamed over elsewhere."""
    shutil.copytree("/etc", copy, symlinks=True, copy_function=_copy_what_stays)
    return ("unshare", "--mount", "sh", "-ec", f'mount --bind {shlex.quote(str(copy))} /etc; exec "$@"', "sh")


def _copy_what_stays(source: str, target: str) -> None:
    # A lock of the account tools is gone as soon as it is seen.
    with suppress(FileNotFoundError):
        shutil.copy2(source, target, follow_symlinks=False)


@contextmanager
def new_account(room: Path, *, subordinate: int = 65536) -> Iterator[Account]:
    """A user with so many subordinate ids; it and all that it has in the room is gone afterwards."""
    name = f"pb{secrets.token_hex(5)}"
    home = room / name
    home.mkdir(mode=0o755)
    ids = [word for key in ("SUB_UID_COUNT", "SUB_GID_COUNT") for word in ("-K", f"{key}={subordinate}")]
    _account_tool("useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", "--user-group", *ids, name)
    try:
        entry = pwd.getpwnam(name)
        os.chown(home, entry.pw_uid, entry.pw_gid)
        yield Account(name, entry.pw_uid, entry.pw_gid, home)
    finally:
        _account_tool("userdel", "--force", name)
        subprocess.run(["rm", "-rf", home], check=True)


def _account_tool(*command: str) -> None:
    """The tools lock their files and give up at once: another worker may have them."""
    until(lambda: subprocess.run(command, capture_output=True).returncode == 0, f"{command[0]} does not get its lock")


def until(condition: Callable[[], bool], message: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.01)


def refusing(*numbers: int) -> tuple[str, ...]:
    """System calls that are EPERM, as security modules and containers' filters have it."""
    script = (
        f"import os, sys; sys.path.insert(0, {str(ROOT / 'tests/sandbox')!r})\n"
        "from sandbox_bpf import Refusal, refuse\n"
        f"refuse(*(Refusal(number, 1) for number in {numbers})); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    return (sys.executable, "-c", script)
