"""A template with values in it: text (Go's text/template, "Actions"). Pure."""

from __future__ import annotations

from builder.errors import did_you_mean
from builder.gotemplate.functions import FUNCTIONS, Wrong
from builder.gotemplate.lexer import wrong
from builder.gotemplate.parser import parse
from builder.gotemplate.tree import Action, Branch, Chain, Command, Dot, Function, Leave, Literal, Nil, Pipe, Text, Variable
from builder.gotemplate.values import NO_VALUE, Fields, NoValue, is_true, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.errors import UsageError
    from builder.gotemplate.tree import Node, Operand

    Scope = dict[str, object]


class Template:
    """``Template('{{.Repository}}:{{.Tag}}').render(fields)``. Raises UsageError, which says where, for what is no template and
    for what does not fit the values."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._nodes = parse(source)

    def render(self, data: object) -> str:
        out: list[str] = []
        _Run(self._source, out).body(self._nodes, data, [{"$": data}])
        return "".join(out)

    def fields(self) -> tuple[str, ...]:
        """The first field of every chain that begins at the dot, in their order: what a table has columns for."""
        found: list[str] = []
        _gather(self._nodes, found)
        return tuple(found)


class _Left(Exception):
    """`break` or `continue`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Run:
    def __init__(self, source: str, out: list[str]) -> None:
        self._source = source
        self._out = out

    def body(self, nodes: Sequence[Node], dot: object, scopes: list[Scope]) -> None:
        scopes = [*scopes, {}]
        for node in nodes:
            match node:
                case Text(text):
                    self._out.append(text)
                case Action(pipe):
                    value = self._pipe(pipe, dot, scopes)
                    if not pipe.variables:
                        self._out.append(show(value))
                case Leave(kind, _):
                    raise _Left(kind)
                case Branch(kind="range"):
                    self._range(node, dot, [*scopes, {}])
                case Branch(kind, pipe, body, otherwise):
                    inner: list[Scope] = [*scopes, {}]
                    value = self._pipe(pipe, dot, inner)
                    if is_true(value):
                        self.body(body, value if kind == "with" else dot, inner)
                    else:
                        self.body(otherwise, dot, inner)

    def _range(self, node: Branch, dot: object, scopes: list[Scope]) -> None:
        plain = node.pipe._replace(variables=())
        value = self._pipe(plain, dot, scopes)
        match value:
            case Fields():
                raise self._wrong(node.pipe.at, "a range over a struct")
            case dict():
                items = [(key, value[key]) for key in sorted(value)]
            case list() | tuple():
                items = list(enumerate(value))
            case None | NoValue():
                items = []
            case int() if not isinstance(value, bool):
                if value > 1 << 20:
                    raise self._wrong(node.pipe.at, "a range over a number that is too big")
                items = [(number, number) for number in range(value)]
            case _:
                raise self._wrong(node.pipe.at, "a range over what is no list and no map")
        if not items:
            self.body(node.otherwise, dot, scopes)
        for key, each in items:
            names = node.pipe.variables
            pairs = dict(zip(names, (key, each) if len(names) > 1 else (each,), strict=False))
            inner: list[Scope] = [*scopes, {}]
            for name, bound in pairs.items():
                _set(name, bound, inner, assigns=node.pipe.assigns)
            try:
                self.body(node.body, each, inner)
            except _Left as left:
                if left.kind == "break":
                    return

    def _pipe(self, pipe: Pipe, dot: object, scopes: list[Scope]) -> object:
        value: object = NO_VALUE
        for number, command in enumerate(pipe.commands):
            last = (value,) if number else ()
            value = self._command(command, dot, scopes, last)
        for name in pipe.variables:
            _set(name, value, scopes, assigns=pipe.assigns)
        return value

    def _command(self, command: Command, dot: object, scopes: list[Scope], last: tuple[object, ...]) -> object:
        first, *rest = command.operands
        if not isinstance(first, Function):
            if last:
                raise self._wrong(command.at, "what takes the result of a pipe is a function")
            return self._operand(first, dot, scopes)
        if first.name in ("and", "or"):
            return self._short(first, rest, dot, scopes, last)
        values = [*(self._operand(operand, dot, scopes) for operand in rest), *last]
        try:
            return FUNCTIONS[first.name](*values)
        except Wrong as error:
            raise self._wrong(command.at, str(error)) from None
        except TypeError:
            raise self._wrong(command.at, f"{first.name} does not take {len(values)} values") from None
        except RecursionError:
            raise self._wrong(command.at, "a value is nested too deeply") from None

    def _short(
        self, first: Function, rest: Sequence[Operand], dot: object, scopes: list[Scope], last: tuple[object, ...]
    ) -> object:
        """The first value that decides, and no later one is looked at."""
        if not rest and not last:
            raise self._wrong(first.at, f"{first.name} takes one value or more")
        value: object = NO_VALUE
        for operand in rest:
            value = self._operand(operand, dot, scopes)
            if is_true(value) == (first.name == "or"):
                return value
        return last[0] if last else value

    def _operand(self, operand: Operand, dot: object, scopes: list[Scope]) -> object:
        match operand:
            case Dot():
                return dot
            case Nil():
                return None
            case Literal():
                return operand.value
            case Variable(name, _):
                return next(scope[name] for scope in reversed(scopes) if name in scope)
            case Function():
                return self._command(Command((operand,), operand.at), dot, scopes, ())
            case Pipe():
                return self._pipe(operand, dot, scopes)
            case Chain(inner, fields, at):
                value = self._operand(inner, dot, scopes)
                for name in fields:
                    value = self._field(value, name, at)
                return value

    def _field(self, value: object, name: str, at: int) -> object:
        match value:
            case Fields():
                if name in value:
                    return value[name]
                if name in value.unset:
                    return value.unset[name]
                known = [*value, *value.unset]
                raise self._wrong(
                    at, f"there is no field '.{name}'", did_you_mean(name, known) or f"there are: {', '.join(known)}"
                )
            case dict():
                return value.get(name, NO_VALUE)
            case NoValue():
                return NO_VALUE
        what = "what is not there" if value is None else "a value that has no fields"
        raise self._wrong(at, f"'.{name}' is asked for of {what}")

    def _wrong(self, at: int, what: str, hint: str | None = None) -> UsageError:
        return wrong(self._source, at, what, hint)


def _set(name: str, value: object, scopes: list[Scope], *, assigns: bool) -> None:
    scope = next(scope for scope in reversed(scopes) if name in scope) if assigns else scopes[-1]
    scope[name] = value


def _gather(nodes: Sequence[Node], found: list[str]) -> None:
    for node in nodes:
        match node:
            case Action(pipe):
                _gather_pipe(pipe, found)
            case Branch(_, pipe, body, otherwise):
                _gather_pipe(pipe, found)
                _gather(body, found)
                _gather(otherwise, found)


def _gather_pipe(pipe: Pipe, found: list[str]) -> None:
    for command in pipe.commands:
        for operand in command.operands:
            match operand:
                case Pipe():
                    _gather_pipe(operand, found)
                case Chain(Dot(), fields, _):
                    found.append(fields[0])
                case Chain(Pipe() as inner, _, _):
                    _gather_pipe(inner, found)
