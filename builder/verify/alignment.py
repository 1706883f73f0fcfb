"""Which layer of one image stands for which of another. Pure.

By diff ID first (longest common subsequence), then between those by the line of history, then by place where as many are left
on both sides. Order is kept: pairs never cross.
"""

from __future__ import annotations

from builder.values import NamedTuple
from builder.verify.difference import LayerPair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.verify.difference import By

_NOP = "/bin/sh -c #(nop) "
_SHELL = "/bin/sh -c "
_BUILDKIT = " # buildkit"


class LayerLine(NamedTuple):
    diff_id: str
    line: str
    """What made it: `created_by` of its line of history; may be empty."""


def align(a: Sequence[LayerLine], b: Sequence[LayerLine]) -> list[LayerPair]:
    """The table of layers: all of both, each once, in their order; those of `a` that have no partner before those of `b`."""
    found: list[LayerPair] = []
    for start_a, end_a, start_b, end_b, same in _gaps([one.diff_id for one in a], [one.diff_id for one in b]):
        if same:
            found += [LayerPair(start_a + n, start_b + n, "diff-id") for n in range(end_a - start_a)]
        else:
            found += _by_line(a, b, (start_a, end_a), (start_b, end_b))
    return found


def plain_line(created_by: str) -> str:
    """The line as it stands in the Dockerfile, as far as that can be told: without what Docker's and BuildKit's shells add."""
    text = " ".join(created_by.split())
    if text.startswith(_NOP):
        return text.removeprefix(_NOP).strip()
    text = text.removesuffix(_BUILDKIT)
    if text.startswith(_SHELL):
        return f"RUN {text.removeprefix(_SHELL)}"
    return text.replace(f"RUN {_SHELL}", "RUN ", 1)


def _by_line(
    a: Sequence[LayerLine], b: Sequence[LayerLine], range_a: tuple[int, int], range_b: tuple[int, int]
) -> Iterator[LayerPair]:
    # A layer without a line is like no other.
    lines_a = [plain_line(a[n].line) or f"\0a{n}" for n in range(*range_a)]
    lines_b = [plain_line(b[n].line) or f"\0b{n}" for n in range(*range_b)]
    for start_a, end_a, start_b, end_b, same in _gaps(lines_a, lines_b):
        left, right = range_a[0], range_b[0]
        if same or end_a - start_a == end_b - start_b:
            by: By = "history" if same else "place"
            for n in range(end_a - start_a):
                yield LayerPair(left + start_a + n, right + start_b + n, by)
        else:
            yield from (LayerPair(left + n, None) for n in range(start_a, end_a))
            yield from (LayerPair(None, right + n) for n in range(start_b, end_b))


def _gaps(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[int, int, int, int, bool]]:
    """Runs of the longest common subsequence and what stands between them: (start, end) in `a`, in `b`, and whether they are
    the same. Empty ones are left out."""
    at_a = at_b = 0
    for n, m in [*_common(a, b), (len(a), len(b))]:
        if n > at_a or m > at_b:
            yield at_a, n, at_b, m, False
        if n < len(a):
            yield n, n + 1, m, m + 1, True
        at_a, at_b = n + 1, m + 1


def _common(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """The places of a longest common subsequence. Images have a thousand layers at most: a million steps."""
    lengths = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for n in range(len(a) - 1, -1, -1):
        below, row = lengths[n + 1], lengths[n]
        for m in range(len(b) - 1, -1, -1):
            row[m] = below[m + 1] + 1 if a[n] == b[m] else max(below[m], row[m + 1])
    found, n, m = [], 0, 0
    while n < len(a) and m < len(b):
        if a[n] == b[m]:
            found.append((n, m))
            n, m = n + 1, m + 1
        elif lengths[n + 1][m] >= lengths[n][m + 1]:
            n += 1
        else:
            m += 1
    return found
