"""Comments that describe a stage or an ARG: `# name what it is`, right above its FROM or ARG. Pure.

Source: moby/buildkit, frontend/dockerfile/parser/parser.go (an instruction's comments are the lines directly above it; an empty
line ends them, and so does a `#` alone) and instructions/parse.go (the first one that begins with the name and a space).
"""

from __future__ import annotations

from builder.dockerfile.space import SPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.errors import SourceFile


class Comments:
    """The comments of one text. `text` is split once: a Dockerfile may have thousands of ARGs."""

    def __init__(self, source: SourceFile) -> None:
        self._lines = source.text.split("\n")

    def above(self, line: int) -> list[str]:
        """The comments directly above line `line` (from 1), top first, without `#` and the space around."""
        first = line - 1
        while first > 0 and (text := self._lines[first - 1].strip(SPACE)).startswith("#") and text != "#":
            first -= 1
        return [text.strip(SPACE)[1:].strip(SPACE) for text in self._lines[first : line - 1]]

    def description(self, name: str, line: int) -> str:
        """What the comments above say of `name`; empty when they do not, or when there is no name."""
        found = (text[len(name) + 1 :] for text in self.above(line) if text.startswith(f"{name} "))
        return next(found, "") if name else ""
