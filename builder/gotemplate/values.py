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


class NilMap(dict[str, object]):
    """A map that is not there: empty, and null as JSON. A list that is not there is an empty tuple."""


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
        case NoValue() | NilMap():
            return None
        case tuple() if not value:
            return None
        case float() if value == int(value) and abs(value) < 1e21:
            return int(value)
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
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # Where the point stands in the digits.
    point = len(whole) + int(power or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return "0"
    sign = "-" if value < 0 else ""
    if not -4 <= point - 1 < 6:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{point - 1:+03d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = digits[point:]
    return sign + digits[:point].ljust(point, "0") + (f".{rest}" if rest else "")
