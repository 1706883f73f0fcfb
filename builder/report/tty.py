"""The terminal reader: finished steps scroll by as lines, running ones are redrawn below them with the tail of their logs.

Only the lines of running steps are ever rewritten; whatever is final stays in the terminal's scrollback. No mode of the
terminal is changed (the cursor stays visible), so there is nothing to repair after a SIGKILL.
"""

from __future__ import annotations

from collections import deque

from builder.errors import StepError, render
from builder.events import (
    BuildFailed,
    BuildFinished,
    BuildStarted,
    BuildWarning,
    CacheImported,
    Debug,
    ExportFinished,
    Notice,
    PlanReady,
    SandboxChosen,
    StepExplained,
    StepFinished,
    StepLog,
    StepStarted,
    Transfer,
)
from builder.report.lines import LineCutter
from builder.report.summary import Summary
from builder.report.text import clean, columns, fit
from builder.report.units import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.errors import BuildError
    from builder.events import (
        Event,
    )

TAIL = 6
"""Lines of a running step's log on the screen."""
KEPT = 200
"""Lines of a step's log that are kept, to be shown when it fails."""
REDRAW = 0.1
"""Seconds between two drawings of the running steps."""


class _Running:
    """A step that runs: its name, when it started, and the last lines of its log."""

    def __init__(self, name: str, start: float) -> None:
        self.name = name
        self.start = start
        self._cutter = LineCutter()
        self._kept: deque[bytes] = deque(maxlen=KEPT)
        self._seen = 0

    def feed(self, data: bytes) -> None:
        self._keep(self._cutter.feed(data))

    def tail(self, count: int) -> list[str]:
        """The last `count` lines as they stand now, for the screen."""
        if count <= 0:
            return []
        partial = self._cutter.partial()
        return [clean(line) for line in [*self._kept, *([partial] if partial else [])][-count:]]

    def whole(self, *, colors: bool) -> str:
        """All that was kept, for the end; says how many lines were not."""
        self._keep(self._cutter.flush())
        missing = self._seen - len(self._kept)
        head = f"   ({missing} earlier lines: --progress=plain shows all)\n" if missing else ""
        return head + "".join(f"   {clean(line, colors=colors)}".rstrip() + "\n" for line in self._kept)

    def _keep(self, lines: list[bytes]) -> None:
        self._kept.extend(lines)
        self._seen += len(lines)


class Tty:
    def __init__(
        self,
        write: Callable[[str], None],
        width: Callable[[], int],
        height: Callable[[], int],
        *,
        color: bool = False,
        explain: bool = False,
    ) -> None:
        self._write = write
        self._size = (width, height)
        self._color = color
        self._dim, self._cyan, self._red, self._reset = (
            ("\x1b[2m", "\x1b[36m", "\x1b[31m", "\x1b[0m") if color else ("", "", "", "")
        )
        self._summary = Summary(color=color)
        self._running: dict[int | str, _Running] = {}
        """Steps by their number, transfers by what they are."""
        self._explain = explain
        self._reasons: dict[int, list[str]] = {}
        """Of steps that end in a moment."""
        self._start = 0.0
        self._steps = 0
        self._done = 0
        self._drawn: list[int] = []
        """The columns of each line that is on the screen and may be rewritten."""
        self._next = 0.0
        self._first = True
        self._failed_log_shown = False

    def handle(self, event: Event, now: float) -> None:
        """`now` is when the event happened, in seconds of the clock that `tick` is called with."""
        match event:
            case StepStarted(step, name):
                self._begin(step, clean(name), now)
            case StepLog(step, data):
                self._log(step, data, now)
            case StepExplained(step, _, _, reasons):
                self._reasons[step] = [clean(text) for _, text, _ in reasons] if self._explain else []
            case StepFinished():
                self._finish(event)
            case SandboxChosen(rung, message):
                self._scroll(f"sandbox: {rung}, {clean(message)}\n")
            case Notice(message):
                self._scroll(f"{clean(message)}\n")
            case Transfer(what, done, total):
                self._transfer(clean(what), done, total, now)
            case Debug(message):
                self._scroll(f"{self._dim}debug: {clean(message)}{self._reset}\n")
            case BuildStarted():
                self._start = now
                self._scroll(self._summary.note(event))
            case PlanReady(steps):
                self._steps = steps
            case BuildWarning() | CacheImported() | ExportFinished():
                self._scroll(self._summary.note(event))
            case BuildFinished():
                self._end(self._summary.finished(event))
            case BuildFailed(error):
                self._cancel()
                self._end(self._summary.failed(render(self._short(error), color=self._color)))

    def tick(self, now: float) -> float | None:
        """Redraws when it is time; returns the seconds until it wants to be called again, None for 'at the next event'."""
        if not self._running:
            return None
        if now >= self._next:
            self._next = now + REDRAW
            self._write(self._erased() + self._draw(now))
        return max(0.0, self._next - now)

    def close(self, now: float) -> None:
        """Leaves nothing on the screen that looks as if it still ran."""
        self._cancel()
        self._scroll(self._summary.rest())

    def _transfer(self, what: str, done: int, total: int, now: float) -> None:
        running = self._running.get(what) or self._begin(what, what, now)
        running.name = f"{what} {size(done)} of {size(total)}" if total else f"{what}: all is there"
        if done >= total:
            del self._running[what]
            self._scroll(self._line(running.name, duration(now - running.start)) + "\n")

    def _begin(self, step: int | str, name: str, now: float) -> _Running:
        if not self._drawn:
            # A cached step is over before this; it must not flash up.
            self._next = now + REDRAW
        running = self._running[step] = _Running(name, now)
        return running

    def _log(self, step: int, data: bytes, now: float) -> None:
        # A log without a start is the engine's mistake; the user still gets it.
        running = self._running.get(step) or self._begin(step, f"step {step}", now)
        running.feed(data)

    def _finish(self, event: StepFinished) -> None:
        self._done += 1
        running = self._running.pop(event.step, None)
        match event.status:
            case "done":
                right, tint = duration(event.seconds), ""
            case "cached":
                right, tint = "CACHED", self._cyan
            case "failed":
                right, tint = f"ERROR {duration(event.seconds)}", self._red
            case "cancelled":
                right, tint = "CANCELED", self._dim
        why = "".join(f"{self._dim}   why: {text}{self._reset}\n" for text in self._reasons.pop(event.step, ()))
        log = ""
        if running and event.status == "failed":
            log = running.whole(colors=self._color)
            self._failed_log_shown = bool(log)
        self._scroll(self._line(clean(event.name), right, tint) + "\n" + why + log)

    def _short(self, error: BuildError) -> BuildError:
        """`error` without the last lines of the log when these stand right above it."""
        if not isinstance(error, StepError) or not self._failed_log_shown:
            return error
        return StepError(error.message, error.span, hint=error.hint, source=error.source, code=error.code)

    def _cancel(self) -> None:
        """Whoever still runs when the build has ended did not finish."""
        lines = [self._line(running.name, "CANCELED", self._dim) + "\n" for running in self._running.values()]
        self._running.clear()
        self._scroll("".join(lines))

    def _scroll(self, text: str) -> None:
        """Writes `text` where the running steps are; they come back below it at the next drawing."""
        if not text and self._running:
            return
        if self._drawn:
            self._next = 0.0
        self._first = self._first and not text
        self._write(self._erased() + text)

    def _end(self, text: str) -> None:
        self._scroll(text if self._first else "\n" + text)

    def _erased(self) -> str:
        """What erases the running steps' lines. A terminal that became narrower has wrapped them into more rows."""
        if not self._drawn:
            return ""
        width = self._columns()
        rows = sum(max(1, -(-drawn // width)) for drawn in self._drawn)
        self._drawn = []
        return f"\r\x1b[{rows}A\x1b[J"

    def _draw(self, now: float) -> str:
        # Before there is a plan, and in commands that are no builds, there are no steps to count.
        lines = [self._status(now)] if self._steps or any(isinstance(key, int) for key in self._running) else []
        height = max(3, self._size[1]() or 24)
        room = height - 2
        running = list(self._running.values())
        if len(running) > room:
            shown, hidden = running[: room - 1], len(running) - room + 1
        else:
            shown, hidden = running, 0
        tail = min(TAIL, (room - len(shown)) // len(shown)) if not hidden else 0
        for step in shown:
            lines.append(self._line(step.name, duration(now - step.start)))
            lines += [fit(f"   {line}", self._columns() - 1) for line in step.tail(tail)]
        if hidden:
            lines.append(fit(f"   and {hidden} more", self._columns() - 1))
        self._drawn = [columns(line) for line in lines]
        return "".join(self._tinted(line) + "\n" for line in lines)

    def _tinted(self, line: str) -> str:
        return f"{self._dim}{line}{self._reset}" if self._color and line.startswith("   ") else line

    def _status(self, now: float) -> str:
        total = f"/{self._steps}" if self._steps else ""
        return fit(f"[+] {duration(now - self._start)} {self._done}{total} steps", self._columns() - 1)

    def _line(self, name: str, right: str, tint: str = "") -> str:
        """``=> name          right``, one column short of the width: a full line would wrap on some terminals."""
        limit = self._columns() - 1
        if limit < len(right) + 8:
            return fit(f"=> {right} {name}", limit)
        left = fit(f"=> {name}", limit - len(right) - 1)
        space = " " * (limit - columns(left) - len(right))
        return f"{left}{space}{tint}{right}{self._reset if tint else ''}"

    def _columns(self) -> int:
        """At least 2 columns; 80 where the terminal does not know (a serial line says 0)."""
        return max(2, self._size[0]() or 80)
