"""The tricks of `escape_calls.c`, played by the command of a RUN; and, for the control, in a sandbox without its hardening."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from builder.sandbox import kernel
from builder.sandbox.launcher import Launcher
from builder.sandbox.spec import BindMount, SandboxSpec, TmpfsMount
from tests.escape.escape_ground import Field, Ground

_SOURCE = Path(__file__).with_suffix(".c")

ABSENT = ("ENOENT", "ENODEV", "ENXIO", "ENOSYS", "SIGSEGV")
"""What a machine says that has no such thing, or no such door; as good as any refusal."""

_SCOPES = 6
"""The version of Landlock that has scopes, of Linux 6.12."""

OFF = (
    *("capabilities", "seccomp", "nodev", "masked-paths", "readonly-proc", "readonly-sys", "landlock-scope", "readonly-nodes"),
    *("pid-namespace", "ipc-namespace", "session"),
)
"""The lines of hardening that the control leaves out. Its mounts stay its own, so that no trick reaches the host's."""


def compiled(folder: Path) -> Path:
    program = folder / "calls"
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, _SOURCE], check=True)
    return program


def arguments(field: Field) -> list[str]:
    """What the tricks are told of the host."""
    return [str(field.canary), field.abstract, str(field.key), str(field.pid)]


def played(ground: Ground, program: Path) -> dict[str, tuple[str, str]]:
    """By the name of each trick what it tries, and what it got on this rung."""
    mounts = "--mount=target=/c --mount=type=cache,target=/cache --mount=type=tmpfs,target=/tmpfs"
    command = ", ".join(f'"{word}"' for word in ("/c/calls", *arguments(ground.field)))
    # Where there is a choice: what a step with the host's network may reach is more.
    context = ground.context(f"FROM base\nRUN mkdir -p /mnt\nRUN --network=host {mounts} [{command}]\n")
    shutil.copy(program, context / "calls")
    done = ground.build(context, "--allow=network.host")
    assert done.code == 0, done.said
    rows = table(done.lines)
    if kernel.landlock_abi() < _SCOPES:
        # Nothing closes this one then (SECURITY.md), and the builder says so.
        del rows["abstract-socket"]
    return rows


def in_the_open(field: Field, program: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """The same for root without most lines of the hardening."""
    names = ("upper", "work", "cache", "point")
    upper, work, cache, point = (folder / name for name in names)
    for path in (upper, work, cache, point, *(point / name for name in ("c", "cache", "tmpfs", "mnt", "proc", "sys", "dev"))):
        path.mkdir(parents=True)
    spec = SandboxSpec(
        lowers=(str(point), str(field.base)),
        upper=str(upper),
        work=str(work),
        argv=("/c/calls", *arguments(field)),
        env=(),
        cwd="/",
        mounts=(
            BindMount(str(program.parent), "/c"),
            BindMount(str(cache), "/cache", readonly=False),
            TmpfsMount("/tmpfs"),
        ),
        without=frozenset(OFF),
    )
    written: list[bytes] = []
    with Launcher() as launcher:
        outcome = launcher.run(spec, output=written.append)
    assert outcome.code == 0, (outcome, written)
    return table(b"".join(written).decode().splitlines())


def table(lines: tuple[str, ...] | list[str]) -> dict[str, tuple[str, str]]:
    rows = [line.split("|")[1:] for line in lines if line.startswith("trick|")]
    assert rows and rows[-1][0] == "end", lines
    return {name: (tries, got) for name, tries, got in rows[:-1]}
