"""The terminal reader, drawn on a small terminal that fails at any control sequence that it should not be sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_terminal import Terminal

from builder.errors import BuildError, SourceFile, Span, StepError
from builder.events import (
    BuildFailed,
    BuildFinished,
    BuildStarted,
    BuildWarning,
    Debug,
    Event,
    ExportFinished,
    Notice,
    PlanReady,
    StepExplained,
    StepFinished,
    StepLog,
    StepStarted,
    Transfer,
)
from builder.report.tty import KEPT, REDRAW, Tty

ID = "sha256:" + "a" * 64
MANIFEST = "sha256:" + "b" * 64


class Screen:
    """A reader on a terminal."""

    def __init__(self, width: int = 41, height: int = 24, *, color: bool = False, explain: bool = False) -> None:
        self.terminal = Terminal(width, height)
        self.raw = ""
        size = (lambda: self.terminal.width, lambda: self.terminal.height)
        self.reader = Tty(self._write, *size, color=color, explain=explain)
        self.now = 0.0

    def _write(self, text: str) -> None:
        self.raw += text
        self.terminal.feed(text)

    def at(self, now: float, *events: Event) -> Screen:
        """What happens at `now`, and the drawing that is due then."""
        self.now = now
        for event in events:
            self.reader.handle(event, now)
        self.reader.tick(now)
        return self

    def close(self) -> Screen:
        self.reader.close(self.now)
        return self

    @property
    def text(self) -> str:
        return "\n".join(self.terminal.lines)


def test_a_build() -> None:
    screen = Screen()
    screen.at(0.0, BuildStarted("Dockerfile", ".", ""), PlanReady(3))
    screen.at(0.0, StepFinished(1, "[build 1/3] FROM base", 1, "cached", 0.0, ID, 0))
    screen.at(0.5, StepStarted(2, "[build 2/3] RUN make all the things", 2))
    assert screen.text == "=> [build 1/3] FROM base          CACHED\n"
    screen.at(0.7, StepLog(2, b"one\ntwo\nthr"))
    assert (
        screen.text
        == """\
=> [build 1/3] FROM base          CACHED
[+] 0.7s 1/3 steps
=> [build 2/3] RUN make all the ... 0.2s
   one
   two
   thr
"""
    )
    screen.at(1.0, StepLog(2, b"ee\n4\n5\n6\n7\n"))
    assert (
        screen.text
        == """\
=> [build 1/3] FROM base          CACHED
[+] 1.0s 1/3 steps
=> [build 2/3] RUN make all the ... 0.5s
   two
   three
   4
   5
   6
   7
"""
    )
    screen.at(1.5, StepFinished(2, "[build 2/3] RUN make all the things", 2, "done", 1.0, ID, 9))
    screen.at(1.5, BuildWarning("UnusedArg", "the build arg 'X' is not used", 3), StepStarted(3, "[build 3/3] COPY a b", 3))
    screen.at(1.6, StepFinished(3, "[build 3/3] COPY a b", 3, "done", 0.1, ID, 9))
    screen.at(1.7, ExportFinished("out.tar", MANIFEST, 1500, 0.1))
    screen.at(1.8, BuildFinished(ID, ("docker.io/library/a:latest",), 18, 2, 2, 1, ("test",), 1.8)).close()
    assert (
        screen.text
        == f"""\
=> [build 1/3] FROM base          CACHED
=> [build 2/3] RUN make all the ... 1.0s
=> [build 3/3] COPY a b             0.1s

Dockerfile:3: warning: the build arg 'X' is not used (UnusedArg)

built docker.io/library/a:latest in 1.8s
  image id  {ID}
  size      18 B in 2 layers
  steps     2 ran, 1 cached
  skipped   test
  wrote     out.tar {MANIFEST}, 1.5 kB in 0.1s
"""
    )


def test_a_failed_step_shows_its_log_and_the_error_does_not_repeat_it() -> None:
    source = SourceFile("Dockerfile", "FROM a\nRUN x\n")
    screen = Screen()
    screen.at(0.0, BuildStarted("Dockerfile", ".", ""), PlanReady(2))
    screen.at(0.0, StepStarted(1, "RUN x", 2), StepStarted(2, "RUN y", 3))
    screen.at(1.0, *(StepLog(1, b"line %d\n" % number) for number in range(8)), StepLog(1, b"\x1b[2Jend"))
    screen.at(1.2, StepFinished(1, "RUN x", 2, "failed", 1.2, "", 0))
    screen.at(1.3, StepFinished(2, "RUN y", 3, "cancelled", 1.3, "", 0))
    error = StepError("exit code 1", Span(2, 1, 2, 6), source=source, code=1, tail=("line 7", "end"), hint="look")
    screen.at(1.4, BuildFailed(error, 1.4)).close()
    assert (
        screen.text
        == """\
=> RUN x                      ERROR 1.2s
   line 0
   line 1
   line 2
   line 3
   line 4
   line 5
   line 6
   line 7
   end
=> RUN y                        CANCELED

Dockerfile:2:1: error: exit code 1
  2 | RUN x
    | ^^^^^
  hint: look
"""
    )


@pytest.mark.parametrize("explain", [True, False])
def test_reasons_stand_below_their_step_when_they_are_asked_for(explain: bool) -> None:
    screen = Screen(explain=explain)
    screen.at(0.0, BuildStarted("Dockerfile", ".", ""), PlanReady(2), StepStarted(1, "RUN x", 2), StepStarted(2, "RUN y", 3))
    screen.at(1.0, StepLog(1, b"end"), StepExplained(1, "RUN x", 2, (("arg", "ARG A: a -> b", 0), ("command", "command", 0))))
    screen.at(1.0, StepFinished(1, "RUN x", 2, "failed", 1.0, "", 0)).close()
    why = "   why: ARG A: a -> b\n   why: command\n" if explain else ""
    assert screen.text == f"=> RUN x                      ERROR 1.0s\n{why}   end\n=> RUN y                        CANCELED\n"


def test_the_log_of_a_failed_step_has_a_bound() -> None:
    screen = Screen(height=200)
    screen.at(0.0, StepStarted(1, "RUN x", 2), *(StepLog(1, b"%d\n" % number) for number in range(KEPT + 5)))
    screen.at(0.5, StepFinished(1, "RUN x", 2, "failed", 0.5, "", 0)).close()
    lines = screen.terminal.lines
    assert lines[1] == "   (5 earlier lines: --progress=plain shows all)"
    assert lines[2:-1] == [f"   {number}" for number in range(5, KEPT + 5)]


def test_an_error_without_a_log_keeps_its_tail() -> None:
    screen = Screen().at(0.0, BuildFailed(StepError("it failed", tail=("why",)), 0.0)).close()
    assert screen.text == "error: it failed\n  last output:\n    why\n"


def test_who_still_runs_at_the_end_was_cancelled() -> None:
    screen = Screen().at(0.0, StepStarted(1, "RUN sleep", 2)).at(1.0)
    screen.at(2.0, BuildFailed(BuildError("interrupted"), 2.0)).close()
    assert screen.text == "=> RUN sleep                    CANCELED\n\nerror: interrupted\n"


def test_a_stream_that_breaks_off_leaves_nothing_that_seems_to_run() -> None:
    screen = Screen().at(0.0, StepStarted(1, "RUN sleep", 2)).at(1.0).at(2.0, BuildWarning("W", "w")).close()
    assert screen.text == "=> RUN sleep                    CANCELED\nwarning: w (W)\n"


def test_notices_and_debug_lines_scroll_above_the_running_steps() -> None:
    screen = Screen().at(0.0, StepStarted(1, "RUN sleep", 2)).at(1.0, Notice("n\x1b[H"), Debug("a\x1b[Hb"))
    assert screen.text == "n\ndebug: ab\n[+] 1.0s 0 steps\n=> RUN sleep                        1.0s\n"


def test_a_transfer_is_redrawn_until_it_ends() -> None:
    screen = Screen().at(0.0, Transfer("pulling a", 0, 2_000_000)).at(1.0, Transfer("pulling a", 1_500_000, 2_000_000))
    assert screen.text == "=> pulling a 1.5 MB of 2.0 MB       1.0s\n"
    screen.at(2.0, Transfer("pulling a", 2_000_000, 2_000_000), Transfer("pushing b", 0, 0))
    assert screen.text == "=> pulling a 2.0 MB of 2.0 MB       2.0s\n=> pushing b: all is there          0.0s\n"


def test_the_clock_of_a_running_step_runs() -> None:
    screen = Screen().at(0.0, StepStarted(1, "RUN sleep", 2))
    for now, clock in [(1.0, "  1.0s"), (59.0, " 59.0s"), (61.0, " 1m01s"), (3700.0, " 1h01m")]:
        screen.at(now)
        assert screen.terminal.lines[1] == f"=> RUN sleep{' ' * 22}{clock}"


def test_drawing_is_throttled_and_nothing_is_drawn_while_nothing_runs() -> None:
    screen = Screen()
    assert screen.reader.tick(0.0) is None
    screen.at(0.0, StepStarted(1, "RUN sleep", 2))
    assert screen.raw == ""
    assert screen.reader.tick(0.06) == pytest.approx(REDRAW - 0.06)
    screen.at(0.2)
    drawn = screen.raw
    for hundredth in range(21, 30):
        screen.at(hundredth / 100, StepLog(1, b"x\n"))
    assert screen.raw == drawn
    screen.at(0.31)
    assert screen.terminal.lines[2:] == ["   x"] * 6 + [""]


def test_many_running_steps_share_the_screen() -> None:
    screen = Screen(height=10)
    for step in range(1, 4):
        screen.at(0.0, StepStarted(step, f"RUN {step}", step), StepLog(step, b"a\nb\nc\n"))
    screen.at(1.0)
    assert screen.text == (
        "[+] 1.0s 0 steps\n" + "".join(f"=> RUN {step}                            1.0s\n   c\n" for step in (1, 2, 3))
    )
    for step in range(4, 13):
        screen.at(1.0, StepStarted(step, f"RUN {step}", step))
    screen.at(2.0)
    assert len(screen.terminal.lines) == 10
    assert screen.terminal.lines[-3:] == ["=> RUN 7                            1.0s", "   and 5 more", ""]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (0, "=> RUN echo 日本語" + " " * 57 + "1.0s"),
        (30, "=> RUN echo 日本語       1.0s"),
        (22, "=> RUN echo ...  1.0s"),
        (12, "=> 1.0s ..."),
        (5, "=> 1"),
        (1, "="),
    ],
)
def test_widths(width: int, line: str) -> None:
    out: list[str] = []
    reader = Tty(out.append, lambda: width, lambda: 0)
    reader.handle(StepFinished(1, "RUN echo 日本語", 1, "done", 1.0, "", 0), 0.0)
    assert "".join(out) == line + "\n"


@pytest.mark.parametrize("narrow", [39, 25, 13, 7])
def test_a_terminal_that_becomes_narrower_is_cleaned_up(narrow: int) -> None:
    screen = Screen(width=60, height=60)
    screen.at(0.0, StepFinished(1, "RUN a", 1, "done", 0.0, "", 0), StepStarted(2, "RUN " + "b" * 80, 2))
    screen.at(1.0, StepLog(2, b"x" * 100 + b"\n\n" + b"short\n"))
    first = screen.terminal.lines[0]
    screen.terminal.width = narrow
    screen.at(2.0)
    assert screen.terminal.lines[0] == first
    assert max(map(len, screen.terminal.lines[1:])) < narrow
    screen.at(3.0, StepFinished(2, "RUN b", 2, "done", 3.0, "", 0)).close()
    assert len(screen.terminal.lines) == 3


def test_colors() -> None:
    screen = Screen(color=True)
    screen.at(0.0, StepFinished(1, "FROM a", 1, "cached", 0.0, "", 0), StepStarted(2, "RUN x", 2), StepLog(2, b"\x1b[31mred\n"))
    screen.at(1.0)
    screen.at(2.0, StepFinished(2, "RUN x", 2, "failed", 2.0, "", 0)).close()
    assert screen.raw == (
        "=> FROM a                         \x1b[36mCACHED\x1b[0m\n"
        "[+] 1.0s 1 steps\n"
        "=> RUN x                            1.0s\n"
        "\x1b[2m   red\x1b[0m\n"
        "\r\x1b[3A\x1b[J"
        "=> RUN x                      \x1b[31mERROR 2.0s\x1b[0m\n"
        "   \x1b[31mred\x1b[0m\n"
    )


EVENTS: st.SearchStrategy[Callable[[Screen], object]] = st.one_of(
    st.binary(max_size=40).map(lambda data: lambda screen: screen.reader.handle(StepLog(2, data), screen.now)),
    st.sampled_from(
        [b"\x1b[2J", b"\x1b[1;1H", b"\x1b[5A", b"\r\n", b"\x1b]0;x\x07", "日本\n".encode(), b"\b" * 9, b"\n" * 30]
    ).map(lambda data: lambda screen: screen.reader.handle(StepLog(2, data), screen.now)),
    st.integers(2, 90).map(lambda width: lambda screen: setattr(screen.terminal, "width", width)),
    st.just(lambda screen: screen.at(screen.now + 0.2)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=30), st.integers(2, 90))
def test_no_log_and_no_resize_touches_what_was_shown(steps: list[Callable[[Screen], object]], width: int) -> None:
    """The terminal itself fails when it is told to go elsewhere than to the start of the running steps."""
    screen = Screen(width, height=1000)
    screen.at(0.0, Debug("first"), StepStarted(2, "RUN hostile", 2))
    for step in steps:
        step(screen)
        assert screen.terminal.lines[0] == "debug: first"
    screen.terminal.width = 41
    screen.at(9.0, StepFinished(2, "RUN hostile", 2, "done", 9.0, "", 0)).close()
    assert screen.text == "debug: first\n=> RUN hostile                      9.0s\n"
