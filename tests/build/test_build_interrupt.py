"""A build that is ended: by Ctrl-C, by SIGTERM, by SIGKILL, in a command and anywhere else.

Within a second nothing of it runs and nothing is mounted, the store is valid, and the next build gives what it would have
given anyway. A killed one may leave temporary files, which the next process that opens the store removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.build.build_store import assert_nothing_left, assert_valid, running
from tests.conftest import Pybuild

# Seconds that nobody else sleeps, on this machine or in another session: each is found by them.
_FIRST = 100_000_000 + random.SystemRandom().randrange(800_000_000)
TOKENS = tuple(str(_FIRST + number) for number in range(3))
# A tree of processes, one of them a daemon and all of them deaf to what can be ignored.
STUBBORN = f"""FROM base
RUN trap '' INT TERM HUP; sleep {TOKENS[0]} & (setsid sleep {TOKENS[1]} &) ; echo begun; sleep {TOKENS[2]}
"""


@pytest.fixture
def context(pybuild: Pybuild, busybox_base: Path, tmp_path: Path) -> Path:
    assert pybuild("import", busybox_base, "base").returncode == 0
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(STUBBORN)
    return folder


def started(pybuild: Pybuild, context: Path, *flags: str, mark: str = "begun") -> tuple[subprocess.Popen[bytes], bytes]:
    """A build, and what it has said, up to the mark that its command writes."""
    process = pybuild.start(*flags, ".", cwd=context)
    assert process.stderr is not None
    said = b""
    deadline = time.monotonic() + 30
    while mark.encode() not in said.rpartition(b"RUN")[2].replace(b"echo begun", b""):
        ready, _, _ = select.select([process.stderr], [], [], deadline - time.monotonic())
        data = os.read(process.stderr.fileno(), 65536) if ready else b""
        assert data, f"it ended early: {said!r}"
        said += data
    return process, said


def ended(process: subprocess.Popen[bytes], said: bytes) -> str:
    """All that it wrote to stderr, once it has ended; that is within a second."""
    begun = time.monotonic()
    _, rest = process.communicate(timeout=20)
    assert time.monotonic() - begun < 1.0
    return (said + rest).decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("mode", ["plain", "json"])
def test_a_signal_in_a_run(pybuild: Pybuild, context: Path, number: signal.Signals, code: int, mode: str) -> None:
    process, said = started(pybuild, context, f"--progress={mode}", "-t", "never")
    deadline = time.monotonic() + 10
    # The builder, and three sleeps, of which the last takes the shell's place after the mark.
    while len(running(pybuild.store, *TOKENS)) < 4:
        assert time.monotonic() < deadline, running(pybuild.store, *TOKENS)
        time.sleep(0.01)
    os.killpg(process.pid, number)
    text = ended(process, said)
    assert process.returncode == code
    assert_nothing_left(pybuild.store, *TOKENS)
    assert_valid(pybuild.store)
    if mode == "plain":
        assert text.splitlines()[-3].startswith("#2 CANCELED")
        assert text.endswith("\n\nerror: interrupted\n")
    else:
        *_, cancelled, last = map(json.loads, text.splitlines())
        assert (cancelled["type"], cancelled["step"], cancelled["status"]) == ("step.finished", 2, "cancelled")
        assert (last["type"], last["error"]["message"], last["error"]["exit_code"]) == ("build.failed", "interrupted", code)
    assert "never" not in pybuild("images").stdout


def test_a_second_ctrl_c_changes_nothing(pybuild: Pybuild, context: Path) -> None:
    process, said = started(pybuild, context, "--progress=plain")
    for _ in range(20):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.002)
    text = ended(process, said)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in text
    assert_nothing_left(pybuild.store, *TOKENS)
    (context / "Dockerfile").write_text("FROM base\nRUN true\n")
    assert pybuild(".", cwd=context).returncode == 0
    assert_valid(pybuild.store)


AGAIN = """
import os, signal
from builder.cli import faults, main
def complain(text):
    os.kill(os.getpid(), signal.SIGTERM)
main.complain = complain
main.main()
"""


def test_an_interrupt_while_an_error_is_told_has_no_traceback(tmp_path: Path) -> None:
    """Seen once: Ctrl-C was pressed twenty times, in as many moments."""
    command = [sys.executable, "-c", AGAIN, "history", "--root", str(tmp_path), "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, "Traceback" in done.stderr) == (143, False), done.stderr


def test_a_builder_that_is_killed(pybuild: Pybuild, context: Path) -> None:
    process, said = started(pybuild, context, "--progress=plain")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert_nothing_left(pybuild.store, *TOKENS)
    ended(process, said)
    assert len(os.listdir(pybuild.store / "tmp")) == 1
    (context / "Dockerfile").write_text("FROM base\nRUN true\n")
    assert pybuild(".", cwd=context).returncode == 0
    assert_valid(pybuild.store)


# Every kind of work: a COPY into a tar, one into a folder, RUNs, an ADD that unpacks, an export, a name.
WORK = """FROM base AS build
COPY big /big
RUN cp /big /copy && rm /big
RUN sha256sum /copy > /sum && mkdir -p /d/e && cp -a /bin/busybox /d/e/
ADD files.tar.gz /opt/
FROM base
COPY --from=build /copy /sum /out/
COPY --from=build /opt /opt
RUN chmod -R a+rX /out && rm -rf /opt/one
WORKDIR /work
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "big").write_bytes(random.Random(1).randbytes(3_000_000))
    for name in ("one", "two"):
        (folder / "files" / name).mkdir(parents=True)
        for number in range(50):
            (folder / "files" / name / str(number)).write_text(f"{number}\n" * 50)
    subprocess.run(["tar", "-C", folder / "files", "-czf", folder / "files.tar.gz", "."], check=True)
    (folder / "Dockerfile").write_text(WORK)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_at_any_moment(pybuild: Pybuild, context: Path, work: Path, tmp_path: Path, number: signal.Signals) -> None:
    """A build, ended again and again a little later until it comes to its end, gives what an undisturbed one gives."""
    output = tmp_path / "image.tar"
    flags = ("-q", "-t", "work", "-o", f"type=oci,dest={output}", ".")
    delay = 0.0
    ends: list[int] = []
    outputs: set[str] = set()
    while not ends or ends[-1] != 0:
        process = pybuild.start(*flags, cwd=work)
        ends.append(end_after(process, pybuild.store, delay, number))
        if output.exists():  # Whole, or not at all.
            outputs.add(hashlib.sha256(output.read_bytes()).hexdigest())
        delay += 0.03
    assert len(ends) > 3
    assert len(outputs) == 1
    leftovers = [name for name in os.listdir(tmp_path) if name.startswith(".image.tar.")]
    assert number == signal.SIGKILL or leftovers == []
    assert pybuild("images").returncode == 0
    assert_valid(pybuild.store)
    done = [program(*flags, cwd=work) for program in (pybuild, _undisturbed(pybuild, tmp_path))]
    assert done[0].stdout == done[1].stdout != ""


def end_after(process: subprocess.Popen[bytes], store: Path, delay: float, number: signal.Signals) -> int:
    """Send the signal that long after the process opened the store, unless it ended before; its exit code. Nothing is left."""
    # Before that it is a Python that starts.
    while process.poll() is None and str(store / "db.sqlite") not in _open_files(process.pid):
        time.sleep(0.001)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode in (0, 130, -number), err
    assert b"Traceback" not in err
    assert_nothing_left(store)
    return process.returncode


def _open_files(pid: int) -> list[str]:
    found = []
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(path))
    return found


def _undisturbed(pybuild: Pybuild, tmp_path: Path) -> Pybuild:
    """The program with another store, which has the same base."""
    other = Pybuild(tmp_path / "undisturbed", tmp_path)
    assert pybuild("-o", "base", "-f", "-", ".", cwd=tmp_path, stdin=b"FROM base\n").returncode == 0
    assert other("import", tmp_path / "base", "base").returncode == 0
    return other


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_import_at_any_moment(pybuild: Pybuild, tmp_path: Path, debian_base: Path, number: signal.Signals) -> None:
    for delay in (0.0, 0.1, 0.3, 0.6, 1.0):
        code = end_after(pybuild.start("import", str(debian_base), "debian"), pybuild.store, delay, number)
        assert (pybuild("images", "-q").stdout == "") == (code != 0)
        assert_valid(pybuild.store)
        if code == 0:
            return
