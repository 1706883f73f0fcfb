"""What tests of the whole program share: running `pybuild`, two base images, and a machine left as it was.

The tools that tests need are asked for at the start: a missing one fails the session, with the list, and skips nothing.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache"
BASES = ROOT / "sample_projects" / "bases"

# CI judges a change by the same examples each time; developers, who can look at a new one, get new ones.
# No time decides a test: a machine may be busy.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

# Where Debian keeps the administrator's tools, which are on no user's PATH.
SEARCH_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"

# In the environment of all that the tests start, so that what is left running can be found.
_MARK = f"PYBUILD_TEST_SESSION={secrets.token_hex(8)}"


_LONGEST = (
    *(
        "cli/test_cli_verify.py",
        "rootless/test_rootless_chroot.py",
        "verify/test_verify_corpus.py",
        "build/test_build_samples.py",
    ),
    *("language/test_language_buildah.py", "registry/test_registry_cache.py", "rootless/test_rootless_table.py"),
    *("build/test_build_memory.py", "escape/test_escape.py", "build/test_build_badinput.py", "escape/test_kills.py"),
    *("context/test_context_lookback.py", "build/test_build_times.py", "test_setup_bench.py", "test_setup_checks.py"),
)
"""Files that take a minute and more, by their paths here. They come first: the last one of them would go on alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {str(ROOT / "tests" / name): number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    # Each line: command (or shared library), Debian package, what for.
    tools = [line.split()[:2] for line in (ROOT / ".ci" / "tools").read_text().splitlines()]
    missing = [package for command, package in tools if not _present(command)]
    if not (CACHE / "docker-profile" / "default.json").is_file():
        missing.append("Docker's seccomp profile (.ci/docker-profile)")
    if os.geteuid() != 0:
        missing.append("root: it makes the users and the machines of the tests")
    if missing:
        raise pytest.UsageError(f"the tests need: {', '.join(missing)}. `make setup` sees to it, or says what to install.")
    name, _, value = _MARK.partition("=")
    os.environ[name] = value
    # CI may have been started under nohup, and what is ignored is inherited by all that the tests start.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # And a shell without job control has what it starts in the background ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # What the tests make for other users is made with the modes that they say, also where CI has a stricter umask.
    os.umask(0o022)


NEEDED_RUNGS = ("root", "userns", "single-uid")
"""Each sandbox must have run a command of a user who is not root, else the suite fails: a test's property `rung` says that."""


def _exercised(config: pytest.Config) -> list[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    passed = reporter.stats.get("passed", []) if reporter is not None else []
    return sorted({str(value) for report in passed for name, value in report.user_properties if name == "rung"})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if exercised := _exercised(config):
        terminalreporter.write_line(f"rungs exercised: {', '.join(exercised)}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not (
        config.option.keyword or config.option.markexpr or config.option.collectonly or hasattr(config, "workerinput")
    )
    lacking = set(NEEDED_RUNGS).difference(_exercised(config)) if whole and exitstatus in (0, 1) else ()
    if lacking:
        config.get_terminal_writer().line(f"no RUN ran as another user than root in the sandbox: {', '.join(sorted(lacking))}")
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
    elif not hasattr(config, "workerinput") and (place := os.environ.get("PYBUILD_FAILED")):
        _tell_failed(config, Path(place))


def _tell_failed(config: pytest.Config, place: Path) -> None:
    """For .ci/suite: the tests that may be tried once more, one a line. What failed before or after a test is none of them: a
    mount or a process that was left behind is not there the next time."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not reporter.stats.get("error"):
        place.write_text("".join(f"{report.nodeid}\n" for report in reporter.stats.get("failed", [])))


def _present(command: str) -> bool:
    if ".so." in command:
        return ctypes.util.find_library(command.removeprefix("lib").split(".")[0]) is not None
    return shutil.which(command, path=SEARCH_PATH) is not None


class Pybuild:
    """Runs the program as a user does: as a process of its own, with a store of its own."""

    def __init__(self, store: Path, home: Path) -> None:
        self.store = store
        self._home = home
        script = Path(sys.executable).with_name("pybuild")
        self.command = [str(script)] if script.exists() else [sys.executable, "-m", "builder.cli.main"]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """All that the program sees: nothing of the developer's own settings."""
        name, _, value = _MARK.partition("=")
        return {
            "PATH": SEARCH_PATH,
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "PYBUILD_ROOT": str(self.store),
            "PYTHONPATH": str(ROOT),
            name: value,
            **(extra or {}),
        }

    def __call__(
        self,
        *args: str | os.PathLike[str],
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """The finished process; what it wrote that is not UTF-8 comes as surrogates. `env` is added to `environment()`."""
        done = subprocess.run(
            [*self.command, *(os.fspath(arg) for arg in args)],
            cwd=cwd or self._home,
            env=self.environment(env),
            input=stdin,
            capture_output=True,
            timeout=timeout,
        )
        out, err = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def start(
        self,
        *args: str | os.PathLike[str],
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """The running process, in a session of its own, for tests that interrupt it; use it as a context manager."""
        return subprocess.Popen(
            [*self.command, *(os.fspath(arg) for arg in args)],
            cwd=cwd or self._home,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # CI may have been started under nohup, and what is ignored is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    """The program with a fresh store below `tmp_path`, run in an empty folder unless `cwd` says otherwise."""
    home = tmp_path / "home"
    home.mkdir()
    return Pybuild(tmp_path / "store", home)


@pytest.fixture(scope="session")
def busybox_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system as a folder: a static bin/busybox with a link for each applet, /etc/passwd, /tmp."""
    folder = tmp_path_factory.mktemp("bases") / "busybox"
    subprocess.run([BASES / "busybox", folder], check=True)
    return folder


class Foreign(NamedTuple):
    """A root file system for another architecture than this machine's: a static busybox, as `busybox_base`."""

    base: Path
    platform: str
    emulator: str


@pytest.fixture(scope="session")
def foreign() -> Foreign:
    """Made once, kept in .cache. Whether its programs run here is for the test to see to (`build_emulator`)."""
    name = "amd64" if os.uname().machine == "aarch64" else "arm64"
    folder = CACHE / "bases" / f"busybox-{name}"
    subprocess.run([BASES / "foreign", folder, name], check=True)
    emulator = "x86_64" if name == "amd64" else "aarch64"
    return Foreign(folder, f"linux/{name}", f"/usr/bin/qemu-{emulator}-static")


def debian_tar() -> Path:
    """Debian 12 (minbase) with python3, pip, make, git and setcap, as a tar. Made once for each list of packages, kept in
    .cache."""
    packages = ("python3", "python3-pip", "make", "git", "libcap2-bin")
    script = BASES / "debian"
    key = hashlib.sha256(script.read_bytes() + " ".join(packages).encode()).hexdigest()[:12]
    tar = CACHE / "bases" / f"debian-{key}.tar"
    subprocess.run([script, tar, *packages], check=True)
    return tar


@pytest.fixture(scope="session")
def debian_base() -> Path:
    return debian_tar()


@pytest.fixture(scope="session", autouse=True)
def _machine_left_as_it_was(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end of the session nothing that a test made is still mounted or running."""
    yield
    places = [str(tmp_path_factory.getbasetemp()), str(CACHE)]
    # A path begins after a space: another checkout's may end like ours.
    mounts = [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        # What lies in other folders of this kind is mounted by tests that still run beside this session.
        if f" {places[0]}/" in line or (f" {places[1]}/" in line and "/pytest-of-" not in line)
    ]
    assert not mounts, "still mounted:\n" + "\n".join(mounts)
    # What was told to end may take a moment to be gone.
    deadline = time.monotonic() + 5
    while (left := _left_running(places)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "still running:\n" + "\n".join(left)


def _left_running(places: list[str]) -> list[str]:
    """Processes with this session's mark, or with its folders among their arguments, links or mounts."""
    own_mounts = Path("/proc/self/mountinfo").read_bytes()
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
            mounts = (process / "mountinfo").read_bytes()
            links = [os.fsencode(os.readlink(process / link)) for link in ("cwd", "root", "exe")]
            texts = [(process / "environ").read_bytes(), command, *links]
        except OSError:
            # It ended meanwhile, or is a thread of the kernel.
            continue
        if mounts != own_mounts:
            texts.append(mounts)
        marks = [_MARK.encode(), *(os.fsencode(place) + b"/" for place in places[:1])]
        if any(mark in text for mark in marks for text in texts) or is_orphaned_server(process):
            left.append(f"{process.name} {os.fsdecode(command)}")
    return left


def is_orphaned_server(process: Path) -> bool:
    """Whether the process (its folder in /proc) is a fork server of this checkout whose builder is gone, be it the program or a
    test: who adopts it is no Python. It has no environment that could say whose it is, and a builder that lives may be another
    session's."""
    try:
        if os.fsencode(ROOT / "builder" / "sandbox" / "main.py") not in (process / "cmdline").read_bytes():
            return False
        state, parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[:2]
        program = (process.parent / os.fsdecode(parent) / "cmdline").read_bytes().partition(b"\0")[0]
        return state not in b"ZX" and not os.path.basename(program).startswith(b"python")
    except OSError:
        return False  # It ended meanwhile.
