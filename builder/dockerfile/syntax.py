"""Dockerfile text to the syntax tree: logical lines, each through the grammar, then the rules about their order."""

from __future__ import annotations

import re

from builder.dockerfile import ast, flags, grammar, source
from builder.dockerfile.instructions import BUILD, Parsed
from builder.dockerfile.space import ASCII_SPACE
from builder.errors import DockerfileError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.dockerfile.source import LogicalLine
    from builder.errors import SourceFile

KEYWORDS = (*BUILD, "ONBUILD")

_KEYWORD = re.compile(f"[^{ASCII_SPACE}]*")


def parse(text: SourceFile) -> ast.Dockerfile:
    """The syntax tree of a Dockerfile. Raises DockerfileError, with source and (mostly) span, and nothing else."""
    directives, lines = source.read(text)
    if not lines:
        empty = "is empty" if not text.text.strip() else "has no instruction"
        raise DockerfileError(f"the Dockerfile {empty}", hint="it begins with FROM and the name of a base image", source=text)
    try:
        instructions: list[ast.Instruction] = []
        staged = False
        for line in lines:
            instruction = _instruction(line, directives.escape)
            staged = staged or isinstance(instruction, ast.From)
            if not staged and not isinstance(instruction, ast.Arg):
                raise _before_from(line)
            instructions.append(instruction)
        if not staged:
            raise DockerfileError("the Dockerfile has no FROM", hint="after the ARGs, write FROM and the name of a base image")
    except DockerfileError as error:
        raise error.at(text) from None
    return ast.Dockerfile(text, directives, tuple(instructions))


def parse_trigger(text: SourceFile) -> ast.Instruction:
    """The one instruction that an ONBUILD of a base image holds (`Onbuild.trigger`), whose escape character is always `\\`
    (the image does not say which it was). Raises DockerfileError."""
    _, lines = source.read(text)
    try:
        if len(lines) != 1:
            raise DockerfileError(
                "an ONBUILD trigger is exactly one instruction", hint="the base image is damaged: build it again"
            )
        _check_trigger(lines[0], 0)
        return _instruction(lines[0], "\\")
    except DockerfileError as error:
        raise error.at(text) from None


def _instruction(line: LogicalLine, escape: str, begin: int = 0) -> ast.Instruction:
    keyword = _keyword(line, begin, escape)
    try:
        tokens = grammar.tokens(line.text[begin:], escape)
    except grammar.SyntaxMismatch as error:
        raise _mismatch(line, begin, keyword, error.offset) from None
    parsed = _parsed(line, begin, keyword, tokens, escape)
    return BUILD[keyword](parsed) if keyword in BUILD else _onbuild(parsed, escape)


def _parsed(line: LogicalLine, begin: int, keyword: str, tokens: list[tuple[str, int, int]], escape: str) -> Parsed:
    found: list[ast.Flag] = []
    words: list[tuple[int, int]] = []
    for kind, start, end in tokens:
        start, end = start + begin, end + begin
        if "FLAG" in kind:
            span = line.span(start, end)
            found.append(flags.read(line.text[start:end], keyword, span, known=kind.endswith("_FLAG"), escape=escape))
        else:
            words.append((start, end))
    if len(found) > 1:
        flags.refuse_repeated(found, keyword)
    return Parsed(line, begin, keyword, tuple(found), tuple(words))


def _keyword(line: LogicalLine, begin: int, escape: str) -> str:
    """The keyword at `begin`, in upper case. Raises DockerfileError for an unknown one."""
    match = _KEYWORD.match(line.text, begin)
    word = match[0] if match else ""
    keyword = word.upper()
    # upper() makes ASCII of some other letters, as of the long s.
    if keyword in KEYWORDS and word.isascii():
        return keyword
    shown = word if len(word) <= 40 else word[:37] + "..."
    raise DockerfileError(
        f"unknown instruction '{shown}'",
        line.span(begin, begin + len(word)),
        hint=did_you_mean(shown, KEYWORDS) or f"if this line continues the one before, end that one with {escape}",
    )


def _onbuild(parsed: Parsed, escape: str) -> ast.Onbuild:
    if not parsed.words:
        raise DockerfileError("ONBUILD requires at least one argument", parsed.keyword_span, hint="as in ONBUILD COPY . /app")
    line = parsed.line
    start = parsed.words[0][0]
    keyword = _check_trigger(line, start, escape)
    # Parsed now to find its errors here, and again where the child is built.
    _instruction(line, escape, start)
    bodies = "".join(f"\n{body.text}{body.mark.name}" for body in line.bodies)
    return ast.Onbuild(parsed.span, parsed.text, keyword, line.text[start:] + bodies)


def _check_trigger(line: LogicalLine, begin: int, escape: str = "\\") -> str:
    """The keyword of a trigger; raises DockerfileError for what can not be one."""
    keyword = _keyword(line, begin, escape)
    span = line.span(begin, begin + len(keyword))
    if keyword == "ONBUILD":
        raise DockerfileError(
            "ONBUILD can not trigger another ONBUILD", span, hint="write the instruction itself after the first ONBUILD"
        )
    if keyword in ("FROM", "MAINTAINER"):
        raise DockerfileError(
            f"{keyword} is not allowed as an ONBUILD trigger", span, hint="the child's own Dockerfile says this"
        )
    return keyword


def _mismatch(line: LogicalLine, begin: int, keyword: str, offset: int) -> DockerfileError:
    if keyword == "FROM":
        end = len(line.text)
        span = line.span(begin + offset, end) if begin + offset < end else line.span(begin, begin + len(keyword))
        hint = "as in FROM image or FROM image AS name"
        return DockerfileError("FROM requires either one or three arguments", span, hint=hint)
    hint = "see the Dockerfile reference for its form"
    return DockerfileError(f"the arguments of {keyword} can not be read", line.span(begin + offset, len(line.text)), hint=hint)


def _before_from(line: LogicalLine) -> DockerfileError:
    keyword = _keyword(line, 0, "\\")
    return DockerfileError(
        f"{keyword} stands before the first FROM",
        line.span(0, len(keyword)),
        hint="a Dockerfile begins with FROM; only ARG may stand before it",
    )
