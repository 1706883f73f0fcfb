"""A layer's index as a file that is read in pieces: there may be hundreds of thousands of entries."""

from __future__ import annotations

import os

from builder.hashing import hasher
from builder.layers.codec import each_entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from builder.layers.entry import Entry

_PIECE = 1 << 20


class IndexFile:
    """``with file as entries``: they come while the block lasts, once. OSError where it cannot be opened or read."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    def has(self, sha256: str) -> bool:
        """Whether the whole has this digest, in hex. Files of the store are never written to again."""
        digest = hasher("sha256")
        at = 0
        while piece := os.pread(self._file, _PIECE, at):
            digest.update(piece)
            at += len(piece)
        return digest.hexdigest() == sha256

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Iterator[Entry]:
        return each_entry(lambda at, size: os.pread(self._file, size, at), os.fstat(self._file).st_size)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
