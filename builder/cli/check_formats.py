"""A check's report as text for people, as JSON for programs (docs/check.md), and as commands of GitHub's workflows. Pure."""

from __future__ import annotations

import json

from builder.cli import workflow
from builder.dockerfile.checks.rules import RULES
from builder.redact import redact
from builder.report.json import error_fields
from builder.report.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.check import Report
    from builder.dockerfile.checks.warning import Warn
    from builder.errors import SourceFile, Span

VERSION = 1
"""Of the JSON form: within a version fields are only added."""

PAGES = "docs/checks"

_RULE = "-" * 20
_LONGEST_LINE = 200


def text(report: Report) -> str:
    """In the manner of `docker build --check`; the error, if there is one, is told elsewhere."""
    count = len(report.warnings)
    if not count:
        return "" if report.error else "Check complete, no warnings found.\n"
    found = "1 warning has been found!" if count == 1 else f"{count} warnings have been found!"
    return f"Check complete, {found}\n" + "".join(_paragraph(warn, report.source) for warn in report.warnings)


def _paragraph(warn: Warn, source: SourceFile) -> str:
    page = f" - {_page(warn)}" if warn.code in RULES else ""
    where = _excerpt(source, warn.span) if warn.span else ""
    return f"\nWARNING: {warn.code}{page}\n{clean(redact(warn.message))}\n{where}"


def _page(warn: Warn) -> str:
    return f"{PAGES}/{RULES[warn.code].page}.md"


def _excerpt(source: SourceFile, span: Span) -> str:
    """The lines meant, marked, and some around them: two, or four where a single line is meant (moby/buildkit,
    solver/errdefs/source.go)."""
    lines = source.text.split("\n")
    first, last = span.line, min(span.end_line, len(lines))
    above, below = first, last
    added, wanted = 0, 4 if first == last else 2
    while added < wanted:
        if above > 1:
            above -= 1
            added += 1
        if below != len(lines):
            below += 1
            added += 1
        added += 1
    shown = "".join(
        f" {number:3} | {'>>>' if first <= number <= last else '   '} {_line(lines[number - 1])}".rstrip() + "\n"
        for number in range(above, below + 1)
    )
    return f"{clean(source.name)}:{span.line}\n{_RULE}\n{shown}{_RULE}\n"


def _line(line: str) -> str:
    cut = redact(line.rstrip("\r"))
    return clean(cut if len(cut) <= _LONGEST_LINE else cut[: _LONGEST_LINE - 3] + "...")


def as_json(report: Report) -> str:
    """One object, with a line end."""
    document = {
        "v": VERSION,
        "dockerfile": report.source.name,
        "warnings": [_fields(warn) for warn in report.warnings],
        "unseen_bases": list(report.unseen),
        "error": error_fields(report.error) if report.error else None,
    }
    return json.dumps(document, indent=2) + "\n"


def _fields(warn: Warn) -> dict[str, object]:
    rule = RULES.get(warn.code)
    line, column, end_line, end_column = warn.span or (None, None, None, None)
    return {
        "rule": warn.code,
        "message": warn.message,
        "description": rule.description if rule else None,
        "page": rule.page if rule else None,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
    }


def github(report: Report, workspace: str) -> str:
    """A workflow command for each warning and for the error."""
    out = [_annotation("warning", report.source, warn.span, warn.code, warn.message, workspace) for warn in report.warnings]
    if report.error is not None:
        error = report.error
        message = error.message + (f"\nhint: {error.hint}" if error.hint else "")
        out.append(_annotation("error", error.source or report.source, error.span, "", message, workspace))
    return "".join(out)


def _annotation(kind: str, source: SourceFile, span: Span | None, title: str, message: str, workspace: str) -> str:
    properties = {"file": workflow.placed(source.name, workspace)}
    if span is not None:
        properties |= {"line": str(span.line), "endLine": str(span.end_line), "col": str(span.column)}
        if span.line == span.end_line:
            # GitHub's end is inclusive, and it wants none where the lines differ.
            properties["endColumn"] = str(max(span.column, span.end_column - 1))
    if title:
        properties["title"] = title
    return workflow.command(kind, properties, message)
