"""The one canonical tar writer (SPEC section 5): items in, bytes and their diff ID out, in one pass.

The choices beside those of `tarheader`: every entry has the same time; the root is `./`; a whiteout is an empty regular file
`.wh.NAME` with mode, owner and group 0; a hard link follows the path that owns its content, has size 0 and repeats the extended
attributes (unpackers chown every link, and the kernel drops security.capability at a chown); the archive ends with two zero
blocks and nothing after them.
"""

from __future__ import annotations

from builder import hashing
from builder.cancellation import NEVER
from builder.errors import BuildError
from builder.layers import tarheader
from builder.layers.entry import EPOCH, Entry, FileSource
from builder.layers.names import member, show
from builder.layers.order import link_to
from builder.layers.source import CHUNK, Sources, changed
from builder.oci.digest import Digest
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from builder.cancellation import Cancellation
    from builder.hashing import Hash
    from builder.layers.codec import Columns
    from builder.layers.entry import Item, Source
    from builder.layers.readahead import Read

    class Reader(Protocol):
        """Who wants to know what was read (`builder.context.directory.DirectoryContext`)."""

        def opened(self, source: FileSource, file: int, info: os.stat_result) -> None: ...

        def learn_beside(self, source: FileSource, opened: tuple[int, int, int], may_be_written: bool, digest: str) -> None: ...

        def learn(self, source: FileSource, digest: str) -> None: ...


_FLUSH = 256 * 1024
_PADDING = bytes(tarheader.BLOCK)
_TYPES = {
    "symlink": tarheader.SYMLINK,
    "fifo": tarheader.FIFO,
    "char": tarheader.CHAR,
    "block": tarheader.BLOCK_DEVICE,
}


class LayerSum(NamedTuple):
    """What a written layer is: the sha256 of its tar, the tar's bytes, and its entries with digests."""

    diff_id: Digest
    size: int
    entries: Columns


def write_layer(
    items: Iterable[Item],
    write: Callable[[bytes], object] | None,
    *,
    mtime: int | None = EPOCH,
    stop: Cancellation = NEVER,
    reader: Reader | None = None,
    links: bool = True,
) -> LayerSum:
    """Write the items, which are in canonical order, as one tar; `write=None` only hashes, and `write` may be called on another
    thread. `reader` is told of each `FileSource` when it is open, and of what was in it. Without `links` no item is a hard
    link, and nothing is kept of what one might name. `mtime` is in seconds; None: each entry's own time, which is for outputs
    and never for a layer.

    The entries come back as they were written: digests filled in, hard links repeating the entry that they name. Raises
    BuildError where a content's size or known digest is not the entry's, and for names that begin with `.wh.`;
    ValueError for items that break the contract of `Item` or the order; Interrupted once `stop` was cancelled; OSError of
    `write` and of reading propagates.
    """
    from contextlib import closing  # for those who make layers
    from hashlib import sha256

    from builder.layers.codec import Columns
    from builder.layers.pipeline import Pipeline
    from builder.layers.readahead import members

    digest = sha256()
    entries = Columns()

    def take(data: bytes) -> None:
        digest.update(data)
        if write is not None:
            write(data)

    with Pipeline(take) as pipeline:
        tar = _Tar(pipeline.put, sha256)
        opened = reader.opened if reader is not None else None
        with closing(members(items, mtime=mtime, leases=reader is not None)) as pairs:
            _put_all(tar, pairs, mtime, Sources(stop, opened), entries, reader, links=links)
        tar.finish()
    return LayerSum(Digest("sha256", digest.hexdigest()), tar.size, entries)


def write_archive(items: Iterable[Item], write: Callable[[bytes], object], *, mtime: int | None = EPOCH) -> None:
    """The same tar, for outputs: nobody asks for its digest."""
    tar = _Tar(write, hashing.sha256)
    # Large blobs, which nobody is to hand on from process to process.
    _put_all(tar, ((item, None) for item in items), mtime, Sources())
    tar.finish()


def tar_size(items: Iterable[Item]) -> int:
    """Bytes of the tar that `write_layer` makes of the items with the constant time. Raises BuildError and ValueError for some
    of what that refuses."""
    size = 2 * tarheader.BLOCK
    odd: dict[bytes, Entry] = {}
    for entry, _ in items:
        path, kind, _, uid, gid, length, _, link, _, xattrs, _ = entry
        if kind == "file":
            size += (length + tarheader.BLOCK - 1) & -tarheader.BLOCK
        if not tarheader.is_plain(path, link, uid, gid, length, xattrs):
            odd[path] = entry
        elif kind != "hardlink" or link not in odd:
            size += tarheader.BLOCK
            continue
        if kind == "hardlink":
            # It repeats the entry that it names.
            size += len(_header(link_to(odd.get(link) or Entry(link, "file"), path), tarheader.HARDLINK, EPOCH))
        elif kind == "file":
            size += len(_header(entry, tarheader.FILE, EPOCH))
        else:
            size += len(_other(entry, member(entry), EPOCH))
    return size


def digested(items: Iterable[Item], *, stop: Cancellation = NEVER) -> Columns:
    """The entries that `write_layer` gives, without a tar: for a layer whose diff ID is known. Raises as `write_layer`."""
    from contextlib import closing  # for those who make layers
    from hashlib import sha256

    from builder.layers.codec import Columns
    from builder.layers.readahead import members

    entries = Columns()
    with closing(members(items, mtime=EPOCH, leases=False)) as pairs:
        _put_all(_Nowhere(bytes, sha256), pairs, EPOCH, Sources(stop), entries)
    return entries


def _put_all(
    tar: _Tar,
    items: Iterable[tuple[Item, Read | None]],
    mtime: int | None,
    sources: Sources,
    entries: Columns | None = None,
    reader: Reader | None = None,
    *,
    links: bool = True,
) -> None:
    owners: dict[bytes, Entry] = {}
    last: bytes | None = None
    with sources:
        for item, read in items:
            sources.stop.check()
            entry = item.entry
            name = member(entry)
            if last is not None and name <= last:
                raise ValueError(f"'{show(name)}' stands after '{show(last)}'")
            last = name
            _check(entry, item.source)
            time = entry.mtime // 10**9 if mtime is None else mtime
            digest = entry.digest
            if entry.kind == "file" and item.source is not None:
                if read is not None:
                    digest = _put_read(tar, entry, read)
                    if reader is not None and isinstance(item.source, FileSource):
                        reader.learn_beside(item.source, (read.inode, read.ctime, read.size), read.may_be_written, digest)
                else:
                    digest = _write_file(tar, sources, entry, item.source, time)
                    if reader is not None and isinstance(item.source, FileSource):
                        reader.learn(item.source, digest)
                if links and entry.digest != digest:
                    # A hard link repeats it.
                    entry = _with_digest(entry, digest)
            elif entry.kind == "hardlink":
                owner = owners.get(entry.link)
                if owner is None:
                    raise ValueError(f"hard link '{show(entry.path)}' names no earlier entry")
                entry = link_to(owner, entry.path)
                digest = entry.digest
                tar.put(_header(entry, tarheader.HARDLINK, time))
            else:
                tar.put(_other(entry, name, time))
            if links and entry.kind not in ("dir", "hardlink", "whiteout"):
                owners[entry.path] = entry
            if entries is not None:
                entries.add(entry, digest)


class _Tar:
    """The archive so far. Small parts are gathered: a call of the hash and of `write` costs more than joining them."""

    def __init__(self, write: Callable[[bytes], object], sha256: Callable[[bytes], Hash]) -> None:
        """`sha256` is for the content of files."""
        self._write = write
        self.sha256 = sha256
        self._parts: list[bytes] = []
        self._waiting = 0
        self.size = 0

    def put(self, part: bytes) -> None:
        self._parts.append(part)
        self._waiting += len(part)
        if self._waiting >= _FLUSH:
            self._flush()

    def put_file(self, header: bytes, data: bytes) -> None:
        """A small file, padded."""
        padding = -len(data) % tarheader.BLOCK
        self._parts += (header, data, _PADDING[:padding])
        self._waiting += len(header) + len(data) + padding
        if self._waiting >= _FLUSH:
            self._flush()

    def put_large(self, part: bytes) -> None:
        """The same without joining it to others: a copy saved."""
        self._flush()
        self.put(part)

    def finish(self) -> None:
        self.put(bytes(2 * tarheader.BLOCK))
        self._flush()

    def _flush(self) -> None:
        if not self._parts:
            return
        data = b"".join(self._parts) if len(self._parts) > 1 else self._parts[0]
        self._write(data)
        self.size += len(data)
        self._parts.clear()
        self._waiting = 0


class _Nowhere(_Tar):
    """Nothing is written, nor hashed as a whole."""

    def put(self, part: bytes) -> None:
        pass

    def put_file(self, header: bytes, data: bytes) -> None:
        pass

    def put_large(self, part: bytes) -> None:
        pass


def _check(entry: Entry, source: Source | None) -> None:
    path = entry.path
    # Five times as fast as the expression, which few paths need.
    if path and (b"/." in path or path[0] in b"./" or b"//" in path or path[-1] == 47 or b"\0" in path):
        _check_path(path)
    if (source is None) != (entry.kind != "file"):
        raise ValueError(f"'{show(entry.path)}' is a {entry.kind} {'without' if source is None else 'with'} content")
    if not (0 <= entry.mode <= 0o7777 and 0 <= entry.uid < 0xFFFFFFFF and 0 <= entry.gid < 0xFFFFFFFF and entry.size >= 0):
        raise ValueError(f"'{show(entry.path)}' has a mode, owner or size out of range")


def _check_path(path: bytes) -> None:
    if b"/.wh." in b"/" + path:
        raise BuildError(
            f"'{show(path)}' cannot be stored in an image: names that begin with '.wh.' mark removed files", hint="rename it"
        )
    whole = b"/%b/" % path
    # No component may be empty, `.` or `..`. A regular expression would be no faster, and `re` costs 6 ms at start.
    if b"//" in whole or b"/./" in whole or b"/../" in whole or b"\0" in path:
        raise ValueError(f"'{show(path)}' is not a canonical path")


def _write_file(tar: _Tar, sources: Sources, entry: Entry, source: Source, mtime: int) -> str:
    """Write header, content and padding; returns the content's sha256 in hex."""
    size = entry.size
    header = _header(entry, tarheader.FILE, mtime)
    if size <= CHUNK:
        data = sources.small(source, size)
        seen = len(data)
        digest = tar.sha256(data).hexdigest()
        tar.put_file(header, data)
    else:
        tar.put(header)
        content = hashing.hasher("sha256")
        seen = 0
        for chunk in sources.chunks(source):
            seen += len(chunk)
            # A file that grows without end must not fill the disk.
            if seen > size:
                break
            content.update(chunk)
            tar.put_large(chunk)
        digest = content.hexdigest()
        if size % tarheader.BLOCK:
            tar.put(bytes(-size % tarheader.BLOCK))
    if seen != size or (entry.digest and entry.digest != digest):
        raise changed(entry.path)
    return digest


def _put_read(tar: _Tar, entry: Entry, read: Read) -> str:
    """The same of a file that was read already."""
    if read.length != entry.size or (entry.digest and entry.digest != read.digest):
        raise changed(entry.path)
    tar.put(read.member)
    return read.digest


def _other(entry: Entry, name: bytes, mtime: int) -> bytes:
    """The header of an entry that is neither file nor hard link."""
    kind = entry.kind
    if kind == "dir":
        return tarheader.header(
            name + b"/" if name else b"./",
            tarheader.FOLDER,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            mtime=mtime,
            xattrs=entry.xattrs,
        )
    if not name:
        raise ValueError("the root of a layer is a folder")
    if kind == "whiteout":
        return tarheader.header(name, tarheader.FILE, mode=0, mtime=mtime)
    if kind == "opaque":
        raise ValueError("opaque marks are read, never written")
    if kind == "symlink" and not entry.link:
        raise ValueError(f"'{show(name)}' is a symlink to nothing")
    if kind in ("char", "block") and not (0 <= entry.rdev[0] < 1 << 12 and 0 <= entry.rdev[1] < 1 << 20):
        raise ValueError(f"'{show(name)}' is no device of Linux")
    if kind == "char" and entry.rdev == (0, 0):
        # Anybody may make one, and the upper folder of an overlay mount holds some.
        raise BuildError(
            f"'{show(name)}' cannot be stored in an image: a character device 0:0 is overlayfs' mark of a removed file",
            hint="remove it",
        )
    return _header(entry, _TYPES[kind], mtime)


def _header(entry: Entry, kind: bytes, mtime: int) -> bytes:
    owns_link = kind in (tarheader.SYMLINK, tarheader.HARDLINK)
    return tarheader.header(
        entry.path,
        kind,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size if kind == tarheader.FILE else 0,
        mtime=mtime,
        link=entry.link if owns_link else b"",
        rdev=entry.rdev if kind in (tarheader.CHAR, tarheader.BLOCK_DEVICE) else (0, 0),
        xattrs=entry.xattrs,
    )


def _with_digest(entry: Entry, digest: str) -> Entry:
    # Written out: `_replace` costs three times as much.
    path, kind, mode, uid, gid, size, _, link, rdev, xattrs, mtime = entry
    return Entry(path, kind, mode, uid, gid, size, digest, link, rdev, xattrs, mtime)
