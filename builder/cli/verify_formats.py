"""What verifying a build gave: as text for a person, as JSON (docs/verify.md has its schema), and as annotations of GitHub's
runners. Pure."""

from __future__ import annotations

import json

from builder.cli import workflow
from builder.cli.diff_formats import annotation, change_fields, change_lines, safe
from builder.verify.patterns import PATTERNS
from builder.verify.verification import CAUSES, VARIATIONS, fix, is_advice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.verify.difference import FileChange
    from builder.verify.verification import StepResult, Verification

VERSION = 1
_MARKS = {"same": "=", "semantic": "~", "different": "!", "tainted": "?", "failed": "!"}
_WORDS = {
    "identical": "every step gives the same again",
    "diff-ids": "every step gives the same again, but its layers are compressed to other bytes",
    "semantic": "every step gives the same again but for what is ignored",
    "different": "it does not come out the same",
}


def text(found: Verification, limit: int) -> str:
    """Each step, with what it depends on, what differs and what to do; the verdict last."""
    return "".join(f"{safe(line)}\n" for line in _lines(found, limit))


def _lines(found: Verification, limit: int) -> Iterator[str]:
    for step in found.steps:
        yield f"{_MARKS[step.status]} {found.dockerfile}:{step.line}: {step.name}{_said(step)}"
        patterns = {name: PATTERNS[name] for name in _patterns(step) if name in PATTERNS}
        advice = {name for name, pattern in patterns.items() if pattern.fix and is_advice(name, step.causes)}
        yield from _causes(step, advise=not advice)
        yield from (f"    note: {note}" for note in step.notes)
        for change in step.files[:limit]:
            yield from (f"  {line}" for line in change_lines(_shipped(change)))
        if len(step.files) > limit:
            yield f"    {len(step.files) - limit} more files differ (--limit)"
        for name, pattern in patterns.items():
            yield f"    {pattern.cause} [{name}]"
            yield from [f"      fix: {pattern.fix}"] if name in advice else []
    if found.varied:
        yield f"varied: {', '.join(VARIATIONS[name] for name in found.varied)}"
    yield from (f"not varied: {VARIATIONS[name]}: {reason}" for name, reason in found.unvaried)
    yield from (f"note: {note}" for note in found.notes)
    yield f"{found.image}: {_WORDS[found.verdict]}"


def _shipped(change: FileChange) -> FileChange:
    """The times of the store's own copies are never the same."""
    return change._replace(aspects=tuple(aspect for aspect in change.aspects if aspect.name != "true-mtime"))


def _said(step: StepResult) -> str:
    match step.status:
        case "tainted":
            return " (the same by itself; it follows from what differs)"
        case "semantic":
            return " (what differs is ignored)"
        case "failed":
            return f" (failed when it was repeated: {step.message})"
        case _:
            return ""


def _patterns(step: StepResult) -> list[str]:
    return list(dict.fromkeys(finding.pattern for change in step.files for finding in change.findings))


def _causes(step: StepResult, *, advise: bool) -> Iterator[str]:
    """What is in the files says more than what they depend on."""
    for name in step.causes:
        yield f"    depends on: {CAUSES[name]}"
        if advise and (advice := fix(name)):
            yield f"      fix: {advice}"


def as_json(found: Verification, require: str, limit: int) -> str:
    document = {
        "v": VERSION,
        "verdict": found.verdict,
        "required": require,
        "met": found.meets(require),
        "image": found.image,
        "dockerfile": found.dockerfile,
        "steps": [_step(step, limit) for step in found.steps],
        "varied": list(found.varied),
        "not_varied": [{"name": name, "reason": reason} for name, reason in found.unvaried],
        "notes": list(found.notes),
    }
    return json.dumps(document, indent=2) + "\n"


def _step(step: StepResult, limit: int) -> dict[str, object]:
    return {
        "step": step.number,
        "name": step.name,
        "line": step.line,
        "status": step.status,
        "a": step.a or None,
        "b": step.b or None,
        "causes": [{"name": name, "text": CAUSES[name], "fix": fix(name)} for name in step.causes],
        "files": [change_fields(change) for change in step.files[:limit]],
        "files_differ": len(step.files),
        "message": step.message or None,
        "notes": list(step.notes),
    }


def as_github(found: Verification, limit: int, workspace: str) -> str:
    """An annotation for each step that differs, and the text behind them."""
    commands = []
    place = workflow.placed(found.dockerfile, workspace)
    for step in found.steps:
        if step.status in ("different", "failed"):
            why = ", ".join(CAUSES[name] for name in step.causes) or step.message or "its result differs"
            paths = ", ".join("/" + change.path.decode("utf-8", "backslashreplace") for change in step.files[:3])
            message = f"not reproducible: it depends on {why}" if step.causes else f"not reproducible: {why}"
            message += f"; {len(step.files)} files differ: {paths}" if step.files else ""
            commands.append(annotation(message, "pybuild verify", place, step.line))
    return workflow.before(commands, text(found, limit))
