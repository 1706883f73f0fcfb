"""--memory, --cpus, --pids-limit and the like, of build and run: enforced by the kernel, or refused with the reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.cli_cgroups import home
from tests.cli.test_cli_limits import context_of, out
from tests.conftest import Pybuild

# Sixteen megabytes are enough for a shell and too little for a buffer of 64.
GREEDY = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null"


@pytest.fixture
def base(pybuild: Pybuild, busybox_base: Path) -> str:
    out(pybuild, "import", str(busybox_base), "base")
    return "base"


def limited(pybuild: Pybuild, controller: str, *args: str) -> subprocess.CompletedProcess[str] | None:
    """What became of it; None on a machine whose cgroups are not to be had, where it must be refused."""
    done = pybuild(*args)
    if home(controller) is not None:
        return done
    assert "cannot be enforced" in done.stderr
    assert done.returncode in (6, 125) and done.stdout == ""
    return None


def test_a_command_that_takes_too_much_memory(pybuild: Pybuild, base: str) -> None:
    done = limited(pybuild, "memory", "run", "--memory=16m", base, "sh", "-c", f"exec {GREEDY}")
    if done is not None:
        assert (done.returncode, done.stderr) == (
            137,
            "warning: out of memory: the kernel killed 1 of its processes at the limit of memory, --memory=16m\n",
        )


def test_one_that_stays_below_it(pybuild: Pybuild, base: str) -> None:
    done = limited(pybuild, "memory", "run", "-m", "512m", base, "sh", "-c", f"{GREEDY} && echo enough")
    assert done is None or (done.returncode, done.stdout, done.stderr) == (0, "enough\n", "")


def test_a_step_that_takes_too_much_is_told_with_its_line(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = context_of(tmp_path, f"FROM base\nRUN echo one\nRUN {GREEDY}\n")
    done = limited(pybuild, "memory", "--memory=16m", "--progress=plain", context)
    if done is not None:
        told = done.stderr[done.stderr.index(f"{context}/Dockerfile:3:1") :]
        assert (done.returncode, told) == (
            1,
            f"{context}/Dockerfile:3:1: error: the command was ended by signal 9 with exit code 137: the kernel killed 1 of its"
            f" processes at the limit of memory, --memory=16m\n  3 | RUN {GREEDY}\n    | {'^' * len(f'RUN {GREEDY}')}\n"
            f"  hint: allow more with --memory, or have the command use less at a time; look into it: pybuild"
            " shell 3\n",
        )


def test_one_that_goes_on_without_its_process_is_warned_of(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = context_of(tmp_path, f"FROM base\nRUN {GREEDY} || echo went on\n")
    done = limited(pybuild, "memory", "--memory=16m", "--progress=json", context)
    if done is not None:
        assert done.returncode == 0
        events = [json.loads(line) for line in done.stderr.splitlines()]
        warning = next(event for event in events if event["type"] == "warning" and event["code"] == "OutOfMemory")
        assert warning["line"] == 2
        assert warning["message"] == (
            "the kernel killed 1 of its processes at the limit of memory, --memory=16m; its exit code is 0 all the same."
            " The cache does not take what it gave"
        )
        usage = next(event for event in events if event["type"] == "step.usage")
        # What it had reached, all processes and the page cache together.
        assert usage["peak_memory"] == 16 << 20
        # A build with more memory does it again, and what that gave is kept.
        for count in ("1 ran, 0 cached", "0 ran, 1 cached"):
            done = pybuild("--progress=plain", context)
            assert done.returncode == 0 and f"steps     {count}" in done.stderr, done.stderr


def test_what_each_step_used_is_an_event(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    context = context_of(tmp_path, f"FROM base\nRUN true\nRUN {script}; {GREEDY}\nRUN exit 3\n")
    done = pybuild("--progress=json", context)
    usage = {event["step"]: event for event in map(json.loads, done.stderr.splitlines()) if event["type"] == "step.usage"}
    # Of a step that fails, too.
    assert list(usage) == [2, 3, 4]
    assert 0 < usage[2]["cpu_seconds"] < usage[3]["cpu_seconds"]
    assert usage[2]["peak_memory"] < 64 << 20 < usage[3]["peak_memory"]


def test_processes(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 9 ]; do sleep 5 & i=$((i+1)); done; echo all"
    done = limited(pybuild, "pids", "run", "--pids-limit=5", base, "sh", "-c", script)
    if done is not None:
        assert (done.returncode, done.stdout) == (2, "")
        assert "can't fork" in done.stderr
        told = " of its processes could not start at the limit of their number, --pids-limit=5"
        assert told in done.stderr
        context = context_of(tmp_path, f"FROM base\nRUN {script}\n")
        done = pybuild("--pids-limit=5", context)
        assert done.returncode == 1 and f"exit code 2: 1{told}" in done.stderr and "allow more with --pids-limit" in done.stderr
        context = context_of(tmp_path, f"FROM base\nRUN sh -c '{script}' || true\n")
        done = pybuild("--pids-limit=5", context)
        assert done.returncode == 0 and f"{told}; its exit code is 0 all the same" in done.stderr
        # A build that allows more does it again.
        done = pybuild("--progress=plain", context)
        assert done.returncode == 0 and " 1 ran" in done.stderr
    assert out(pybuild, "run", "--pids-limit=-1", base, "echo", "all") == "all\n"


def test_processors(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """The kernel has what was said: how fast it makes a command nobody measures."""
    place = home("cpu")
    if place is None:
        return
    files = {
        1: (("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"), ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
        2: (("cpu.max", "cpu.weight"), ("cpu.max",)),
    }
    flags = ("--cpus=0.25", "--cpu-shares=512")
    with started(pybuild, tmp_path, *flags) as process:
        group = group_of(process, place.folder)
        told = " ".join((group / name).read_text().strip() for name in files[place.version][0])
        assert told == ("25000 100000 512" if place.version == 1 else "25000 100000 50")
    with started(pybuild, tmp_path, "--cpu-quota=40000", "--cpu-period=50000") as process:
        group = group_of(process, place.folder)
        assert " ".join((group / name).read_text().strip() for name in files[place.version][1]) == "40000 50000"
    assert not group.exists()


def test_a_set_of_processors(pybuild: Pybuild, base: str) -> None:
    first = min(os.sched_getaffinity(0))
    done = limited(pybuild, "cpuset", "run", f"--cpuset-cpus={first}", base, "grep", "Cpus_allowed_list", "/proc/self/status")
    assert done is None or done.stdout == f"Cpus_allowed_list:\t{first}\n"
    done = limited(pybuild, "cpuset", "run", "--cpuset-cpus=4095", base, "true")
    assert done is None or (done.returncode == 125 and done.stderr.startswith("error: --cpuset-cpus cannot be enforced: "))


def test_the_group_is_no_part_of_what_a_command_sees(pybuild: Pybuild, base: str) -> None:
    """Another --memory is not another step, and so nothing of it may be seen."""
    show = ("sh", "-c", "cut -d: -f3 /proc/self/cgroup | sort -u; ls -A /sys/fs/cgroup 2>/dev/null")
    plain = pybuild("run", base, *show)
    done = limited(pybuild, "memory", "run", "--memory=64m", base, *show)
    assert plain.stdout == "/\n"
    assert done is None or done.stdout == "/\n"


def test_a_limit_is_not_in_the_key(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = context_of(tmp_path, "FROM base\nRUN echo > /made\n")
    done = limited(pybuild, "memory", "-q", "--memory=64m", context)
    if done is not None:
        assert pybuild("--progress=plain", context).stderr.count("CACHED") == 2
        assert pybuild("-q", context).stdout == done.stdout


def test_the_parent(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    place = home("memory")
    if place is None:
        return
    top = place.top
    limit = "memory.limit_in_bytes" if place.version == 1 else "memory.max"
    parent = place.folder / f"tests-parent-{os.getpid()}"
    parent.mkdir()
    try:
        named = f"/{parent.relative_to(top)}"
        with started(pybuild, tmp_path, f"--cgroup-parent={named}", "--memory=32m") as process:
            group = group_of(process, top)
            assert group.parent == parent
            assert (group / limit).read_text() == f"{32 << 20}\n"
        with started(pybuild, tmp_path, f"--cgroup-parent={named}") as process:
            assert group_of(process, top).parent == parent
    finally:
        parent.rmdir()
    for limits in ((), ("--memory=32m",)):
        done = pybuild("run", f"--cgroup-parent={named}", *limits, base, "true")
        assert (done.returncode, done.stderr.splitlines()[0]) == (
            125,
            f"error: there is no cgroup '{named.lstrip('/')}' here, which --cgroup-parent names",
        )


def test_a_killed_builder_leaves_none_for_long(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    place = home("pids")
    if place is None:
        return
    with started(pybuild, tmp_path, "--pids-limit=50") as process:
        group = group_of(process, place.folder)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        until = time.monotonic() + 20
        while _members(group) and time.monotonic() < until:
            time.sleep(0.01)
    # Unless a builder of another test was first.
    assert out(pybuild, "run", "--pids-limit=50", base, "echo", "ran") == "ran\n"
    assert not group.exists()


class started:
    """`pybuild run` with these flags, of which a command runs that says so and then waits to be killed."""

    def __init__(self, pybuild: Pybuild, cwd: Path, *flags: str) -> None:
        command = [*pybuild.command, "run", *flags, "base", "sh", "-c", "echo begun; exec sleep 1000"]
        self.process = subprocess.Popen(command, env=pybuild.environment(), cwd=cwd, stdout=subprocess.PIPE)

    def __enter__(self) -> subprocess.Popen[bytes]:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"begun\n"
        return self.process

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def group_of(process: subprocess.Popen[bytes], top: Path) -> Path:
    """The group of the command below the folder, which is of one hierarchy."""
    found = [path for path in _below(top) if _has_child_of(path, process.pid)]
    assert len(found) == 1, found
    return found[0]


def _below(top: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(top):
        if os.path.basename(folder).startswith("pybuild-"):
            yield Path(folder)


def _members(group: Path) -> list[str]:
    try:
        return (group / "cgroup.procs").read_text().split()
    except OSError:
        return []


def _has_child_of(group: Path, builder: int) -> bool:
    try:
        members = _members(group)
        # The command is the fork server's child, and that is the builder's.
        return any(_parent(_parent(int(pid))) == builder for pid in members)
    except OSError:
        return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("command", ["build", "run"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--memory=5m"], "--memory=5242880 is too little for any command\n  hint: the least is 6m, as with Docker"),
        (["--memory=x"], "'x' is not a size\n  hint: a size looks like 1024, 64m or 1.5g"),
        (["--memory-swap=64m"], "--memory-swap is memory and swap together\n  hint: say --memory, too"),
        (
            ["--memory=64m", "--memory-swap=32m"],
            "--memory-swap=32m is less than --memory\n"
            "  hint: it is memory and swap together; the same as --memory for no swap",
        ),
        (["--cpus=x"], "'x' is not a value of '--cpus'\n  hint: it is a number of processors, as 2 or 0.5"),
        (["--cpus=-1"], "'-1' is not a value of '--cpus'\n  hint: it is a number of processors, as 2 or 0.5"),
        (["--cpus=."], "'.' is not a value of '--cpus'\n  hint: it is a number of processors, as 2 or 0.5"),
        (
            ["--cpus=5000"],
            f"--cpus=5000 limits nothing: this machine has {os.cpu_count()} processors\n"
            f"  hint: 0.01 to {os.cpu_count()}, as with Docker",
        ),
        (["--cpus=0.001"], "--cpus=0.001 is too little for any command\n  hint: the least is 0.01, as with Docker"),
        (
            ["--cpus=1", "--cpu-quota=2000"],
            "--cpus and --cpu-quota or --cpu-period exclude each other\n  hint: --cpus=1.5 is enough",
        ),
        (["--cpu-quota=999"], "--cpu-quota is less than the kernel takes\n  hint: it is microseconds, 1000 at least"),
        (["--cpu-quota=5000", "--cpu-period=3"], "--cpu-period is less than the kernel takes\n"
         "  hint: it is microseconds, 1000 at least"),
        (["--cpu-period=5000"], "--cpu-period limits nothing by itself\n  hint: say --cpu-quota, too, or --cpus alone"),
        (["--cpu-shares=1"], "'1' is not a value of '--cpu-shares'\n  hint: it is a number from 2 to 262144"),
        (["-c", "many"], "'many' is not a value of '--cpu-shares'\n  hint: it is a number from 2 to 262144"),
        (["--pids-limit=-2"], "'-2' is not a value of '--pids-limit'\n  hint: it is a number from -1 to 4194304"),
        (["--cpuset-cpus=a"], "'a' is not a value of '--cpuset-cpus'\n  hint: it is a list of numbers and ranges, as 0-3,5"),
        (["--cpuset-mems=0-1-2"], "'0-1-2' is not a value of '--cpuset-mems'\n"
         "  hint: it is a list of numbers and ranges, as 0-3,5"),
        (["--cgroup-parent=../x"], "'../x' is not a value of '--cgroup-parent'\n"
         "  hint: it is a path from the root of the cgroups, as /builds"),
    ],
)  # fmt: skip
def test_bad_values(pybuild: Pybuild, base: str, tmp_path: Path, command: str, flags: list[str], message: str) -> None:
    what = [base, "true"] if command == "run" else [context_of(tmp_path, "FROM scratch\n")]
    done = pybuild(command, *flags, *what)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


def test_where_there_are_no_cgroups(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """In a container without them: said, and nothing runs."""
    context = context_of(tmp_path, "FROM base\nRUN echo began\n")
    for flag in ("--memory=64m", "--cpus=1", "--pids-limit=9", "--cpuset-cpus=0"):
        for command, code in ((["run", flag, base, "echo", "began"], 125), ([flag, context], 6)):
            hidden = ["unshare", "--mount", "sh", "-c", 'umount -R /sys/fs/cgroup; exec "$@"', "sh"]
            done = subprocess.run(
                [*hidden, *pybuild.command, *command], env=pybuild.environment(), cwd=tmp_path, capture_output=True, text=True
            )
            name = flag.partition("=")[0]
            assert (done.returncode, done.stdout) == (code, ""), done.stderr
            assert done.stderr.endswith(
                f"error: {name} cannot be enforced: no cgroups are mounted here\n  hint: leave {name} out\n"
            )
            assert "began" not in done.stderr


def test_the_doctor_says_what_can_be_limited(pybuild: Pybuild) -> None:
    limits = {one["flag"]: one for one in json.loads(pybuild("doctor", "--format=json").stdout)["limits"]}
    assert list(limits) == ["--memory", "--cpus", "--pids-limit"]
    for flag, controller in (("--memory", "memory"), ("--cpus", "cpu"), ("--pids-limit", "pids")):
        assert limits[flag]["enforced"] == (limits[flag]["reason"] is None)
        if home(controller) is not None:
            assert limits[flag]["enforced"]
