"""Builds that are killed, and commands that will not end: each case on each rung, how the build ended, and what it left.

`python -m tests.escape.escape_kills` (make kills) writes the table, with the seconds that it took until all was gone, and has
10 GB of output where the tests have 100 MB. Each Dockerfile has a second RUN: what is killed has made a process ready for it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.build.build_store import running
from tests.conftest import ROOT
from tests.escape.escape_ground import RUNGS, Ground, grounds, soon

GOLDEN = ROOT / "tests/golden/kills.txt"
PATIENCE = 20.0
"""Seconds for what takes one on a machine that has nothing else to do."""

_STUBBORN = "trap '' INT TERM HUP QUIT; sleep {0} & (setsid sleep {0} &) ; echo begun; while :; do sleep {0}; done"
_BOMB = (
    "trap '' TERM INT HUP; i=0; while [ $i -lt 200 ]; do sleep {0} & i=$((i+1)); done; echo begun; while :; do sleep {0} & done"
)
# The supervisor comes with the first question.
_ASKS = "mknod /tmp/d c 1 3; echo begun; while rm -f /tmp/d; mknod /tmp/d c 1 3; do sleep 0.05; done; exit 3"
_OUTPUT = "echo begun; head -c {1} /dev/zero | tr '\\0' x | fold -w 200"


class Case(NamedTuple):
    what: str
    script: str
    """Of the command; {0} is a number of seconds that nobody else sleeps, {1} the bytes of much output."""
    kill: str = ""
    """Who is killed once the command has said `begun`: builder, server, init (the first process of the sandbox) or supervisor;
    empty for nobody."""
    signal: signal.Signals = signal.SIGKILL
    disk: int = 0
    """Megabytes of a disk that the store has for itself; 0 is the machine's."""


class Ended(NamedTuple):
    told: str
    """The exit code, and what is left."""
    seconds: float
    """From the kill, or from the end of the program, until nothing was left."""

    def __str__(self) -> str:
        return f"{self.told}, {self.seconds:.2f} s" if self.seconds else self.told


CASES: dict[str, Case] = {
    "ctrl-c": Case("SIGINT to the builder; the command ignores all signals", _STUBBORN, "builder", signal.SIGINT),
    "sigterm": Case("SIGTERM to the builder; the same command", _STUBBORN, "builder", signal.SIGTERM),
    "sighup": Case("SIGHUP to the builder", _STUBBORN, "builder", signal.SIGHUP),
    "sigkill": Case("SIGKILL of the builder", _STUBBORN, "builder"),
    "server": Case("SIGKILL of the fork server", _STUBBORN, "server"),
    "init": Case("SIGKILL of the first process of the sandbox", _STUBBORN, "init"),
    "supervisor": Case("SIGKILL of the supervisor, where there is one", _ASKS, "supervisor"),
    "daemon": Case("a command that leaves a daemon, which holds the output open", "(setsid sleep {0} &) ; echo begun"),
    "fails": Case("a command that leaves a daemon and fails", "(setsid sleep {0} &) ; echo begun; exit 9"),
    "bomb-sigterm": Case("SIGTERM while a command forks without end", _BOMB, "builder", signal.SIGTERM),
    "bomb-sigkill": Case("SIGKILL of the builder while a command forks without end", _BOMB, "builder"),
    "stopped": Case(
        "SIGTERM while the command has stopped itself", "sleep {0} & echo begun; kill -STOP 0", "builder", signal.SIGTERM
    ),
    "closed-output": Case("a command that closes its output and goes on", "echo begun; exec >&- 2>&-; sleep 0.3"),
    "output": Case("a command that writes very much", _OUTPUT),
    "output-sigterm": Case("SIGTERM while a command writes without end", "echo begun; yes {0}", "builder", signal.SIGTERM),
    "disk": Case("a command that fills the disk of the store", "echo begun; cat /dev/zero >/big", disk=64),
    "disk-freed": Case(
        "a command that fills it and removes what it wrote", "echo begun; cat /dev/zero >/big; rm /big", disk=64
    ),
    "disk-sigterm": Case(
        "SIGTERM on a full disk", "cat /dev/zero >/big; echo begun; sleep {0}", "builder", signal.SIGTERM, disk=64
    ),
    "disk-sigkill": Case(
        "SIGKILL of the builder on a full disk", "cat /dev/zero >/big; echo begun; sleep {0}", "builder", disk=64
    ),
    "kills-all": Case("a command that kills all that it sees", "echo begun; kill -9 -1; kill -9 1; exit 4"),
}


def ended(ground: Ground, case: Case, much: int) -> Ended:
    if case.kill == "supervisor" and ground.rung == "root":
        return Ended("-", 0.0)
    if not case.disk:
        return _ended(ground, case, much, ground.store)
    with ground.disk(case.disk) as store:
        return _ended(ground, case, much, store)


def _ended(ground: Ground, case: Case, much: int, store: Path) -> Ended:
    token = f"{1_000_000 + secrets.randbelow(10**9)}"
    context = ground.context("FROM base\n")
    script = case.script.format(token, much)
    (context / "script").write_text(script + "\n")
    (context / "Dockerfile").write_text(f"FROM base\nRUN --mount=target=/c exec sh /c/script {token}\nRUN true\n")
    process = ground.program.start(
        *(
            f"--isolation={ground.rung}",
            f"--root={store}",
            "--progress=plain",
            "--no-cache",
            "--build-context",
            f"base={ground.field.base}",
        ),
        context,
    )
    heard = threading.Event()
    reader = threading.Thread(target=_read, args=(process, heard))
    reader.start()
    try:
        assert heard.wait(PATIENCE * 3), f"{case.what}: the command does not begin"
        begun_with = _descendants(process.pid)
        if case.kill == "builder" and case.signal != signal.SIGKILL:
            os.killpg(process.pid, case.signal)
        elif case.kill:
            for pid in _victims(process.pid, case.kill):
                os.kill(pid, case.signal)
        begun = time.monotonic()
        process.wait(600 if not case.kill else PATIENCE * 3)
        if not case.kill:
            begun = time.monotonic()
        gone = soon(lambda: not _left(ground, token, begun_with), PATIENCE)
        seconds = time.monotonic() - begun
    finally:
        process.kill()
        process.wait()
        reader.join()
    if gone is None:
        return Ended(f"{process.returncode}, left: {len(_left(ground, token, begun_with))} processes", seconds)
    return Ended(f"{process.returncode}, {_remains(ground, store)}", seconds)


def _read(process: subprocess.Popen[bytes], heard: threading.Event) -> None:
    for stream in (process.stderr, process.stdout):
        assert stream is not None
        with stream:
            last = b""
            while data := os.read(stream.fileno(), 1 << 16):
                # The script is in a file: what says so is the command.
                if b"begun" in last + data:
                    heard.set()
                last = data[-10:]


def _left(ground: Ground, token: str, begun_with: set[tuple[int, str]]) -> list[str]:
    """The command's processes have the token among their arguments, the builder's its home in their environment; and those
    that it had when the command began."""
    there = [str(pid) for pid, begun in begun_with if _begun(pid) == begun]
    return there + running(ground.store, f"\0{token}\0", f"HOME={ground.home}\0")


def _descendants(pid: int) -> set[tuple[int, str]]:
    """All that `pid` has started, and they, with the time of their birth: numbers are given again."""
    found = set()
    with suppress(FileNotFoundError):
        for child in _children(pid):
            found |= {(child, _begun(child)), *_descendants(child)}
    return {(pid, begun) for pid, begun in found if begun}


def _begun(pid: int) -> str:
    """When it was born (proc_pid_stat(5)); empty for one that has ended."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2].split()
        return "" if state in "ZX" else fields[18]
    return ""


def _remains(ground: Ground, store: Path) -> str:
    """What there is after the next command on the store, which clears up what a killed one left."""
    done = ground.program("images", f"--root={store}")
    left = []
    if done.returncode:
        left.append(f"a store that says {done.stderr[:80]}")
    with suppress(FileNotFoundError):
        left += [f"tmp/{name}" for name in ground.names(store / "tmp")]
    if f"{store}/" in ground.mountinfo():
        left.append("a mount")
    return "left: " + ", ".join(left) if left else "nothing left"


def _victims(builder: int, who: str) -> list[int]:
    if who == "builder":
        return [builder]
    server = next(pid for pid in _children(builder) if b"/sandbox/main.py" in _command_line(pid))
    if who == "server":
        return [server]
    # The supervisor is a fork of the server, the command's first process something else.
    init = who == "init"
    return [pid for pid in _children(server) if (b"/sandbox/main.py" in _command_line(pid)) != init]


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def text(rows: list[tuple[str, ...]]) -> str:
    return "".join(" | ".join(row) + "\n" for row in [("case", "what happens", *RUNGS), *rows])


def parse(golden: str) -> dict[str, tuple[str, ...]]:
    """What is told, without the seconds."""
    rows = [line.split(" | ") for line in golden.splitlines()[1:]]
    return {name: (what, *(re.sub(r", [0-9.]+ s$", "", told) for told in ends)) for name, what, *ends in rows}


def measured(much: int, tell: Callable[[str], object]) -> list[tuple[str, ...]]:
    room = Path(tempfile.mkdtemp(prefix="pybuild-kills-"))
    rows: list[tuple[str, ...]] = []
    try:
        with grounds(room) as places:
            for name, case in CASES.items():
                ends = [ended(places[rung], case, much) for rung in RUNGS]
                rows.append((name, case.what, *map(str, ends)))
                tell(" | ".join(rows[-1]))
    finally:
        shutil.rmtree(room)
    return rows


def main() -> None:
    os.umask(0o022)
    much = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000_000
    GOLDEN.write_text(text(measured(much, lambda line: print(line, flush=True))))


if __name__ == "__main__":
    main()
