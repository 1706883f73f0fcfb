"""Keeping house after a build: what was used is marked, and garbage is collected when that is due."""

from __future__ import annotations

from builder.errors import StoreError
from builder.events import BuildWarning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.events import Emit
    from builder.store.store import Store


def keep_house(store: Store, emit: Emit) -> None:
    """After a build, however it ended. What goes wrong here is told and changes nothing of its result."""
    try:
        store.mark_used()
        # A build that made nothing has left nothing to collect.
        if store.grew:
            from builder.cli.garbage import collect

            collect(store, emit)
    except (StoreError, OSError) as error:
        reason = error.message if isinstance(error, StoreError) else f"{error.strerror} ({error.filename})"
        emit(BuildWarning("StoreUpkeep", f"the store was not tidied up: {reason}"))
