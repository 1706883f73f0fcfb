"""ADD of a local archive: what counts as one, and its members with their content at hand."""

from __future__ import annotations

import hashlib
import os

from builder.cancellation import NEVER
from builder.errors import BuildError
from builder.layers.compression import decompress, is_tar, sniff
from builder.layers.names import show
from builder.layers.source import changed, open_source
from builder.layers.tarreader import read_tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.cancellation import Cancellation
    from builder.engine.placement import Unpack
    from builder.engine.selection import Picked
    from builder.layers.entry import Item

_HEADER = 512
"""Bytes of a tar header: what has one at its start, decompressed, is an archive."""


def unpacker(scratch: str, warn: Callable[[str], None], stop: Cancellation = NEVER) -> Unpack:
    """A function from a file to the members of the tar that it is, compressed or not, by content and not by name; None for
    any other file. The uncompressed tar lies in the folder `scratch`, which must live until the members are read.

    The function raises BuildError, with the place of the source, for an archive that is damaged, and Interrupted once `stop`
    was cancelled.
    """
    count = 0

    def unpack(picked: Picked) -> list[Item] | None:
        nonlocal count
        if picked.top.source is None or not _may_be_archive(picked):
            return None
        count += 1
        name = show(picked.name)
        packed, tar = os.path.join(scratch, f"packed-{count}"), os.path.join(scratch, f"tar-{count}")
        try:
            if not _decompress(_copied(picked, packed, stop), packed, tar, name, stop):
                return None
            return list(read_tar(tar, whiteouts=False, warn=warn, name=name))
        except BuildError as error:
            error.span = error.span or picked.span
            raise

    return unpack


def _may_be_archive(picked: Picked) -> bool:
    assert picked.top.source is not None
    head = next(open_source(picked.top.source), b"")
    return bool(sniff(head)) or is_tar(head[:_HEADER])


def _copied(picked: Picked, path: str, stop: Cancellation) -> bytes:
    """Copy the archive, checked, so that nobody changes it while its members are read; its first bytes."""
    item = picked.top
    assert item.source is not None
    head = b""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for chunk in open_source(item.source):
            stop.check()
            head = head or chunk[:_HEADER]
            digest.update(chunk)
            file.write(chunk)
    if item.entry.digest and digest.hexdigest() != item.entry.digest:
        raise changed(picked.name)
    return head


def _decompress(head: bytes, packed: str, tar: str, name: str, stop: Cancellation) -> bool:
    """False, and no more work than needed, for a compressed file that is no tar: it is copied as it is."""
    if not sniff(head):
        os.rename(packed, tar)
        return True
    start = bytearray()

    class NoTar(Exception):
        """Raised to leave the decompressor early."""

    with open(tar, "wb") as file:

        def write(data: bytes) -> None:
            stop.check()
            if len(start) < _HEADER:
                start.extend(data[: _HEADER - len(start)])
                if len(start) == _HEADER and not is_tar(bytes(start)):
                    raise NoTar
            file.write(data)

        try:
            decompress(packed, write, name=name)
        except NoTar:
            return False
        except BuildError:
            # What is damaged before its first header shows a tar is a file like any other, as for Docker.
            if len(start) < _HEADER:
                return False
            raise
    os.unlink(packed)
    return len(start) == _HEADER
