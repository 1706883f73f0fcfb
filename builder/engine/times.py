"""The one time that an image names, as its config writes it."""

from __future__ import annotations

import time

from builder.layers.entry import EPOCH


def created(source_date_epoch: int | None) -> str:
    """RFC 3339 of SOURCE_DATE_EPOCH, else of the constant (SPEC section 5); never the clock's."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH if source_date_epoch is None else source_date_epoch))


def told(seconds: int) -> str:
    """A time of this machine, for a person."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
