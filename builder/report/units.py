"""Sizes and times as people read them. Pure."""

from __future__ import annotations


def size(count: int) -> str:
    """Bytes in decimal units with one digit, as Docker shows them: ``0 B``, ``999 B``, ``1.2 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        # 999.95 would be rounded to 1000.0 of the same unit.
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} PB"


def duration(seconds: float) -> str:
    """``0.5s``, ``59.9s``, ``1m05s``, ``2h03m``. A clock that went backwards gives ``0.0s``."""
    if seconds < 59.95:
        return f"{max(0.0, seconds):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
