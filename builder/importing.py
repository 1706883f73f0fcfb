"""A root file system becomes an image of one layer: `pybuild import`."""

from __future__ import annotations

import hashlib
import os

from builder.engine.roots import Root, Roots, Use
from builder.errors import BuildError, UsageError
from builder.layers.compression import decompress
from builder.layers.entry import EPOCH, Item
from builder.layers.scan import scan
from builder.oci.digest import Digest
from builder.oci.image import ImageConfig, assemble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.oci.platform import Platform
    from builder.store.store import Store

_CHUNK = 1 << 20


def import_image(source: str, store: Store, platform: Platform, *, created: str, warn: Callable[[str], None]) -> Digest:
    """The id of the image that holds `source`: a tar, compressed or not, whose owners and times are kept, or a folder, which
    gets the constant time, and 0:0 as owners unless this is root (SPEC section 6). `created` is RFC 3339.

    Raises UsageError for anything else.
    """
    roots = Roots(store)
    try:
        root = _directory(source, roots, warn) if os.path.isdir(source) else _archive(source, store, roots)
    except BuildError as error:
        if type(error) is not BuildError:
            raise
        raise UsageError(error.message, hint=error.hint) from error
    history = [{"created": created, "created_by": "pybuild import", "comment": "pybuild"}] if root.layers else []
    config = assemble(ImageConfig(platform), [layer.diff_id for layer in root.layers], history, created=created)
    digest, _ = store.put_blob(config)
    return digest


def _directory(source: str, roots: Roots, warn: Callable[[str], None]) -> Root:
    owners = "keep" if os.geteuid() == 0 else "root"
    items = scan(source, owners=owners, warn=warn)  # type: ignore[arg-type]  # a Literal either way
    return roots.add(Root(), [Item(i.entry._replace(mtime=EPOCH * 10**9), i.source) for i in items], Use(as_folder=False))


def _archive(source: str, store: Store, roots: Roots) -> Root:
    """Unpacked first and kept as a blob, the form that ships, when all of it was found good."""
    _check_readable(source)
    with store.scratch() as scratch:
        tar = os.path.join(scratch, "layer.tar")
        root = roots.add_foreign(Root(), _unpacked(source, tar), tar, name=source)
        with store.blob_writer() as writer, open(tar, "rb") as file:
            while chunk := file.read(_CHUNK):
                writer.write(chunk)
            writer.commit(root.layers[-1].diff_id)
    return root


def _unpacked(source: str, tar: str) -> Digest:
    digest = hashlib.sha256()
    with open(tar, "wb") as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        decompress(source, write, name=source)
        if not file.tell():
            raise BuildError(f"'{source}' is empty", hint="give a tar archive or a folder")
    return Digest("sha256", digest.hexdigest())


def _check_readable(source: str) -> None:
    if not os.path.exists(source):
        raise UsageError(f"'{source}' does not exist", hint="give a tar archive or a folder")
    if not os.access(source, os.R_OK):
        raise UsageError(f"'{source}' cannot be read: permission denied")
