"""Whether all that a COPY took from a folder is as it was, told by stat(2) alone: then its digest is, too, and no more is done.

What is compared is a digest of the names, and of what lstat(2) says, of all that is taken. It is kept where each file was one
that `builder.context.hints` remembers, by the same rules. Of a folder its mode and the names in it count, and no times.
"""

from __future__ import annotations

import hashlib
import stat

from builder.context.hints import key

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    Listing = Iterable[tuple[bytes, os.stat_result]]
    """Names in a folder, sorted, and what lstat(2) says of each."""

VERSION = b"1"


class Unsure(Exception):
    """Something that stat does not tell enough of."""


def digest(sources: Iterable[tuple[bytes, bytes, os.stat_result]], listing: Callable[[bytes], Listing], device: int) -> bytes:
    """Of each source its name, its path in the context and its stat; of folders all below, as `listing` gives it by the path.

    Raises Unsure for what lies on another file system than `device`, and for sockets, which are warned of.
    """
    parts: list[bytes] = [VERSION]
    for name, path, info in sources:
        parts += (name, path)
        _add(parts, b"", path, info, listing, device)
    # A NUL is in no name.
    return hashlib.sha256(b"\0".join(parts)).digest()


def _add(
    parts: list[bytes], name: bytes, path: bytes, info: os.stat_result, listing: Callable[[bytes], Listing], device: int
) -> None:
    mode = info.st_mode
    if not stat.S_ISDIR(mode):
        if info.st_dev != device or stat.S_ISSOCK(mode):
            raise Unsure
        parts.append(key(name, info))
        return
    # Two slashes are in no file's key.
    parts.append(b"%b//%o" % (name, mode))
    for below, found in listing(path):
        if stat.S_ISREG(found.st_mode) and found.st_dev == device:
            parts.append(key(below, found))
        else:
            _add(parts, below, path + b"/" + below if path else below, found, listing, device)
    parts.append(b"")
