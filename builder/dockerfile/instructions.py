"""Each instruction's value from its flags and arguments, with the checks that need no expansion (moby/buildkit,
instructions/parse.go and parser/line_parsers.go)."""

from __future__ import annotations

import re

from builder.dockerfile import ast, jsonform
from builder.dockerfile.space import ASCII_SPACE, SPACE
from builder.errors import DockerfileError, did_you_mean
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.dockerfile.source import Body, LogicalLine
    from builder.errors import Span

_EXAMPLES = {
    "ADD": "ADD file.tar.gz /app/",
    "ARG": "ARG VERSION=1.0",
    "COPY": "COPY file.txt /app/",
    "ENV": "ENV NAME=value",
    "EXPOSE": "EXPOSE 8080",
    "HEALTHCHECK": "HEALTHCHECK CMD curl -f http://localhost/ or HEALTHCHECK NONE",
    "LABEL": 'LABEL version="1.0"',
    "MAINTAINER": "MAINTAINER name",
    "RUN": 'RUN make or RUN ["make"]',
    "SHELL": 'SHELL ["/bin/bash", "-c"]',
    "STOPSIGNAL": "STOPSIGNAL SIGTERM",
    "USER": "USER name or USER 1000:1000",
    "VOLUME": "VOLUME /data",
    "WORKDIR": "WORKDIR /app",
}
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_ASCII_SPACES = re.compile(f"[{ASCII_SPACE}]+")


class Parsed(NamedTuple):
    """An instruction as the grammar read it. `line.text[begin:]` is its text (under ONBUILD it is not the whole line);
    `words` are the offsets in the line of its arguments, and the last one of a text or command reaches to the end."""

    line: LogicalLine
    begin: int
    keyword: str
    flags: tuple[ast.Flag, ...]
    words: tuple[tuple[int, int], ...]

    @property
    def span(self) -> Span:
        return self.line.span(self.begin, len(self.line.text))

    @property
    def text(self) -> str:
        return self.line.text[self.begin :]

    @property
    def arguments(self) -> str:
        """All arguments as one text."""
        return self.line.text[self.words[0][0] :] if self.words else ""

    def word(self, start: int, end: int) -> ast.Word:
        return ast.Word(self.line.text[start:end], self.line.span(start, end))

    @property
    def keyword_span(self) -> Span:
        return self.line.span(self.begin, self.begin + len(self.keyword))

    @property
    def arguments_span(self) -> Span:
        """Of the arguments, of the keyword when there are none."""
        return self.line.span(self.words[0][0], len(self.line.text)) if self.words else self.keyword_span


def _from(p: Parsed) -> ast.From:
    platform = next((ast.Word(flag.value or "", flag.span) for flag in p.flags), None)
    image = p.word(*p.words[0])
    alias = p.word(*p.words[1]) if len(p.words) == 2 else None
    if alias and not _STAGE_NAME.fullmatch(alias.text.lower()):
        raise DockerfileError(
            f"'{_shown(alias.text)}' is not a name for a stage",
            alias.span,
            hint="a name begins with a letter; letters, digits, '-', '_' and '.' follow",
        )
    return ast.From(p.span, p.text, platform, image, alias)


def _arg(p: Parsed) -> ast.Arg:
    _need_arguments(p)
    items: list[tuple[str, ast.Word | None, Span]] = []
    for start, end in p.words:
        word = p.word(start, end)
        name, equals, _ = word.text.partition("=")
        if not name:
            raise _blank_name(p, word)
        items.append((name, p.word(start + len(name) + 1, end) if equals else None, word.span))
    return ast.Arg(p.span, p.text, tuple(items))


def _pairs(p: Parsed) -> tuple[tuple[tuple[ast.Word, ast.Word], ...], bool]:
    """The pairs of ENV and LABEL, and whether they are in the old form `KEY the rest`."""
    _need_arguments(p)
    if "=" not in p.line.text[slice(*p.words[0])]:
        return (_legacy_pair(p),), True
    pairs: list[tuple[ast.Word, ast.Word]] = []
    for start, end in p.words:
        word = p.word(start, end)
        name, equals, _ = word.text.partition("=")
        if not equals:
            raise DockerfileError(
                f"there is no = in '{_shown(word.text)}'",
                word.span,
                hint=f'{p.keyword} has the form name=value; a value with spaces needs quotes: name="a value"',
            )
        if not name:
            raise _blank_name(p, word)
        middle = start + len(name)
        pairs.append((p.word(start, middle), p.word(middle + 1, end)))
    return tuple(pairs), False


def _legacy_pair(p: Parsed) -> tuple[ast.Word, ast.Word]:
    start = p.words[0][0]
    space = _ASCII_SPACES.search(p.line.text, start)
    if space is None:
        raise DockerfileError(
            f"{p.keyword} must have two arguments", p.arguments_span, hint=f"write {p.keyword} {_shown(p.arguments)}=VALUE"
        )
    return p.word(start, space.start()), p.word(space.end(), len(p.line.text))


def _env(p: Parsed) -> ast.Env:
    pairs, legacy = _pairs(p)
    return ast.Env(p.span, p.text, pairs, legacy)


def _label(p: Parsed) -> ast.Label:
    pairs, legacy = _pairs(p)
    return ast.Label(p.span, p.text, pairs, legacy)


def _one(p: Parsed) -> ast.Word:
    """The one argument, which is the rest of the line, with its spaces."""
    if not p.words:
        raise DockerfileError(f"{p.keyword} requires exactly one argument", p.keyword_span, hint=_example(p))
    return p.word(p.words[0][0], len(p.line.text))


def _maintainer(p: Parsed) -> ast.Maintainer:
    return ast.Maintainer(p.span, p.text, _one(p).text)


def _workdir(p: Parsed) -> ast.Workdir:
    return ast.Workdir(p.span, p.text, _one(p))


def _user(p: Parsed) -> ast.User:
    return ast.User(p.span, p.text, _one(p))


def _stopsignal(p: Parsed) -> ast.Stopsignal:
    return ast.Stopsignal(p.span, p.text, _one(p))


def _run(p: Parsed) -> ast.Run:
    command = _command(p, p.arguments)
    if command == ast.ExecForm(()):
        raise DockerfileError("RUN requires at least one argument", p.arguments_span, hint=_example(p))
    return ast.Run(p.span, p.text, p.flags, command, _heredocs(p))


def _cmd(p: Parsed) -> ast.Cmd:
    return ast.Cmd(p.span, p.text, _command(p, p.arguments))


def _entrypoint(p: Parsed) -> ast.Entrypoint:
    return ast.Entrypoint(p.span, p.text, _command(p, p.arguments))


def _shell(p: Parsed) -> ast.Shell:
    match _command(p, p.arguments):
        case ast.ExecForm(words) if words:
            return ast.Shell(p.span, p.text, words)
        case ast.ShellForm(text) if text:
            raise DockerfileError("SHELL requires the arguments to be in JSON form", p.arguments_span, hint=_example(p))
    raise DockerfileError("SHELL requires at least one argument", p.arguments_span, hint=_example(p))


def _healthcheck(p: Parsed) -> ast.Healthcheck:
    _need_arguments(p)
    kind = p.word(*p.words[0])
    rest = p.line.text[p.words[1][0] :] if len(p.words) > 1 else ""
    match kind.text.upper():
        case "NONE" if rest:
            raise DockerfileError(
                "HEALTHCHECK NONE takes no arguments",
                p.line.span(p.words[1][0], len(p.line.text)),
                hint="leave them out, or write HEALTHCHECK CMD and a command",
            )
        case "NONE":
            return ast.Healthcheck(p.span, p.text, p.flags, None)
        case "CMD":
            command = _command(p, rest)
            if command in (ast.ExecForm(()), ast.ShellForm("")):
                raise DockerfileError("there is no command after HEALTHCHECK CMD", kind.span, hint=_example(p))
            return ast.Healthcheck(p.span, p.text, p.flags, command)
    hint = did_you_mean(_shown(kind.text), ("CMD", "NONE")) or "write HEALTHCHECK CMD before the command"
    raise DockerfileError(f"HEALTHCHECK has the types CMD and NONE, not '{_shown(kind.text)}'", kind.span, hint=hint)


def _copy(p: Parsed) -> ast.Copy:
    words = _json_words(p)
    json = words is not None
    if words is None:
        marks = {offset: body for body in p.line.bodies for offset in range(body.mark.start, body.mark.end)}
        words = [p.word(start, end) for start, end in p.words if start not in marks]
        _check_marks(p)
    count = len(words) + len(p.line.bodies)
    if count < 2:
        only = f", but only {count} was given" if count else ""
        raise DockerfileError(
            f"{p.keyword} requires at least two arguments{only}",
            p.arguments_span,
            hint=f"the last argument is the destination, {_example(p)}",
        )
    dest = words.pop()
    return ast.Copy(p.span, p.text, p.keyword, p.flags, tuple(words), dest, _heredocs(p), json)


def _check_marks(p: Parsed) -> None:
    """A heredoc is a word of its own, and never the last one."""
    starts = {start for start, _ in p.words}
    for body in p.line.bodies:
        span = p.line.span(body.mark.start, body.mark.end)
        if body.mark.start not in starts:
            raise DockerfileError(
                "a heredoc must be a word of its own", span, hint=f"write an ordinary space before <<{body.mark.name}"
            )
        if body.mark.end >= len(p.line.text):
            raise DockerfileError(
                f"{p.keyword} cannot accept a heredoc as its destination",
                span,
                hint=f"as in {p.keyword} <<{body.mark.name} /path/of/the/file",
            )


def _expose(p: Parsed) -> ast.Expose:
    _need_arguments(p)
    return ast.Expose(p.span, p.text, tuple(p.word(start, end) for start, end in p.words))


def _volume(p: Parsed) -> ast.Volume:
    words = _json_words(p)
    json = words is not None
    if words is None:
        words = [p.word(start, end) for start, end in p.words]
    if not words:
        raise DockerfileError("VOLUME requires at least one argument", p.arguments_span, hint=_example(p))
    paths = tuple(word._replace(text=word.text.strip(SPACE)) for word in words)
    for path in paths:
        if not path.text:
            raise DockerfileError("a path of VOLUME can not be empty", path.span, hint=_example(p))
    return ast.Volume(p.span, p.text, paths, json)


def _need_arguments(p: Parsed) -> None:
    if not p.words:
        raise DockerfileError(f"{p.keyword} requires at least one argument", p.keyword_span, hint=_example(p))


def _example(p: Parsed) -> str:
    return f"as in {_EXAMPLES[p.keyword]}"


def _blank_name(p: Parsed, word: ast.Word) -> DockerfileError:
    return DockerfileError(f"{p.keyword} names can not be blank", word.span, hint="write name=value, without a space before =")


def _command(p: Parsed, text: str) -> ast.Command:
    words = _json(p, text)
    return ast.ShellForm(text) if words is None else ast.ExecForm(words)


def _json(p: Parsed, text: str) -> tuple[str, ...] | None:
    """The JSON form of the text that ends the line."""
    try:
        words = jsonform.strings(text)
    except jsonform.NotStrings:
        words = ()
        problem = "a JSON array of arguments holds strings only"
    else:
        if words is None or not any("\0" in word for word in words):
            return words
        problem = "an argument can not hold a NUL character"
    end = len(p.line.text)
    raise DockerfileError(problem, p.line.span(end - len(text), end), hint='as in ["executable", "argument"]')


def _json_words(p: Parsed) -> list[ast.Word] | None:
    strings = _json(p, p.arguments)
    if strings is None:
        return None
    start = p.words[0][0]
    places = jsonform.places(p.arguments)
    return [ast.Word(text, p.line.span(start + a, start + b)) for text, (a, b) in zip(strings, places, strict=True)]


def _heredocs(p: Parsed) -> tuple[ast.Heredoc, ...]:
    return tuple(_heredoc(p, body) for body in p.line.bodies)


def _heredoc(p: Parsed, body: Body) -> ast.Heredoc:
    mark = body.mark
    return ast.Heredoc(mark.name, body.text, mark.expand, mark.strip_tabs, p.line.span(mark.start, mark.end), body.line)


def _shown(text: str) -> str:
    """A user's word in a message, cut where it is long."""
    return text if len(text) <= 60 else text[:57] + "..."


BUILD: dict[str, Callable[[Parsed], ast.Instruction]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
"""The value of each instruction but ONBUILD, which `syntax` takes apart."""
