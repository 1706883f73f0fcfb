"""A root file system becomes an image of one layer: `pybuild import`."""

from __future__ import annotations

import os
from collections.abc import Callable

from builder.engine.bases import CONFIG_LIMIT
from builder.engine.roots import Root, Roots
from builder.errors import BuildError, UsageError
from builder.layers.compression import decompress, is_tar
from builder.layers.entry import EPOCH, Item
from builder.layers.scan import scan
from builder.oci.digest import Digest
from builder.oci.image import ImageConfig, assemble
from builder.oci.platform import Platform
from builder.store.store import Store

CREATED = "1980-01-02T00:00:00Z"


def import_image(source: str, store: Store, platform: Platform, *, warn: Callable[[str], None]) -> Digest:
    """The id of the image that holds `source`: a tar, compressed or not, whose owners and times are kept, or a folder, which
    gets the constant time, and 0:0 as owners unless this is root (SPEC section 6). Raises UsageError for anything else.
    """
    roots = Roots(store)
    try:
        if os.path.isdir(source):
            root = _directory(source, roots, warn)
        else:
            root = _archive(source, store, roots)
    except BuildError as error:
        if type(error) is not BuildError:
            raise
        raise UsageError(f"'{source}' cannot be imported: {error.message}", hint=error.hint) from error
    history = [{"created": CREATED, "created_by": "pybuild import", "comment": "pybuild"}] if root.layers else []
    config = assemble(ImageConfig(platform), [layer.diff_id for layer in root.layers], history, created=CREATED)
    if len(config) > CONFIG_LIMIT:
        raise AssertionError("a config of one layer is small")
    digest, _ = store.put_blob(config)
    return digest


def _directory(source: str, roots: Roots, warn: Callable[[str], None]) -> Root:
    owners = "keep" if os.geteuid() == 0 else "root"
    items = scan(source, owners=owners, warn=warn)  # type: ignore[arg-type]  # a Literal either way
    return roots.add(Root(), [Item(i.entry._replace(mtime=EPOCH * 10**9), i.source) for i in items], as_folder=False)


def _archive(source: str, store: Store, roots: Roots) -> Root:
    try:
        with store.blob_writer() as writer:
            decompress(source, writer.write)
            diff_id, size = writer.commit()
    except FileNotFoundError:
        raise UsageError(f"'{source}' does not exist", hint="give a tar archive or a folder") from None
    except PermissionError:
        raise UsageError(f"'{source}' cannot be read: permission denied") from None
    path = store.blob_path(diff_id)
    with open(path, "rb") as file:
        if size and not is_tar(file.read(512)):
            raise BuildError("it is no tar archive", hint="give a tar archive or a folder")
    return roots.add_foreign(Root(), diff_id, path)
