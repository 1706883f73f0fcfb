"""Configs and manifests compared, field by field. Pure.

A field has the name that people know: `config.created`, `config.Env.PATH`, `config.Labels.team`, `history[2].created_by`,
`annotations.NAME`, `manifest.layers`. What layers are is told elsewhere: `rootfs` is no field here.
"""

from __future__ import annotations

import json

from builder.verify.difference import FieldChange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_DEEPEST = 40
_MOST = 10_000
"""Fields of one document; what comes after is one field more."""


def compare_configs(a: bytes, b: bytes) -> list[FieldChange]:
    """Two config blobs. What is no JSON object has no fields."""
    return _found(_config(a), _config(b))


def compare_manifests(a: bytes, b: bytes) -> list[FieldChange]:
    """Two manifests, without their configs' descriptors; nothing where a side has none."""
    return _found(_manifest(a), _manifest(b)) if a and b else []


def matches(field: str, wanted: str) -> bool:
    """Whether `field` is `wanted` or a part of it: `config.Env.PATH` of `config.Env`, `history[0].created` of `history`."""
    return field == wanted or (field.startswith(wanted) and field[len(wanted)] in ".[")


def _config(data: bytes) -> dict[str, Any]:
    raw = _object(data)
    inner = raw.get("config")
    config = {key: value for key, value in raw.items() if key not in ("config", "rootfs", "history")}
    if isinstance(inner, dict):
        config |= inner
    if "Env" in config:
        config["Env"] = _variables(config["Env"])
    return {"config": config, "history": raw.get("history") or []}


def _manifest(data: bytes) -> dict[str, Any]:
    raw = _object(data)
    annotations = raw.pop("annotations", None) or {}
    raw.pop("config", None)
    return {"manifest": raw, "annotations": annotations}


def _object(data: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _variables(raw: object) -> object:
    """By their names; as they are where one occurs twice, and its order counts."""
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        return raw
    pairs = [item.partition("=") for item in raw]
    named = {name: value for name, _, value in pairs}
    return named if len(named) == len(pairs) else raw


def _found(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[FieldChange]:
    found = []
    for change in _walk("", a, b, 0):
        found.append(change)
        if len(found) == _MOST:
            found.append(FieldChange("...", None, None))
            break
    return found


def _walk(field: str, a: object, b: object, depth: int) -> Iterator[FieldChange]:
    if a == b and type(a) is type(b):
        return
    if isinstance(a, dict) and isinstance(b, dict) and depth < _DEEPEST:
        for key in sorted({*a, *b}):
            yield from _walk(f"{field}.{key}" if field else key, a.get(key, _NONE), b.get(key, _NONE), depth + 1)
    elif field == "history" and isinstance(a, list) and isinstance(b, list):
        for number in range(max(len(a), len(b))):
            one, other = (side[number] if number < len(side) else _NONE for side in (a, b))
            yield from _walk(f"history[{number}]", one, other, depth + 1)
    else:
        yield FieldChange(field, _text(a), _text(b))


class _Nothing:
    """Not even null."""


_NONE = _Nothing()


def _text(value: object) -> str | None:
    if isinstance(value, _Nothing):
        return None
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    except (ValueError, RecursionError):
        return "..."
