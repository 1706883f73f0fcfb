"""Comparing a layer's folder, or its tar, with its index: entries, metadata, contents.

True times are not compared: a folder has its own, and several folders may share an index (SPEC section 5). Folders that the
index leaves out, since they lie above what it has, are as the base had them.
"""

from __future__ import annotations

from builder.errors import BuildError
from builder.layers.entry import FileSource, Item
from builder.layers.names import show
from builder.layers.scan import scan
from builder.layers.source import ContentChanged
from builder.layers.tarreader import read_tar
from builder.layers.tarwriter import write_layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.layers.entry import Entry, Source


def folder_fault(folder: str, entries: Sequence[Entry], diff_id: str) -> str:
    """What is wrong with the folder of a layer whose index has `entries`; empty for nothing. `diff_id` is compared, too, where
    the layer is one of ours; empty: it is not. Raises OSError."""
    try:
        known = {entry.path: entry for entry in entries}
        found = [item.entry for item in scan(folder, owners="keep", overlay=True, known=known.get)]
        fault = _metadata_fault(entries, found)
        if fault:
            return fault
        sources = {entry.path: FileSource(folder, entry.path) for entry in entries if entry.kind == "file"}
        return _content_fault(entries, sources, diff_id)
    except BuildError as error:
        return _told(error)


def tar_fault(tar: str, entries: Sequence[Entry], diff_id: str) -> str:
    """The same for the uncompressed tar of a layer of ours."""
    try:
        sources = {item.entry.path: item.source for item in read_tar(tar, whiteouts=True) if item.source is not None}
        if any(entry.kind == "file" and entry.path not in sources for entry in entries):
            return "its tar lacks a file of its index"
        return _content_fault(entries, sources, diff_id)
    except BuildError as error:
        return _told(error)


def _content_fault(entries: Iterable[Entry], sources: Mapping[bytes, Source], diff_id: str) -> str:
    # The writer knows no opaque marks, which only layers of others have.
    written = [entry for entry in entries if entry.kind != "opaque"]
    summary = write_layer([Item(entry, sources[entry.path] if entry.kind == "file" else None) for entry in written], None)
    if diff_id and str(summary.diff_id) != diff_id:
        return f"its index gives another layer: {summary.diff_id}"
    return ""


def _told(error: BuildError) -> str:
    return f"the content of '{error.name}' is not what was put there" if isinstance(error, ContentChanged) else error.message


def _metadata_fault(wanted: Sequence[Entry], found: Sequence[Entry]) -> str:
    here = {_place(entry): entry for entry in found}
    known = {_place(entry) for entry in wanted}
    groups, found_groups = _groups(wanted), _groups(found)
    for entry in wanted:
        name = show(entry.path)
        other = here.get(_place(entry))
        if other is None:
            # The root's metadata may be the default, which a folder need not say.
            if entry.path or entry.kind == "opaque":
                return f"'{name}' is missing"
            continue
        if entry.kind in ("whiteout", "opaque"):
            continue
        for what, value, seen in _fields(entry, other):
            if value != seen:
                return f"'{name}' has another {what} than its index says"
        if entry.kind in ("file", "hardlink") and groups.get(entry.path) != found_groups.get(entry.path):
            return f"'{name}' has other hard links than its index says"
    above = {parent for entry in wanted for parent in _above(entry.path)}
    for entry in found:
        if _place(entry) not in known and not (entry.kind == "dir" and entry.path in above):
            return f"'{show(entry.path)}' is there and not in its index"
    return ""


def _place(entry: Entry) -> tuple[bytes, bool]:
    """An opaque mark is an entry beside its folder's own."""
    return entry.path, entry.kind == "opaque"


def _fields(wanted: Entry, found: Entry) -> list[tuple[str, object, object]]:
    # Among hard links the owner of the content may be another one, and links to what is no file are not seen as such.
    kinds = ("file", "hardlink")
    same_kind = wanted.kind == found.kind or (wanted.kind in kinds and found.kind in kinds) or wanted.kind == "hardlink"
    out: list[tuple[str, object, object]] = [
        ("type", True, same_kind),
        ("owner", (wanted.uid, wanted.gid), (found.uid, found.gid)),
        ("set of extended attributes", wanted.xattrs, found.xattrs),
    ]
    if found.kind != "symlink":
        out.append(("mode", wanted.mode, found.mode))
    if found.kind in kinds:
        out.append(("size", wanted.size, found.size))
    if wanted.kind == "symlink":
        out.append(("target", wanted.link, found.link))
    if wanted.kind in ("char", "block"):
        out.append(("device number", wanted.rdev, found.rdev))
    return out


def _groups(entries: Iterable[Entry]) -> dict[bytes, frozenset[bytes]]:
    """By path, all paths that share its content, where there are others."""
    owners: dict[bytes, set[bytes]] = {}
    for entry in entries:
        if entry.kind == "hardlink":
            owners.setdefault(entry.link, {entry.link}).add(entry.path)
    return {path: frozenset(group) for group in owners.values() for path in group}


def _above(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"", *(b"/".join(parts[:end]) for end in range(1, len(parts)))]
