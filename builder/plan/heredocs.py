"""What heredocs become: the command of a RUN, the files of a COPY or ADD. Pure.

Source: moby/buildkit, dockerfile2llb/convert.go (dispatchRun) and convert_copy.go (dispatchCopy).
"""

from __future__ import annotations

from builder.dockerfile.ast import ShellForm
from builder.errors import DockerfileError, Span
from builder.plan.steps import InlineSource, Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.dockerfile.ast import Copy, Heredoc, Run, Word

PIPES = "/dev/pipes/"
"""Where a command finds a script."""


def command(instruction: Run) -> tuple[str, Script | None]:
    """The text for the shell of a RUN with heredocs, and the file that it finds, if any.

    A heredoc alone on its line is the script itself: it is run by the interpreter that a first `#!` names, else by the
    shell. In any other line the shell reads the heredocs, as they stand in the file. Nothing is expanded. Raises
    DockerfileError for a name that no file can have.
    """
    assert isinstance(instruction.command, ShellForm), "the JSON form has no heredocs"
    line, documents = instruction.command.text, instruction.heredocs
    if not _is_script(line, documents):
        return line + "".join(f"\n{document.body}{document.name}" for document in documents), None
    (document,) = documents
    if not document.content.startswith("#!"):
        return document.content, None
    return PIPES + _file_name(document), Script(document.name, document.content.encode())


def summary(instruction: Run) -> str:
    """The line as progress shows it: a script with the first line of it that says something."""
    command = instruction.command
    if not isinstance(command, ShellForm) or not _is_script(command.text, instruction.heredocs):
        return instruction.text
    first, *more = instruction.heredocs[0].body.strip().splitlines() or [""]
    return f"{instruction.text} ({first}{'...' if more else ''})"


def files(instruction: Copy, variables: Mapping[str, str], undefined: Callable[[Word, str], None]) -> tuple[InlineSource, ...]:
    """The heredocs of a COPY or ADD as files; variables are expanded unless the name was quoted. `undefined` is told of each
    that is not set, with the heredoc's place.

    Raises DockerfileError with the place in the body.
    """
    return tuple(
        InlineSource(_file_name(each), _expanded(each, variables, undefined).encode(), each.span)
        for each in instruction.heredocs
    )


def _is_script(line: str, documents: tuple[Heredoc, ...]) -> bool:
    """Whether the line is one heredoc and nothing else. Only where white space may belong to the heredoc, the scanner is
    needed, which a cached build does without."""
    if len(documents) != 1:
        return False
    first, *more = line.split()
    if not more:
        return True
    if first.endswith(("<<", "<<-")) or any(char in line for char in "\"'\\"):
        from builder.dockerfile import heredoc

        return heredoc.lone(line)
    return False


def _file_name(document: Heredoc) -> str:
    if "/" in document.name or document.name in (".", ".."):
        raise DockerfileError(
            f"the heredoc '{document.name}' is a file, and no file has this name",
            document.span,
            hint="choose a name without a slash, as EOF",
        )
    return document.name


def _expanded(document: Heredoc, variables: Mapping[str, str], undefined: Callable[[Word, str], None]) -> str:
    if not document.expand or not any(special in document.body for special in "$\\\ufeff"):
        return document.content
    from builder.dockerfile import words
    from builder.dockerfile.ast import Word

    place = Word(document.name, document.span)
    try:
        return words.expand_heredoc(document.content, variables, missing=lambda name: undefined(place, name))
    except DockerfileError as error:
        raise DockerfileError(error.message, _place(document, error.span), hint=error.hint) from None


def _place(document: Heredoc, inner: Span | None) -> Span:
    """Where characters of the content stand in the file; `inner` counts them from 1."""
    if inner is None or not document.line:
        return document.span
    before = document.content[: inner.column - 1]
    row = before.count("\n")
    raw = document.body.split("\n")[row]
    tabs = len(raw) - len(raw.lstrip("\t")) if document.strip_tabs else 0
    column = len(before) - (before.rfind("\n") + 1) + tabs + 1
    # What goes on into the next lines is shown to the end of the first.
    width = min(inner.end_column - inner.column, len(raw) - column + 1)
    return Span(document.line + row, column, document.line + row, column + max(width, 1))
