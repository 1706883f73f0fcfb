"""The near name in BuildKit's messages: fewer than three edits, case counts (moby/buildkit, util/suggest). Another measure
than that of `errors.nearest`, since the messages are BuildKit's."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LIMIT = 3


def near(name: str, known: Iterable[str]) -> str:
    """The first of the nearest names, empty when none is near or `name` itself is among them."""
    best, least = "", _LIMIT
    for other in known:
        if other == name:
            return ""
        distance = _distance(name, other, least)
        if distance < least:
            best, least = other, distance
    return best


def _distance(a: str, b: str, limit: int) -> int:
    """Levenshtein's distance; `limit` or more where it is not below `limit`."""
    if abs(len(a) - len(b)) >= limit:
        return limit
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row = row, [i]
        for j, right in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right)))
        if min(row) >= limit:
            return limit
    return row[-1]
