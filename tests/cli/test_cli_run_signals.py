"""Signals that `pybuild run` gets are the command's; stdin is, with -i; its rights, as docker's flags have them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.build.build_store import assert_nothing_left, await_command
from tests.build.build_terminal import Person
from tests.conftest import ROOT, Pybuild

# Seconds that nobody else sleeps on this machine.
SLEEP = f"97{os.getpid():07}"
DEFAULTS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]


@pytest.fixture
def base(pybuild: Pybuild, busybox_base: Path) -> str:
    assert pybuild("import", busybox_base, "base").returncode == 0
    return "base"


class Started:
    """A run whose command says `begun` first. A context manager: at its end the program is dead."""

    def __init__(self, pybuild: Pybuild, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*pybuild.command, "run", *arguments],
            env=pybuild.environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Whoever runs the tests in the background has some of them ignored.
            preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in DEFAULTS],
        )

    def __enter__(self) -> Started:
        self.line("begun")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self, text: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{text}\n".encode()

    def ended(self) -> tuple[int, bytes, bytes]:
        said, told = self.process.communicate(timeout=60)
        return self.process.returncode, said, told


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["first", "init"])
@pytest.mark.parametrize("number", DEFAULTS, ids=lambda number: number.name)
def test_a_handler_gets_it_and_chooses_the_code(
    pybuild: Pybuild, base: str, number: signal.Signals, init: tuple[str, ...]
) -> None:
    script = f"trap 'echo got; kill $!; exit 7' {number.name.removeprefix('SIG')}; sleep {SLEEP} & echo begun; wait"
    with Started(pybuild, *init, base, "sh", "-c", script) as run:
        run.process.send_signal(number)
        assert run.ended() == (7, b"got\n", b"")
    assert_nothing_left(pybuild.store, SLEEP)


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["first", "init"])
@pytest.mark.parametrize("number", DEFAULTS, ids=lambda number: number.name)
def test_who_has_no_handler_ends_by_it(pybuild: Pybuild, base: str, number: signal.Signals, init: tuple[str, ...]) -> None:
    """Also as the first process of its namespace, for which the kernel would drop it."""
    with Started(pybuild, *init, base, "sh", "-c", f"echo begun; exec sleep {SLEEP}") as run:
        # A shell may have handlers until it is no more.
        await_command(f"sleep\0{SLEEP}\0")
        run.process.send_signal(number)
        code, _, told = run.ended()
        assert (code, told) == (128 + number, b"")
    assert_nothing_left(pybuild.store, SLEEP)


def test_one_that_is_ignored_is_ignored_and_who_insists_gets_an_end(pybuild: Pybuild, base: str) -> None:
    script = f"trap '' TERM INT; trap 'echo still' USR1; echo begun; while :; do sleep {SLEEP} & wait; kill $!; done"
    with Started(pybuild, base, "sh", "-c", script) as run:
        for number in (signal.SIGTERM, signal.SIGINT):
            run.process.send_signal(number)
            # Signals of one number wait once: this one comes behind it.
            run.process.send_signal(signal.SIGUSR1)
            run.line("still")
        run.process.send_signal(signal.SIGTERM)
        assert run.ended()[0] == 143
    assert_nothing_left(pybuild.store, SLEEP)


def test_the_first_process(pybuild: Pybuild, base: str) -> None:
    script = "echo $$; cat /proc/1/comm; (sleep 0.01 &) ; sleep 0.2; ps -o stat | grep -c Z"
    done = pybuild("run", base, "sh", "-c", script)
    assert done.stdout.splitlines()[:2] == ["1", "sh"]
    done = pybuild("run", "--init", base, "sh", "-c", script)
    # It reaps whom nobody waits for.
    assert done.stdout.splitlines() == ["2", "init", "0"]
    assert pybuild("run", "--init", base, "sh", "-c", "exit 9").returncode == 9
    assert pybuild("run", "--init", base, "sh", "-c", "kill -9 $$").returncode == 137
    assert pybuild("run", "--init", base, "nosuch").returncode == 127


def test_stdin_is_handed_on_where_that_is_asked_for(pybuild: Pybuild, base: str) -> None:
    """A loop that reads lines and runs something for each is not robbed of them."""
    assert pybuild("run", "-i", base, "cat", stdin=b"text\n").stdout == "text\n"
    assert pybuild("run", "--interactive", base, "cat", stdin=b"text\n").stdout == "text\n"
    assert pybuild("run", base, "cat", stdin=b"text\n").stdout == ""
    assert pybuild("run", base, "readlink", "/proc/self/fd/0").stdout == "/dev/null\n"


def test_a_terminal_is_given_back_while_the_program_is_stopped(pybuild: Pybuild, base: str) -> None:
    with Person(pybuild, "run", "-it", base, "sh") as person:
        person.read()
        assert person.is_raw
        person.process.send_signal(signal.SIGTSTP)
        person.await_stopped()
        assert not person.is_raw
        person.resize(20, 70)
        person.process.send_signal(signal.SIGCONT)
        person.await_raw()
        assert person.ask("stty size") == "20 70\n"
        person.type("exit 5\n")
        assert person.leave() == 5
        assert not person.is_raw


def test_without_a_terminal_of_its_own_it_has_none(pybuild: Pybuild, base: str) -> None:
    """Not the user's either: its output would be open for reading, and what is typed to others could be taken there."""
    script = (
        "for n in 0 1 2; do readlink /proc/$$/fd/$n; done 2>&1 | sed 's/:.*//';"
        " test -t 0 || test -t 1 || test -t 2 || echo none;"
        " stty -echo <&1 2>/dev/null || echo refused; echo out; echo err >&2; echo the end"
    )
    with Person(pybuild, "run", base, "sh", "-c", script) as person:
        assert person.read(b"the end\r\n") == "/dev/null\npipe\npipe\nnone\nrefused\nout\nerr\nthe end\n"
        assert person.leave() == 0
    with Person(
        pybuild, "run", "-i", base, "sh", "-c", "read word; echo got $word; test -t 0 || echo a pipe; exit 4"
    ) as person:
        person.type("typed\n")
        assert person.read(b"a pipe\r\n").replace("typed\n", "", 1) == "got typed\na pipe\n"
        # The end of the command ends all, while nobody types.
        assert person.leave() == 4
    with Person(pybuild, "run", "-i", base, "cat") as person:
        person.type("line\n\x04")
        assert person.read(b"line\r\nline\r\n")
        assert person.leave() == 0


def held(pybuild: Pybuild, *flags: str) -> set[str]:
    """The capabilities that a command has, as the kernel numbers them."""
    done = pybuild("run", *flags, "base", "grep", "-E", "CapEff|CapBnd", "/proc/self/status")
    assert done.returncode == 0, done.stderr
    (mask,) = {line.split()[1] for line in done.stdout.splitlines()}
    return {str(number) for number in range(64) if int(mask, 16) >> number & 1}


def test_capabilities(pybuild: Pybuild, base: str) -> None:
    """The numbers are those of linux/capability.h: NET_ADMIN 12, NET_RAW 13, CHOWN 0."""
    docker = held(pybuild)
    assert "13" in docker and "12" not in docker
    assert held(pybuild, "--cap-add=NET_ADMIN") == docker | {"12"}
    assert held(pybuild, "--cap-add=cap_net_admin", "--cap-drop=net_raw") == docker - {"13"} | {"12"}
    assert held(pybuild, "--cap-drop=ALL") == set()
    assert held(pybuild, "--cap-drop=all", "--cap-add=CHOWN", "--cap-add=NET_ADMIN") == {"0", "12"}
    done = pybuild("run", "--cap-add=NET_ADMN", "base", "true")
    assert (done.returncode, done.stderr) == (
        2,
        "error: there is no capability 'NET_ADMN'\n  hint: did you mean 'CAP_NET_ADMIN'?\n",
    )


def test_a_capability_opens_what_docker_opens_with_it(pybuild: Pybuild, base: str) -> None:
    mount = ("base", "sh", "-c", "mkdir /mounted && mount -t tmpfs none /mounted && echo mounted")
    assert pybuild("run", *mount).returncode != 0
    assert pybuild("run", "--cap-add=SYS_ADMIN", *mount).stdout == "mounted\n"


def test_a_builder_that_lacks_a_capability_says_so(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    weak = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    done = subprocess.run(
        [*weak, *pybuild.command, "run", "--cap-add=NET_ADMIN", "base", "true"],
        env=pybuild.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("error: the builder itself lacks CAP_NET_ADMIN\n")


def test_security_options(pybuild: Pybuild, base: str) -> None:
    def status(field: str, *flags: str) -> str:
        done = pybuild("run", *flags, "base", "grep", f"^{field}:", "/proc/self/status")
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[1]

    assert (status("NoNewPrivs"), status("Seccomp")) == ("0", "2")
    assert status("NoNewPrivs", "--security-opt=no-new-privileges") == "1"
    assert status("NoNewPrivs", "--security-opt", "no-new-privileges:true", "-u", "1000") == "1"
    assert status("Seccomp", "--security-opt=seccomp=unconfined") == "0"
    assert status("Seccomp", "--security-opt=label=disable", "--security-opt=apparmor=unconfined") == "2"
    done = pybuild("run", "--security-opt=seccomp=/profile.json", "base", "true")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "error: 'seccomp=/profile.json' of --security-opt is not built",
    )


def test_groups(pybuild: Pybuild, base: str) -> None:
    assert pybuild("run", "-u", "1000:50", "--group-add=nogroup", "--group-add", "7", base, "id", "-G").stdout == "50 7 65534\n"
    done = pybuild("run", "--group-add=nobodies", base, "true")
    assert done.returncode == 1 and "unknown group 'nobodies'" in done.stderr


def test_mounts_as_a_list(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    read = ("sh", "-c", "cat /in/file; echo > /in/new && echo written")
    bind = f"type=bind,source={tmp_path},target=/in"
    assert pybuild("run", "--mount", bind, base, *read).stdout == "text\nwritten\n"
    for word in ("readonly", "ro", "ro=true", "readonly=1"):
        done = pybuild("run", "--mount", f"{bind},{word}", base, *read)
        assert done.stdout == "text\n" and "Read-only file system" in done.stderr
    shown = pybuild(
        "run", "--mount", "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=700", base, "sh", "-c", "stat -c %a /t; df -k /t"
    )
    assert shown.stdout.startswith("700\n") and " 2048 " in shown.stdout
    for text, message in {
        "target=/t": "'volume' of '--mount target=/t' is not built",
        "type=bind,target=/t": "'--mount type=bind,target=/t' lacks something, or has a source too many",
        "type=tmpfs,source=/x,target=/t": "'--mount type=tmpfs,source=/x,target=/t' lacks something, or has a source too many",
        "type=bind,source=/,target=/t,bind-propagation=shared": "the option 'bind-propagation' of '--mount"
        " type=bind,source=/,target=/t,bind-propagation=shared' is not built",
        "type=bind,source=/no/such,target=/t": "'/no/such' of --mount is not there",
    }.items():
        done = pybuild("run", "--mount", text, base, "true")
        assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: {message}")


def test_a_missing_folder_is_made(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """As docker makes it: root's, and gone with the container."""
    script = "pwd; stat -c '%u:%g %a' . ..; echo > file && ls"
    assert pybuild("run", "-w", "/deep/er", base, "sh", "-c", script).stdout == "/deep/er\n0:0 755\n0:0 755\nfile\n"
    # A link of the image is followed inside of it.
    (tmp_path / "Dockerfile").write_text("FROM base\nRUN ln -s /elsewhere/there /link\n")
    assert pybuild("-q", "-t", "linked", tmp_path).returncode == 0
    assert pybuild("run", "-w", "/link/sub", "linked", "pwd").stdout == "/elsewhere/there/sub\n"
    done = pybuild("run", "--read-only", "-w", "/deep", base, "sh", "-c", "pwd; echo > file")
    assert done.stdout == "/deep\n" and "Read-only file system" in done.stderr
    (tmp_path / "data").mkdir()
    assert pybuild("run", "-v", f"{tmp_path}:/in", "-w", "/in/data", base, "pwd").stdout == "/in/data\n"
