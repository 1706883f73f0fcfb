"""The comments right above an instruction: descriptions, and `# check=skip=...` for that instruction alone."""

from __future__ import annotations

from contextlib import suppress

from builder.dockerfile import ast, directives
from builder.dockerfile.checks.options import parse
from builder.dockerfile.space import SPACE
from builder.dockerfile.text import split_lines
from builder.errors import DockerfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.dockerfile.checks.options import Options


def above(dockerfile: ast.Dockerfile) -> Iterator[tuple[ast.Instruction, list[str]]]:
    """Each instruction that has comments in the lines before it, and their texts without `#`, top down. An empty line and a
    `#` alone end them, and directives are none."""
    lines = split_lines(dockerfile.source)
    header = len(list(directives.header(lines)))
    floor = 0
    for instruction in dockerfile.instructions:
        found: list[str] = []
        number = instruction.span.line - 1
        while number > floor and (text := _comment(lines[number - 1])):
            if number > header or not directives.named(lines[number - 1]):
                found.append(text)
            number -= 1
        floor = last_line(instruction)
        if found:
            yield instruction, found[::-1]


def local_options(dockerfile: ast.Dockerfile) -> Iterator[tuple[int, int, Options]]:
    """First and last line of each instruction with a `# check=skip=...` right above it, and what that says. As in BuildKit
    the first of several counts, and one that cannot be read is a comment."""
    for instruction, comments in above(dockerfile):
        for comment in comments:
            found = directives.named("#" + comment)
            if found is None or found[0] != "check":
                continue
            with suppress(DockerfileError):
                yield instruction.span.line, last_line(instruction), parse(found[1].split(" ")[0])
            break


def last_line(instruction: ast.Instruction) -> int:
    """Where the instruction ends, the bodies of its heredocs included."""
    end = instruction.span.end_line
    match instruction:
        case ast.Run(heredocs=heredocs) | ast.Copy(heredocs=heredocs):
            return end + sum(heredoc.content.count("\n") + 1 for heredoc in heredocs)
        case ast.Onbuild(trigger=trigger):
            return end + trigger.count("\n")
        case _:
            return end


def _comment(line: str) -> str:
    text = line.strip(SPACE)
    return text[1:].strip(SPACE) if text.startswith("#") else ""
