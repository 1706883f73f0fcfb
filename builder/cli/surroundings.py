"""Another environment for this process, for what must not depend on it."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_OTHER = {"TZ": "Pacific/Kiritimati", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "PYBUILD_NOISE": "x" * 997}


@contextmanager
def other_surroundings() -> Iterator[None]:
    """Time zone, locale, environment and the mode mask of files are others."""
    before = dict(os.environ)
    mask = os.umask(0o077)
    os.environ.update(_OTHER)
    time.tzset()
    try:
        yield
    finally:
        os.umask(mask)
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        time.tzset()
