"""Two contents side by side, as far as a person wants to see them: changed lines of a text, or the first bytes that differ."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LINES = 20
"""That are shown at most."""
_COMPARED = 400
"""Lines of each side, after what they have in common at both ends, that difflib is given: its time grows with their product."""
_WIDTH = 160
_ROW = 16
_ROWS = 2
"""Rows of bytes, of each side."""


def text_diff(a: bytes, b: bytes) -> list[str]:
    """Lines with `-` and `+`, in the order of the file; the first of a run has its number in front."""
    lines_a, lines_b = (data.decode("utf-8", "replace").split("\n") for data in (a, b))
    start = _same(lines_a, lines_b)
    end = _same(lines_a[: start - 1 if start else None : -1], lines_b[: start - 1 if start else None : -1])
    one, other = lines_a[start : len(lines_a) - end], lines_b[start : len(lines_b) - end]
    out: list[str] = []
    for line in _changed(one, other, start):
        if len(out) == _LINES:
            out.append("...")
            break
        out.append(line)
    return out


def hex_diff(a: bytes, b: bytes) -> list[str]:
    """Where the first difference is, and what stands there."""
    at = first_difference(a, b)
    out = [f"first difference at byte {at} of {len(a)} and {len(b)}"]
    begin = at // _ROW * _ROW
    for mark, data in (("-", a), ("+", b)):
        for row in range(begin, begin + _ROWS * _ROW, _ROW):
            piece = data[row : row + _ROW]
            if piece:
                shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
                out.append(f"{mark}{row:08x}  {piece.hex(' '):<47}  {shown}")
    return out


def first_difference(a: bytes, b: bytes) -> int:
    """The first place where they differ; the shorter one's length where it begins the other."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    # Bisection compares each byte twice at most, at the speed of memcmp(3).
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _same(a: Sequence[str], b: Sequence[str]) -> int:
    """How many lines they begin with are the same."""
    count = 0
    for one, other in zip(a, b):
        if one != other:
            break
        count += 1
    return count


def _changed(a: list[str], b: list[str], start: int) -> Iterator[str]:
    import difflib

    cut = len(a) > _COMPARED or len(b) > _COMPARED
    a, b = a[:_COMPARED], b[:_COMPARED]
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        yield f"line {start + min(i, k) + 1}:" if i == k else f"line {start + i + 1} and {start + k + 1}:"
        yield from (f"-{_short(line)}" for line in a[i:j])
        yield from (f"+{_short(line)}" for line in b[k:m])
    if cut:
        yield "..."


def _short(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."
