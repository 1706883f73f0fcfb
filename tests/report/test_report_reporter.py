"""The queue, the thread and the file descriptor: real pipes, a real terminal, many threads."""

from __future__ import annotations

import _thread
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from report_terminal import Terminal

from builder.errors import BuildError, SourceFile
from builder.events import BuildFailed, BuildFinished, BuildStarted, Debug, PlanReady, StepFinished, StepLog, StepStarted
from builder.report import reporter as reporter_module
from builder.report.reporter import Reporter, open_reporter, screen

if TYPE_CHECKING:
    from builder.report.reporter import Mode

ID = "sha256:" + "a" * 64


class Capture:
    """A pipe, or a pseudo-terminal's other side, that is read in the background until the writer closes it."""

    def __init__(self, read_fd: int) -> None:
        self._read_fd = read_fd
        self._data = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._read_fd, 65536)
            except OSError:  # EIO: the last writer of a pseudo-terminal has closed it
                return
            if not piece:
                return
            self._data += piece

    def text(self) -> str:
        """Everything, once the writer has closed."""
        self._thread.join()
        os.close(self._read_fd)
        return self._data.decode()


@contextmanager
def piped(mode: Mode, *, debug: bool = False) -> Iterator[tuple[Reporter, Capture]]:
    read_fd, write_fd = os.pipe()
    capture = Capture(read_fd)
    reporter = open_reporter(
        mode, write_fd, color=False, is_tty=False, width=lambda: 80, height=lambda: 24, clock=lambda: 0.0, debug=debug
    )
    try:
        yield reporter, capture
    finally:
        reporter.close()
        os.close(write_fd)


def threads() -> int:
    """The threads of this process, once none is about to end: the kernel lists one for a moment after its last instruction."""
    count = -1
    while count != (count := len(os.listdir("/proc/self/task"))):
        time.sleep(0.02)
    return count


def test_close_shows_everything_in_order() -> None:
    with piped("plain") as (reporter, capture):
        for number in range(1, 2001):
            reporter.emit(StepFinished(number, "s", 1, "cached", 0.0, "", 0))
    assert capture.text() == "\n".join(f"#{number} s\n#{number} CACHED\n" for number in range(1, 2001))


def test_many_threads_emit_at_once() -> None:
    with piped("json") as (reporter, capture):

        def work(step: int) -> None:
            for number in range(300):
                reporter.emit(StepLog(step, b"%d\n" % number))

        workers = [threading.Thread(target=work, args=(step,)) for step in range(1, 5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    lines = [json.loads(line) for line in capture.text().splitlines()]
    for step in range(1, 5):
        assert [line["text"] for line in lines if line["step"] == step] == [f"{number}\n" for number in range(300)]


def test_times_are_those_of_the_emit() -> None:
    now = 10.0
    read_fd, write_fd = os.pipe()
    capture = Capture(read_fd)
    with open_reporter("json", write_fd, color=False, is_tty=False, width=lambda: 80, clock=lambda: now) as reporter:
        reporter.emit(PlanReady(1))
        now = 12.5
        reporter.emit(PlanReady(2))
        now = 99.0
    os.close(write_fd)
    assert [json.loads(line)["at"] for line in capture.text().splitlines()] == [0.0, 2.5]


def test_no_thread_and_no_output_without_an_event() -> None:
    before = threads()
    with piped("auto") as (_, capture):
        assert threads() == before + 1  # the one that reads the pipe
    assert capture.text() == ""


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_while_the_thread_is_started(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hung: a Ctrl-C just after the start, and the next event waited for the end of the consumer that ran."""
    start = _thread.start_new_thread
    calls: list[str] = []

    def interrupted(function: Callable[[], None], args: tuple[()]) -> int:
        calls.append(when)
        if len(calls) > 1:
            return start(function, args)
        if when == "after":
            start(function, args)
        raise KeyboardInterrupt

    monkeypatch.setattr(reporter_module, "start_new_thread", interrupted)
    before = threads()
    read_fd, write_fd = os.pipe()
    reporter = open_reporter("plain", write_fd, color=False, is_tty=False, width=lambda: 80)
    with pytest.raises(KeyboardInterrupt):
        reporter.emit(StepStarted(1, "lost", 1))

    def goes_on() -> None:
        reporter.emit(StepStarted(2, "shown", 1))
        reporter.close()

    done = threading.Thread(target=goes_on, daemon=True)
    done.start()
    done.join(10)
    assert not done.is_alive()
    os.close(write_fd)
    with os.fdopen(read_fd) as pipe:
        assert pipe.read() == "#2 shown\n"
    assert threads() == before


def test_the_thread_ends_with_close() -> None:
    read_fd, write_fd = os.pipe()
    before = threads()
    reporter = open_reporter("plain", write_fd, color=False, is_tty=False, width=lambda: 80)
    reporter.emit(StepStarted(1, "s", 1))
    assert threads() == before + 1
    reporter.close()
    reporter.close()
    reporter.emit(StepStarted(2, "late", 1))
    os.close(write_fd)
    with os.fdopen(read_fd) as pipe:
        assert pipe.read() == "#1 s\n"


def test_debug_events_are_shown_when_asked() -> None:
    with piped("plain") as (reporter, capture):
        reporter.emit(Debug("why"))
    assert capture.text() == ""
    with piped("plain", debug=True) as (reporter, capture):
        reporter.emit(Debug("why"))
    assert capture.text() == "debug: why\n"


@pytest.mark.parametrize(
    ("mode", "is_tty", "text"),
    [
        ("auto", False, "#1 s\n#1 CACHED\n"),
        ("auto", True, "=> s" + " " * 69 + "CACHED\n"),
        ("tty", False, "=> s" + " " * 69 + "CACHED\n"),
        ("plain", True, "#1 s\n#1 CACHED\n"),
        ("quiet", True, ""),
        (
            "json",
            True,
            '{"v":1,"type":"step.finished","at":0.0,"step":1,"name":"s","line":1,"status":"cached","seconds":0.0,'
            '"diff_id":null,"size":0,"key":null}\n',
        ),
    ],
)
def test_modes(mode: Mode, is_tty: bool, text: str) -> None:
    read_fd, write_fd = os.pipe()
    with open_reporter(mode, write_fd, color=False, is_tty=is_tty, width=lambda: 80, clock=lambda: 0.0) as reporter:
        reporter.emit(StepFinished(1, "s", 1, "cached", 0.0, "", 0))
    os.close(write_fd)
    with os.fdopen(read_fd) as pipe:
        assert pipe.read() == text


def test_a_reader_that_went_away_is_an_error_of_close_alone() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    reporter = open_reporter("plain", write_fd, color=False, is_tty=False, width=lambda: 80)
    for number in range(5000):
        reporter.emit(StepLog(1, b"%d\n" % number))
    with pytest.raises(BrokenPipeError):
        reporter.close()
    reporter.close()
    os.close(write_fd)


def test_a_full_disk_is_an_error_of_close() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    reporter = open_reporter("plain", fd, color=False, is_tty=False, width=lambda: 80)
    reporter.emit(BuildFailed(BuildError("no"), 0.0))
    with pytest.raises(OSError, match="No space left on device"):
        reporter.close()
    os.close(fd)


def test_a_non_blocking_descriptor_loses_nothing() -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    capture = Capture(read_fd)
    with open_reporter("plain", write_fd, color=False, is_tty=False, width=lambda: 80, clock=lambda: 0.0) as reporter:
        reporter.emit(StepStarted(1, "s", 1))
        for number in range(400):
            reporter.emit(StepLog(1, b"%d" % (number % 10) * 4000 + b"\n"))
    os.close(write_fd)
    lines = capture.text().splitlines()
    assert lines == ["#1 s"] + ["#1 0.000 " + str(number % 10) * 4000 for number in range(400)]


def test_a_slow_terminal_slows_the_build_and_not_the_memory() -> None:
    """What was emitted is never far ahead of what was read: the queue, the buffer and the pipe are all that is between."""
    read_fd, write_fd = os.pipe()
    emitted = 0

    def work() -> None:
        nonlocal emitted
        with open_reporter("plain", write_fd, color=False, is_tty=False, width=lambda: 80, clock=lambda: 0.0) as reporter:
            for _ in range(3000):
                reporter.emit(StepLog(1, b"x" * 4000 + b"\n"))
                emitted += 1
        os.close(write_fd)

    worker = threading.Thread(target=work)
    worker.start()
    with os.fdopen(read_fd, "rb", buffering=4096) as pipe:
        for read, _ in enumerate(pipe, 1):
            assert emitted - read < 600
    worker.join()
    assert emitted == 3000


def test_surrogates_of_file_names_are_written_as_escapes() -> None:
    with piped("plain") as (reporter, capture):
        reporter.emit(BuildFailed(BuildError("no", source=SourceFile("caf\udce9", "")), 0.0))
    assert capture.text() == "caf\\udce9: error: no\n"


def test_a_real_terminal() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 30, 0, 0))
    assert screen(slave) == (30, 10)
    before = termios.tcgetattr(slave)
    capture = Capture(master)
    drawn = threading.Event()

    def width() -> int:
        drawn.set()
        return screen(slave)[0]

    with open_reporter("auto", slave, color=False, is_tty=os.isatty(slave), width=width) as reporter:
        reporter.emit(BuildStarted("Dockerfile", ".", ""))
        reporter.emit(StepStarted(1, "RUN hostile", 1))
        reporter.emit(StepLog(1, b"\x1b[2J\x1b[Hgone\n" * 20 + b"\x1b[?1049h" + b"y" * 100))
        assert drawn.wait(30)  # the running step was drawn
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 41, 0, 0))
        reporter.emit(StepFinished(1, "RUN hostile", 1, "done", 1.0, ID, 5))
        reporter.emit(BuildFinished(ID, (), 5, 1, 1, 0, (), 1.0))
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    raw = capture.text()
    assert "[+] " in raw and "\x1b[J" in raw
    terminal = Terminal(30, 10)
    terminal.feed(raw)
    assert terminal.lines == [
        "=> RUN hostile                      1.0s",
        "",
        "built in 1.0s",
        f"  image id  {ID}",
        "  size      5 B in 1 layer",
        "  steps     1 ran, 0 cached",
        "",
    ]


def test_a_cached_build_imports_next_to_nothing() -> None:
    script = """
import sys, builder.events
before = set(sys.modules)
from builder.report.reporter import open_reporter
reporter = open_reporter("plain", 1, color=False, is_tty=False, width=lambda: 80)
reporter.emit(builder.events.StepFinished(1, "s", 1, "cached", 0.0, "", 0))
reporter.close()
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("builder.report")))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("#1 s\n#1 CACHED\n_queue builder.errors\n", "")
