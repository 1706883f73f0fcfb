"""Another kernel: Debian 12's own, in a virtual machine whose cgroups are of version 2 alone and whose mounts are shared, as
systemd has both (.ci/machine). `make machine` runs it, and then more of the tests there; CI has no time for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.rootless.rootless_users import PYBUILD

SCRIPT = """\
exec 2>&1
export PYBUILD_ROOT=/disk/store
cut -d' ' -f5 /proc/self/mountinfo > /disk/before
{pybuild} import {base} base
echo "== memory"
{pybuild} run --memory=16m base dd if=/dev/zero of=/dev/null bs=64M count=1
echo "exit $?"
echo "== all limits, in a build with a network of its own"
mkdir /disk/context
cat > /disk/context/Dockerfile <<'END'
FROM base
RUN ls /sys/class/net | tr '\\n' ' '; cat /proc/self/cgroup; for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done
END
{pybuild} --progress=plain --memory=64m --cpus=0.5 --cpuset-cpus=0 --pids-limit=5 /disk/context
echo "exit $?"
echo "== left"
find /sys/fs/cgroup -name 'pybuild-*'
cut -d' ' -f5 /proc/self/mountinfo | diff /disk/before -
"""


@pytest.fixture(scope="module")
def told(busybox_base: Path) -> dict[str, str]:
    """What the script says under each heading."""
    script = SCRIPT.format(pybuild=PYBUILD, base=busybox_base)
    done = subprocess.run(
        [ROOT / ".ci/machine", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CPUS": "1"},
    )
    parts = done.stdout.replace("\r\n", "\n").split("== ")
    assert len(parts) == 4, done.stdout + done.stderr
    return {head: text for head, _, text in (part.partition("\n") for part in parts[1:])}


def test_memory(told: dict[str, str]) -> None:
    assert told["memory"] == (
        "warning: out of memory: the kernel killed 1 of its processes at the limit of memory, --memory=16m\nexit 137\n"
    )


def test_limits_of_a_build(told: dict[str, str]) -> None:
    """In a session that has the shell in it, too, so that the groups are made above it; what a command sees is its own root."""
    text = told["all limits, in a build with a network of its own"]
    assert "lo tap0 0::/\n" in text
    assert "can't fork" in text and text.endswith("exit 1\n")


def test_nothing_is_left_and_nothing_of_the_machine_is_gone(told: dict[str, str]) -> None:
    assert told["left"] == ""
