"""The program beside who makes a layer of many small files: ``python -I -S readahead_main.py [leases] [bare]``.

It reads requests from stdin and writes answers to stdout (`builder.layers.readahead`), and ends with either.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from hashlib import sha256

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from builder.errors import BuildError
from builder.layers.beneath import Beneath
from builder.layers.beside import HEAD, serve
from builder.layers.leases import may_be_written
from builder.layers.readahead import FAILED, ROW, STEADY, WRITTEN
from builder.layers.source import KEPT, OPEN, read_up_to
from builder.layers.tarheader import BLOCK, FILE, header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Asked = tuple[bytes, bytes, int, int, int, int, int]
    """Name in the folder, path in the tar, mode, uid, gid, size, mtime."""

_NOTHING = ROW.pack(FAILED, 0, 0, 0, 0, 0, b"")
_PADDING = bytes(BLOCK)


class Reader:
    """Opens files as `builder.layers.source.Sources` does, which says why, with fewer calls for each."""

    def __init__(self, *, leases: bool, bare: bool) -> None:
        self._leases = leases
        self._bare = bare
        self._roots: dict[str, Beneath] = {}

    def answer(self, request: Sequence[list[bytes] | bytes | Asked]) -> bytes:
        """A root (in a list) and a folder below it (bytes) are those of the files that follow."""
        rows: list[bytes] = []
        members: list[bytes] = []
        root = ""
        folder = -1
        for asked in request:
            if isinstance(asked, list):
                # Not as text: without an environment this process may have another encoding.
                root = os.fsdecode(asked[0])
                continue
            try:
                if isinstance(asked, bytes):
                    folder = -1
                    folder = self._beneath(root).folder(asked)
                else:
                    rows.append(self._read(folder, asked, members))
            except (BuildError, OSError, ValueError, struct.error):
                # What is not to be read, or has a time that 64 bits do not hold: who asked tries it as well, and says so.
                if not isinstance(asked, bytes):
                    rows.append(_NOTHING)
        return b"".join((HEAD.pack(len(rows)), *rows, *members))

    def _beneath(self, root: str) -> Beneath:
        known = self._roots.get(root)
        if known is None:
            known = self._roots[root] = Beneath(root, readable=False, kept=KEPT)
        return known

    def _read(self, folder: int, asked: Asked, members: list[bytes]) -> bytes:
        name, path, mode, uid, gid, size, mtime = asked
        if folder < 0 or name in (b"", b".", b".."):
            return _NOTHING
        file = os.open(name, OPEN, dir_fd=folder)
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                return _NOTHING
            # Before it is read: what changes it from here on changes its times.
            became = STEADY if self._leases and not may_be_written(file, briefly=True) else WRITTEN
            data = read_up_to(file, size)
        finally:
            os.close(file)
        digest = sha256(data).digest()
        if len(data) != size:
            return ROW.pack(became, info.st_ino, info.st_ctime_ns, info.st_size, len(data), 0, digest)
        if self._bare:
            row = ROW.pack(became, info.st_ino, info.st_ctime_ns, info.st_size, size, size, digest)
            members.append(data)
            return row
        head = header(path, FILE, mode=mode, uid=uid, gid=gid, size=size, mtime=mtime)
        row = ROW.pack(became, info.st_ino, info.st_ctime_ns, info.st_size, size, len(head) + size + -size % BLOCK, digest)
        members += (head, data, _PADDING[: -size % BLOCK])
        return row


if __name__ == "__main__":
    serve(Reader(leases="leases" in sys.argv[1:], bare="bare" in sys.argv[1:]).answer)
