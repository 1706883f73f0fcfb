"""What a flag and a command are, as the table declares them."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["bool", "string", "list", "pairs", "int", "bytes"]
    Status = Literal["works", "ignored", "unbuilt"]


class Flag(NamedTuple):
    """`kind` says what a value must look like; `list` and `pairs` (NAME=VALUE) may be repeated, of the others the last wins."""

    name: str
    short: str
    kind: Kind
    metavar: str
    help: str
    group: str = "Other"
    status: Status = "works"
    choices: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    implied: str = ""
    """The value of a bare ``--flag`` where a value may be left out."""


class Command(NamedTuple):
    name: str
    usage: str
    """What follows the name: flags and arguments."""
    help: str
    flags: tuple[Flag, ...]
    least: int = 0
    most: int = 0
    """How many arguments; -1 for any number."""
    stops: bool = False
    """Flags end at the first argument: the rest belongs to the command that is run."""


def unbuilt(name: str, kind: Kind, metavar: str, help: str, *, short: str = "", harmless: tuple[str, ...] = ()) -> Flag:
    return Flag(name, short, kind, metavar, help, "", "unbuilt", harmless=harmless)


def ignored(name: str, kind: Kind, *, short: str = "") -> Flag:
    return Flag(name, short, kind, "", "", "", "ignored")
