"""`pybuild shell`: the file system before a step, after it, and as a failed command left it; its terminal, by a real pty."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from builder.store.store import Store
from tests.build.build_store import assert_nothing_left, assert_valid, await_command, running
from tests.build.build_terminal import Person
from tests.conftest import Pybuild

# Seconds that nobody else sleeps on this machine.
JOB, COMMAND, KILLED = (f"{digit}{os.getpid():07}" for digit in "789")
DOCKERFILE = """\
FROM base AS build
ENV WORD=hello
WORKDIR /work
COPY file .
RUN echo built > made && rm file
USER 1000:1000
ARG ADDRESS=https://me:hunter2@example.com/
RUN --network=none echo half > /tmp/half; rm /etc/issue; id -u; exit 3
"""


class Room:
    def __init__(self, pybuild: Pybuild, folder: Path, base: Path) -> None:
        self.pybuild = pybuild
        self.folder = folder
        self.base = base
        folder.mkdir()
        (folder / "Dockerfile").write_text(DOCKERFILE)
        (folder / "file").write_text("text\n")

    def build(self, *flags: str) -> subprocess.CompletedProcess[str]:
        return self.pybuild("--build-context", f"base={self.base}", "--progress=plain", *flags, ".", cwd=self.folder)

    def sh(self, step: str, script: str, *flags: str) -> str:
        done = self.pybuild("shell", *flags, step, "--", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def message(self, *arguments: str, code: int = 2) -> str:
        done = self.pybuild("shell", *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        return done.stderr


@pytest.fixture
def room(pybuild: Pybuild, tmp_path: Path, busybox_base: Path) -> Room:
    return Room(pybuild, tmp_path / "context", busybox_base)


@pytest.fixture
def failed(room: Room) -> Room:
    done = room.build()
    assert done.returncode == 1
    assert "\n  hint: look into it: pybuild shell 5\n" in done.stderr
    return room


def test_before_after_and_failed(failed: Room) -> None:
    assert failed.sh("4:before", "ls") == "file\n"
    assert failed.sh("4", "ls; cat made") == "made\nbuilt\n"
    assert failed.sh("4:after", "ls") == "made\n"
    assert failed.sh("5:before", "ls /tmp; ls /etc/issue 2>&1 || true") == "ls: /etc/issue: No such file or directory\n"
    # Only root may remove what is root's: of the failed command the other half is there.
    assert failed.sh("5", "cat /tmp/half; stat -c %u /tmp/half") == "half\n1000\n"
    assert failed.sh("5:failed", "cat /tmp/half") == "half\n"
    # Another way to say it, and a stage: what it came to.
    assert failed.sh(":5", "ls") == failed.sh("build 4/5", "ls") == "made\n"
    assert failed.sh("build", "cat /tmp/half") == "half\n"


def test_the_shell_is_the_steps_own(failed: Room) -> None:
    script = "pwd; id -u; id -g; echo $WORD; echo $HOSTNAME; hostname; echo $ADDRESS; ls /sys/class/net"
    assert failed.sh("5", script).splitlines() == [
        *("/work", "1000", "1000", "hello", "pybuild", "pybuild", "https://xxxxx:xxxxx@example.com/", "lo"),
    ]
    assert failed.sh("4", "pwd; id -u; echo $WORD; echo [$ADDRESS]").splitlines() == ["/work", "0", "hello", "[]"]
    assert failed.sh("3:before", "pwd; echo $WORD") == "/work\nhello\n"
    # The folder that WORKDIR makes is not there yet.
    assert failed.sh("2:before", "pwd") == "/\n"
    assert failed.sh("1", "pwd; echo [$WORD]") == "/\n[]\n"
    assert failed.sh("4", "ls /sys/class/net", "--network=none") == "lo\n"


def test_exit_codes_streams_and_what_is_written(failed: Room) -> None:
    done = failed.pybuild(
        "shell", "4", "--", "sh", "-c", "cat; echo error >&2; echo more > /work/more; exit 7", stdin=b"input\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "input\n", "error\n")
    assert failed.sh("4", "ls") == "made\n"
    assert failed.pybuild("shell", "4", "--", "sh", "-c", "sh -c 'kill -9 $$'; exit $?").returncode == 137
    assert failed.pybuild("shell", "4", stdin=b"cat made; exit 4\n").stdout == "built\n"
    assert failed.pybuild("shell", "--shell", "/bin/cat", "4", stdin=b"echoed").stdout == "echoed"
    assert failed.sh("5", "rm /tmp/half") == ""
    assert failed.sh("5", "cat /tmp/half") == "half\n"
    assert_valid(failed.pybuild.store)


def test_messages(failed: Room) -> None:
    fifth = "#5 [build 5/5] RUN --network=none echo half > /tmp/half; rm /etc/issue; id -u; exit 3"
    assert failed.message("5:after") == (
        f"error: the step {fifth} failed, and has no result\n  hint: look at: pybuild shell 5:before, pybuild shell 5:failed\n"
    )
    assert failed.message("4:failed") == (
        "error: the step #4 [build 4/5] RUN echo built > made && rm file did not fail\n"
        "  hint: its result: pybuild shell 4:after\n"
    )
    assert failed.message("1:before") == (
        "error: nothing is before #1 [build 1/5] FROM base\n  hint: look at: pybuild shell 1:after\n"
    )
    assert failed.message("5:faild") == "error: a step has no moment 'faild'\n  hint: did you mean 'failed'?\n"
    assert failed.message("RUN").startswith("error: 'RUN' means 2 steps\n")
    assert failed.message("4", "--shell=x", "--", "y") == (
        "error: --shell and a command exclude each other\n  hint: leave one of them out\n"
    )
    assert failed.message("4", "--", "nothing", code=127).startswith("error: the command 'nothing' cannot be run: No such file")
    assert failed.message("4", "--shell=/bin/zsh", code=127).startswith("error: the command '/bin/zsh' cannot be run: No such")
    assert failed.message().startswith("error: 'shell' needs more arguments\n")


def test_hints_find_the_same_store_and_build(room: Room, tmp_path: Path) -> None:
    (room.folder / "other file").write_text("FROM base AS a\nRUN exit 1\nRUN true\nRUN true\n")
    assert room.build("-f", "other file").returncode == 1
    (room.folder / "Dockerfile").write_text("FROM base\n")
    assert room.build().returncode == 0
    store = tmp_path / "a store"
    room.pybuild.store.rename(store)
    done = room.pybuild("--root", str(store), "shell", "-f", "other file", "4", cwd=room.folder)
    assert done.stderr == (
        "error: the step #4 [a 4/4] RUN true was not begun, and has no result\n"
        f"  hint: look at: pybuild --root '{store}' shell -f 'other file' 2:before\n"
    )
    done = room.pybuild("--root", str(store), "shell", "-f", "other file", "4:before", cwd=room.folder)
    assert "nothing to start from: #3" in done.stderr and done.stderr.endswith("shell -f 'other file' 2:before\n")
    done = room.pybuild("--root", str(store), "why", "-f", "other file", cwd=room.folder)
    assert f"it failed at #2; look into it: pybuild --root '{store}' shell -f 'other file' 2\n" in done.stdout
    done = room.pybuild("--root", str(store), "why", "-f", "other file", "9", cwd=room.folder)
    assert f"hint: pybuild --root '{store}' why -f 'other file' lists them\n" in done.stderr


def test_what_cannot_be_kept_does_not_hide_the_failure(room: Room) -> None:
    room.pybuild.store.mkdir()
    (room.pybuild.store / "failed").write_text("in the way")
    done = room.build("-D")
    assert done.returncode == 1
    assert "error: the command failed with exit code 3" in done.stderr and "pybuild shell" not in done.stderr
    assert "what the step left is not kept: File exists" in done.stderr
    assert f"warning: the store was not tidied up: Not a directory ({room.pybuild.store}/failed)" in done.stderr


def test_what_is_gone_says_so(failed: Room) -> None:
    with Store(str(failed.pybuild.store)) as store:
        (kept,) = store.failed_steps()
        assert store.remove_failed(kept)
    assert failed.message("5").startswith("error: nothing is kept of what #5 ")
    assert "build again" in failed.message("5")
    for name in os.listdir(failed.pybuild.store / "snapshots"):
        os.rename(failed.pybuild.store / "snapshots" / name, failed.folder.parent / f"gone-{name}")
    assert failed.message("4") == (
        "error: the file system of #4 [build 4/5] RUN echo built > made && rm file is in the store no more\n"
        "  hint: build again, then look\n"
    )


def test_only_what_a_command_left_is_kept_and_it_is_replaced(room: Room) -> None:
    kept = room.pybuild.store / "failed"
    for line in ('RUN ["nothing"]', "COPY nothing .", "RUN true"):
        (room.folder / "Dockerfile").write_text(f"FROM base\n{line}\n")
        assert "pybuild shell" not in room.build().stderr
    assert not kept.exists()
    (room.folder / "Dockerfile").write_text("FROM base\nRUN nothing-like-it\n")
    hint = "  hint: 127 says that the shell did not find a program: install it first, or check its name; look into it: "
    for _ in range(3):
        assert f"{hint}pybuild shell 2\n" in room.build().stderr
    assert len(os.listdir(kept)) == 1
    other = room.build("--root", str(room.pybuild.store))
    assert f"look into it: pybuild --root {room.pybuild.store} shell 2\n" in other.stderr


def test_a_failed_command_that_removed_and_replaced_things(room: Room) -> None:
    (room.folder / "Dockerfile").write_text(
        "FROM base\nRUN mkdir -p /a/b && echo 1 > /a/b/c && echo 1 > /a/d\n"
        "RUN rm -r /a && mkdir /a && echo 2 > /a/e && rm /bin/vi && chmod 700 / && exit 1\n"
    )
    room.build()
    assert room.sh("3", "find /a | sort; ls /bin/vi 2>&1; stat -c %a /") == (
        "/a\n/a/e\nls: /bin/vi: No such file or directory\n700\n"
    )
    assert room.sh("3:before", "find /a | sort") == "/a\n/a/b\n/a/b/c\n/a/d\n"


# A terminal.


def await_running(room: Room, token: str, count: int) -> None:
    """Until `count` commands sleep for `token` seconds."""
    deadline = time.monotonic() + 20
    while len([line for line in running(room.pybuild.store, f"sleep\0{token}") if f"sleep\\x00{token}" in line]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_terminal(failed: Room) -> None:
    with Person(failed.pybuild, "shell", "4") as person:
        said = person.read()
        assert said.startswith(
            "#4 [build 4/5] RUN echo built > made && rm file, after it\n"
            "What you write is thrown away at the end; the step's secrets, ssh agents and cache mounts are not here.\n"
        )
        person.await_raw()
        assert person.ask("tty") == "/dev/pts/0\n"
        assert person.ask("stty size") == "33 101\n"
        assert person.ask("echo $TERM; pwd; ls") == "xterm\n/work\nmade\n"
        person.resize(40, 90)
        deadline = time.monotonic() + 5
        while (size := person.ask("stty size")) != "40 90\n" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert size == "40 90\n"
        # The terminal is the shell's own: it can put jobs into the background, and Ctrl-C ends what is in the foreground.
        person.type(f"sleep {JOB}; echo code $?\n")
        person.read(b"code $?")
        await_running(failed, JOB, 1)
        person.type("\x03")
        person.read()
        assert person.ask("echo code $?") == "code 130\n"
        person.type(f"sleep {JOB} &\n")
        person.read()
        assert f"sleep {JOB}" in person.ask("jobs")
        person.type("exit 5\n")
        assert person.leave() == 5
        assert not person.is_raw
    assert_nothing_left(failed.pybuild.store, JOB)


def test_ctrl_c_ends_a_command_that_is_no_shell(failed: Room) -> None:
    with Person(failed.pybuild, "shell", "4", "--", "sleep", COMMAND) as person:
        # Until it is that, nobody has the terminal: what forks on the way has the program's own arguments.
        await_command(f"sleep\0{COMMAND}\0")
        person.await_raw()
        person.type("\x03")
        assert person.leave() == 130
        assert not person.is_raw
    assert_nothing_left(failed.pybuild.store, COMMAND)


def test_what_a_user_types_and_sees_is_whole(failed: Room) -> None:
    with Person(
        failed.pybuild, "shell", "5", "--", "sh", "-c", "stty raw -echo; echo ready; head -c 300000 | wc -c; seq 20000"
    ) as person:
        person.read(b"ready")
        for _ in range(300):
            person.type("x" * 1000)
        said = person.read(b"\n20000\n")
        assert said.split()[0] == "300000"
        assert said.split()[1:] == [str(number) for number in range(1, 20001)]
        assert person.leave() == 0


def test_a_terminal_belongs_to_the_steps_user(failed: Room) -> None:
    with Person(
        failed.pybuild, "shell", "5", "--", "sh", "-c", "stat -c %u:%g:%a $(tty); echo again > $(tty); id -u"
    ) as person:
        assert person.read(b"again\r\n1000") == "1000:5:620\nagain\n1000"
        assert person.leave() == 0


def test_the_first_process_of_a_terminal_tells_nothing_of_the_host(failed: Room) -> None:
    script = (
        "cat /proc/1/environ; ls /proc/1/fd/; cat /proc/1/maps; tr -d '\\0' < /proc/1/cmdline; echo; cat /proc/1/comm; echo end"
    )
    with Person(failed.pybuild, "shell", "4", "--", "sh", "-c", script) as person:
        said = person.read(b"\nend")
    assert "PATH" not in said and "python" not in said
    assert said.count("Permission denied") == 2
    assert said.endswith("init\ninit\nend")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_shell_that_is_killed_leaves_nothing(failed: Room, number: signal.Signals) -> None:
    with Person(failed.pybuild, "shell", "5") as person:
        person.read()
        person.type(f"sleep {KILLED} & sleep {KILLED}\n")
        await_running(failed, KILLED, 2)
        person.process.send_signal(number)
        assert person.leave() == (-9 if number == signal.SIGKILL else 128 + number)
        # Nothing can be done after SIGKILL.
        assert person.is_raw == (number == signal.SIGKILL)
        assert_nothing_left(failed.pybuild.store, KILLED)
    # The next command sweeps what the killed one could not, and may remove what it looked into.
    with Store(str(failed.pybuild.store)) as store:
        assert store.remove_failed(store.failed_steps()[0])
    assert os.listdir(failed.pybuild.store / "tmp") == []
    assert_valid(failed.pybuild.store)


def test_nothing_is_removed_while_a_shell_looks_into_it(failed: Room) -> None:
    with Person(failed.pybuild, "shell", "5") as person:
        person.read()
        with Store(str(failed.pybuild.store)) as store:
            (kept,) = store.failed_steps()
            assert not store.remove_failed(kept)
        # The step fails again meanwhile: what it left then is another.
        failed.build()
        assert person.ask("cat /tmp/half") == "half\n"
        person.type("exit\n")
        person.leave()


def test_run_has_a_terminal_too(failed: Room) -> None:
    assert failed.pybuild("import", failed.base, "base").returncode == 0
    with Person(failed.pybuild, "run", "-it", "base", "sh", "-c", "tty; stty size; exit 6") as person:
        assert person.read(b"33 101") == "/dev/pts/0\n33 101"
        assert person.leave() == 6
    done = failed.pybuild("run", "-t", "base", "true")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --tty needs a terminal on stdin and stdout\n  hint: leave -t out: streams are handed on as they are\n",
    )


def test_a_long_line_is_cut_in_messages(room: Room) -> None:
    (room.folder / "Dockerfile").write_text(f"FROM base\nRUN true {'x' * 500}\n")
    room.build()
    first, hint = room.message("2:failed").splitlines()
    assert first.startswith("error: the step #2 [stage-0 2/2] RUN true xxx") and first.endswith("x… did not fail")
    assert len(first) < 150 and hint == "  hint: its result: pybuild shell 2:after"


def test_a_terminal_that_is_closed_ends_the_shell(failed: Room) -> None:
    with Person(failed.pybuild, "shell", "4") as person:
        person.read()
        person.type(f"sleep {KILLED}\n")
        await_running(failed, KILLED, 1)
        null = os.open(os.devnull, os.O_RDWR)
        # The window is closed: the kernel tells by SIGHUP, and there is nothing to read or to write to any more.
        os.dup2(null, person.fd)
        os.dup2(null, person.terminal)
        os.close(null)
        assert person.leave() == 129
    assert_nothing_left(failed.pybuild.store, KILLED)
