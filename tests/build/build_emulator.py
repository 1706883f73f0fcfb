"""qemu-user, registered with binfmt_misc while a test runs, under a name of its own, and taken away afterwards.

What is registered counts for the whole machine; in a mount namespace of its own lies only the way to it, where the machine has
binfmt_misc not mounted. With the process that holds that one, however it ends, the registration is gone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from builder.engine.emulation import abilities, program
from tests.conftest import Foreign

_HOLD = """
set -e
place=/proc/sys/fs/binfmt_misc
[ -e $place/register ] || mount -t binfmt_misc none $place
trap 'echo -1 >$place/$1' EXIT
printf '%s' "$2" >$place/register
echo ready
read -r _ || true
"""


@contextmanager
def emulated(foreign: Foreign, flags: str = "F") -> Iterator[None]:
    """Its programs run in here; with other flags than F as these have it."""
    architecture = foreign.platform.partition("/")[2]
    if flags == "F" and abilities([architecture])[architecture] == "runs":
        yield
        return
    name = f"pybuild-test-{os.getpid()}"
    head = program(architecture)[:20]
    magic = "".join(f"\\x{byte:02x}" for byte in head)
    # Of any system (byte 7), and whether it moves (byte 16).
    mask = "".join(f"\\x{byte:02x}" for byte in (b"\xff" * 7 + b"\0" + b"\xff" * 8 + b"\xfe\xff\xff\xff"))
    line = f":{name}:M::{magic}:{mask}:{foreign.emulator}:{flags}"
    command = ["unshare", "--mount", "sh", "-c", _HOLD, "sh", name, line]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            holder.stdin.close()
            assert holder.wait(10) == 0
