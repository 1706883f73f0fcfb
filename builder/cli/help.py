"""The help texts, made from the table, at most 80 columns wide."""

from __future__ import annotations

from builder import __version__
from builder.cli.table import COMMANDS, GLOBAL
from builder.errors import UsageError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.cli.flag import Command, Flag

WIDTH = 80
_LEFT = 30
"""The column where the explanations start."""


def version() -> str:
    """One line for ``--version``."""
    return f"pybuild {__version__}"


def help_text(command: str = "") -> str:
    """The help of one command, or of pybuild as a whole; no final line end. Raises UsageError for an unknown command."""
    if not command:
        return _overview()
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS) or "'pybuild --help' lists the commands"
        raise UsageError(f"unknown command '{command}'", hint=hint)
    return _of_command(COMMANDS[command])


def _overview() -> str:
    parts = [
        "Usage: pybuild [build] [flags] CONTEXT\n       pybuild COMMAND [flags] [arguments]",
        "Builds OCI images from Dockerfiles, without a daemon.",
        "Commands:\n" + _rows((command.name, command.help) for command in COMMANDS.values()),
        _flag_group("Flags of every command", GLOBAL),
        "'pybuild COMMAND --help' explains a command.",
    ]
    return "\n\n".join(parts)


def _of_command(command: Command) -> str:
    name = "[build]" if command.name == "build" else command.name
    parts = [f"Usage: pybuild {name} {command.usage}", f"{command.help}."]
    works = [flag for flag in command.flags if flag.status == "works" and flag not in GLOBAL]
    for group in dict.fromkeys(flag.group for flag in works):
        title = "Flags" if group == "Other" else group
        parts.append(_flag_group(title, [flag for flag in works if flag.group == group]))
    parts.append(_flag_group("Flags of every command", GLOBAL))
    unbuilt = [f"--{flag.name}" for flag in command.flags if flag.status == "unbuilt"]
    if unbuilt:
        parts.append("Not built yet:\n" + _paragraph(unbuilt))
    ignored = [f"--{flag.name}" for flag in command.flags if flag.status == "ignored"]
    if ignored:
        parts.append("Accepted, without a meaning here:\n" + _paragraph(ignored))
    return "\n\n".join(parts)


def _flag_group(title: str, flags: Iterable[Flag]) -> str:
    return f"{title}:\n" + _rows((_left(flag), _right(flag)) for flag in flags)


def _left(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    return f"{short}--{flag.name} {flag.metavar}".rstrip()


def _right(flag: Flag) -> str:
    choices = f": {', '.join(flag.choices)}" if flag.choices else ""
    repeatable = "; may be repeated" if flag.kind in ("list", "pairs") else ""
    return flag.help + choices + repeatable


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns; a left side that is too long has a line of its own."""
    out: list[str] = []
    for left, right in rows:
        lines = _wrapped(right.split(" "), WIDTH - _LEFT)
        if len(left) + 4 > _LEFT:
            out.append(f"  {left}")
            left = ""
        out.append(f"  {left:<{_LEFT - 2}}{lines[0]}")
        out += [" " * _LEFT + line for line in lines[1:]]
    return "\n".join(out)


def _paragraph(words: list[str]) -> str:
    return "\n".join("  " + line for line in _wrapped([f"{word}," for word in words[:-1]] + words[-1:], WIDTH - 2))


def _wrapped(words: list[str], width: int) -> list[str]:
    lines = [""]
    for word in words:
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines
