"""Commands that take several things: what is wrong with one is told, and the others are done all the same, as with docker."""

from __future__ import annotations

import sys

from builder.errors import BuildError, StoreError, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Failures:
    """``failures = Failures()``, then for each thing ``with failures: ...``, and `tell` at the end. A damaged or full store is
    no single thing's: its error goes through."""

    def __init__(self) -> None:
        self._errors: list[BuildError] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if not isinstance(error, BuildError) or isinstance(error, StoreError):
            return False
        self._errors.append(error)
        return True

    def tell(self) -> None:
        """Raises the last error, after those before it were shown."""
        for error in self._errors[:-1]:
            sys.stderr.write(render(error, color=False) + "\n")
        if self._errors:
            raise self._errors[-1]
