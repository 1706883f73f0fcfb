"""What a user says that does not count. Pure."""

from __future__ import annotations

from builder.errors import UsageError, did_you_mean
from builder.values import NamedTuple
from builder.verify.configs import matches
from builder.verify.difference import ASPECTS
from builder.verify.patterns import PATTERNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.verify.difference import FieldChange, FileChange

_FIELDS = ("config", "history", "annotations", "manifest")
_HINT = "one of: mtime, mode, owner, xattrs, history, annotations, config.FIELD, /PATH/GLOB, or a name of the catalogue"


def _none(path: bytes) -> bool:
    return False


class Ignores(NamedTuple):
    names: frozenset[str] = frozenset()
    """Aspects of files and patterns of the catalogue."""
    fields: tuple[str, ...] = ()
    """With all that is part of them."""
    path: Callable[[bytes], bool] = _none

    def field(self, change: FieldChange) -> bool:
        return any(matches(change.field, wanted) for wanted in self.fields)

    def rest(self, change: FileChange) -> FileChange | None:
        """What of a change counts; None for nothing."""
        if self.path(change.path):
            return None
        explained = change.complete and bool(change.findings) and all(one.pattern in self.names for one in change.findings)
        if change.kind != "changed":
            return None if explained else change
        gone = self.names | {"content", "size"} if explained else self.names
        aspects = tuple(aspect for aspect in change.aspects if aspect.name not in gone)
        if not any(aspect.name != "true-mtime" for aspect in aspects):
            return None
        if explained or not any(aspect.name == "content" for aspect in aspects):
            return change._replace(aspects=aspects, findings=(), diff=(), complete=False)
        return change._replace(aspects=aspects)


def parse_ignores(texts: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...]]:
    """Names, fields, and globs of paths, without their `/` in front. Several names may share one text, with commas between.
    Raises UsageError for what is none of them."""
    names: list[str] = []
    fields: list[str] = []
    globs: list[str] = []
    for text in texts:
        if text.startswith("/"):
            globs.append(text[1:])
            continue
        for name in text.split(","):
            name = name.strip()
            if name in ASPECTS or name in PATTERNS:
                names.append(name)
            elif any(matches(name, field) for field in _FIELDS):
                fields.append(name)
            else:
                near = did_you_mean(name, (*ASPECTS, *PATTERNS, *_FIELDS))
                raise UsageError(f"'{name}' is nothing that can be ignored", hint=near or _HINT)
    return frozenset(names), tuple(fields), tuple(globs)
