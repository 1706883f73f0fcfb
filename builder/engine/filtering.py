"""What `--exclude` and `--parents` leave of a source.

The rules are those of moby/patternmatcher, as for .dockerignore, on paths below the source (tonistiigi/fsutil, copy/copy.go): a
pattern that matches a folder holds for all below it, and the folders on the way to what is copied come along.
"""

from __future__ import annotations

from builder.dockerfile.ignore import Matcher, cleaned
from builder.plan import fields
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from builder.layers.entry import Entry

    class Folders(Protocol):
        """What is asked of a source tree, or of a merged index."""

        def lookup(self, path: bytes) -> Entry | None: ...

        def children(self, path: bytes) -> list[bytes]: ...


class Filtered(NamedTuple):
    entries: list[Entry]
    """The source and what is copied of it, bytewise by path, with the paths of its tree."""
    ways: frozenset[bytes]
    """Folders that are there for the sake of what they hold, by their path below the source."""


class Filter:
    """Which paths below a source are copied: those that `include` matches (all, when it is empty) and `exclude` does not."""

    def __init__(self, exclude: Iterable[str], include: str = "") -> None:
        self._excluded = Matcher.of(cleaned(exclude))
        self._left_out = Matcher.of([(False, "**"), (True, include)]) if include else Matcher()

    def excludes(self, name: bytes) -> bool:
        """Whether a source that is no folder is left out, by its name."""
        return self._excluded.ignored(name)

    def apply(self, source: bytes, tree: Folders) -> Filtered:
        """`source` is a canonical path of `tree`, which is there."""
        taken: dict[bytes, Entry] = {}
        passed: dict[bytes, Entry] = {}
        prefix = source + b"/" if source else b""
        open_ = [b""]
        while open_:
            path = open_.pop()
            entry = tree.lookup(prefix + path if path else source)
            if entry is None:
                continue
            if not path or self._takes(path):
                taken[path] = entry
            elif entry.kind == "dir":
                passed[path] = entry
            if entry.kind == "dir" and self._left_out.may_contain(path) and self._excluded.may_contain(path):
                open_ += [path + b"/" + name if path else name for name in tree.children(entry.path)]
        ways = _ways(taken)
        entries = [*taken.values(), *(passed[path] for path in ways)]
        return Filtered(sorted(entries, key=lambda entry: entry.path), ways)

    def _takes(self, path: bytes) -> bool:
        return not self._left_out.ignored(path) and not self._excluded.ignored(path)


def pivot(source: str) -> tuple[str, str]:
    """A source of `--parents` as the folder that it starts from and the pattern below that, both without `.` and `..`.

    The pattern is empty for all that the folder holds.
    """
    folder, there, rest = source.partition("/./")
    if not there:
        folder, rest = "", source
    return fields.join("/", folder), fields.join("/", rest)[1:]


def _ways(taken: Iterable[bytes]) -> frozenset[bytes]:
    """The folders above what is taken that are not taken themselves."""
    ways: set[bytes] = set()
    known = frozenset(taken)
    for path in known:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in ways and folder not in known:
            ways.add(folder)
            folder = folder.rpartition(b"/")[0]
    return frozenset(ways)
