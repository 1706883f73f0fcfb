"""Where cgroups are found, what limits are in both versions, and controllers that are handed down."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.sandbox.hierarchies import CONTROLLERS, CgroupLimits, Hierarchy, counter, hierarchies, kills_at_limit, writes
from builder.sandbox.resources import out_of_memory
from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/sandbox/cgroup-writes.txt"
HYBRID = (
    b"9:name=systemd:/\n8:pids:/a b/c\n3:cpu,cpuacct:/\n4:memory:/outer/inner\n0::/user.slice/x.scope\n",
    b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    b"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct\n"
    b"35 31 0:32 /outer /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    b"39 31 0:36 / /sys/fs/cgroup/p\\040ids rw,relatime - cgroup cgroup rw,pids\n"
    b"40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n"
    b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
)


def test_the_groups_of_a_process() -> None:
    found = {tuple(sorted(one.controllers)): one for one in hierarchies(*HYBRID)}
    assert found == {
        ("cpu", "cpuacct"): Hierarchy(
            1, frozenset(("cpu", "cpuacct")), "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"
        ),
        # The mount shows a part of the hierarchy alone.
        ("memory",): Hierarchy(1, frozenset(("memory",)), "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/inner"),
        ("pids",): Hierarchy(1, frozenset(("pids",)), "/sys/fs/cgroup/p ids", "/sys/fs/cgroup/p ids/a b/c"),
        ("name=systemd",): Hierarchy(1, frozenset(("name=systemd",)), "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/systemd"),
        (): Hierarchy(2, frozenset(), "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/user.slice/x.scope"),
    }


@pytest.mark.parametrize(
    ("path", "root", "found"),
    [
        (b"/", b"/", "/m"),
        (b"/a", b"/", "/m/a"),
        (b"/a/b", b"/a", "/m/b"),
        (b"/a", b"/a", "/m"),
        # Not below: another's, or outside of the cgroup namespace.
        (b"/ab", b"/a", None),
        (b"/", b"/a", None),
        (b"/../x", b"/", None),
    ],
)
def test_a_group_that_the_mount_does_not_show_is_none(path: bytes, root: bytes, found: str | None) -> None:
    given = hierarchies(b"0::" + path + b"\n", b"1 2 3:4 " + root + b" /m rw - cgroup2 none rw\n")
    assert [one.own for one in given] == ([] if found is None else [found])


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_text_is_read(cgroup: bytes, mountinfo: bytes) -> None:
    for one in hierarchies(cgroup, mountinfo):
        assert one.version in (1, 2)


_NAMES = st.text("abc/ .:-é\\", min_size=1, max_size=12).map(lambda text: "/" + text.strip("/"))


@given(_NAMES.filter(lambda path: "/.." not in path), st.sampled_from(["/sys/fs/cgroup", "/a b", "/ü\\x"]))
def test_a_group_is_found_below_its_mount(path: str, place: str) -> None:
    escaped = re.sub(rb"[ \t\n\\]", lambda match: b"\\%03o" % match[0][0], place.encode())
    found = hierarchies(f"0::{path}\n".encode(), b"1 2 3:4 / " + escaped + b" rw - cgroup2 none rw\n")
    assert [one.own for one in found] == [(place + path).rstrip("/")]


def test_this_machine_has_those_that_it_says() -> None:
    for one in hierarchies(Path("/proc/self/cgroup").read_bytes(), Path("/proc/self/mountinfo").read_bytes()):
        assert str(os.getpid()) in Path(one.own, "cgroup.procs").read_text().split()


def test_what_is_written() -> None:
    """In both versions; runc's and Docker's numbers, but for the weight, which is the kernel's own proportion."""
    cases = {
        "memory": CgroupLimits(memory=64 << 20),
        "memory and swap": CgroupLimits(memory=64 << 20, memory_swap=96 << 20),
        "memory, no swap": CgroupLimits(memory=64 << 20, memory_swap=64 << 20),
        "memory, all swap": CgroupLimits(memory=64 << 20, memory_swap=-1),
        "cpus": CgroupLimits(cpu_quota=150_000),
        "quota and period": CgroupLimits(cpu_quota=20_000, cpu_period=50_000),
        "least shares": CgroupLimits(cpu_shares=2),
        "usual shares": CgroupLimits(cpu_shares=1024),
        "most shares": CgroupLimits(cpu_shares=262_144),
        "processors": CgroupLimits(cpuset_cpus="0-1"),
        "nodes": CgroupLimits(cpuset_mems="0"),
        "processes": CgroupLimits(pids=100),
    }
    lines = []
    for name, limits in cases.items():
        for version in (1, 2):
            for controller in limits.controllers():
                for each in writes(limits, version, controller):
                    value = each.value or "(as above)"
                    lines.append(f"{name} | v{version} | {each.file} = {value}{' | if it is there' if each.optional else ''}\n")
    assert "".join(lines) == GOLDEN.read_text()


def test_no_limit_is_no_group() -> None:
    assert CgroupLimits().controllers() == ()
    assert CgroupLimits(parent="x").controllers() == ()


def test_counters() -> None:
    assert counter(b"low 0\noom 3\noom_kill 2\noom_group_kill 9\n", b"oom_kill") == 2
    assert counter(b"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", b"oom_kill") == 1
    assert counter(b"", b"oom_kill") == 0


def test_a_kill_of_a_machine_that_is_short_of_memory_is_no_limits() -> None:
    assert kills_at_limit(b"low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n") == 2
    assert kills_at_limit(b"low 0\nhigh 0\nmax 0\noom 0\noom_kill 2\n") == 0
    assert kills_at_limit(b"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", b"12\n") == 1
    assert kills_at_limit(b"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", b"0\n") == 0


_HANDS_DOWN = """
import os, sys
from builder.sandbox.delegation import Delegation, write
folder, controller = sys.argv[1:]
own = lambda: open("/proc/self/cgroup").read().rpartition("0::")[2].strip().rpartition("/")[2].partition("-builder-")[0]
write(folder + "/cgroup.procs", "0")
delegation = Delegation(may_move=True)
try:
    delegation.hand_down(folder, (controller,))
    os.mkdir(folder + "/pybuild-child")
    print(any(name.startswith(controller + ".") for name in os.listdir(folder + "/pybuild-child")), own())
    os.rmdir(folder + "/pybuild-child")
finally:
    delegation.close()
    print(open(folder + "/cgroup.subtree_control").read().split(), own())
"""


def second() -> Hierarchy:
    return next(
        one
        for one in hierarchies(Path("/proc/self/cgroup").read_bytes(), Path("/proc/self/mountinfo").read_bytes())
        if one.version == 2
    )


def test_who_is_alone_in_a_group_makes_room_for_controllers(tmp_path: Path) -> None:
    """On the kernel's version 2, with any controller that it has there; where it has none, that is what is said."""
    place, top = Path(second().own), Path(second().mount)
    while place != top and not (place / "cgroup.subtree_control").read_text().strip():
        place = place.parent
    controller = next(iter((place / "cgroup.subtree_control").read_text().split()), "")
    folder = place / f"tests-{os.getpid()}"
    folder.mkdir()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _HANDS_DOWN, str(folder), controller or CONTROLLERS[0]],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if controller:
            assert done.stdout == f"True pybuild\n[] {folder.name}\n", done.stderr
        else:
            assert "cgroup.subtree_control" in done.stderr
            assert done.stdout == f"[] {folder.name}\n"
        assert os.path.exists(folder) and not [entry for entry in os.scandir(folder) if entry.is_dir()]
    finally:
        folder.rmdir()


def test_out_of_memory_at_a_limit_that_is_not_the_command_s_own() -> None:
    """As that of --cgroup-parent: no --memory is named that nobody gave."""
    assert out_of_memory(1, 64 << 20) == "the kernel killed 1 of its processes at the limit of memory, --memory=64m"
    assert out_of_memory(2, 0) == "the kernel killed 2 of its processes, since there was no memory left"
