"""Foreign archives as items: layers of other builders, and what ADD unpacks.

Any bytes end in items or in a BuildError. Nothing is unpacked here; content stays where it is, as ranges of the archive.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from builder.errors import BuildError
from builder.layers.entry import Entry, Item, RangeSource, SparseSource
from builder.layers.names import MAX_NAME, MAX_PATH, OPAQUE, WHITEOUT, show
from builder.layers.tarfields import Bad, nanoseconds
from builder.layers.tarmembers import members
from builder.values import new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.layers.entry import Kind
    from builder.layers.tarmembers import Member

MAX_ENTRIES = 10_000_000
MAX_TARGET = 4095
"""Bytes of a symlink's target: PATH_MAX counts the NUL."""
MAX_XATTR = 65536
"""Bytes of an extended attribute's value (XATTR_SIZE_MAX)."""

_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"S": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "dir",
    b"6": "fifo",
}
_META = b".wh..wh."
_XATTR = b"SCHILY.xattr."
_TIMES = (-(1 << 63), (1 << 63) - 1)

Warn = Callable[[str], None]


def read_tar(
    path: str, *, whiteouts: bool, warn: Warn | None = None, name: str | None = None, repeats: bool = True
) -> Iterator[Item]:
    """The members of the uncompressed tar file at `path`, in archive order, duplicates and all.

    Forms: V7, ustar, GNU (long names, sparse), PAX (with `GNU.sparse.*` and `SCHILY.xattr.*`), star, base-256 numbers.
    Names lose a leading `/` and `./`. With `whiteouts`, `.wh.x` is a `whiteout` of `x`, `.wh..wh..opq` an `opaque` of its
    folder, and other names that begin with `.wh..wh.` are left out (aufs); without, they are names as any other.
    Symlinks have mode 0777; a hard link repeats the entry that it names where that stands before it, unless it is not to
    (`repeats`): then no entry is kept. Digests are empty.
    `security.capability` of files and `user.*` of files and folders are kept, overlay's own attributes are dropped, and
    what else is left out is told to `warn`, one message each.

    Raises BuildError, which calls the archive `name`, where it is damaged, cut short or beyond a limit, and for names that
    lead out of it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    tell = warn if warn is not None else _silent

    def on_global(records: list[tuple[bytes, bytes]]) -> None:
        for keyword in dict.fromkeys(keyword for keyword, _ in records if keyword != b"comment"):
            tell(f"global PAX record '{show(keyword)}' is not applied")

    try:
        seen: dict[bytes, Entry] = {}
        for count, member in enumerate(members(descriptor, on_global), 1):
            if count > MAX_ENTRIES:
                raise Bad(f"it has more than {MAX_ENTRIES} entries")
            item = _item(path, member, whiteouts, tell)
            if item is None:
                continue
            entry = item.entry
            if entry.kind == "hardlink":
                owner = seen.get(entry.link)
                if owner is not None:
                    entry = owner._replace(path=entry.path, kind="hardlink", link=entry.link, rdev=(0, 0))
                    item = Item(entry)
            if repeats and entry.kind not in ("dir", "whiteout", "opaque"):
                seen[entry.path] = entry
            yield item
    except Bad as error:
        shown = name if name is not None else path
        raise BuildError(f"'{shown}' is not a tar archive that can be read: {error}", hint="fetch or make it again") from error
    finally:
        os.close(descriptor)


def _silent(message: str) -> None:
    """Callers that give no `warn` do not want to know."""


def _item(file: str, member: Member, whiteouts: bool, tell: Warn) -> Item | None:
    header, records = member.header, member.records
    path = _normal(header.name, whiteouts)
    kind = _KINDS[header.kind]
    if header.kind == b"\0" and header.name.endswith(b"/"):
        # Archives older than POSIX mark folders so; Go reads it of this type alone.
        kind = "dir"
    if whiteouts and WHITEOUT in path:
        marked = _mark(path)
        if marked is None or marked.kind in ("whiteout", "opaque"):
            return None if marked is None else Item(marked)
    if not path and kind != "dir":
        raise Bad("its root is no folder")
    if not (0 <= header.uid < 0xFFFFFFFF and 0 <= header.gid < 0xFFFFFFFF):
        raise Bad(f"'{show(path)}' has an owner out of range")
    # There may be many: `Entry(...)` and `Item(...)` cost six times as much.
    entry = new(
        Entry,
        (
            path,
            kind,
            0o777 if kind == "symlink" else header.mode,
            header.uid,
            header.gid,
            member.size if kind == "file" else 0,
            "",
            _link(path, kind, header.link),
            _device(path, kind, header.rdev),
            _xattrs(path, kind, records, tell) if records else (),
            _time(member),
        ),
    )
    if kind != "file":
        return new(Item, (entry, None))
    if member.pieces is None:
        return new(Item, (entry, new(RangeSource, (file, member.offset, member.size))))
    return Item(entry, SparseSource(file, member.size, member.pieces))


def _normal(name: bytes, whiteouts: bool = False) -> bytes:
    """The path that a member's name means, cleaned as Go's path.Clean does. Raises Bad.

    The limits are of the paths on disk: with `whiteouts` the mark `.wh.` comes on top.
    """
    if b"\0" in name:
        raise Bad("a name holds a NUL byte")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise Bad(f"'{show(name[:200])}' leads out of it")
            parts.pop()
        elif len(part) > MAX_NAME + (len(WHITEOUT) if whiteouts and part.startswith(WHITEOUT) else 0):
            raise Bad(f"a name is longer than {MAX_NAME} bytes")
        else:
            parts.append(part)
    path = b"/".join(parts)
    if len(path) > MAX_PATH + (len(WHITEOUT) if whiteouts and parts and parts[-1].startswith(WHITEOUT) else 0):
        raise Bad(f"a path is longer than {MAX_PATH} bytes")
    return path


def _mark(path: bytes) -> Entry | None:
    """What a path with `.wh.` in it means: a whiteout, an opaque folder, None for aufs' own, an entry for a plain name."""
    *folders, last = path.split(b"/")
    for above in folders:
        if above.startswith(_META):
            return None
        if above.startswith(WHITEOUT):
            raise Bad(f"'{show(path[:200])}' lies below a removed file")
    folder = b"/".join(folders)
    if last == OPAQUE:
        return Entry(folder, "opaque")
    if last.startswith(_META):
        return None
    if not last.startswith(WHITEOUT):
        return Entry(path, "file")
    removed = last[len(WHITEOUT) :]
    if removed in (b"", b".", b".."):
        raise Bad(f"'{show(path[:200])}' removes nothing")
    return Entry(folder + b"/" + removed if folder else removed, "whiteout")


def _link(path: bytes, kind: Kind, target: bytes) -> bytes:
    if kind == "symlink":
        if not 0 < len(target) <= MAX_TARGET or b"\0" in target:
            raise Bad(f"the target of '{show(path)}' is {'malformed' if target else 'empty'}")
        return target
    if kind == "hardlink":
        linked = _normal(target)
        if not linked or linked == path:
            raise Bad(f"hard link '{show(path)}' names no other file")
        return linked
    return b""


def _device(path: bytes, kind: Kind, rdev: tuple[int, int]) -> tuple[int, int]:
    if kind not in ("char", "block"):
        return (0, 0)
    if not (0 <= rdev[0] < 1 << 12 and 0 <= rdev[1] < 1 << 20):
        raise Bad(f"'{show(path)}' has a device number out of range")
    if kind == "char" and rdev == (0, 0):
        # On disk it would remove the file of this name below: that is overlay's mark.
        raise Bad(f"'{show(path)}' is a character device 0:0, which stands for a removed file")
    return rdev


def _time(member: Member) -> int:
    value = member.records.get(b"mtime")
    time = nanoseconds(value) if value else member.header.mtime * 10**9
    return min(max(time, _TIMES[0]), _TIMES[1])


def _xattrs(path: bytes, kind: Kind, records: dict[bytes, bytes], tell: Warn) -> tuple[tuple[bytes, bytes], ...]:
    out = []
    for keyword, value in records.items():
        if keyword.startswith((b"SCHILY.acl.", b"RHT.security.selinux")):
            tell(f"{show(path)}: {show(keyword)} is left out")
        if not keyword.startswith(_XATTR):
            continue
        name = keyword[len(_XATTR) :]
        if not name or len(name) > MAX_NAME or b"\0" in name or len(value) > MAX_XATTR:
            raise Bad(f"'{show(path)}' has an extended attribute out of range")
        if name.startswith((b"user.overlay.", b"trusted.overlay.")):
            continue
        if name.startswith(b"user.pybuild."):
            # In a folder it would be a note of ours.
            tell(f"{show(path)}: extended attribute '{show(name)}' is left out")
            continue
        # The kernel takes user.* on files and folders alone (xattr(7)), and capabilities on files.
        if (name == b"security.capability" and kind in ("file", "hardlink")) or (
            name.startswith(b"user.") and kind in ("file", "dir", "hardlink")
        ):
            out.append((name, value))
        else:
            tell(f"{show(path)}: extended attribute '{show(name)}' is left out")
    return tuple(sorted(out))
