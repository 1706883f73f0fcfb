"""`pybuild why [STEP]`: why the steps of the last build ran, or came from the cache. The answer goes to stdout."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing

from builder.cli.again import again
from builder.engine.times import told
from builder.errors import UsageError
from builder.history import find, last_build
from builder.report.json import reason_objects, valid
from builder.report.text import clean
from builder.store.peek import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.store.builds import Build, BuiltStep
    from builder.store.peek import Peek

VERSION = 1
"""Of the JSON: fields may be added within it."""
_MARKS = {"failed": "  FAILED", "cancelled": "  CANCELED"}
_LESSER = ("single-uid", "chroot")
"""Sandboxes whose results are their own."""


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    with closing(look(environment.store_root(parsed.text("root"), os.geteuid()))) as store:
        build = last_build(store, parsed.text("file"))
        steps: Sequence[BuiltStep] = build.steps
        if parsed.positionals:
            try:
                steps = find(build, parsed.positionals[0]).steps
            except UsageError as error:
                error.hint = again(error.hint or "", parsed, file=True)
                raise
        made = {step.number: _made(step, store) for step in steps if step.status == "cached"}
        if parsed.text("format") == "json":
            sys.stdout.write(_json(build, steps, made))
        else:
            head = again(_head(build, store), parsed, file=True) if not parsed.positionals else ""
            sys.stdout.write(head + "".join(_text(step, made.get(step.number)) for step in steps))
    return 0


def _made(step: BuiltStep, store: Peek) -> int | None:
    """When the result of a cached step was made."""
    record = store.remembered(step.key) if step.key else None
    return record.created if record else None


def _head(build: Build, store: Peek) -> str:
    target = f", target {build.target}" if build.target else ""
    text = f"the build of {told(build.created)}: {clean(build.dockerfile)}, context {clean(build.context)}{clean(target)}\n"
    failed = next((step for step in build.steps if step.status == "failed"), None)
    if build.outcome == "done":
        return f"{text}it gave {build.image}\n\n"
    if failed is None:
        return f"{text}it {'was interrupted' if build.outcome == 'cancelled' else 'failed after its steps'}\n\n"
    look = f"; look into it: pybuild shell {failed.number}" if failed.key and store.find_failed(failed.key) else ""
    return f"{text}it failed at #{failed.number}{look}\n\n"


def _text(step: BuiltStep, made: int | None) -> str:
    lines = [clean(text) for _, text, _ in step.reasons]
    match step.status:
        case "cached" if step.op == "base":
            lines = ["a base image"]
        case "cached" if not lines:
            lines = [f"cached: made of the same inputs on {told(made)}" if made else "cached"]
        case "waiting":
            lines = ["the build ended before its turn"]
        case _ if not lines:
            lines = ["it failed before its inputs were known" if step.status == "failed" else "it was not compared"]
    if step.network == "default" and step.had_network == "host":
        lines.append("its network was the machine's")
    if step.had_sandbox in _LESSER:
        lines.append(f"its sandbox was {step.had_sandbox}: a result of root's is made apart from it")
    name = f"#{step.number} {clean(step.name)}" + _MARKS.get(step.status, "")
    return "".join(f"{line}\n" for line in (name, *(f"     {line}" for line in lines)))


def _json(build: Build, steps: Sequence[BuiltStep], made: Mapping[int, int | None]) -> str:
    import json

    document: dict[str, Any] = {
        "v": VERSION,
        "build": {
            "created": _utc(build.created),
            "dockerfile": valid(build.dockerfile),
            "context": valid(build.context),
            "target": valid(build.target),
            "outcome": build.outcome,
            "image_id": build.image or None,
            "version": build.version,
        },
        "steps": [step_object(step) | ({"made": _utc(made.get(step.number))} if step.number in made else {}) for step in steps],
    }
    return json.dumps(document, indent=2) + "\n"


def step_object(step: BuiltStep) -> dict[str, object]:
    """A step and why it ran, in the words of docs/events.md."""
    return {
        "step": step.number,
        "name": valid(step.name),
        "line": step.line or None,
        "status": step.status,
        "key": step.key or None,
        "diff_id": step.layers[0] if step.layers and step.op != "base" else None,
        "reasons": reason_objects(step.reasons),
        "network": step.had_network or None,
        "sandbox": step.had_sandbox or None,
    }


def _utc(seconds: int | None) -> str | None:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else None
