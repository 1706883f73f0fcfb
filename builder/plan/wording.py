"""Values in messages: quoted where they need it, shortened to what differs, secrets left out. Pure."""

from __future__ import annotations

from builder.redact import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LONGEST = 60
"""Characters of a value that are shown."""
_CONTEXT = 12
"""Characters beside a difference that are shown."""
MOST_NAMES = 5

_SECRET_PARTS = frozenset(("auth", "key", "pword", "pwd", "apikey"))
_SECRET_WORDS = ("token", "secret", "passw", "credential")


def is_secret(name: str) -> bool:
    """Whether a variable's name sounds like a secret's: wider than the check SecretsUsedInArgOrEnv, since nothing is lost."""
    lower = name.lower()
    return not _SECRET_PARTS.isdisjoint(lower.split("_")) or any(word in lower for word in _SECRET_WORDS)


def masked(value: Any) -> Any:
    """A value of JSON with the credentials of its URLs masked."""
    match value:
        case str():
            return redact(value)
        case list():
            return [masked(each) for each in value]
        case dict():
            return {name: masked(each) for name, each in value.items()}
        case _:
            return value


def listed(names: Sequence[str]) -> str:
    """The first names, sorted, and how many more there are."""
    told = Names()
    for name in names:
        told.add(name)
    return str(told)


class Names:
    """Names of which few are told: `str` gives what `listed` does, and there may be any number of them."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._count = 0

    def add(self, name: str) -> None:
        self._count += 1
        self._first.append(name)
        if len(self._first) > 8 * MOST_NAMES:
            self._first = sorted(self._first)[:MOST_NAMES]

    def __len__(self) -> int:
        return self._count

    def __str__(self) -> str:
        first = ", ".join(sorted(self._first)[:MOST_NAMES])
        more = self._count - MOST_NAMES
        return f"{first} and {more} more" if more > 0 else first


def shown(value: str) -> str:
    """A value alone."""
    value = _one_line(value)
    return _quoted(value if len(value) <= LONGEST else value[: LONGEST - 1] + "…")


def pair(old: str, new: str) -> str:
    """``old -> new``; of long values the part in which they differ."""
    old, new = _one_line(old), _one_line(new)
    if max(len(old), len(new)) > LONGEST:
        start = _common(old, new)
        end = min(_common(old[::-1], new[::-1]), min(len(old), len(new)) - start)
        old, new = (_window(text, start, len(text) - end) for text in (old, new))
    return f"{_quoted(old)} -> {_quoted(new)}"


def _one_line(text: str) -> str:
    """Credentials masked, line ends and tabs as spaces."""
    return " ".join(redact(text).split()) if "\n" in text or "\t" in text else redact(text)


def _quoted(text: str) -> str:
    return text if text and not text[0].isspace() and not text[-1].isspace() else f'"{text}"'


def _common(a: str, b: str) -> int:
    """How many characters at the start are the same."""
    least = min(len(a), len(b))
    return next((place for place in range(least) if a[place] != b[place]), least)


def _window(text: str, start: int, end: int) -> str:
    """`text` around the piece from `start` to `end`, not much longer than `LONGEST`."""
    left, right = max(0, start - _CONTEXT), min(len(text), max(start, end) + _CONTEXT)
    right = min(right, left + LONGEST)
    return f"{'…' if left else ''}{text[left:right]}{'…' if right < len(text) else ''}"
