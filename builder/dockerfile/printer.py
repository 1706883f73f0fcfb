"""A syntax tree back to text. Parsing the text gives the same tree but for spans, texts and source (`strip_spans`)."""

from __future__ import annotations

import re

from builder.dockerfile import ast, flags, jsonform
from builder.errors import SourceFile, Span

_NOWHERE = Span(0, 0, 0, 0)
_PLAIN_NAME = re.compile(r"[\w./][\w./-]*", re.ASCII)


def unparse(dockerfile: ast.Dockerfile) -> str:
    """The Dockerfile as text: directives, then one instruction a line, without continuations and comments."""
    directives = dockerfile.directives
    head = []
    if directives.syntax is not None:
        head.append(f"# syntax={directives.syntax}\n")
    if directives.escape != "\\":
        head.append(f"# escape={directives.escape}\n")
    if directives.check is not None:
        head.append(f"# check={directives.check}\n")
    # The empty line keeps the directives apart from what follows.
    lines = [_print(instruction, directives.escape) for instruction in dockerfile.instructions]
    return "".join([*head, "\n" if head else "", *lines])


def strip_spans(dockerfile: ast.Dockerfile) -> ast.Dockerfile:
    """The same tree without what the layout of the text decides: spans, texts and source."""
    stripped = tuple(_bare(instruction) for instruction in dockerfile.instructions)
    return ast.Dockerfile(SourceFile("", ""), dockerfile.directives, stripped)


def _bare(instruction: ast.Instruction) -> ast.Instruction:
    # Every instruction begins with its span and its text.
    return type(instruction)._make((_NOWHERE, "", *map(_without_spans, instruction[2:])))


def _without_spans(value: object) -> object:
    match value:
        case Span():
            return _NOWHERE
        case ast.Heredoc():
            return value._replace(span=_NOWHERE, line=0)
        case ast.Word() | ast.Flag():
            return value._replace(span=_NOWHERE)
        case ast.ShellForm() | ast.ExecForm():
            return value
        case tuple():
            return tuple(_without_spans(item) for item in value)
    return value


def _print(instruction: ast.Instruction, escape: str) -> str:
    """An instruction, the bodies of its heredocs, and a line end after each."""
    match instruction:
        case ast.Onbuild(trigger=trigger):
            line, newline, bodies = trigger.partition("\n")
            return _line("ONBUILD", "", line, escape) + (f"{bodies}\n" if newline else "")
        case ast.Run(flags=used, command=command, heredocs=heredocs):
            return _line("RUN", _flags(used, escape), _command(command), escape) + _bodies(heredocs)
        case ast.Copy(flags=used, heredocs=heredocs):
            return _line(instruction.keyword, _flags(used, escape), _sources(instruction), escape) + _bodies(heredocs)
        case ast.Healthcheck(flags=used, command=command):
            check = "NONE" if command is None else f"CMD {_command(command)}"
            return _line("HEALTHCHECK", _flags(used, escape), check, escape)
        case ast.From(platform=platform):
            used = () if platform is None else (ast.Flag("platform", platform.text, platform.span),)
            alias = f" AS {instruction.alias.text}" if instruction.alias else ""
            return _line("FROM", _flags(used, escape), instruction.image.text + alias, escape)
    return _line(type(instruction).__name__.upper(), "", _arguments(instruction), escape)


def _arguments(instruction: ast.Instruction) -> str:
    match instruction:
        case ast.Arg(items=items):
            return " ".join(name if value is None else f"{name}={value.text}" for name, value, _ in items)
        case ast.Env(pairs=pairs, legacy=legacy) | ast.Label(pairs=pairs, legacy=legacy):
            return " ".join(f"{key.text}{' ' if legacy else '='}{value.text}" for key, value in pairs)
        case ast.Maintainer(name=name):
            return name
        case ast.Workdir(path=word) | ast.User(user=word) | ast.Stopsignal(signal=word):
            return word.text
        case ast.Expose(ports=ports):
            return " ".join(port.text for port in ports)
        case ast.Volume(paths=paths, json=json):
            return _words(tuple(path.text for path in paths), json=json)
        case ast.Cmd(command=command) | ast.Entrypoint(command=command):
            return _command(command)
        case ast.Shell(words=words):
            return jsonform.write(words)
    raise AssertionError(instruction)


def _line(keyword: str, options: str, arguments: str, escape: str) -> str:
    # What looks like a flag and is an argument needs the end of the flags before it.
    end_of_flags = " --" if arguments.startswith("--") else ""
    text = f"{keyword}{options}{end_of_flags}{' ' if arguments else ''}{arguments}"
    # An escape character at the end would continue the line; white space of this kind behind it is cut by the parser.
    guard = "\v" if text.endswith(escape) else ""
    return f"{text}{guard}\n"


def _flags(used: tuple[ast.Flag, ...], escape: str) -> str:
    return "".join(f" {flags.write(flag, escape)}" for flag in used)


def _command(command: ast.Command) -> str:
    match command:
        case ast.ShellForm(text):
            return text
        case ast.ExecForm(words):
            return jsonform.write(words)


def _sources(copy: ast.Copy) -> str:
    words = tuple(word.text for word in (*copy.sources, copy.dest))
    marks = [_mark(heredoc) for heredoc in copy.heredocs]
    return " ".join([*marks, _words(words, json=copy.json)])


def _words(words: tuple[str, ...], *, json: bool) -> str:
    if json:
        return jsonform.write(words)
    text = " ".join(words)
    # Words that only white space of another kind kept from being JSON.
    return "\v".join(words) if _is_json(text) else text


def _is_json(text: str) -> bool:
    try:
        return jsonform.strings(text) is not None
    except jsonform.NotStrings:
        return True


def _mark(heredoc: ast.Heredoc) -> str:
    name = heredoc.name
    if heredoc.expand:
        name = name if _PLAIN_NAME.fullmatch(name) else "".join(f"\\{c}" for c in name)
    elif "'" in name:
        name = '"' + re.sub(r'(["$\\])', r"\\\1", name) + '"'
    else:
        name = f"'{name}'"
    return f"<<{'-' if heredoc.strip_tabs else ''}{name}"


def _bodies(heredocs: tuple[ast.Heredoc, ...]) -> str:
    return "".join(f"{heredoc.body}{heredoc.name}\n" for heredoc in heredocs)
