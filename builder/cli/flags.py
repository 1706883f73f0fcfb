"""Parsing of the command line by `table`, as pflag does it for docker and buildah. Pure.

By hand and not by argparse: that costs 11 ms at each start.
"""

from __future__ import annotations

from builder.cli.table import COMMANDS, GLOBAL
from builder.errors import UsageError, did_you_mean, nearest
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.cli.flag import Command, Flag

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_POWERS = {"": 0, "b": 0} | {u + end: n for n, u in enumerate("kmgtp", 1) for end in ("", "b", "ib")}
_LONGEST_NUMBER = 18
"""Digits: what is longer is no size and no time."""


class Parsed(NamedTuple):
    """A checked command line.

    `command` is a name of the table, or ``help`` (`positionals`: the command to explain, or nothing) or ``version``.
    `values` has every flag of the command, as the texts that were given; read it by the methods. `notes` are remarks for
    people who debug. The methods raise KeyError for a flag that the table does not give to the command.
    """

    command: str
    values: dict[str, tuple[str, ...]]
    positionals: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def flag(self, name: str) -> bool:
        """Whether a bool flag is on."""
        return self.values[name][-1:] == ("true",)

    def text(self, name: str) -> str | None:
        """The last value of a flag, None when it was not given."""
        values = self.values[name]
        return values[-1] if values else None

    def number(self, name: str) -> int | None:
        """The last value of an int flag, or of a bytes flag in bytes."""
        text = self.text(name)
        return None if text is None else byte_size(text)

    def texts(self, name: str) -> tuple[str, ...]:
        """All values of a repeatable flag, in order."""
        return self.values[name]

    def pairs(self, name: str) -> dict[str, str | None]:
        """All NAME=VALUE of a flag; the last wins; None where there was no ``=``."""
        split = (value.partition("=") for value in self.values[name])
        return {key: value if equals else None for key, equals, value in split}


def parse(argv: Sequence[str]) -> Parsed:
    """The command line without the program's name. Raises UsageError, with a hint where a near name exists.

    Flags before the command may only be those of every command; without a command it is ``build``.
    """
    words = list(argv)
    lead = _leading(words)
    first = words[lead] if lead < len(words) else ""
    if first in ("version", "--version"):
        return Parsed("version", {}, ())
    if first == "help":
        return Parsed("help", {}, tuple(words[lead + 1 : lead + 2]))
    if not words or (first not in COMMANDS and _asks_help(words[:lead])):
        return Parsed("help", {}, ())
    if first in COMMANDS:
        del words[lead]
    command = COMMANDS[first if first in COMMANDS else "build"]
    return _Parser(command).parse(words)


def near_command(word: str) -> str | None:
    """A hint for a context that does not exist and may be a mistyped command."""
    if word in COMMANDS:
        return f"the command comes before its flags: pybuild {word} ..."
    return did_you_mean(word, COMMANDS) if "/" not in word else None


def byte_size(text: str) -> int:
    """``64m``, ``1.5GiB``, ``1024``: bytes, units of 1024 as in Docker. Raises UsageError."""
    number = text.lower().rstrip("bikmgtp ")
    unit = text.lower()[len(number) :].strip()
    digits = number.replace(".", "", 1)
    if unit not in _POWERS or not (digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_NUMBER):
        raise UsageError(f"'{text}' is not a size", hint="a size looks like 1024, 64m or 1.5g")
    whole = int(number) if "." not in number else float(number)
    return int(whole * 1024 ** _POWERS[unit])


def _leading(words: list[str]) -> int:
    """How many words at the start are flags of every command, with their values."""
    index = 0
    while index < len(words):
        name, equals, _ = words[index].partition("=")
        flag = next((flag for flag in GLOBAL if name in (f"--{flag.name}", f"-{flag.short}")), None)
        if flag is None or name == "-":
            break
        index += 1 if equals or flag.kind == "bool" else 2
    return index


def _asks_help(words: list[str]) -> bool:
    return "--help" in words or "-h" in words


class _Parser:
    """One pass over the words after the command."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._long = {flag.name: flag for flag in command.flags}
        self._short = {flag.short: flag for flag in command.flags if flag.short}
        self._values: dict[str, list[str]] = {flag.name: [] for flag in command.flags}
        self._notes: list[str] = []
        self._arguments: list[str] = []
        self._words: list[str] = []

    def parse(self, words: list[str]) -> Parsed:
        self._words = words[::-1]
        while self._words:
            word = self._words.pop()
            if word == "--":
                self._arguments += self._words[::-1]
                break
            if word == "-" or not word.startswith("-"):
                self._arguments.append(word)
                if self._command.stops:
                    self._arguments += self._words[::-1]
                    break
            elif word.startswith("--"):
                self._long_flag(word)
            else:
                self._short_flags(word)
            if self._values["help"] == ["true"]:
                return Parsed("help", {}, (self._command.name,))
        self._check_arguments()
        values = {name: tuple(values) for name, values in self._values.items()}
        return Parsed(self._command.name, values, tuple(self._arguments), tuple(self._notes))

    def _long_flag(self, word: str) -> None:
        name, equals, value = word[2:].partition("=")
        flag = self._long.get(name)
        if flag is None:
            raise self._unknown(f"--{name}", name)
        if equals:
            self._take(flag, value, f"--{name}")
        elif flag.kind == "bool" or flag.implied:
            self._take(flag, flag.implied or "true", f"--{name}")
        else:
            self._take(flag, self._next_word(f"--{name}"), f"--{name}")

    def _short_flags(self, word: str) -> None:
        """``-q``, ``-t foo``, ``-tfoo``, ``-t=foo``, ``-qf Dockerfile``."""
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            shown = f"-{letter}"
            flag = self._short.get(letter)
            if flag is None:
                raise self._unknown(shown if len(word) == 2 else f"{shown}' in '{word}", word[1:])
            if letters.startswith("="):
                self._take(flag, letters[1:], shown)
                return
            if flag.kind == "bool":
                self._take(flag, "true", shown)
                continue
            self._take(flag, letters or self._next_word(shown), shown)
            return

    def _next_word(self, shown: str) -> str:
        if not self._words:
            raise UsageError(f"the flag '{shown}' needs a value")
        return self._words.pop()

    def _take(self, flag: Flag, value: str, shown: str) -> None:
        value = _checked(flag, value, shown)
        if flag.status == "ignored":
            self._notes.append(f"'{shown}' means nothing to pybuild and was ignored")
        elif flag.status == "unbuilt":
            self._refuse_unless_harmless(flag, value, shown)
        self._values[flag.name].append(value)

    def _refuse_unless_harmless(self, flag: Flag, value: str, shown: str) -> None:
        harmless = (*flag.harmless, "false") if flag.kind == "bool" else flag.harmless
        # Attestations are also switched off by a key, as in type=sbom,disabled=true.
        if value not in harmless and not ("false" in flag.harmless and "disabled=true" in value.split(",")):
            only = f"; it accepts '{harmless[0]}'" if harmless and flag.kind != "bool" else ""
            raise UsageError(f"the flag '{shown}' is not built yet ({flag.help}){only}", hint="leave it out")
        self._notes.append(f"'{shown}={value}' asks for nothing and was ignored")

    def _unknown(self, shown: str, name: str) -> UsageError:
        known = [flag.name for flag in self._command.flags]
        near = nearest(name, known) if len(name) > 1 else None
        hint = f"did you mean '--{near}'?" if near else f"'pybuild {self._command.name} --help' lists the flags"
        return UsageError(f"unknown flag '{shown}' of '{self._command.name}'", hint=hint)

    def _check_arguments(self) -> None:
        command, count = self._command, len(self._arguments)
        usage = f"pybuild {command.name} {command.usage}"
        if count < command.least:
            what = "the context is missing" if command.name == "build" else f"'{command.name}' needs more arguments"
            dot = ", as in 'pybuild .'" if command.name == "build" else ""
            raise UsageError(what, hint=f"usage: {usage}{dot}")
        if 0 <= command.most < count:
            first = self._arguments[0]
            if command.name == "build" and (near := near_command(first)):
                raise UsageError(f"unknown command '{first}'", hint=near)
            extra = self._arguments[command.most]
            bare = [flag.name for flag in command.flags if flag.implied and flag.implied in self._values[flag.name]]
            hint = f"usage: {usage}" if not bare else f"--{bare[0]} takes a value with an equals sign: --{bare[0]}={first}"
            raise UsageError(f"'{command.name}' does not take the argument '{extra}'", hint=hint)


def _checked(flag: Flag, value: str, shown: str) -> str:
    """The value in its normal form. Raises UsageError."""
    match flag.kind:
        case "bool":
            if value not in _TRUE + _FALSE:
                raise UsageError(f"'{value}' is not a value of '{shown}'", hint="true or false")
            return "true" if value in _TRUE else "false"
        case "int":
            if not (value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER):
                raise UsageError(f"'{value}' is not a value of '{shown}'", hint="a whole number, 0 or more")
            return value
        case "bytes":
            return str(byte_size(value))
        case "pairs":
            if not value.partition("=")[0]:
                raise UsageError(f"'{value}' is not a value of '{shown}'", hint=f"it looks like {flag.metavar}")
            return value
        case "string" | "list":
            if flag.choices and value not in flag.choices:
                hint = did_you_mean(value, flag.choices) or "one of " + ", ".join(flag.choices)
                raise UsageError(f"'{value}' is not a value of '{shown}'", hint=hint)
            return value
