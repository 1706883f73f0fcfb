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
    levels = _levels(marks)
    depth = max(levels, default=0)
    count, size = len(marks), sum(map(len, marks))
    while depth and (count > MOST or size + 16 * count > LONGEST):
        gone = levels[depth]
        folders = _fold(levels, depth)
        count += len(folders) - len(gone)
        size += sum(map(len, folders)) - sum(map(len, gone))
        depth -= 1
    return tuple(sorted((path, mark) for rows in levels.values() for path, mark in rows.items())) if depth else ()


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


def _levels(rows: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """By how deep they are."""
    levels: dict[int, dict[str, str]] = {}
    for path, known in rows.items():
        levels.setdefault(_depth(path), {})[path] = known
    return levels


def _fold(levels: dict[int, dict[str, str]], level: int) -> dict[str, str]:
    """What is so deep, and is the deepest, becomes folders a level higher, which are returned."""
    within: dict[str, list[str]] = {}
    for path, known in levels.pop(level, {}).items():
        folder, _, name = path.rstrip("/").rpartition("/")
        name += "/" * path.endswith("/")
        within.setdefault(folder + "/", []).append(f"{name}\0{known}")
    folders = {folder: mark("\0\0".join(sorted(held)).encode("utf-8", "surrogatepass")) for folder, held in within.items()}
    levels.setdefault(level - 1, {}).update(folders)
    return folders


def _folded(rows: Mapping[str, str], depth: int) -> dict[str, str]:
    """Nothing deeper than `depth` names. Level by level, so that it may be done in several goes."""
    levels = _levels(rows)
    for level in range(max(levels, default=0), depth, -1):
        _fold(levels, level)
    return {path: known for each in levels.values() for path, known in each.items()}
