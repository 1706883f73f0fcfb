"""The JSON form of an instruction's arguments, told from the shell form as BuildKit tells it."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


class NotStrings(Exception):
    """The text is a JSON array, and something else than strings is in it."""


def strings(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None when the text is not a JSON array, which is the shell form then. Raises NotStrings.

    As Go's decoder does, a lone surrogate (`\\ud800`) becomes U+FFFD. An array too deep for Python is NotStrings.
    """
    if not text.startswith("["):
        return None
    try:
        # Numbers are never used: not converting them keeps huge ones harmless.
        values = json.loads(text, parse_int=str.__len__, parse_float=str.__len__, parse_constant=_refuse)
    except ValueError:
        return None
    except RecursionError:
        raise NotStrings from None
    if not all(isinstance(value, str) for value in values):
        raise NotStrings
    return tuple(value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for value in values)


def places(text: str) -> list[tuple[int, int]]:
    """(start, end) of each string of a text for which `strings` gave a result."""
    return [match.span() for match in _STRING.finditer(text)]


def write(words: tuple[str, ...]) -> str:
    """The JSON array of `words`."""
    return json.dumps(words)


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are JSON to Python alone
