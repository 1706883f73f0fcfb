"""What stat(2) said of a file, as far as anybody asks later: a third of what an `os.stat_result` takes, and a build has one for
each file of its context."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Protocol

    class Info(Protocol):
        """The fields that an `os.stat_result` has, too."""

        @property
        def st_mode(self) -> int: ...
        @property
        def st_dev(self) -> int: ...
        @property
        def st_ino(self) -> int: ...
        @property
        def st_size(self) -> int: ...
        @property
        def st_mtime_ns(self) -> int: ...
        @property
        def st_ctime_ns(self) -> int: ...


class Seen(NamedTuple):
    """An `Info`."""

    st_mode: int
    st_dev: int
    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


class Sight:
    """Makes them; few numbers are many files' mode and device."""

    def __init__(self) -> None:
        self._same: dict[int, int] = {}

    def seen(self, info: os.stat_result) -> Seen:
        same = self._same.setdefault
        mode, device = info.st_mode, info.st_dev
        return Seen(same(mode, mode), same(device, device), info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
