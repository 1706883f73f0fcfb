"""Going into a user namespace of one's own: the builder itself does, while it has one thread.

In there it has every capability over the ids of its map, and its own ids are what they were. What it starts has none of
that: programs that it executes are the user's plain ones, unless `kernel.hand_on_capabilities` was called for them.

The map is written by newuidmap and newgidmap (shadow), which only work from outside: a child that is forked before calls
them, both at once. They take 3 to 9 ms, in which the builder can do other things (import, mostly): `Entry.begin`, then
`Entry.finish`. In between nobody's files but the user's own may be touched.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` makes enums of: 1 ms
import os

from builder.errors import SandboxError
from builder.values import NamedTuple

_CLONE_NEWUSER = 0x10000000
_TEXT = 1000
SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGALRM)


class Maps(NamedTuple):
    """What the namespace is made of. The maps are as newuidmap takes them: inside, outside, count, for each extent."""

    newuidmap: str
    """The programs, by their paths; empty where the map is of the user's own ids alone, which needs none."""
    newgidmap: str
    uids: tuple[str, ...]
    gids: tuple[str, ...]


class Entry:
    """One change of the namespace, on its way."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._child = 0
        self._said = -1

    def begin(self) -> None:
        """Raises OSError when the kernel has no user namespace for us; then nothing has happened."""
        if not self._maps.newuidmap:
            unshare(_CLONE_NEWUSER)
            return
        said, child_says = os.pipe()
        waits, go = os.pipe()
        # Ctrl-C is for the builder alone: the child, and what it starts, comes to its end in any case.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, SIGNALS)
        try:
            self._child = os.fork()
            if not self._child:
                os.close(go)
                os.close(said)
                _write_maps(self._maps, os.getppid(), waits, child_says)
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        os.close(waits)
        os.close(child_says)
        try:
            unshare(_CLONE_NEWUSER)
            os.write(go, b"g")
        except OSError:
            os.close(go)
            os.close(said)
            reap(self._child)
            raise
        os.close(go)
        self._said = said

    def finish(self) -> None:
        """Returns once the ids are there. Raises SandboxError with what newuidmap or newgidmap had to say; this process is of
        no more use for files of others then."""
        said = ""
        if not self._maps.newuidmap:
            _write_own(self._maps)
        else:
            with open(self._said, "rb") as file:
                said = file.read(_TEXT).decode("utf-8", "replace").strip()
            reap(self._child)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/self/{name}", "rb") as file:
                if not file.read(1):
                    raise SandboxError(
                        f"the user namespace gets no ids: {said or f'new{name[:3]}map failed'}", hint="see: pybuild doctor"
                    )


def unshare(flags: int) -> None:
    """unshare(2), which Python has from 3.12 on. Not by `ctypes`, whose import takes longer than all else here."""
    import _ctypes

    class Function(_ctypes.CFuncPtr):
        _flags_ = 1 | 8  # the C convention; errno is kept

    program: int = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # the program itself, as dlopen(3) has it
    if Function(_ctypes.dlsym(program, "unshare"))(flags) != 0:
        code = _ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _write_own(maps: Maps) -> None:
    # Without subordinate ids the kernel wants setgroups(2) to be given up first (user_namespaces(7)).
    for name, text in (("setgroups", "deny"), ("uid_map", " ".join(maps.uids)), ("gid_map", " ".join(maps.gids))):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def _write_maps(maps: Maps, pid: int, waits: int, says: int) -> None:
    """The child. It never returns."""
    try:
        if os.read(waits, 1):
            streams = [(os.POSIX_SPAWN_DUP2, says, 2)]
            calls = ((maps.newuidmap, maps.uids), (maps.newgidmap, maps.gids))
            # A log of the system's would be theirs; nothing else of our environment is.
            for program, ids in calls:
                os.posix_spawn(program, [program, str(pid), *ids], {}, file_actions=streams)
            for _ in calls:
                os.wait()
    except OSError as error:
        os.write(says, f"{error.filename or 'newuidmap'}: {error.strerror}".encode())
    finally:
        os._exit(0)


def reap(child: int) -> None:
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        return  # Who ignores SIGCHLD has no children to wait for.
