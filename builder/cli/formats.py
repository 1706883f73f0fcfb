"""`--format` of commands that list or show: Go templates as docker takes them, tables of them, and JSON."""

from __future__ import annotations

from builder.cli.columns import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.gotemplate.values import Fields


def listed(rows: Sequence[Mapping[str, object]], heads: Mapping[str, str], columns: Sequence[str], form: str | None) -> str:
    """The rows as text. `heads` are all fields that a row has, by what a table calls them; `columns` those that are shown when
    `form` says nothing. Raises UsageError for a template that is none."""
    word, _, rest = (form or "table").partition(" ")
    if word == "table" and not rest.strip():
        return table([[heads[name] for name in columns], *([str(row[name]) for name in columns] for row in rows)])
    if form == "json":
        from builder.gotemplate.values import to_json

        return "".join(to_json(dict(row)) + "\n" for row in rows)
    from builder.gotemplate.evaluate import Template
    from builder.gotemplate.values import Fields

    template = Template(_plain(rest.lstrip() if word == "table" else form or ""))
    lines = [template.render(Fields(row)) for row in rows]
    if word != "table":
        return "".join(f"{line}\n" for line in lines)
    cells = [line.split("\t") for line in [template.render(Fields(heads)), *lines]]
    width = max(len(line) for line in cells)
    return table([[*line, *[""] * (width - len(line))] for line in cells])


def shown(objects: Sequence[Fields], form: str | None) -> str:
    """What `inspect` shows: all as JSON, or each by a template."""
    import json

    if form is None:
        return _visible(json.dumps(objects, indent=4, ensure_ascii=False)) + "\n"
    if form == "json":
        return _visible(json.dumps(objects, separators=(",", ":"), ensure_ascii=False)) + "\n"
    from builder.gotemplate.evaluate import Template

    template = Template(form)
    return "".join(template.render(each) + "\n" for each in objects)


def _visible(text: str) -> str:
    """JSON in which what some terminals obey, and what turns the writing direction, is escaped: json.dumps does it up to
    U+001F. Only strings can have it."""
    import re

    return re.sub("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(form: str) -> str:
    r"""Where rows are shown, `\t` and `\n` outside of actions are what they stand for, as with docker."""
    import re

    return re.sub(
        r"\{\{.*?\}\}|\\[tn]", lambda found: {r"\t": "\t", r"\n": "\n"}.get(found[0], found[0]), form, flags=re.DOTALL
    )
