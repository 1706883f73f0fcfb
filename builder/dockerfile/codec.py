"""A syntax tree as bytes, for the cache that spares a build the parser: compact JSON with a version."""

from __future__ import annotations

from builder import canonical
from builder.dockerfile import ast
from builder.errors import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from builder.errors import SourceFile

VERSION = 2
"""Changes when `ast` or the meaning of a tree changes: caches put it into their keys."""


def dump(dockerfile: ast.Dockerfile) -> bytes:
    """The tree without its source, which the reader of `load` has at hand."""
    instructions = [(type(instruction).__name__, *instruction) for instruction in dockerfile.instructions]
    return canonical.dumps((VERSION, dockerfile.directives, instructions)).encode()


def load(data: bytes, source: SourceFile) -> ast.Dockerfile:
    """The tree of `dump`, which came from `source`. Raises ValueError for anything else, as another version's bytes: the
    caller parses the text then."""
    try:
        version, directives, instructions = canonical.loads(data.decode())
        if version != VERSION:
            raise ValueError(f"version {version} of a syntax tree")
        read = tuple(_READERS[kind](span, *fields) for kind, span, *fields in instructions)
        return ast.Dockerfile(source, ast.Directives(*directives), read)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a syntax tree: {error}") from error


# JSON has no named tuples: each reader takes the fields of `ast` as lists and makes them what they were.


def _word(fields: Any) -> ast.Word:
    text, span = fields
    return ast.Word(text, Span(*span))


def _maybe(fields: Any) -> ast.Word | None:
    return None if fields is None else _word(fields)


def _words(items: Iterable[Any]) -> tuple[ast.Word, ...]:
    return tuple(map(_word, items))


def _flags(items: Iterable[Any]) -> tuple[ast.Flag, ...]:
    return tuple(ast.Flag(name, value, Span(*span)) for name, value, span in items)


def _heredocs(items: Iterable[Any]) -> tuple[ast.Heredoc, ...]:
    return tuple(
        ast.Heredoc(name, body, expand, strip_tabs, Span(*span), line) for name, body, expand, strip_tabs, span, line in items
    )


def _pairs(items: Iterable[Any]) -> tuple[tuple[ast.Word, ast.Word], ...]:
    return tuple((_word(key), _word(value)) for key, value in items)


def _command(fields: Any) -> ast.Command:
    (content,) = fields
    return ast.ShellForm(content) if isinstance(content, str) else ast.ExecForm(tuple(content))


_READERS: dict[str, Callable[..., ast.Instruction]] = {
    "From": lambda s, t, platform, image, alias: ast.From(Span(*s), t, _maybe(platform), _word(image), _maybe(alias)),
    "Arg": lambda s, t, items: ast.Arg(Span(*s), t, tuple((name, _maybe(value), Span(*at)) for name, value, at in items)),
    "Env": lambda s, t, pairs, legacy: ast.Env(Span(*s), t, _pairs(pairs), legacy),
    "Label": lambda s, t, pairs, legacy: ast.Label(Span(*s), t, _pairs(pairs), legacy),
    "Maintainer": lambda s, t, name: ast.Maintainer(Span(*s), t, name),
    "Run": lambda s, t, flags, command, heredocs: ast.Run(Span(*s), t, _flags(flags), _command(command), _heredocs(heredocs)),
    "Copy": lambda s, t, keyword, flags, sources, dest, heredocs, json: ast.Copy(
        Span(*s), t, keyword, _flags(flags), _words(sources), _word(dest), _heredocs(heredocs), json
    ),
    "Workdir": lambda s, t, path: ast.Workdir(Span(*s), t, _word(path)),
    "User": lambda s, t, user: ast.User(Span(*s), t, _word(user)),
    "Stopsignal": lambda s, t, signal: ast.Stopsignal(Span(*s), t, _word(signal)),
    "Expose": lambda s, t, ports: ast.Expose(Span(*s), t, _words(ports)),
    "Volume": lambda s, t, paths, json: ast.Volume(Span(*s), t, _words(paths), json),
    "Cmd": lambda s, t, command: ast.Cmd(Span(*s), t, _command(command)),
    "Entrypoint": lambda s, t, command: ast.Entrypoint(Span(*s), t, _command(command)),
    "Shell": lambda s, t, words: ast.Shell(Span(*s), t, tuple(words)),
    "Healthcheck": lambda s, t, flags, command: ast.Healthcheck(
        Span(*s), t, _flags(flags), None if command is None else _command(command)
    ),
    "Onbuild": lambda s, t, keyword, trigger: ast.Onbuild(Span(*s), t, keyword, trigger),
}
