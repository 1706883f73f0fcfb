"""Compact JSON, without the cost of importing `json`.

`json` brings `re`, `enum`, `functools` and `collections`: with them 10 of the 60 ms that a cached build has. Its scanner and
encoder are C functions of their own, which `json` itself calls in the same way. `tests/test_canonical.py` compares the two.
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def dumps(value: object, *, ascii_only: bool = True) -> str:
    """`value` with sorted keys and no white space; as ``json.dumps(sort_keys=True, separators=(",", ":"))``.

    Raises TypeError for what JSON has no form for, ValueError for a circle and for NaN.
    """
    quote = encode_basestring_ascii if ascii_only else encode_basestring
    return "".join(make_encoder({}, _refuse, quote, None, ":", ",", True, False, False)(value, 0))


def loads(text: str) -> Any:
    """The value of a JSON text; as `json.loads`. Raises ValueError for anything else."""
    start, end = len(text) - len(text.lstrip(_SPACE)), len(text.rstrip(_SPACE))
    try:
        value, stop = _scan(text, start)
    except StopIteration as error:
        raise ValueError(f"JSON expected at character {error.value}") from None
    if stop != end:
        raise ValueError(f"nothing expected at character {stop} behind a JSON value")
    return value


_SPACE = " \t\n\r"


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


class _Context:
    """What the scanner asks for: see `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)


_scan = make_scanner(_Context())  # type: ignore[arg-type]  # the stubs say a scanner; any object with these attributes will do
