"""Small plots with logarithmic axes, as SVG: no more than bench/scale.py needs, and no plotting library is installed for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _COLUMNS = 400, 260, 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 34, 34, 44
_COLORS = ("#1f5fa8", "#c2571a", "#888888")


@dataclass(frozen=True)
class Line:
    title: str
    at: Sequence[float]
    values: Sequence[float]
    """Greater than 0, like `at`."""
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    lines: tuple[Line, ...]


def drawing(panels: Sequence[Panel]) -> str:
    """The panels, two in a row, as one document."""
    rows = (len(panels) + _COLUMNS - 1) // _COLUMNS
    width, height = _WIDTH * _COLUMNS, _HEIGHT * rows
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="11">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
    )
    body = []
    for number, panel in enumerate(panels):
        x, y = number % _COLUMNS * _WIDTH, number // _COLUMNS * _HEIGHT
        body.append(f'<g transform="translate({x},{y})">\n{"".join(_panel(panel))}</g>\n')
    return head + "".join(body) + "</svg>\n"


class _Scale:
    """Whole decades from a little below the least to a little above the greatest value, on a stretch of the picture."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.first = math.floor(math.log10(min(values)))
        self.last = max(math.ceil(math.log10(max(values))), self.first + 1)
        self._start = start
        self._end = end

    def __call__(self, value: float) -> float:
        part = (math.log10(value) - self.first) / (self.last - self.first)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> Iterator[float]:
        yield from (10.0**power for power in range(self.first, self.last + 1))


def _panel(panel: Panel) -> Iterator[str]:
    across = _Scale([size for line in panel.lines for size in line.at], _LEFT, _WIDTH - _RIGHT)
    up = _Scale([value for line in panel.lines for value in line.values], _HEIGHT - _BOTTOM, _TOP)
    yield f'<text x="{_LEFT}" y="18" font-size="13" font-weight="bold">{escape(panel.title)}</text>\n'
    for tick in up.ticks():
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" stroke="#dddddd"/>\n'
        yield f'<text x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>\n'
    for tick in across.ticks():
        yield f'<line x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#eeeeee"/>\n'
        yield f'<text x="{across(tick):.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{_number(tick)}</text>\n'
    for number, line in enumerate(panel.lines):
        color = _COLORS[number % len(_COLORS)] if not line.dashed else _COLORS[-1]
        points = [(across(size), up(value)) for size, value in zip(line.at, line.values, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="4 4"' if line.dashed else ""
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"{dashes}/>\n'
        if not line.dashed:
            yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{color}"/>\n' for x, y in points)
        place = _LEFT + number * 112
        key = f'x1="{place}" x2="{place + 16}" y1="{_HEIGHT - 12}" y2="{_HEIGHT - 12}"'
        yield f'<line {key} stroke="{color}" stroke-width="1.8"{dashes}/>\n'
        yield f'<text x="{place + 20}" y="{_HEIGHT - 8}">{escape(line.title)}</text>\n'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
