"""The program beside who makes the folder of a layer of many small files: ``python -I -S filling_main.py FOLDER``.

It reads requests from stdin and writes answers to stdout (`builder.layers.filling`), and ends with either.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from builder.errors import BuildError
from builder.layers.beneath import Beneath
from builder.layers.beside import serve
from builder.layers.entry import Entry, Item, RangeSource
from builder.layers.folder import NEW_FILE, check_path, fill
from builder.layers.source import Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Asked = tuple[bytes, int, int, int, int, str, int, int]
    """Path, mode, uid, gid, size, digest, mtime, and where the content begins in the tar."""


class Filler:
    def __init__(self, folder: str) -> None:
        self._beneath = Beneath(folder)
        self._sources = Sources()
        self._builder = os.getppid()

    def answer(self, request: Sequence[list[bytes] | Asked]) -> bytes:
        """A byte for each file, 1 where it was written. A tar (in a list) is that of the files that follow."""
        done = bytearray()
        tar = ""
        for asked in request:
            if isinstance(asked, list):
                # Not as text: without an environment this process may have another encoding.
                tar = os.fsdecode(asked[0])
            else:
                done.append(self._write(tar, asked))
        return bytes(done)

    def _write(self, tar: str, asked: Asked) -> bool:
        if os.getppid() != self._builder:
            # It was killed: the next one is going to remove the folder.
            os._exit(1)
        path, mode, uid, gid, size, digest, mtime, offset = asked
        item = Item(Entry(path, "file", mode, uid, gid, size, digest, mtime=mtime), RangeSource(tar, offset, size))
        # What cannot be written: who asked tries it as well, and says so.
        try:
            check_path(path)
            folder, name = self._beneath.parent(path)
            file = os.open(name, NEW_FILE, 0o600, dir_fd=folder)
        except (BuildError, OSError, ValueError):
            return False
        try:
            try:
                fill(file, item, self._sources)
            finally:
                os.close(file)
        except (BuildError, OSError, ValueError, OverflowError):
            os.unlink(name, dir_fd=folder)
            return False
        return True


if __name__ == "__main__":
    serve(Filler(sys.argv[1]).answer)
