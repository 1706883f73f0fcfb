"""The syntax tree of a template. `at` is where a node begins: characters from the template's start. Pure."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Dot(NamedTuple):
    at: int


class Nil(NamedTuple):
    at: int


class Literal(NamedTuple):
    value: str | int | float | bool
    at: int


class Variable(NamedTuple):
    """`$name`, or `$` for what the template was given."""

    name: str
    at: int


class Function(NamedTuple):
    name: str
    at: int


class Chain(NamedTuple):
    """Fields of an operand: `.A.B` is the fields A and B of the dot."""

    operand: Operand
    fields: tuple[str, ...]
    at: int


class Command(NamedTuple):
    operands: tuple[Operand, ...]
    at: int


class Pipe(NamedTuple):
    """`[$x :=] command | command`; with `assigns` the variable is one that there is: `$x = ...`."""

    variables: tuple[str, ...]
    assigns: bool
    commands: tuple[Command, ...]
    at: int


Operand = Dot | Nil | Literal | Variable | Function | Chain | Pipe


class Text(NamedTuple):
    text: str


class Action(NamedTuple):
    pipe: Pipe


class Branch(NamedTuple):
    """`if`, `with` or `range`: what it does where its pipe has something, and where not."""

    kind: str
    pipe: Pipe
    body: Sequence[Node]
    otherwise: Sequence[Node]


class Leave(NamedTuple):
    """`break` or `continue`."""

    kind: str
    at: int


Node = Text | Action | Branch | Leave
