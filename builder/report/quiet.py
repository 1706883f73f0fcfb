"""The quiet reader: the error of a build that failed, nothing else."""

from __future__ import annotations

from builder.errors import render
from builder.events import BuildFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.events import Event


class Quiet:
    def __init__(self, write: Callable[[str], None], *, color: bool = False) -> None:
        self._write = write
        self._color = color

    def handle(self, event: Event, now: float) -> None:
        """Shows a `BuildFailed`."""
        if isinstance(event, BuildFailed):
            self._write(render(event.error, color=self._color) + "\n")

    def tick(self, now: float) -> float | None:
        """Nothing moves."""
        return None

    def close(self, now: float) -> None:
        """Nothing is left."""
