"""Durations as Go writes them (`1m30s`, `1.5h`), for HEALTHCHECK."""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_MAX = 2**63 - 1


def nanoseconds(text: str) -> int | None:
    """The nanoseconds of a duration, None when the text is not one (Go's time.ParseDuration, whose range is 292 years)."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    # Longer ones are out of range or are all zeros; conversion of thousands of digits is slow and limited in Python.
    if not rest or len(rest) > 100:
        return None
    total = 0
    position = 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None or not (match[1] or match[2]):
            return None
        unit = _UNITS[match[3]]
        fraction = match[2] or ""
        total += int(match[1] or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        position = match.end()
    return sign * total if total <= _MAX else None
