"""The plain reader, for logs: whole lines, each with its step's number, in the order in which they were complete."""

from __future__ import annotations

from builder.errors import render
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
from builder.report.text import clean
from builder.report.units import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.events import (
        Event,
    )


class Plain:
    """Lines in the manner of BuildKit's plain progress: ``#3 [build 2/5] RUN make``, ``#3 0.123 text``, ``#3 DONE 0.5s``."""

    def __init__(self, write: Callable[[str], None], *, color: bool = False, explain: bool = False) -> None:
        self._write = write
        self._color = color
        self._explain = explain
        self._running: dict[int, tuple[float, LineCutter]] = {}
        self._summary = Summary(color=color)
        self._first = True
        self._transfers: dict[str, float] = {}
        """When each began."""

    def handle(self, event: Event, now: float) -> None:
        """`now` is when the event happened, in seconds of any monotonic clock."""
        match event:
            case StepStarted(step, name):
                self._start(step, name, now)
            case StepLog(step, data):
                self._log(step, data, now)
            case StepExplained():
                self._because(event, now)
            case StepFinished():
                self._finish(event, now)
            case SandboxChosen(rung, message):
                self._write(f"sandbox: {rung}, {clean(message)}\n")
            case Notice(message):
                self._write(f"{clean(message)}\n")
            case Transfer(what, done, total):
                self._transfer(clean(what), done, total, now)
            case Debug(message):
                self._write(f"debug: {clean(message)}\n")
            case BuildStarted() | BuildWarning() | CacheImported() | ExportFinished():
                self._write(self._summary.note(event))
            case BuildFinished():
                self._end(self._summary.finished(event))
            case BuildFailed(error):
                self._end(self._summary.failed(render(error, color=self._color)))
            case PlanReady():
                pass

    def tick(self, now: float) -> float | None:
        """Nothing moves by itself in a log."""
        return None

    def close(self, now: float) -> None:
        """The end of the stream, with or without the end of a build."""
        for step in list(self._running):
            self._flush(step, now)
        self._write(self._summary.rest())

    def _start(self, step: int, name: str, now: float) -> None:
        self._write(f"{'' if self._first else chr(10)}#{step} {clean(name)}\n")
        self._first = False
        self._running[step] = (now, LineCutter())

    def _log(self, step: int, data: bytes, now: float) -> None:
        # A log without a start is the engine's mistake; the user still gets it.
        start, cutter = self._running.setdefault(step, (now, LineCutter()))
        self._lines(step, cutter.feed(data), now - start)

    def _lines(self, step: int, lines: list[bytes], seconds: float) -> None:
        self._write("".join(f"#{step} {seconds:.3f} {clean(line, colors=self._color)}".rstrip() + "\n" for line in lines))

    def _flush(self, step: int, now: float) -> None:
        start, cutter = self._running.pop(step)
        self._lines(step, cutter.flush(), now - start)

    def _because(self, event: StepExplained, now: float) -> None:
        if not self._explain:
            return
        if event.step not in self._running:
            self._start(event.step, event.name, now)
        # What the command wrote last comes before.
        start, _ = self._running[event.step]
        self._flush(event.step, now)
        self._running[event.step] = (start, LineCutter())
        self._write("".join(f"#{event.step} WHY {clean(text)}\n" for _, text, _ in event.reasons))

    def _finish(self, event: StepFinished, now: float) -> None:
        if event.step not in self._running:
            self._start(event.step, event.name, now)
        self._flush(event.step, now)
        match event.status:
            case "done":
                end = f"DONE {event.seconds:.1f}s"
            case "cached":
                end = "CACHED"
            case "failed":
                end = f"ERROR {event.seconds:.1f}s"
            case "cancelled":
                end = "CANCELED"
        self._write(f"#{event.step} {end}\n")

    def _transfer(self, what: str, done: int, total: int, now: float) -> None:
        """Where it begins and where it ends: a log is no place for what lies between."""
        if what not in self._transfers:
            self._write(f"{what}: {size(total)}\n" if total else f"{what}: all is there\n")
        start = self._transfers.setdefault(what, now)
        if done >= total:
            del self._transfers[what]
            self._write(f"{what}: DONE {duration(now - start)}\n" if total else "")

    def _end(self, text: str) -> None:
        self._write(text if self._first else "\n" + text)
