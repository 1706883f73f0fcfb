"""ONBUILD: the instructions that a base asks of its child, before the child's own (reference, "ONBUILD"). Pure.

A trigger is text, heredoc bodies included. It fires in the first stage that is built on the image, or on the stage of the
same Dockerfile, that has it, and in none further down. What is wrong in it is told at the FROM that brought it, since the
text may stand in no file at all.
"""

from __future__ import annotations

from builder.errors import DockerfileError, SourceFile, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from builder.dockerfile.ast import Instruction
    from builder.errors import BuildError

    Parse = Callable[[str], Instruction]
    """From a trigger's text to its instruction. Raises DockerfileError with source and span of the text itself."""

    _T = TypeVar("_T", bound=BuildError)


MAX_TRIGGERS = 1000
"""Of one base. Nobody writes more, and a hostile image could hold millions, each of which is parsed."""


def parse(text: str) -> Instruction:
    """The `Parse` that a build without a cache uses."""
    from builder.dockerfile.syntax import parse_trigger  # the parser: a cached build does without

    return parse_trigger(SourceFile("ONBUILD", text))


def instruction(text: str, place: Span, parsed: Parse) -> Instruction:
    """The trigger's instruction, every piece of which stands at `place`, the base's name in FROM."""
    try:
        found = parsed(text)
    except DockerfileError as error:
        raise told(DockerfileError(error.message, hint=error.hint), text, place) from None
    moved = _moved(found, place)
    assert isinstance(moved, type(found))
    return moved


def told(error: _T, text: str, place: Span | None = None) -> _T:
    """The error with the trigger that it comes from, and with `place` for its own."""
    error.message = f"{error.message}, in the trigger 'ONBUILD {shown(text)}'"
    error.span = place or error.span
    return error


def shown(text: str) -> str:
    """A trigger in a message: its first line, cut where it is long."""
    line = text.partition("\n")[0]
    return line if len(line) <= 80 else line[:77] + "..."


def _moved(value: object, place: Span) -> object:
    match value:
        case Span():
            return place
        case tuple():
            items = [_moved(item, place) for item in value]
            make = getattr(type(value), "_make", tuple)  # a named tuple, or a plain one
            return make(items)
    return value
