"""All that comparing two images gave, and what it comes to. Pure."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from builder.verify.difference import FieldChange, FileChange, LayerPair

    Verdict = Literal["identical", "diff-ids", "semantic", "different"]
    Require = Literal["manifest", "diff-ids", "semantic"]

WORDS: dict[Verdict, str] = {
    "identical": "identical",
    "diff-ids": "the same layers (diff IDs), but another config or manifest",
    "semantic": "semantically equal: the same files and config in other layers",
    "different": "different",
}
_MAKING = ("manifest.", "history", "config.created")


class Instruction(NamedTuple):
    """What made a layer: its line of history, and where that stands, if this store has built it."""

    text: str
    dockerfile: str = ""
    line: int = 0


class LayerSide(NamedTuple):
    diff_id: str
    made: Instruction
    digest: str = ""
    """Of its blob; empty where none is known."""


class Side(NamedTuple):
    """One of the two images."""

    name: str
    """As the user wrote it."""
    where: str
    """`store`, `registry`, or the kind of archive."""
    id: str
    """The digest of its config."""
    manifest: str
    """The digest of its manifest; empty for none."""
    platform: str
    layers: tuple[LayerSide, ...]

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self.layers)


class Comparison(NamedTuple):
    a: Side
    b: Side
    verdict: Verdict
    fields: tuple[FieldChange, ...]
    layers: tuple[LayerPair, ...]
    files: tuple[FileChange, ...]
    ignored_fields: int = 0
    ignored_files: int = 0
    notes: tuple[str, ...] = ()
    """What could not be compared, or was chosen."""

    def meets(self, require: Require) -> bool:
        """Whether this is what was asked for. Two images of the same layers are not equal where their configs differ, and the
        other way round: each is asked for by its own name."""
        match require:
            case "manifest":
                return self.verdict == "identical"
            case "diff-ids":
                return self.a.diff_ids == self.b.diff_ids
            case "semantic":
                return self.verdict == "identical" or not (self.files or counted(self.fields))


def judge(a: Side, b: Side, fields: Sequence[FieldChange], files: Sequence[FileChange]) -> Verdict:
    """`fields` and `files` are what is left after what is ignored."""
    # Docker's archives have no manifest: the config, which names every layer, is the proof then.
    if a.id == b.id and (a.manifest == b.manifest or not (a.manifest and b.manifest)):
        return "identical"
    if a.diff_ids == b.diff_ids:
        return "diff-ids"
    return "different" if files or counted(fields) else "semantic"


def counted(fields: Sequence[FieldChange]) -> list[FieldChange]:
    """The fields that say something of what the image is: not how its layers are packed, described, and were made."""
    return [change for change in fields if not change.field.startswith(_MAKING)]
