"""Starts the fork server's program, from a copy of Python that nobody can write to.

Until the exec, the first process of a sandbox is that Python, and an image can make it stay so: a command, a script's
first line or a loader that is /proc/self/exe. What it gets hold of in this way must not be a file of the host (CVE-2019-5736;
the kernel's ETXTBSY is no help in Linux 6.11 and 6.12).
"""

from __future__ import annotations

import fcntl
import os
import sys

from builder.sandbox.wire import SOCKET, USER_NAMESPACE

_MFD_NOEXEC_SEAL = 0x08
_MFD_EXEC = 0x10
_EINVAL = 22
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "main.py")


def spawn_server(connection: int, *, user_namespace: bool = False) -> tuple[int, tuple[str, ...]]:
    """The pid of a new fork server with `connection` as its socket, and ("sealed-server",) when Python could not be copied.
    With `user_namespace` it goes into one that has root's ids, all as they are (`allids`).

    Raises OSError when it cannot be started at all. The calling thread may start nothing else afterwards: in a user namespace
    it hands its capabilities on, which other programs are not to have.
    """
    if os.geteuid() != 0:
        # Not for root, whose programs have them: `ctypes` takes a while.
        from builder.sandbox.kernel import hand_on_capabilities

        hand_on_capabilities()
    try:
        copy = _sealed_copy(sys.executable)
    except PermissionError:
        # The sysctl vm.memfd_noexec=2.
        copy = -1
    if copy < 0:
        return _spawn(sys.executable, connection, user_namespace), ("sealed-server",)
    try:
        return _spawn(f"/proc/self/fd/{copy}", connection, user_namespace), ()
    finally:
        os.close(copy)


def _spawn(executable: str, connection: int, user_namespace: bool) -> int:
    actions = [
        (os.POSIX_SPAWN_DUP2, connection, SOCKET),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0),
    ]
    if not _is_open(2):
        actions.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_RDWR, 0))
    # Python finds its library by argv[0]. A session of its own: Ctrl-C at the terminal is for the builder alone.
    argv = [sys.executable, "-I", "-S", _PROGRAM, *([USER_NAMESPACE] if user_namespace else [])]
    # The builder's environment may hold a secret (--secret id=ID,env=NAME), and the server has no use for it but to start.
    env = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    return os.posix_spawn(executable, argv, env, file_actions=actions, setsid=True, setsigmask=())


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _sealed_copy(path: str) -> int:
    """A read-only descriptor of a sealed copy in memory, or -1 when the program finds its libraries by its own place."""
    writable = memory_file("pybuild-sandbox", executable=True)
    try:
        with open(path, "rb") as source:
            data = source.read()
        if b"$ORIGIN" in data:
            return -1
        with open(writable, "wb", closefd=False) as target:
            target.write(data)
        fcntl.fcntl(writable, fcntl.F_ADD_SEALS, _SEALS)
        # Opened anew: a file that is open for writing is not executed.
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)


def memory_file(name: str, *, executable: bool = False) -> int:
    """A new file in memory, under any setting of the sysctl vm.memfd_noexec that allows it (else PermissionError)."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | (_MFD_EXEC if executable else _MFD_NOEXEC_SEAL))
    except OSError as error:
        if error.errno != _EINVAL:
            raise
        # Before Linux 6.3 there were no such flags, and no such setting.
        return os.memfd_create(name, flags)
