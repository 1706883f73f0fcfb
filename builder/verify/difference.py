"""What differs, as values."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from builder.layers.entry import Entry

    Kind = Literal["added", "removed", "changed"]
    By = Literal["diff-id", "history", "place", ""]

ASPECTS = ("type", "mode", "owner", "size", "content", "mtime", "xattrs", "target", "links", "device", "true-mtime")
"""What two files can differ in. `mtime` is the time that ships; `true-mtime` is that of the store's own copy, which ships with
nothing and never makes a difference alone."""

METADATA = ("mode", "owner", "mtime", "xattrs", "links", "true-mtime")
"""Of these no byte of a file says anything."""


class FieldChange(NamedTuple):
    """A field of the config, the manifest or the history. The values are JSON; None where a side has no such field."""

    field: str
    a: str | None
    b: str | None


class Aspect(NamedTuple):
    name: str
    a: str
    b: str


class Finding(NamedTuple):
    """A known cause (`patterns.PATTERNS`)."""

    pattern: str
    inside: str = ""
    """Where in the file: the member of an archive, members of members after a `!`."""
    detail: str = ""


class FileChange(NamedTuple):
    """A path of the merged trees. An entry is None where that side has no such path; a layer is the number (from 0) of the
    one that the entry came from, -1 for none."""

    path: bytes
    kind: Kind
    aspects: tuple[Aspect, ...] = ()
    a: Entry | None = None
    b: Entry | None = None
    layer_a: int = -1
    layer_b: int = -1
    findings: tuple[Finding, ...] = ()
    diff: tuple[str, ...] = ()
    """Lines that show what differs, where no finding says it all."""
    complete: bool = False
    """The findings say all that the contents differ in."""


class LayerPair(NamedTuple):
    """Layers that stand for one another; None where a side has none. `by` is what made them a pair."""

    a: int | None
    b: int | None
    by: By = ""
    findings: tuple[Finding, ...] = ()
    """How two tars differ that hold the same files."""
