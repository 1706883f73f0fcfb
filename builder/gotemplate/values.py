"""Values as Go's fmt and encoding/json write them, and what counts as nothing. Pure."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Fields(dict[str, object]):
    """What Go has as a struct: its fields are known, and asking for another is a mistake; of other mappings every key may be
    asked for. `unset` are fields that are not shown as JSON, by what they are then."""

    unset: Mapping[str, object] = {}

    def with_unset(self, unset: Mapping[str, object]) -> Fields:
        self.unset = unset
        return self


class NoValue:
    """A key that a map does not have."""


NO_VALUE = NoValue()


def is_true(value: object) -> bool:
    """As text/template has it: what is empty is false; a struct is always true."""
    return isinstance(value, Fields) or (not isinstance(value, NoValue) and bool(value))


def show(value: object) -> str:
    """As `%v` of Go's fmt."""
    match value:
        case NoValue():
            return "<no value>"
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case float():
            return _float(value)
        case list() | tuple():
            return "[" + " ".join(map(show, value)) + "]"
        case Fields():
            return "{" + " ".join(map(show, value.values())) + "}"
        case dict():
            return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def to_json(value: object) -> str:
    """As docker's `json`: no spaces, a map's keys sorted and a struct's as they stand."""
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)


def _plain(value: object) -> Any:
    match value:
        case NoValue():
            return None
        case Fields():
            return {key: _plain(each) for key, each in value.items()}
        case dict():
            return {key: _plain(value[key]) for key in sorted(value)}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value


def _float(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    shown = repr(value)
    digits, e, exponent = shown.partition("e")
    if e:
        return f"{digits.removesuffix('.0')}e{exponent}"
    return shown.removesuffix(".0")
