"""What a COPY took, file by file, in so few lines that an image can carry them: names, and short marks of what is there. Pure.

A mark names what differs and proves nothing: the content digest does that. Where there are too many files, the deepest folders
stand for all that is in them, and a longer listing can be brought to the depth of a shorter one afterwards.
"""

from __future__ import annotations

from builder.hashing import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Rows = tuple[tuple[str, str], ...]
    """Paths, sorted, and the mark of each: sixteen hexadecimal digits. A path with a slash at its end is all in the folder."""

MOST = 2000
"""Rows of one listing."""
LONGEST = 96 << 10
"""Characters of one listing, its paths and marks."""
FILES = 20_000
"""More than these are not listed: it would take longer than it helps."""


def mark(text: bytes) -> str:
    """Of all that is known of one file."""
    return sha256(text).hexdigest()[:16]


def listing(marks: Mapping[str, str]) -> Rows:
    """The rows for files and folders by their paths; none where no folder is high enough to be few."""
    depth = max(map(_depth, marks), default=0)
    rows = dict(marks)
    while depth and not _fits(rows):
        depth -= 1
        rows = _folded(rows, depth)
    return tuple(sorted(rows.items())) if depth else ()


def changes(then: Rows, now: Rows) -> tuple[tuple[str, str], ...]:
    """What differs, by path: `changed`, `added` or `removed`. A folder that stands for what it holds has a slash at its end."""
    # Folders stand for their files down to the same depth on both sides; all of a side's are as deep.
    shallow = [_depth(path) for path, _ in (*then, *now) if path.endswith("/")]
    a, b = dict(then), dict(now)
    if shallow:
        a, b = _folded(a, min(shallow)), _folded(b, min(shallow))
    found = []
    for path in sorted(a.keys() | b.keys()):
        if path not in b:
            found.append((path, "removed"))
        elif path not in a:
            found.append((path, "added"))
        elif a[path] != b[path]:
            found.append((path, "changed"))
    return tuple(found)


def _depth(path: str) -> int:
    return path.rstrip("/").count("/") + 1


def _fits(rows: Mapping[str, str]) -> bool:
    return len(rows) <= MOST and sum(map(len, rows)) + 16 * len(rows) <= LONGEST


def _folded(rows: Mapping[str, str], depth: int) -> dict[str, str]:
    """Nothing deeper than `depth` names. Level by level, so that it may be done in several goes."""
    left = dict(rows)
    deepest = max(map(_depth, left), default=0)
    for level in range(deepest, depth, -1):
        within: dict[str, list[str]] = {}
        for path in [path for path in left if _depth(path) == level]:
            folder, _, name = path.rstrip("/").rpartition("/")
            name += "/" * path.endswith("/")
            within.setdefault(folder + "/", []).append(f"{name}\0{left.pop(path)}")
        for folder, held in within.items():
            left[folder] = mark("\0\0".join(sorted(held)).encode("utf-8", "surrogatepass"))
    return left
