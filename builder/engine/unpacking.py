"""ADD of a local archive: what counts as one, and its members with their content at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from builder.engine.placement import Unpack
from builder.errors import BuildError
from builder.layers.compression import decompress, is_tar, sniff
from builder.layers.entry import Item, Source
from builder.layers.source import open_source
from builder.layers.tarreader import read_tar


def unpacker(scratch: str, warn: Callable[[str], None]) -> Unpack:
    """A function from a file to the members of the tar that it is, compressed or not, by content and not by name; None for
    any other file. The uncompressed tar lies in the folder `scratch`, which must live until the members are read.

    The function raises BuildError for an archive that is damaged.
    """
    count = 0

    def unpack(item: Item) -> list[Item] | None:
        nonlocal count
        if item.source is None or item.entry.kind != "file" or not _may_be_archive(item.source):
            return None
        count += 1
        packed, tar = os.path.join(scratch, f"packed-{count}"), os.path.join(scratch, f"tar-{count}")
        with open(packed, "wb") as file:
            for chunk in open_source(item.source):
                file.write(chunk)
        if not sniff(_head(open_source(item.source))):
            os.rename(packed, tar)
        elif not _decompress(packed, tar):
            return None
        return list(read_tar(tar, whiteouts=False, warn=warn))

    return unpack


def _may_be_archive(source: Source) -> bool:
    head = _head(open_source(source))
    return bool(sniff(head)) or is_tar(head[:512])


def _decompress(packed: str, tar: str) -> bool:
    """False, and no more work than needed, for a compressed file that is no tar: it is copied as it is."""
    head = bytearray()

    class NoTar(Exception):
        """Raised to leave the decompressor early."""

    with open(tar, "wb") as file:

        def write(data: bytes) -> None:
            if len(head) < 512:
                head.extend(data[: 512 - len(head)])
                if len(head) == 512 and not is_tar(bytes(head)):
                    raise NoTar
            file.write(data)

        try:
            decompress(packed, write)
        except NoTar:
            return False
        except BuildError:
            # What is damaged before its first header shows a tar is a file like any other, as for Docker.
            if len(head) < 512:
                return False
            raise
    return len(head) == 512


def _head(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")
