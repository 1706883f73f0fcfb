"""The rules that the text alone decides: casing, names of stages, empty continuation lines, MAINTAINER, descriptions.

They look at the syntax tree and at its source, so that a tree from a cache is checked like a fresh one.
"""

from __future__ import annotations

from builder.dockerfile import ast
from builder.dockerfile.checks.warning import finding
from builder.dockerfile.space import ASCII_SPACE, SPACE
from builder.dockerfile.text import split_lines
from builder.errors import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.dockerfile.checks.warning import Warn

RESERVED = ("scratch", "context")
"""Names that stages should not have, and that no named context can take (BuildKit's validations.go and convert.go)."""


def check(dockerfile: ast.Dockerfile, *, experimental: bool = False) -> list[Warn]:
    """What the text shows, whatever the target is. `experimental`: experimental rules too."""
    heads = [instruction for instruction in dockerfile.instructions if isinstance(instruction, ast.From)]
    found = [
        *_empty_continuations(dockerfile),
        *_instruction_casing(dockerfile.instructions),
        *_stage_names(heads),
        *(warn for head in heads for warn in _from_casing(head, dockerfile)),
        *(
            finding("MaintainerDeprecated", keyword_span(instruction))
            for instruction in dockerfile.instructions
            if isinstance(instruction, ast.Maintainer)
        ),
    ]
    return [*found, *_descriptions(dockerfile)] if experimental else found


def keyword(instruction: ast.Instruction) -> str:
    """The keyword as it is written."""
    return instruction.text.split(None, 1)[0]


def keyword_span(instruction: ast.Instruction) -> Span:
    line, column = instruction.span[:2]
    return Span(line, column, line, column + len(keyword(instruction)))


def _empty_continuations(dockerfile: ast.Dockerfile) -> Iterator[Warn]:
    """The first empty line of each instruction that has one."""
    escape, last = dockerfile.directives.escape, dockerfile.instructions[-1]
    lines = None
    for instruction in dockerfile.instructions:
        span = instruction.span
        # The last one may be continued into nothing.
        if span.end_line > span.line or instruction is last:
            lines = lines or split_lines(dockerfile.source)
            number = _empty_line(lines, span.line, escape)
            if number:
                yield finding("NoEmptyContinuation", Span(number, 1, number, 2))


def _empty_line(lines: list[str], number: int, escape: str) -> int:
    """The number of the first empty line in the instruction that begins at line `number`; 0 without one."""
    # What follows the last line end is no line.
    count = len(lines) - (not lines[-1])
    while number <= count:
        text = lines[number - 1].strip(SPACE)
        if not text:
            return number
        bare = lines[number - 1].rstrip("\r").rstrip(" \t")
        if text[0] != "#" and not (bare.endswith(escape) and bare[-2:-1] != escape):
            return 0
        number += 1
    return 0


def _instruction_casing(instructions: Iterable[ast.Instruction]) -> Iterator[Warn]:
    """All keywords like most of them; ARGs before the first FROM do not count (BuildKit's validateCommandCasing)."""
    staged: list[ast.Instruction] = []
    for instruction in instructions:
        if staged or isinstance(instruction, ast.From):
            staged.append(instruction)
    odd = [instruction for instruction in staged if not keyword(instruction).isupper()]
    if not odd:
        return
    lower = sum(keyword(instruction).islower() for instruction in odd)
    if lower > len(staged) - len(odd):
        wrong, casing = [instruction for instruction in staged if not keyword(instruction).islower()], "lowercase"
    else:
        wrong, casing = odd, "uppercase"
    for instruction in wrong:
        yield finding("ConsistentInstructionCasing", keyword_span(instruction), keyword(instruction), casing)


def _stage_names(heads: Iterable[ast.From]) -> Iterator[Warn]:
    seen: set[str] = set()
    for head in heads:
        if head.alias is None:
            continue
        name = head.alias.text.lower()
        if name in RESERVED:
            yield finding("ReservedStageName", head.alias.span, name)
        if name in seen:
            yield finding("DuplicateStageName", head.alias.span, name)
        if head.alias.text != name:
            yield finding("StageNameCasing", head.alias.span, head.alias.text)
        seen.add(name)


def _from_casing(head: ast.From, dockerfile: ast.Dockerfile) -> Iterator[Warn]:
    if head.alias is None:
        return
    written = keyword(head)
    rest = head.text[: len(head.text) - len(head.alias.text)].rstrip(ASCII_SPACE)
    as_keyword = rest[-2:]
    # A FROM in mixed case is another rule's matter.
    wanted = written.upper() if written.isupper() else written.lower() if written.islower() else None
    if wanted is None or as_keyword == (as_keyword.upper() if written.isupper() else as_keyword.lower()):
        return
    yield finding("FromAsCasing", _as_span(head.alias.span, as_keyword, dockerfile), written, as_keyword)


def _as_span(alias: Span, as_keyword: str, dockerfile: ast.Dockerfile) -> Span:
    """Of the AS before the name; of the name where they stand on different lines."""
    before = split_lines(dockerfile.source)[alias.line - 1][: alias.column - 1].rstrip(ASCII_SPACE)
    if not before.endswith(as_keyword):
        return alias
    return Span(alias.line, len(before) - 1, alias.line, len(before) + 1)


def _descriptions(dockerfile: ast.Dockerfile) -> Iterator[Warn]:
    from builder.dockerfile.checks.comments import above  # few ask for experimental rules

    for instruction, comments in above(dockerfile):
        match instruction:
            case ast.Arg(items=items):
                what, names = "ARG", [name for name, _, _ in items]
            case ast.From(alias=ast.Word(text=text)):
                what, names = "FROM", [text.lower()]
            case _:
                continue
        if comments[-1].split(" ")[0] not in names:
            shown = names[0] if len(names) == 1 else "<arg_key>"
            yield finding("InvalidDefinitionDescription", keyword_span(instruction), what, shown)
