"""Names of a layer: the whiteout prefix, the order of members, and how a path is shown to a person. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.layers.entry import Entry

WHITEOUT = b".wh."
"""Prefix of the empty file that removes its sibling (OCI image-spec layer.md, "Whiteouts")."""

OPAQUE = b".wh..wh..opq"
"""The file that hides what lower layers hold in its folder (OCI image-spec layer.md, "Opaque Whiteout")."""

MAX_PATH = 4096
"""Bytes of a path (PATH_MAX)."""
MAX_NAME = 255
"""Bytes between two slashes (NAME_MAX)."""


def show(path: bytes) -> str:
    """The path for an error message; bytes that are not UTF-8 become `\\xNN`."""
    return path.decode("utf-8", "backslashreplace")


def member(entry: Entry) -> bytes:
    """The entry's name as it stands in the tar, without a trailing slash; `b""` for the root. This is the sort key."""
    kind = entry.kind
    if kind == "whiteout":
        folder, slash, name = entry.path.rpartition(b"/")
        return folder + slash + WHITEOUT + name
    if kind == "opaque":
        return entry.path + b"/" + OPAQUE if entry.path else OPAQUE
    return entry.path
