"""Whether all that a COPY took from a folder is as it was, told by stat(2) alone: then its digest is, too, and no more is done.

What is compared is a digest of the names, and of what lstat(2) says, of all that is taken. It is kept where each file was one
that `builder.context.hints` remembers, by the same rules. Of a folder its mode and the names in it count, and no times.
"""

from __future__ import annotations

import stat

from builder.context.hints import key
from builder.hashing import hasher, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.context.seen import Row
    from builder.hashing import Hash

    Listing = Iterable[tuple[bytes, Row]]
    """Names in a folder, sorted, and what lstat(2) says of each."""

VERSION = b"1"
_PIECE = 2000


class Unsure(Exception):
    """Something that stat does not tell enough of."""


def digest(sources: Iterable[tuple[bytes, bytes, Row]], listing: Callable[[bytes], Listing], device: int) -> bytes:
    """Of each source its name, its path in the context and its stat; of folders all below, as `listing` gives it by the path.

    Raises Unsure for what lies on another file system than `device`, and for sockets, which are warned of.
    """
    parts: list[bytes] = [VERSION]
    whole: Hash | None = None
    for name, path, row in sources:
        parts += (name, path)
        if stat.S_ISDIR(row[0]):
            whole = _add_folder(whole, parts, path, row, listing, device)
        else:
            parts.append(_single(b"", row, device))
    # A NUL is in no name.
    rest = b"\0".join(parts)
    if whole is None:
        return sha256(rest).digest()
    whole.update(rest)
    return whole.digest()


def _add_folder(
    whole: Hash | None, parts: list[bytes], path: bytes, row: Row, listing: Callable[[bytes], Listing], device: int
) -> Hash | None:
    """What was too much to be held is hashed."""
    parts.append(_folder(b"", row))
    # No recursion: folders may be nested more deeply than Python's calls.
    open_ = [(path, iter(listing(path)))]
    while open_:
        at, left = open_[-1]
        for name, found in left:
            if stat.S_ISDIR(found[0]):
                parts.append(_folder(name, found))
                below = at + b"/" + name if at else name
                open_.append((below, iter(listing(below))))
                break
            parts.append(_single(name, found, device))
            if len(parts) > _PIECE:
                # There may be many files. The last one stays: what follows is parted from it.
                whole = whole or hasher("sha256")
                whole.update(b"\0".join(parts[:-1]) + b"\0")
                del parts[:-1]
        else:
            parts.append(b"")
            open_.pop()
    return whole


def _folder(name: bytes, row: Row) -> bytes:
    # Two slashes are in no file's key.
    return b"%b//%o" % (name, row[0])


def _single(name: bytes, row: Row, device: int) -> bytes:
    if row[1] != device or stat.S_ISSOCK(row[0]):
        raise Unsure
    return key(name, row)
