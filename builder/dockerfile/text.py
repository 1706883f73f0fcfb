"""The bytes of a Dockerfile as text. All that a build needs of the language when it knows the text already. Pure."""

from __future__ import annotations

from builder.errors import DockerfileError, SourceFile, Span

MAX_SIZE = 2 * 1024 * 1024
"""Characters (and bytes) of a Dockerfile. Larger ones are refused: the parser needs up to 4 s for each MiB of words."""

BOM = "\ufeff"


def decode(name: str, data: bytes) -> SourceFile:
    """The text of a Dockerfile: UTF-8 without NUL, at most MAX_SIZE bytes. A byte order mark is dropped and has no
    column; line ends stay as they are. Raises DockerfileError."""
    if len(data) > MAX_SIZE:
        raise _too_large(name)
    try:
        source = SourceFile(name, data.decode().removeprefix(BOM))
    except UnicodeDecodeError as error:
        shown = SourceFile(name, data.decode(errors="replace").removeprefix(BOM))
        offset = len(data[: error.start].decode().removeprefix(BOM))
        raise _not_text(shown, offset, f"byte 0x{data[error.start]:02x} is not UTF-8") from None
    check_text(source)
    return source


def split_lines(source: SourceFile) -> list[str]:
    """The lines as `Span` counts them: without `\\n`, each with its `\\r`. After the last line end one more, empty."""
    return source.text.removeprefix(BOM).split("\n")


def check_text(source: SourceFile) -> None:
    """Refuses what the build could not hand on: arguments of a program hold no NUL, and surrogates are no characters."""
    if len(source.text) > MAX_SIZE:
        raise _too_large(source.name)
    if (offset := source.text.find("\0")) >= 0:
        raise _not_text(source, offset, "there is a NUL character")
    try:
        source.text.encode()
    except UnicodeEncodeError as error:
        raise _not_text(source, error.start, f"U+{ord(source.text[error.start]):04X} is not a character") from None


def _too_large(name: str) -> DockerfileError:
    return DockerfileError(
        f"the Dockerfile is larger than {MAX_SIZE // 1024 // 1024} MiB",
        hint="put large content into files of the build context and COPY them",
        source=SourceFile(name, ""),
    )


def _not_text(source: SourceFile, offset: int, reason: str) -> DockerfileError:
    line = source.text.count("\n", 0, offset) + 1
    column = offset - source.text.rfind("\n", 0, offset)
    return DockerfileError(
        f"this is not a text file: {reason}",
        Span(line, column, line, column + 1),
        hint="a Dockerfile is UTF-8 text; is this the right file?",
        source=source,
    )


def without_tabs(body: str) -> str:
    """The body of a heredoc without the tabs that lead its lines, as `<<-` asks for."""
    return "\n".join(line.lstrip("\t") for line in body.split("\n"))
