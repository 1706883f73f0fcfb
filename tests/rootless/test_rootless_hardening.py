"""The lines of the sandbox's hardening in a user namespace: each attempt that succeeds without its line fails with it.

The controls, each line left out, are those of `tests/sandbox`: most of what they show open the kernel closes here by itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.rootless.rootless_users import UserPybuild

_RELEASE = tuple(int(part) for part in os.uname().release.split(".")[:2])
# What the kernel that the tests run on is too old for itself.
LACKING = {"landlock-scope"} if _RELEASE < (6, 12) else set()
# A namespace like a user's, but for its first id, which is root's own here: the probes make things of the host's.
_CHILD = """
import ctypes, json, os, sys
ready, go = os.pipe()
parent = os.getpid()
if not os.fork():
    os.read(ready, 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{parent}/{name}", "w") as file:
            file.write("0 0 1\\n1 300000 65535\\n")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(go, b"x")
os.wait()
sys.path[:0] = [%r, %r]
from sandbox_probes import PROBES, WITH_A_CHILD
from sandbox_room import Room
from builder.sandbox.launcher import Launcher
opened = {}
for number, line in enumerate(PROBES):
    # Nobody makes a device here, so there is none to get at.
    if line not in ("nodev", *WITH_A_CHILD):
        folder = os.path.join(sys.argv[1], str(number))
        os.mkdir(folder)
        with Launcher() as launcher:
            opened[line] = PROBES[line](Room(folder), launcher, frozenset())
print(json.dumps(opened))
"""


def test_each_line_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD % (str(ROOT), str(ROOT / "tests/sandbox")), tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    opened = json.loads(done.stdout)
    assert len(opened) > 10 and {line for line in opened if opened[line]} == LACKING & set(opened)


ESCAPES = {
    "the host's disk": 'mknod /tmp/disk b 254 0; test -n "$(head -c 1 /tmp/disk)"',
    "the host by /proc/1/root": "ls /proc/1/root/proc/1/root/home/*/.bashrc",
    "a mount": "mount -t tmpfs x /tmp || mount --bind /proc /tmp || mount -o remount,rw /sys",
    "uncovering /sys": "umount /sys/fs/cgroup || umount -l /sys",
    "a namespace of its own": "unshare -Ur true || unshare -m true",
    "sysrq": "echo b > /proc/sysrq-trigger",
    "core_pattern": "echo '|/x' > /proc/sys/kernel/core_pattern",
    "a cgroup's release_agent": "ls /sys/fs/cgroup/*",
    "the id map": "echo '0 0 1' > /proc/self/uid_map",
    "setgroups": "echo deny > /proc/self/setgroups",
    "the host's name": "hostname x",
    "ids that were not given": "chown 70000 /tmp",
    "/sys": "touch /sys/x || echo 1 > /sys/kernel/profiling || echo 0 > /sys/power/state",
    "the builder's processes": "test $(ls -d /proc/[0-9]* | wc -l) -gt 12",
    "the mode of a device": "chmod 600 /dev/null || chown 1 /dev/null || rm /dev/null",
}


@pytest.mark.parametrize("user_name", ["root", "app"])
def test_attempts_of_a_command(user_name: str, user: UserPybuild, base: Path, context: Path) -> None:
    """Each is refused to the image's root as to its user, whatever it says."""
    lines = [f"if ({script}) >/dev/null 2>&1; then echo 'open: {number}'; fi" for number, script in enumerate(ESCAPES.values())]
    (context / "try").write_text("\n".join([*lines, "echo done"]) + "\n")
    (context / "Dockerfile").write_text(
        f"FROM base\nRUN echo app:x:5:5::/:/bin/sh >> /etc/passwd\nUSER {user_name}\nRUN --mount=target=/c sh /c/try; id -u\n"
    )
    done = user("--isolation=userns", "--no-cache", "--progress=plain", "--build-context", f"base={base}", context)
    assert done.returncode == 0, done.stderr
    said = [line.split(" ", 2)[2] for line in done.stderr.splitlines() if re.match(r"#3 \d+\.", line)]
    assert said == ["done", {"root": "0", "app": "5"}[user_name]]
