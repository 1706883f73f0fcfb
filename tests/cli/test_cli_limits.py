"""--ulimit of build and run: what it does, what is refused, and where it counts for the cache."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Pybuild

FORM = "  hint: it looks like --ulimit NAME=SOFT[:HARD], as nofile=1024:4096; -1 or unlimited for no limit\n"
NAMES = "core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack"
POWERLESS = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
MOST_FILES = int(Path("/proc/sys/fs/nr_open").read_text())


def context_of(tmp_path: Path, dockerfile: str) -> str:
    context = tmp_path / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    return str(context)


def out(pybuild: Pybuild, *args: str) -> str:
    done = pybuild(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["build", "run"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nofile", f"'nofile' is not a value of '--ulimit'\n{FORM}"),
        ("nofile=", f"'nofile=' is not a value of '--ulimit'\n{FORM}"),
        ("=1", f"'=1' is not a value of '--ulimit'\n{FORM}"),
        ("nofile=x", f"'nofile=x' is not a value of '--ulimit'\n{FORM}"),
        ("nofile=-2", f"'nofile=-2' is not a value of '--ulimit'\n{FORM}"),
        ("nofile=1:", f"'nofile=1:' is not a value of '--ulimit'\n{FORM}"),
        ("nofile=1:2:3", f"'nofile=1:2:3' is not a value of '--ulimit'\n{FORM}"),
        ("nofile=9223372036854775808", f"'nofile=9223372036854775808' is not a value of '--ulimit'\n{FORM}"),
        ("nofiles=1", "there is no ulimit 'nofiles'\n  hint: did you mean 'nofile'?\n"),
        ("as=1", f"there is no ulimit 'as'\n  hint: one of {NAMES}\n"),
        (
            "nofile=2:1",
            "the soft limit of '--ulimit nofile=2:1' is above the hard one\n"
            "  hint: the first number is at most the second\n",
        ),
        (
            "nofile=-1:1",
            "the soft limit of '--ulimit nofile=-1:1' is above the hard one\n"
            "  hint: the first number is at most the second\n",
        ),
    ],
)  # fmt: skip
def test_bad_values(pybuild: Pybuild, busybox_base: Path, tmp_path: Path, command: str, given: str, message: str) -> None:
    if command == "run":
        out(pybuild, "import", str(busybox_base), "base")
    what = ["base", "true"] if command == "run" else [context_of(tmp_path, "FROM scratch\n")]
    done = pybuild(command, f"--ulimit={given}", *what)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}")


def test_commands_have_them_and_the_last_of_a_name_counts(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    out(pybuild, "import", str(busybox_base), "base")
    flags = ["--ulimit=nofile=9:9", "--ulimit", "nofile=100:200", "--ulimit=core=0:0", "--ulimit=cpu=60"]
    show = "grep -E 'open files|core file|cpu time' /proc/self/limits | tr -s ' '"
    expected = "Max cpu time 60 60 seconds \nMax core file size 0 0 bytes \nMax open files 100 200 files \n"
    assert out(pybuild, "run", *flags, "base", "sh", "-c", show) == expected
    folder = tmp_path / "out"
    context = context_of(tmp_path, f"FROM base\nUSER 1000\nRUN {show} > /tmp/limits\n")
    done = pybuild(*flags, "-o", f"type=local,dest={folder}", context)
    assert done.returncode == 0, done.stderr
    assert (folder / "tmp" / "limits").read_text() == expected


def test_one_that_is_met(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    command = [
        "--build-context",
        f"base={busybox_base}",
        context_of(tmp_path, "FROM base\nRUN head -c 8192 /dev/zero > /f; test $(stat -c %s /f) = 8192\n"),
    ]
    assert pybuild("--ulimit=fsize=8192", *command).returncode == 0
    done = pybuild("--ulimit=fsize=4096", *command)
    assert done.returncode == 1
    assert "Dockerfile:2" in done.stderr


def test_where_they_are_in_the_key(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    command = ["--build-context", f"base={busybox_base}", context_of(tmp_path, "FROM base\nRUN true\n")]

    def cached(*flags: str) -> bool:
        done = pybuild(*flags, *command)
        assert done.returncode == 0, done.stderr
        return "#2 CACHED" in done.stderr

    two = ["--ulimit=nofile=100", "--ulimit=core=0"]
    assert [cached(), cached(*two), cached(*reversed(two)), cached(two[0]), cached()] == [False, False, True, False, True]
    why = pybuild("--ulimit=nofile=50:60", "--explain", *command)
    assert "--ulimit: " in why.stderr
    assert "nofile=50:60" in why.stderr


def test_the_plan_names_them(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    command = ["--print-plan", "--build-context", f"base={busybox_base}", context_of(tmp_path, "FROM base\nRUN true\n")]
    plan = json.loads(pybuild("--ulimit=nofile=100:-1", *command).stdout)
    assert [step.get("ulimits") for step in plan["steps"]] == [None, [["nofile", 100, -1]]]
    assert "ulimits" not in pybuild(*command).stdout


def test_a_shell_in_a_step_has_them(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    context = context_of(tmp_path, "FROM base\nRUN true\n")
    assert pybuild("--ulimit=nofile=77", "--build-context", f"base={busybox_base}", context).returncode == 0
    shown = pybuild("shell", "--file", f"{context}/Dockerfile", "2", "--", "sh", "-c", "ulimit -Hn")
    assert (shown.stdout, shown.returncode) == ("77\n", 0), shown.stderr


@pytest.mark.parametrize(("command", "code"), [("build", 6), ("run", 125)])
def test_what_this_builder_cannot_give_is_an_error_before_anything_runs(
    pybuild: Pybuild, busybox_base: Path, tmp_path: Path, command: str, code: int
) -> None:
    out(pybuild, "import", str(busybox_base), "base")
    what = ["base", "echo", "began"] if command == "run" else [context_of(tmp_path, "FROM base\nRUN echo began\n")]

    def refused(prefix: list[str], flag: str) -> str:
        done = subprocess.run(
            [*prefix, *pybuild.command, command, flag, *what],
            env=pybuild.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert "began" not in done.stderr
        return done.stderr

    assert refused([], f"--ulimit=nofile={MOST_FILES + 1}") == (
        f"error: --ulimit nofile: this kernel gives {MOST_FILES} descriptors at most (fs.nr_open), not {MOST_FILES + 1}\n"
        f"  hint: say --ulimit nofile={MOST_FILES} at most\n"
    )
    assert refused(["prlimit", "--nofile=300:700", *POWERLESS], "--ulimit=nofile=600:701") == (
        "error: --ulimit nofile: the builder may not raise its hard limit of 700 to 701\n"
        "  hint: say --ulimit nofile=700 at most, or run the builder with CAP_SYS_RESOURCE, as root has it\n"
    )
    assert refused(["prlimit", "--core=0:0", *POWERLESS], "--ulimit=core=-1").startswith(
        "error: --ulimit core: the builder may not raise its hard limit of 0 to unlimited\n"
    )


def test_a_builder_that_may_raise_none_lowers_them(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> None:
    out(pybuild, "import", str(busybox_base), "base")
    command = [*POWERLESS, *pybuild.command, "run", "--ulimit=nofile=100:200", "base", "sh", "-c", "ulimit -n; ulimit -Hn"]
    done = subprocess.run(command, env=pybuild.environment(), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "100\n200\n"), done.stderr


def test_run_has_a_size_of_dev_shm(pybuild: Pybuild, busybox_base: Path) -> None:
    out(pybuild, "import", str(busybox_base), "base")
    show = ["base", "sh", "-c", "df -k /dev/shm | tail -n 1 | awk '{print $2}'"]
    given = [out(pybuild, "run", *flags, *show) for flags in ([], ["--shm-size=2m"], ["--shm-size=0"])]
    assert given == ["65536\n", "2048\n", "65536\n"]
