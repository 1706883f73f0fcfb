"""What stat(2) said of files when they were read: a hint by which an unchanged context is not read again.

Content decides what a file is, and stat is trusted only where a change could not have escaped it. A file is remembered if

- its times were older than the moment before this look at it by more than the grain of any timestamp (git's "racy" rule):
  whatever changes it later gets another ctime, which nobody can set back;
- its ctime is no whole second: where those are all that the file system keeps, a clock that was set back may meet the same
  one again, and tools that make file systems without the kernel (mke2fs -d, genext2fs) give all files one of their choice;
- nobody had it open for writing, or mapped so: a mapping changes a page that it wrote to before without any sign in stat, until
  the kernel has written that page to the disk (seen on ext4 and tmpfs);
- it lies on a file system of this machine whose kernel code keeps those promises. On tmpfs a mapping that first read a page
  writes to it without any sign ever (seen on Linux 6.18). Times of the network's file systems are another machine's, FUSE's
  are anybody's, overlayfs does not see all mappings, ZFS tells of what was mapped when it writes it. What is on a loop device
  is a file, which others may replace.

Does not protect against who writes to the disk beneath the file system.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Protocol

    from builder.context.seen import Row

    class Kept(Protocol):
        """Where hints are kept from build to build (`builder.store.hints.FileHints`): by the folder that was the context, and
        for each folder below it bytes of ours."""

        def load_folders(self, root: bytes, folders: Sequence[bytes]) -> dict[bytes, bytes]: ...

        def save(self, root: bytes, folders: Iterable[tuple[bytes, bytes]]) -> None: ...

        def forget(self, root: bytes) -> None: ...

    Opened = tuple[int, int, int]
    """What fstat(2) says of an open file: inode, ctime in ns, size."""

    Rows = Callable[[bytes], list[tuple[bytes, str]]]
    """For a folder, the `key` and the sha256 in hex of each file that may be believed next time."""

GRAIN = 2 * 10**9
"""Nanoseconds. Kernels stamp files by a clock that moves each tick, at most 10 ms (since 6.13 more finely where somebody
looked); ext3, and ext4 with small inodes, keep whole seconds alone."""

WORTH = 200
"""Files: to read so many again, some 6 us each, costs no more than to remember them; unless they are large."""

LARGE = 1 << 19
"""Bytes, of all that is new together: to hash them takes as long as to load OpenSSL."""

MOST = 200_000
"""Files of one context that are remembered."""

SELECTIONS = 32
"""What COPY took from one context, for so many of them; the latest."""

_HEX = b"0123456789abcdef"
_SELECTIONS = b"\0"
"""No folder has this name."""

_TRUSTED = frozenset((b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"f2fs"))


class Hints:
    """Of one context and one build; for several threads."""

    def __init__(self, root: str, kept: Kept, *, believed: bool = True) -> None:
        """To be made before the first file is looked at. What is not `believed` is read again, and remembered."""
        self._before = time.time_ns() - GRAIN
        self._root = os.fsencode(root)
        self._kept = kept
        self._believed = believed
        self._device = _trusted_device(root)
        self._changed: set[bytes] = set()
        self._new = self._bytes = 0
        self._selections: list[tuple[bytes, bytes, str]] | None = None
        self._chosen = False
        self._rows: Rows | None = None
        self._expected: dict[bytes, bytes] = {}

    def ask(self, rows: Rows) -> None:
        """Whom to ask, once all is to be saved, for what is known of a folder's files."""
        self._rows = rows

    def expect(self, folders: Sequence[bytes]) -> None:
        """These few are going to be recalled: what was kept of them is read at once."""
        if self._device >= 0 and self._believed:
            self._expected = dict.fromkeys(folders, b"") | self._kept.load_folders(self._root, folders)

    def recall(self, folder: bytes) -> dict[bytes, str]:
        """The sha256 in hex of the files in the folder, by what stat said of each (`key`)."""
        if self._device < 0 or not self._believed:
            return {}
        known = self._expected.pop(folder, None)
        parts = (self._kept_of(folder) if known is None else known).split(b"\0")
        pairs = zip(parts[::2], parts[1::2])
        # Whatever somebody may have put there.
        return {row: digest.decode() for row, digest in pairs if len(digest) == 64 and not digest.translate(None, _HEX)}

    def _kept_of(self, folder: bytes) -> bytes:
        return self._kept.load_folders(self._root, (folder,)).get(folder, b"")

    def holds(self, opened: Opened, row: Row) -> bool:
        """Whether what is read of a file that nobody writes to is worth remembering: it is the one that lstat(2) told of
        (`row`), and no change of it would be missed."""
        _, device, inode, size, mtime, ctime = row
        if device != self._device or mtime >= self._before or ctime >= self._before or not ctime % 10**9:
            return False
        # A folder above may have been another one for a moment: then the name led to another file.
        return opened == (inode, ctime, size)

    def learned(self, folder: bytes, size: int) -> None:
        """A file in the folder, of so many bytes, was read, and holds still: `ask`ed for later, its row is there."""
        self._changed.add(folder)
        self._new += 1
        self._bytes += size

    def is_old(self, ctime: int) -> bool:
        """Whether what is no regular file would have another ctime (ns) by now, had it changed since this look at it."""
        return ctime < self._before and bool(ctime % 10**9)

    def device(self) -> int:
        """The device number of what can be trusted; -1 for none."""
        return self._device

    def selection(self, spec: bytes) -> tuple[bytes, str]:
        """What was kept of a selection: the digest of its stat data, and that of its content. Empty for none, and
        for what is not believed."""
        if not self._believed:
            return b"", ""
        for known, looks, content in self._read_selections():
            if known == spec:
                return looks, content
        return b"", ""

    def keep_selection(self, spec: bytes, looks: bytes, content: str) -> None:
        """The selection `spec` (32 bytes) had this content (64 hexadecimal digits) when its stat data had the digest `looks`
        (32 bytes)."""
        rows = [(spec, looks, content), *(row for row in self._read_selections() if row[0] != spec)]
        self._selections = rows[:SELECTIONS]
        self._chosen = True

    def drop_selection(self, spec: bytes) -> None:
        """What was kept of it is not known to be right any more."""
        known = self._read_selections()
        self._selections = [row for row in known if row[0] != spec]
        self._chosen = self._chosen or len(self._selections) < len(known)

    def _read_selections(self) -> list[tuple[bytes, bytes, str]]:
        if self._selections is None:
            data = self._kept_of(_SELECTIONS)
            size = 32 + 32 + 64
            rows = (data[at : at + size] for at in range(0, len(data) // size * size, size))
            self._selections = [(row[:32], row[32:64], row[64:].decode("ascii", "replace")) for row in rows]
        return self._selections

    def save(self) -> None:
        """Keep what was learned, if that is worth a write. Of a folder with news, what no longer counts is forgotten."""
        chosen = self._chosen and self._selections is not None
        if chosen or self._is_worth_it():
            self._kept.save(self._root, self._saved(self._selections if chosen else None))
        self._chosen = False

    def _is_worth_it(self) -> bool:
        return self._new >= WORTH or self._bytes >= LARGE

    def _saved(self, selections: list[tuple[bytes, bytes, str]] | None) -> Iterator[tuple[bytes, bytes]]:
        """Row by row: there may be many."""
        if selections is not None:
            yield _SELECTIONS, b"".join(spec + looks + content.encode() for spec, looks, content in selections)
        if self._rows is None or not self._is_worth_it():
            return
        total = 0
        for folder in sorted(self._changed):
            rows = self._rows(folder)
            total += len(rows)
            if total > MOST:
                break
            yield folder, b"\0".join(part for row, digest in rows for part in (row, digest.encode()))
        self._changed.clear()
        self._new = self._bytes = 0

    def forget(self) -> None:
        """Something was not as it should be: all is read again next time."""
        self._kept.forget(self._root)
        self._device = -1
        self._selections, self._chosen = [], False
        self._new = self._bytes = 0


def key(name: bytes, row: Row) -> bytes:
    """What stat says of a file. A name has no slash, and no number a NUL."""
    mode, _, inode, size, mtime, ctime = row
    return b"%b/%d %d %d %d %d" % (name, size, mtime, ctime, inode, mode)


def _trusted_device(root: str) -> int:
    """The device number of files below `root` that lie on its file system, -1 where that is not to be trusted."""
    try:
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            device = os.fstat(folder).st_dev
            with open(f"/proc/self/fdinfo/{folder}", "rb") as file:
                mount = file.read().partition(b"mnt_id:")[2].split()[0]
        finally:
            os.close(folder)
        with open("/proc/self/mountinfo", "rb") as file:
            for line in file:
                if line.startswith(mount + b" "):
                    # proc_pid_mountinfo(5): optional fields end with a hyphen, then come the type and the source.
                    kind, source = line.partition(b" - ")[2].split()[:2]
                    return device if kind in _TRUSTED and not source.startswith(b"/dev/loop") else -1
    except (OSError, ValueError, IndexError):
        pass  # Without /proc there are no hints.
    return -1
