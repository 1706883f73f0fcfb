"""`pybuild build --call=... | --print-plan`: what a build would be, as text or JSON on stdout. Nothing is built.

Text and JSON of `--call` are those of `docker buildx build --call` (moby/buildkit, frontend/subrequests; docker/buildx,
commands/build.go), with a table of cache mounts besides.
"""

from __future__ import annotations

import base64
import json

from builder.build import parsed, planned, staged
from builder.cli.output_spec import split_csv
from builder.errors import BuildError, UsageError, did_you_mean
from builder.plan.outline import outline, targets
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Literal

    from builder.errors import SourceFile, Span
    from builder.events import Emit
    from builder.plan.outline import Outline, Provision, Target
    from builder.request import Request
    from builder.store.store import Store

    Method = Literal["build", "check", "outline", "targets"]

_METHODS: tuple[Method, ...] = ("build", "check", "outline", "targets")


class Call(NamedTuple):
    """`--call=METHOD[,format=json]`."""

    method: Method
    json: bool = False


def parse_call(text: str) -> Call:
    """Raises UsageError."""
    method, as_json = "", False
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        if equals and key == "format":
            if value not in ("json", "text"):
                raise UsageError(f"'{value}' is not a format of --call", hint="the formats are text and json")
            as_json = value == "json"
        elif equals or method:
            raise UsageError(f"'{text}' is not a value of --call", hint="it looks like outline or outline,format=json")
        else:
            method = field
    if method == "lint":
        method = "check"
    for known in _METHODS:
        if method == known:
            return Call(known, as_json)
    hint = did_you_mean(method, _METHODS) or "the methods are build, check, outline and targets"
    raise UsageError(f"'{method}' is not a method of --call", hint=hint)


def evaluate(call: Call, request: Request, store: Store | None, emit: Emit) -> str:
    """What stdout gets; `store` is for a request that fetches. Raises BuildError kinds, told where."""
    dockerfile = parsed(request, store, emit)
    if call.method == "targets":
        found = targets(dockerfile)
        return _json(_targets_json(found, dockerfile.source)) if call.json else _targets_text(found)
    try:
        told = outline(dockerfile, staged(dockerfile, request), request.build_args)
    except BuildError as error:
        raise error.at(dockerfile.source) if error.span else error from None
    return _json(_outline_json(told, dockerfile.source)) if call.json else _outline_text(told)


def plan_json(request: Request, store: Store, emit: Emit) -> str:
    """The plan's document; what there is to warn of is emitted. Raises BuildError kinds, told where."""
    from builder.plan.document import document

    source, plans = planned(request, store, emit)
    return json.dumps(document(plans, source.name), indent=2) + "\n"


def _targets_text(found: Iterable[Target]) -> str:
    def shown(target: Target) -> str:
        return f"{target.name} (default)".lstrip() if target.default else target.name

    return _table(("TARGET", "DESCRIPTION"), [(shown(target), target.description) for target in found], 1)


def _targets_json(found: Iterable[Target], source: SourceFile) -> dict[str, Any]:
    listed = [
        _without_empty(
            name=target.name,
            default=target.default,
            description=target.description,
            base=target.base,
            platform=target.platform,
            location=_location(target.span),
        )
        for target in found
    ]
    return {"targets": listed, "sources": [_encoded(source)]}


def _outline_text(told: Outline) -> str:
    parts = []
    if told.name or told.description:
        head = [("TARGET:", told.name or "(default)")]
        parts.append(_table(head[0], [("DESCRIPTION:", told.description)] if told.description else [], 1))
    if told.args:
        rows = [(arg.name, arg.value, arg.description) for arg in told.args]
        parts.append(_table(("BUILD ARG", "VALUE", "DESCRIPTION"), rows, 3))
    for title, needs in (("SECRET", told.secrets), ("SSH", told.ssh)):
        if needs:
            parts.append(_table((title, "REQUIRED"), [(need.name, "true" if need.required else "") for need in needs], 3))
    if told.caches:
        parts.append(_table(("CACHE",), [(cache.name,) for cache in told.caches], 3))
    return "\n".join(parts)


def _outline_json(told: Outline, source: SourceFile) -> dict[str, Any]:
    return _without_empty(
        name=told.name,
        description=told.description,
        args=[
            _without_empty(name=arg.name, description=arg.description, value=arg.value, location=_location(arg.span))
            for arg in told.args
        ],
        secrets=[_provision(secret) for secret in told.secrets],
        ssh=[_provision(agent) for agent in told.ssh],
        cache=[{"ID": cache.name, "location": _location(cache.span)} for cache in told.caches],
        sources=[_encoded(source)],
    )


def _provision(need: Provision) -> dict[str, Any]:
    return _without_empty(name=need.name, required=need.required, location=_location(need.span))


def _without_empty(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _location(span: Span) -> dict[str, Any]:
    """As BuildKit's solver/pb has it: lines alone."""
    return {"ranges": [{"start": {"line": span.line}, "end": {"line": span.end_line}}]}


def _encoded(source: SourceFile) -> str:
    return base64.b64encode(source.text.encode()).decode()


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], gap: int) -> str:
    """Columns as wide as their widest cell and `gap` spaces more."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) + gap for column in range(len(head))]
    return "".join("".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n" for line in lines)
