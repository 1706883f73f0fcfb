"""Tables of text for people."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def table(lines: Sequence[Sequence[str]]) -> str:
    """The lines, of equally many cells each, in columns; the first is the head."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = ("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "".join(f"{line}\n" for line in shown)
