"""What a layer is made of: entries, and where the bytes of a file come from. Pure.

Paths are bytes, relative, without a leading `./` or `/` and without a trailing one; the root is `b""`. Names are whatever
the kernel takes: any bytes but NUL and `/`.
"""

from __future__ import annotations

from builder.values import NamedTuple

EPOCH = 315619200
"""1980-01-02T00:00:00Z: the constant time of the canonical layer (SPEC section 5: zip can hold it in every time zone)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["file", "dir", "symlink", "hardlink", "fifo", "char", "block", "whiteout", "opaque"]
    """`whiteout`: the path is removed. `opaque`: what lower layers hold in the folder is hidden, in foreign layers alone."""


class Entry(NamedTuple):
    """One entry of a layer, without its content.

    `link` is the target of a symlink, or the path (as `path`) of the entry that a hard link repeats. `digest` is the
    sha256 of a file's content in hex; empty where it is not known yet. A hardlink entry repeats mode, owner, size, digest
    and xattrs of the file it names.
    """

    path: bytes
    kind: Kind
    mode: int = 0
    """Permission bits, 0o7777 at most."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    """Bytes of a file's content; 0 for all others."""
    digest: str = ""
    link: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Sorted by name; names in full, as in `security.capability`."""
    mtime: int = 0
    """True time, in nanoseconds since 1970; negative before. Never part of a key or of the canonical tar."""


class FileSource(NamedTuple):
    """The content is the regular file `path` below the folder `root` of the host, opened without following any link."""

    root: str
    path: bytes


class RangeSource(NamedTuple):
    """The content is `size` bytes at `offset` of the host's file `file` (a tar, mostly)."""

    file: str
    offset: int
    size: int


class BytesSource(NamedTuple):
    """The content is at hand."""

    data: bytes


class SparseSource(NamedTuple):
    """The content lies in pieces of the host's file `file`: (offset in the content, offset in `file`, length), rising and
    disjoint; what no piece covers is zero. `size` is the content's."""

    file: str
    size: int
    pieces: tuple[tuple[int, int, int], ...]


Source = FileSource | RangeSource | BytesSource | SparseSource


class Item(NamedTuple):
    """An entry and, for a file, its content. Entries of other kinds have no source."""

    entry: Entry
    source: Source | None = None


def default_folder(path: bytes) -> Entry:
    """What a folder is that no layer describes: 0755 0:0, as Docker makes implied parents, with the constant time."""
    return Entry(path, "dir", 0o755, mtime=EPOCH * 10**9)
