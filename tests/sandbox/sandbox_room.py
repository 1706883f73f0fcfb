"""A small image on disk and the specs to run it: busybox, and where a probe needs it the host's Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import MOUNT_POINTS, BindMount, Outcome, OverlayMount, SandboxSpec

_EXITING = 0x4  # PF_EXITING, linux/sched.h
BUSYBOX = "/usr/bin/busybox"
PYTHON = os.path.realpath(sys.executable)
_APPLETS = """
    [ awk basename cat chmod chown cp cut date dd df dirname echo env false head hostname id ifconfig ip kill ln ls mkdir
    mkfifo mknod mount mv nc ping ps pwd readlink rm rmdir sed seq setsid sh sleep sort stat su tail test touch tr true tty
    umount uname wc yes
"""


class Room:
    """`rootfs` is the image's one folder; each spec gets an upper and a work folder of its own below `folder`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.rootfs = os.path.join(folder, "rootfs")
        self.uppers = 0
        if not os.path.exists(self.rootfs):
            self._furnish()

    def _furnish(self) -> None:
        for name in ("bin", "etc", "tmp", "root", "mnt", *(point[1:] for point in MOUNT_POINTS)):
            os.makedirs(os.path.join(self.rootfs, name))
        shutil.copy(BUSYBOX, self.path("bin/busybox"))
        for applet in _APPLETS.split():
            os.symlink("busybox", self.path("bin/" + applet))
        self.write("etc/hosts", "")
        os.chmod(self.path("tmp"), 0o1777)

    def path(self, name: str) -> str:
        return os.path.join(self.rootfs, name)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)

    def spec(self, *argv: str, **fields: Any) -> SandboxSpec:
        self.uppers += 1
        upper, work = (os.path.join(self.folder, f"{name}-{os.getpid()}-{self.uppers}") for name in ("upper", "work"))
        os.mkdir(upper)
        os.mkdir(work)
        values: dict[str, Any] = {
            "lowers": (self.rootfs,),
            "upper": upper,
            "work": work,
            "argv": argv,
            "env": (("PATH", "/bin"),),
            "cwd": "/",
        }
        return SandboxSpec(**(values | fields))

    def overlay(self, name: str, target: str, source: str = "", *, readonly: bool = True) -> OverlayMount:
        """A file system of two layers: `inner` has `file` with the text "stage", a folder `there` and a link to it."""
        lowers = [os.path.join(self.folder, name, layer) for layer in ("above", "below")]
        if not os.path.exists(lowers[0]):
            os.makedirs(lowers[0] + "/inner/there")
            os.makedirs(lowers[1] + "/inner")
            os.symlink("/mnt/there", lowers[1] + "/inner/link")
            with open(lowers[1] + "/inner/file", "w", encoding="utf-8") as file:
                file.write("stage\n")
        self.uppers += 1
        upper, work = (os.path.join(self.folder, f"{kind}-{name}-{self.uppers}") for kind in ("upper", "work"))
        os.mkdir(upper)
        os.mkdir(work)
        return OverlayMount(tuple(lowers), upper, work, source, target, readonly)

    def run(self, launcher: Launcher, *argv: str, **fields: Any) -> tuple[Outcome, str]:
        """The outcome and all that was written."""
        written: list[bytes] = []
        outcome = launcher.run(self.spec(*argv, **fields), output=written.append)
        return outcome, b"".join(written).decode("utf-8", "surrogateescape")

    def sh(self, launcher: Launcher, script: str, **fields: Any) -> tuple[Outcome, str]:
        return self.run(launcher, "sh", "-c", script, **fields)

    def python(self, launcher: Launcher, code: str, *arguments: str, **fields: Any) -> tuple[Outcome, str]:
        """Runs the host's own Python in the sandbox."""
        fields["mounts"] = (*self.host_python(), *fields.get("mounts", ()))
        return self.run(launcher, PYTHON, "-I", "-S", "-c", code, *arguments, **fields)

    def host_python(self) -> tuple[BindMount, ...]:
        """What the host's Python needs, read-only at its own places, which are made in the image."""
        mounts: list[BindMount] = []
        for folder in ("/usr", "/lib", "/lib64", sys.base_prefix):
            real = os.path.realpath(folder)
            if os.path.islink(folder) and not os.path.lexists(self.path(folder[1:])):
                os.symlink(real, self.path(folder[1:]))
            elif os.path.isdir(folder) and not any(real == m.source or real.startswith(m.source + "/") for m in mounts):
                os.makedirs(self.path(real[1:]), exist_ok=True)
                mounts.append(BindMount(real, real))
        return tuple(mounts)


def start_child(code: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """A Python of its own that can import this folder and `builder`; its output is a pipe."""
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join((here, os.path.dirname(os.path.dirname(here))))
    command = [*before, sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE)


def run_child(code: str, *arguments: str, before: tuple[str, ...] = ()) -> str:
    """The same to its end, which must be a good one; what it wrote."""
    with start_child(code, *arguments, before=before) as child:
        written = child.communicate()[0]
    assert child.returncode == 0, written
    return written.decode()


def eventually(condition: Callable[[], bool]) -> None:
    """Waits for what another process is about to do; a minute is the end of all patience, not a measure."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.002)


def server_of(pid: int) -> int:
    """The fork server among the children of `pid`."""
    for child in os.listdir("/proc"):
        if child.isdecimal() and _parent(child) == pid and b"/builder/sandbox/main.py" in command_line(child):
            return int(child)
    raise AssertionError("no fork server")


def children(name: str = "") -> list[int]:
    """What our fork server has started and not reaped yet, but those who are about to end; of one program alone, if one is
    named."""
    found, server = [], server_of(os.getpid())
    for pid in os.listdir("/proc"):
        if pid.isdecimal():
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    program, _, rest = file.read().rpartition(") ")
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, parent, *_, flags = rest.split()[:7]
            if (
                int(parent) == server
                and state != "Z"
                and not int(flags) & _EXITING
                and program.endswith(f"({name}" if name else "")
            ):
                found.append(int(pid))
    return found


def processes_with(word: str) -> list[int]:
    """The pids of this machine's processes that have `word` among their arguments."""
    own = str(os.getpid())
    found = [pid for pid in os.listdir("/proc") if pid.isdecimal() and pid != own]
    return [int(pid) for pid in found if word.encode() in command_line(pid).split(b"\0")]


def mounts_below(folder: str) -> list[str]:
    """The mounts of this process's namespace at or below `folder`."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line for line in file if f" {folder}" in line]


def command_line(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
