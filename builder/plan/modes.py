"""`--chmod`: a mode in octal, or changes of one as chmod(1) writes them. Pure.

The symbolic form is that of setmode(3) of the BSDs, as BuildKit's parser has it (tonistiigi/dchapes-mode, mode.go) with a umask
of 0, and with POSIX.1-2024's `X`, which counts after `=` and `-` too (moby/buildkit issue 5835).
"""

from __future__ import annotations

from builder.errors import DockerfileError
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

_CLASSES = {"a": 0o6777, "u": 0o4700, "g": 0o2070, "o": 0o0007}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000}
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_PERMISSIONS = "rwxXstugo"
_OCTAL_DIGITS = 12
_STICKY = 0o1000
_EXECUTE = 0o111


class Change(NamedTuple):
    """One step from a mode to the next. `of` names the class whose permissions are meant, within `bits`; without it they are
    `bits` themselves. `search` sets them for a folder and for what somebody could execute at first."""

    what: Literal["set", "clear", "assign", "search"]
    bits: int
    of: Literal["", "u", "g", "o"] = ""

    def apply(self, mode: int) -> int:
        bits = self.bits & ((mode >> _SHIFTS[self.of] & 7) * 0o111) if self.of else self.bits
        match self.what:
            case "clear":
                return mode & ~bits
            case "assign":
                return mode & ~self.bits | bits
            case _:
                return mode | bits


class SymbolicMode(NamedTuple):
    """`u=rwX,go=rX` and the like: a function from the mode that a file has."""

    text: str
    changes: tuple[Change, ...]

    def apply(self, mode: int, *, folder: bool) -> int:
        """The new mode of a file, or of a folder, that has `mode`: permission bits, 0o7777 at most."""
        searchable = folder or bool(mode & _EXECUTE)
        for change in self.changes:
            if change.what != "search" or searchable:
                mode = change.apply(mode)
        return mode


Mode = int | SymbolicMode


def mode(text: str) -> Mode:
    """The mode that `--chmod` gives: 0 to 7777 in octal, or a symbolic one. Raises DockerfileError, without a span."""
    if text and not text.strip("01234567") and len(text) <= _OCTAL_DIGITS and int(text, 8) <= 0o7777:
        return int(text, 8)
    if text[:1].isdecimal():
        raise DockerfileError(f"'{text}' is not a mode", hint="a mode has octal digits, 0 to 7777, as 0755")
    changes: list[Change] = []
    for clause in text.split(","):
        changes += _clause(clause, text)
    return SymbolicMode(text, tuple(changes))


def _clause(clause: str, text: str) -> list[Change]:
    rest = clause.lstrip("augo")
    who = 0
    for letter in clause[: len(clause) - len(rest)]:
        who |= _CLASSES[letter]
    if not rest:
        raise _wrong(text, f"'{clause}' says nothing to do" if clause else "one of its clauses is empty")
    if rest[0] not in "+-=":
        raise _wrong(text, f"'{rest[0]}' is no operator")
    changes: list[Change] = []
    while rest:
        left = rest[1:].lstrip(_PERMISSIONS)
        if left and left[0] not in "+-=":
            raise _wrong(text, f"'{left[0]}' is no permission")
        changes += _operation(rest[0], rest[1 : len(rest) - len(left)], who)
        rest = left
    return changes


def _operation(operator: str, permissions: str, who: int) -> list[Change]:
    """The changes of `+rw`, `=rX`, `-u` for the classes `who`; 0 is all of them."""
    changes: list[Change] = []
    bits = search = 0
    assigned = operator != "="

    def flush() -> None:
        nonlocal bits, search, assigned
        if not assigned:
            changes.append(Change("clear", who or _CLASSES["a"]))
            assigned = True
        if bits:
            changes.append(Change("clear" if operator == "-" else "set", bits & who if who else bits))
        if search:
            changes.append(Change("search", search & who if who else search))
        bits = search = 0

    for letter in permissions:
        match letter:
            case "u" | "g" | "o":
                # A copy is a change of its own, and `=` a new beginning.
                if bits or search:
                    flush()
                assigned = True
                what: Literal["set", "clear", "assign"] = "assign" if operator == "=" else "set" if operator == "+" else "clear"
                changes.append(Change(what, (who or 0o777) & 0o777, letter))
            case "X" if operator != "-":
                search = _EXECUTE
            case "X":
                bits |= _EXECUTE
            case "t" | "s" if who and not who & ~0o007:
                # Others alone have neither.
                continue
            case "t":
                # As in setmode(3): without classes, all but the sticky bit is lost.
                who |= _STICKY
                bits |= _STICKY
            case _:
                bits |= _BITS[letter]
    if bits or search or not assigned:
        flush()
    return changes


def _wrong(text: str, why: str) -> DockerfileError:
    return DockerfileError(
        f"'{text}' is not a mode: {why}", hint="write it in octal, as 0755, or as chmod(1) does, as u=rwX,go=rX"
    )
