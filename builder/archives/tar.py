"""Archives that are files or come through a pipe, compressed or not: looked through once, header by header.

A plain file stays where it is, and members are ranges of it. What is compressed or piped is written, as it comes, to a file of
ours that has no compression; of what comes no more is taken than the headers announce.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager

from builder.archives.archive import MOST_MEMBERS, Archive, Link, Regular, link_target, member_name
from builder.errors import BuildError, UsageError
from builder.layers.decompression import decompressed, is_tar, sniff, too_much
from builder.layers.tarfields import BLOCK, Bad
from builder.layers.tarmembers import Archive as Headers
from builder.layers.tarmembers import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.archives.archive import Member
    from builder.layers.tarmembers import Member as Found

_LINKS = (b"1", b"2")
_FILES = (b"0", b"\0", b"7")
_LARGEST = 1 << 42
"""Bytes of one member: the largest file that ext4 holds is 16 TiB, and no layer comes near."""
_MUCH = 64 << 20
_PADDING = 16 << 20
"""Zeros that may follow the end: tar(1) fills its last record."""
# As for layers (`builder.engine.foreign`): zeros shrink to a thousandth.
_GROWS, _RATIO = 4 << 30, 100


def open_tar(descriptor: int, shown: str, spool: int) -> Archive:
    """The archive in an open file or pipe; `spool` is an open empty file for what cannot stay where it is. Both have to stay
    open as long as the archive is in use. Raises UsageError for what is no archive, damaged, or beyond a limit."""
    try:
        headers, holder = _headers(descriptor, shown, spool)
        members = _members(headers, shown)
        _check_end(headers, shown)
    except Bad as error:
        raise UsageError(f"'{shown}' is damaged: {error}", hint="fetch or make it again") from None
    except BuildError as error:
        if type(error) is not BuildError:
            raise
        raise UsageError(error.message, hint=error.hint) from error

    @contextmanager
    def opened(_: str) -> Iterator[int]:
        yield holder

    return Archive(shown, members, opened)


class _Coming(Headers):
    """An archive that is written to a file as far as it is asked for."""

    def __init__(self, chunks: Iterator[bytes], spool: int) -> None:
        super().__init__(spool)
        self._chunks = chunks

    def reach(self, end: int) -> int:
        if end - self._end > _MUCH:
            space = os.fstatvfs(self._descriptor)
            if end - self._end > space.f_bavail * space.f_frsize:
                # Known now: the disk need not be filled first.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        while self._end < end:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._end += len(chunk)
        return super().reach(end)


def _headers(descriptor: int, shown: str, spool: int) -> tuple[Headers, int]:
    """How to walk it, and the file in which its members lie."""
    plain = stat.S_ISREG(os.fstat(descriptor).st_mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    if plain and not sniff(os.pread(descriptor, 16, 0)):
        headers, holder = Headers(descriptor), descriptor
    else:
        headers, holder = _Coming(_bounded(descriptor, shown), spool), spool
    head = headers.read_at(0, BLOCK)
    if not head:
        raise UsageError(f"'{shown}' is empty", hint="give an archive of images: pybuild save, docker save")
    if not is_tar(head):
        raise UsageError(
            f"'{shown}' is no archive of images", hint="it is a tar, plain or compressed with gzip, zstd, xz or bzip2"
        )
    return headers, holder


def _bounded(descriptor: int, shown: str) -> Iterator[bytes]:
    read = written = 0

    def told(count: int) -> None:
        nonlocal read
        read += count

    for chunk in decompressed(descriptor, shown, told):
        written += len(chunk)
        if written > _GROWS + _RATIO * read:
            raise too_much(shown, _GROWS + _RATIO * read)
        yield chunk


def _members(headers: Headers, shown: str) -> dict[str, Member]:
    members: dict[str, Member] = {}
    folders: set[str] = set()
    for count, found in enumerate(walk(headers, lambda _: None), 1):
        if count > MOST_MEMBERS:
            raise Bad(f"it has more than {MOST_MEMBERS} members")
        name = member_name(found.header.name, shown)
        if found.header.kind == b"5":
            folders.add(name)
            continue
        if not name or name in folders:
            raise Bad(f"its '{name or '.'}' is a folder and none")
        member = _member(name, found, shown)
        if name in members and not _same(headers, members[name], member):
            raise Bad(f"it has two different members '{name}'")
        members[name] = member
    return members


def _member(name: str, found: Found, shown: str) -> Member:
    kind = found.header.kind
    if kind == b"2":
        return Link(link_target(name, found.header.link, shown))
    if kind == b"1":
        return Link(member_name(found.header.link, shown))
    if kind not in _FILES or found.pieces is not None:
        what = "a sparse file" if found.pieces is not None else "a device or a fifo"
        raise Bad(f"its '{name}' is {what}")
    if found.size > _LARGEST:
        raise Bad(f"its '{name}' has {found.size} bytes")
    return Regular(found.offset, found.size)


def _same(headers: Headers, one: Member, other: Member) -> bool:
    """Some tools write a layer again for each image that has it."""
    if not (isinstance(one, Regular) and isinstance(other, Regular)):
        return one == other
    if one.size != other.size:
        return False
    step = 1 << 20
    return all(
        headers.read_at(one.at + at, min(step, one.size - at)) == headers.read_at(other.at + at, min(step, one.size - at))
        for at in range(0, one.size, step)
    )


def _check_end(headers: Headers, shown: str) -> None:
    """What follows the two zero blocks is zeros, and not without end."""
    at = headers.at
    while data := headers.read_at(at, 1 << 20):
        at += len(data)
        if any(data):
            raise UsageError(f"'{shown}' is damaged: something follows the end of the archive", hint="fetch or make it again")
        if at - headers.at > _PADDING:
            raise Bad("zeros without end follow it")
