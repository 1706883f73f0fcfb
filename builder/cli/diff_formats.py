"""A comparison of two images as text for a person and as JSON (docs/diff.md has its schema). Pure."""

from __future__ import annotations

import json

from builder.cli import workflow
from builder.layers.names import show
from builder.redact import redact
from builder.verify.comparison import WORDS
from builder.verify.patterns import PATTERNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from builder.verify.comparison import Comparison, LayerSide, Require, Side
    from builder.verify.difference import FileChange, Finding, LayerPair

VERSION = 1
_WIDTH = 100
_MARKS = {"added": "+", "removed": "-", "changed": "~"}


def text(found: Comparison, limit: int) -> str:
    """The verdict first; then config, layers, and files by what makes them differ."""
    # A heading has an empty line before it.
    return "".join(
        f"{safe(part)}\n" for line in _lines(found, limit) for part in line.split("\n", 1 if line[:1] == "\n" else 0)
    )


def safe(line: str) -> str:
    """Images are others': what a terminal would obey is shown as it is written, and credentials of URLs are masked."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in redact(line))


def _lines(found: Comparison, limit: int) -> Iterator[str]:
    yield f"{found.a.name} and {found.b.name} are {WORDS[found.verdict]}"
    for side in (found.a, found.b):
        manifest = f", manifest {side.manifest}" if side.manifest else ""
        yield f"  {side.name} ({side.where}): {side.id}{manifest}, {side.platform}"
    yield from (f"note: {note}" for note in found.notes)
    if found.fields:
        yield "\nconfig and manifest:"
        for field in found.fields:
            yield f"  {field.field}: {_short(field.a)} -> {_short(field.b)}"
    if any(pair.by != "diff-id" or pair.findings for pair in found.layers):
        yield "\nlayers:"
        for pair in found.layers:
            yield from _layer(pair, found)
    yield from _files(found, limit)
    if found.ignored_fields or found.ignored_files:
        yield f"\nignored: {_count(found.ignored_fields, 'field')} and {_count(found.ignored_files, 'file')}"


def _layer(pair: LayerPair, found: Comparison) -> Iterator[str]:
    mark = "=" if pair.by == "diff-id" else "+" if pair.a is None else "-" if pair.b is None else "~"
    side = found.b.layers[pair.b] if pair.b is not None else found.a.layers[pair.a or 0]
    numbers = f"{'' if pair.a is None else pair.a + 1}:{'' if pair.b is None else pair.b + 1}"
    yield f"  {mark} {numbers} {_made(side)}"
    yield from (f"      {line}" for finding in pair.findings for line in _told(finding))


def _made(side: LayerSide) -> str:
    place = f"{side.made.dockerfile}:{side.made.line}: " if side.made.line else ""
    return f"{place}{_cut(side.made.text) or side.diff_id}"


def _files(found: Comparison, limit: int) -> Iterator[str]:
    """Files with the same causes stand together, each cause told once."""
    groups: dict[tuple[str, ...], list[FileChange]] = {}
    for change in found.files[:limit]:
        groups.setdefault(tuple(dict.fromkeys(one.pattern for one in change.findings)), []).append(change)
    for causes, changes in sorted(groups.items(), key=lambda item: (not item[0], item[0])):
        if causes:
            for name in causes:
                pattern = PATTERNS.get(name)
                yield f"\n{pattern.cause if pattern else name} [{name}]:"
                if pattern and pattern.fix:
                    yield f"  fix: {pattern.fix}"
        else:
            yield "\nfiles:"
        for change in changes:
            yield from _file(change, found)
    if len(found.files) > limit:
        yield f"\n{len(found.files) - limit} more files differ (--limit)"


def _file(change: FileChange, found: Comparison) -> Iterator[str]:
    mark = _MARKS[change.kind]
    number, side = (change.layer_b, found.b) if change.layer_b >= 0 else (change.layer_a, found.a)
    by = f"  ({_made(side.layers[number])})" if 0 <= number < len(side.layers) else ""
    yield f"  {mark} /{show(change.path)}{by}"
    yield from _details(change)


def change_lines(change: FileChange) -> Iterator[str]:
    """A file that differs, and how."""
    yield f"  {_MARKS[change.kind]} /{show(change.path)}"
    yield from _details(change)


def _details(change: FileChange) -> Iterator[str]:
    for aspect in change.aspects:
        # That a content differs is said by its digest, which says nothing more to a person.
        yield f"      {aspect.name}" if aspect.name == "content" else f"      {aspect.name}: {aspect.a} -> {aspect.b}"
    for finding in change.findings:
        if finding.inside or finding.detail:
            yield f"      {finding.pattern}: {' '.join(part for part in (finding.inside, finding.detail) if part)}"
    yield from (f"      {_cut(line)}" for line in change.diff)


def _told(finding: Finding) -> Iterator[str]:
    pattern = PATTERNS.get(finding.pattern)
    yield f"{pattern.cause if pattern else finding.pattern} [{finding.pattern}]"
    if pattern and pattern.fix:
        yield f"  fix: {pattern.fix}"


def _short(value: str | None) -> str:
    return "(none)" if value is None else _cut(value)


def _cut(line: str) -> str:
    line = line.replace("\n", " ")
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_github(found: Comparison, require: Require, limit: int, more: str, workspace: str, command: str) -> str:
    """An annotation for each layer that differs and whose line is known, or one for all; the text, and `more`, behind them.
    `command` is the one that says it, `workspace` the folder of the repository."""
    if found.meets(require):
        return workflow.before([], text(found, limit) + more)
    files = [f"/{show(change.path)}" for change in found.files[:3]]
    what = [field.field for field in found.fields[:3]] + [_count(len(found.files), "file")] * bool(found.files) + files
    message = f"{found.a.name} and {found.b.name} are {WORDS[found.verdict]}: {', '.join(what)}"
    sides = [found.b.layers[pair.b] for pair in found.layers if pair.by != "diff-id" and pair.b is not None]
    lines = [(side.made.dockerfile, side.made.line) for side in sides if side.made.line]
    places = dict.fromkeys((workflow.placed(file, workspace), line) for file, line in lines)
    return workflow.before(
        [annotation(message, f"pybuild {command}", *place) for place in places or [("", 0)]], text(found, limit) + more
    )


def annotation(message: str, title: str, file: str = "", line: int = 0) -> str:
    place = {"file": file, "line": str(line)} if file else {}
    return workflow.command("error", {**place, "title": title}, safe(message))


def as_json(found: Comparison, require: Require, limit: int, more: Mapping[str, Any] | None = None) -> str:
    """`more` are further fields."""
    document: dict[str, Any] = {
        "v": VERSION,
        "verdict": found.verdict,
        "required": require,
        "met": found.meets(require),
        "a": _side(found.a),
        "b": _side(found.b),
        "fields": [{"field": field.field, "a": field.a, "b": field.b} for field in found.fields],
        "layers": [{"a": pair.a, "b": pair.b, "by": pair.by, "findings": _findings(pair.findings)} for pair in found.layers],
        "files": [change_fields(change) for change in found.files[:limit]],
        "files_differ": len(found.files),
        "ignored": {"fields": found.ignored_fields, "files": found.ignored_files},
        "notes": list(found.notes),
        **(more or {}),
    }
    return json.dumps(document, indent=2) + "\n"


def _side(side: Side) -> dict[str, Any]:
    layers = [
        {
            "diff_id": layer.diff_id,
            "digest": layer.digest or None,
            "created_by": layer.made.text,
            "dockerfile": layer.made.dockerfile or None,
            "line": layer.made.line or None,
        }
        for layer in side.layers
    ]
    manifest = side.manifest or None
    return {
        "name": side.name,
        "where": side.where,
        "id": side.id,
        "manifest": manifest,
        "platform": side.platform,
        "layers": layers,
    }


def change_fields(change: FileChange) -> dict[str, Any]:
    return {
        "path": f"/{show(change.path)}",
        "change": change.kind,
        "layer_a": change.layer_a if change.layer_a >= 0 else None,
        "layer_b": change.layer_b if change.layer_b >= 0 else None,
        "aspects": [{"name": aspect.name, "a": aspect.a, "b": aspect.b} for aspect in change.aspects],
        "findings": _findings(change.findings),
        "explained": change.complete,
        "diff": list(change.diff),
    }


def _findings(findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [
        {
            "pattern": finding.pattern,
            "cause": PATTERNS[finding.pattern].cause if finding.pattern in PATTERNS else "",
            "fix": PATTERNS[finding.pattern].fix if finding.pattern in PATTERNS else "",
            "inside": finding.inside,
            "detail": finding.detail,
        }
        for finding in findings
    ]
