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
    except UnicodeDecodeError:
        source = _with_other_comments(name, data)
    check_text(source)
    return source


def _with_other_comments(name: str, data: bytes) -> SourceFile:
    """The text where comments alone are in another encoding, as those of old files are: they say nothing to a build."""
    shown = SourceFile(name, data.decode(errors="replace").removeprefix(BOM))
    comments = _comments(shown)
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            if number not in comments:
                before = b"\n".join([*lines[: number - 1], line[: error.start]]).decode(errors="replace").removeprefix(BOM)
                raise _not_text(shown, len(before), f"byte 0x{line[error.start]:02x} is not UTF-8") from None
    return shown


def _comments(source: SourceFile) -> frozenset[int]:
    """The numbers of the lines that are comments, and not part of a heredoc; none where the rest cannot be read either."""
    from builder.dockerfile.source import read  # which has this from here

    try:
        _, found = read(source)
    except DockerfileError:
        return frozenset()
    bodies = {body.line + number for line in found for body in line.bodies for number in range(body.text.count("\n") + 1)}
    places = {place for line in found for place, _ in line.places}
    marked = {number for number, line in enumerate(split_lines(source), 1) if line.lstrip().startswith("#")}
    return frozenset(marked - bodies - places)


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
