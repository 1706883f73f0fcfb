"""The Dockerfile as values, as it was written: nothing is expanded and no name is resolved yet. Pure.

Every word keeps its quotes, escapes and variables (`words.expand` reads those) and knows where it stands.
"""

from __future__ import annotations

from builder.dockerfile.text import without_tabs
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.errors import SourceFile, Span


class Word(NamedTuple):
    """A raw word: quotes, escapes and `$` are still in it."""

    text: str
    span: Span


class Flag(NamedTuple):
    """`--name=value` before an instruction's arguments; `value` is None for a bare `--name`."""

    name: str
    value: str | None
    span: Span


class Heredoc(NamedTuple):
    """`<<name` and the lines that follow the instruction up to one that is `name`."""

    name: str
    body: str
    """As it stands in the file, every line with its end."""
    expand: bool
    strip_tabs: bool
    span: Span
    """Of the `<<name` on the instruction's line."""
    line: int = 0
    """Where the body begins in the file."""

    @property
    def content(self) -> str:
        """What the body says: without the leading tabs that `<<-` asks to strip."""
        return without_tabs(self.body) if self.strip_tabs else self.body


class ShellForm(NamedTuple):
    """A command line for the shell: continuations joined, comments between them gone; else as written."""

    text: str


class ExecForm(NamedTuple):
    """A JSON array of strings."""

    words: tuple[str, ...]


Command = ShellForm | ExecForm


class From(NamedTuple):
    span: Span
    text: str
    """Of every instruction: its logical line as the user wrote it, continuations joined."""
    platform: Word | None
    image: Word
    alias: Word | None


class Arg(NamedTuple):
    span: Span
    text: str
    items: tuple[tuple[str, Word | None, Span], ...]
    """Name, raw default (None: without a value), where."""


class Env(NamedTuple):
    span: Span
    text: str
    pairs: tuple[tuple[Word, Word], ...]
    legacy: bool
    """`ENV key value`: the value is the rest of the line."""


class Label(NamedTuple):
    span: Span
    text: str
    pairs: tuple[tuple[Word, Word], ...]
    legacy: bool


class Maintainer(NamedTuple):
    span: Span
    text: str
    name: str


class Run(NamedTuple):
    span: Span
    text: str
    flags: tuple[Flag, ...]
    command: Command
    heredocs: tuple[Heredoc, ...]


class Copy(NamedTuple):
    """COPY and ADD. With the JSON form the words hold the strings as JSON gives them (expanded all the same)."""

    span: Span
    text: str
    keyword: str
    """`COPY` or `ADD`."""
    flags: tuple[Flag, ...]
    sources: tuple[Word, ...]
    """Without the heredocs, which come as sources of their own."""
    dest: Word
    heredocs: tuple[Heredoc, ...]
    json: bool


class Workdir(NamedTuple):
    span: Span
    text: str
    path: Word


class User(NamedTuple):
    span: Span
    text: str
    user: Word


class Stopsignal(NamedTuple):
    span: Span
    text: str
    signal: Word


class Expose(NamedTuple):
    span: Span
    text: str
    ports: tuple[Word, ...]


class Volume(NamedTuple):
    span: Span
    text: str
    paths: tuple[Word, ...]
    json: bool


class Cmd(NamedTuple):
    span: Span
    text: str
    command: Command


class Entrypoint(NamedTuple):
    span: Span
    text: str
    command: Command


class Shell(NamedTuple):
    span: Span
    text: str
    words: tuple[str, ...]


class Healthcheck(NamedTuple):
    """`command` is None for `HEALTHCHECK NONE`."""

    span: Span
    text: str
    flags: tuple[Flag, ...]
    command: Command | None


class Onbuild(NamedTuple):
    """`trigger` is the text of the instruction to run in the child, heredoc bodies included; it was parsed once to
    check it."""

    span: Span
    text: str
    keyword: str
    """Of the trigger, in upper case."""
    trigger: str


Instruction = (
    From
    | Arg
    | Env
    | Label
    | Maintainer
    | Run
    | Copy
    | Workdir
    | User
    | Stopsignal
    | Expose
    | Volume
    | Cmd
    | Entrypoint
    | Shell
    | Healthcheck
    | Onbuild
)


class Directives(NamedTuple):
    """`# name=value` lines at the top."""

    syntax: str | None = None
    escape: str = "\\"
    check: str | None = None


class Dockerfile(NamedTuple):
    source: SourceFile
    directives: Directives
    instructions: tuple[Instruction, ...]
