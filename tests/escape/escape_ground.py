"""Where the tricks are played: the same program as root, as a user with subordinate ids, and as one without; and a canary of
the host's beside their stores, which nobody may read, change or name."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conftest import BASES, Pybuild
from tests.rootless.rootless_users import Machine, UserPybuild, new_account

RUNGS = ("root", "userns", "single-uid")
_IPC_CREAT, _IPC_RMID = 0o1000, 0
_SURE = 2000
"""No process in a sandbox has such a number here."""


class Done(NamedTuple):
    code: int
    said: str
    lines: tuple[str, ...]
    """What commands wrote."""


class Ground:
    """One rung: `store` is where its builds go, `home` a folder of its user's."""

    def __init__(self, rung: str, program: Pybuild | UserPybuild, home: Path, field: Field) -> None:
        self.rung = rung
        self.program = program
        self.store = program.store
        self.home = home
        self.field = field

    def context(self, dockerfile: str) -> Path:
        """A new context with this Dockerfile, which the rung's user can read and root writes."""
        folder = self.field.room / f"context-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o755)
        (folder / "Dockerfile").write_text(dockerfile)
        return folder

    @contextmanager
    def disk(self, megabytes: int) -> Iterator[Path]:
        """A folder of the rung's user that is a disk of its own, for a store; seen where the user's programs run."""
        owner = os.stat(self.home)
        image = self.field.room / f"disk-{secrets.token_hex(4)}"
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        options = f"root_owner={owner.st_uid}:{owner.st_gid},lazy_itable_init=0"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m0", "-E", options, image], check=True)
        folder = self.home / image.name
        folder.mkdir()
        try:
            subprocess.run([*self._beside(), "mount", "-o", "loop", image, folder], check=True)
            try:
                yield folder
            finally:
                # Lazily: what a failed test left may still have a file of it open.
                subprocess.run([*self._beside(), "umount", "--lazy", folder], check=True)
        finally:
            folder.rmdir()
            image.unlink()

    def names(self, folder: Path) -> list[str]:
        """What the folder has, as the rung's user sees it."""
        found = subprocess.run([*self._beside(), "ls", "-A", folder], capture_output=True, text=True)
        return found.stdout.splitlines()

    def mountinfo(self) -> str:
        """What is mounted where the rung's programs run."""
        return subprocess.run([*self._beside(), "cat", "/proc/self/mountinfo"], capture_output=True, text=True).stdout

    def _beside(self) -> list[str]:
        """What a command of root's begins with that sees the mounts which the rung's user sees."""
        return self.program.machine.beside() if isinstance(self.program, UserPybuild) else []

    def build(self, context: Path, *flags: str | os.PathLike[str]) -> Done:
        base = f"base={self.field.base}"
        done = self.program(
            *(f"--isolation={self.rung}", "--progress=plain", "--no-cache", "--build-context", base, *flags, context)
        )
        said = done.stdout + done.stderr
        lines = [line.split(" ", 2)[-1] for line in said.splitlines() if line.startswith("#") and line.count(" ") > 1]
        return Done(done.returncode, said, tuple(lines))


class Field(NamedTuple):
    room: Path
    base: Path
    canary: Path
    """A file of the host with `secret` in it."""
    secret: str
    abstract: str
    """An abstract socket of the host, where somebody listens."""
    key: int
    """Of shared memory of the host."""
    pid: int
    """A process of the host."""

    def untouched(self) -> bool:
        """Whether the host's file and its folder are what they were."""
        status = os.stat(self.canary)
        return (
            self.canary.read_text() == self.secret
            and (status.st_uid, status.st_mode & 0o7777, status.st_nlink) == (0, 0o666, 1)
            and os.listdir(self.canary.parent) == [self.canary.name]
        )


@contextmanager
def field(room: Path) -> Iterator[Field]:
    """What of the host there is to get at, and the base; root's, and open to all users, whom no mode keeps away."""
    room.chmod(0o755)
    base = room / "base"
    subprocess.run([BASES / "busybox", base], check=True)
    subprocess.run(["chmod", "-R", "a+rX", base], check=True)
    folder = room / "host"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    secret = f"canary-{secrets.token_hex(12)}"
    (folder / "canary").write_text(secret)
    (folder / "canary").chmod(0o666)
    key = 0x40000000 + secrets.randbelow(1 << 29)
    libc = ctypes.CDLL(None, use_errno=True)
    memory = libc.shmget(key, 4096, _IPC_CREAT | 0o666)
    assert memory >= 0, os.strerror(ctypes.get_errno())
    name = f"pybuild-escape-{secrets.token_hex(6)}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, _sleeper() as pid:
            listener.bind("\0" + name)
            listener.listen(64)
            yield Field(room, base, folder / "canary", secret, name, key, pid)
    finally:
        libc.shmctl(memory, _IPC_RMID, None)


@contextmanager
def _sleeper() -> Iterator[int]:
    while True:
        process = subprocess.Popen(["sleep", "infinity"])
        if process.pid > _SURE:
            break
        process.kill()
        process.wait()
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def grounds(room: Path) -> Iterator[dict[str, Ground]]:
    """One for each rung, by its name."""
    with ExitStack() as stack:
        here = stack.enter_context(field(room))
        machine = Machine(room)
        stack.callback(machine.close)
        home = room / "root-home"
        home.mkdir()
        found = {"root": Ground("root", Pybuild(room / "root-store", home), home, here)}
        for rung, subordinate in (("userns", 65536), ("single-uid", 0)):
            account = stack.enter_context(new_account(room, subordinate=subordinate))
            found[rung] = Ground(rung, UserPybuild(machine, account), account.home, here)
        yield found
        for path in room.glob("context-*"):
            shutil.rmtree(path)


def soon(condition: Callable[[], bool], seconds: float) -> float | None:
    """After how many seconds the condition held; None when it did not."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            return None
        time.sleep(0.005)
    return time.monotonic() - begun
