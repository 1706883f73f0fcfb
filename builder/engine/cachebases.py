"""What a cache mount begins with (`base`), here and in a portable cache.

Where owners are notes at the files, a folder says nothing to a builder without them: such caches are kept apart by one more
word, which a portable cache, whose archives have real owners, has not.
"""

from __future__ import annotations

from builder.layers.ownerform import noted

_NOTED = "noted"


def here(base: str) -> str:
    """The base as this builder's store has it."""
    return f"{base} {_NOTED}".strip() if noted() else base


def elsewhere(base: str) -> str | None:
    """The base as others have it; None for one that another sandbox of this machine fills."""
    words = base.split(" ")
    if (words[-1] == _NOTED) != noted():
        return None
    return " ".join(words[:-1]) if noted() else base
