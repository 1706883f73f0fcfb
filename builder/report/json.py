"""The JSON reader: one object a line, the stable interface for programs. docs/events.md documents every field.

Within version 1 fields and types are only ever added. Text is ASCII (JSON escapes), so that no log can act on a terminal.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from typing import assert_never

from builder.errors import StepError
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
    StepUsage,
    Transfer,
)
from builder.report.lines import incomplete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.errors import BuildError
    from builder.events import (
        Event,
    )

VERSION = 1

Value = str | int | float | None | list[str] | dict[str, "Value"] | list[dict[str, "Value"]]


class Json:
    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._start: float | None = None
        self._held: dict[int, bytes] = {}

    def handle(self, event: Event, now: float) -> None:
        """Writes the event's line; `at` counts from the first event."""
        match event:
            case StepLog(step, data):
                self._log(step, data, now)
                return
            case StepFinished(step):
                self._flush(step, now)
            case _:
                pass
        self._line(*describe(event), now)

    def tick(self, now: float) -> float | None:
        """Nothing moves."""
        return None

    def close(self, now: float) -> None:
        """The ends of logs that were cut in a character."""
        for step in list(self._held):
            self._flush(step, now)

    def _log(self, step: int, data: bytes, now: float) -> None:
        data = self._held.pop(step, b"") + data
        # A chunk may end in a character: its bytes wait for the rest, so that UTF-8 is always `text`.
        if back := incomplete(data):
            data, self._held[step] = data[:-back], data[-back:]
        if data:
            self._line("step.log", log_fields(step, data), now)

    def _flush(self, step: int, now: float) -> None:
        if rest := self._held.pop(step, b""):
            self._line("step.log", log_fields(step, rest), now)

    def _line(self, name: str, fields: dict[str, Value], now: float) -> None:
        if self._start is None:
            self._start = now
        at = round(max(0.0, now - self._start), 3)
        self._write(json.dumps({"v": VERSION, "type": name, "at": at, **fields}, separators=(",", ":")) + "\n")


def describe(event: Event) -> tuple[str, dict[str, Value]]:
    """The type and the fields of an event's line, without `v`, `type` and `at`."""
    match event:
        case BuildStarted(dockerfile, context, target):
            return "build.started", {"dockerfile": valid(dockerfile), "context": valid(context), "target": valid(target)}
        case PlanReady(steps):
            return "plan.ready", {"steps": steps}
        case StepStarted(step, name, line):
            return "step.started", {"step": step, "name": valid(name), "line": line or None}
        case StepLog(step, data):
            return "step.log", log_fields(step, data)
        case StepExplained(step, name, line, reasons):
            return "step.explained", {
                "step": step,
                "name": valid(name),
                "line": line or None,
                "reasons": reason_objects(reasons),
            }
        case StepUsage(step, seconds, memory, network, sandbox):
            return "step.usage", {
                "step": step,
                "cpu_seconds": round(seconds, 3),
                "peak_memory": memory,
                "network": network,
                "sandbox": sandbox,
            }
        case StepFinished(step, name, line, status, seconds, diff_id, size, key):
            return "step.finished", {
                "step": step,
                "name": valid(name),
                "line": line or None,
                "status": status,
                "seconds": round(seconds, 3),
                "diff_id": diff_id or None,
                "size": size,
                "key": key or None,
            }
        case BuildWarning(code, message, line, column, file):
            return "warning", {
                "code": code,
                "message": valid(message),
                "line": line or None,
                "column": column or None,
                "file": valid(file) if file and line else None,
            }
        case Notice(message):
            return "notice", {"message": valid(message)}
        case SandboxChosen(rung, message):
            return "sandbox.chosen", {"rung": rung, "message": valid(message)}
        case Debug(message):
            return "debug", {"message": valid(message)}
        case Transfer(what, done, total):
            return "transfer", {"what": valid(what), "done": done, "total": total}
        case CacheImported(cache, steps, size):
            return "cache.imported", {"cache": valid(cache), "steps": steps, "size": size}
        case ExportFinished(output, digest, size, seconds):
            return "export.finished", {
                "output": valid(output),
                "digest": digest or None,
                "size": size,
                "seconds": round(seconds, 3),
            }
        case BuildFinished(image_id, names, size, layers, ran, cached, skipped, seconds, platforms):
            return "build.finished", {
                "image_id": image_id,
                "names": [valid(name) for name in names],
                "size": size,
                "layers": layers,
                "ran": ran,
                "cached": cached,
                "skipped": [valid(name) for name in skipped],
                "seconds": round(seconds, 3),
                **({"platforms": list(platforms)} if platforms else {}),
            }
        case BuildFailed(error, seconds):
            return "build.failed", {"error": error_fields(error), "seconds": round(seconds, 3)}
        case _:
            assert_never(event)


def reason_objects(reasons: tuple[tuple[str, str, int], ...]) -> list[dict[str, Value]]:
    """Why a step ran; `step` is the one that it follows from."""
    return [{"kind": kind, "text": valid(text), "step": step or None} for kind, text, step in reasons]


def log_fields(step: int, data: bytes) -> dict[str, Value]:
    """`text` when the bytes are UTF-8, else `base64`: nothing is replaced."""
    try:
        return {"step": step, "text": data.decode()}
    except UnicodeDecodeError:
        return {"step": step, "base64": b2a_base64(data, newline=False).decode()}


def error_fields(error: BuildError) -> dict[str, Value]:
    """An error as an object: what, where, what next; `code` is the exit code of the step's own command."""
    step = error if isinstance(error, StepError) else None
    return {
        "message": valid(error.message),
        "file": valid(error.source.name) if error.source else None,
        "line": error.span.line if error.span else None,
        "column": error.span.column if error.span else None,
        "hint": valid(error.hint) if error.hint else None,
        "exit_code": error.exit_code,
        "code": step.code if step else None,
        "tail": [valid(line) for line in step.tail] if step else [],
        "cancelled": [valid(name) for name in error.cancelled],
    }


def valid(text: str) -> str:
    """Names that are not UTF-8 arrive with lone surrogates, which JSON cannot carry: they become U+FFFD."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
