"""The functions of templates: text/template's own, and those that docker adds (docker/cli, templates/templates.go). Pure.

Each takes what Go's takes and raises `Wrong`, whose text goes into the middle of a sentence.
"""

from __future__ import annotations

import re
import urllib.parse

from builder.gotemplate.values import Fields, NoValue, is_true, show, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 1 << 20
"""Characters that a width in a format may ask for."""
_VERB = re.compile(r"%([-+# 0]*)([0-9]*)(?:\.([0-9]*))?(.)", re.DOTALL)
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "\0": "\ufffd"}


class Wrong(Exception):
    """What is given is of the wrong kind or number."""


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{name} takes a text, not {_kind(value)}")
    return value


def _number(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Wrong(f"{name} takes a number, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    match value:
        case None | NoValue():
            return "nothing"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
    return "a map"


def _len(value: object) -> int:
    match value:
        case str():
            return len(value.encode("utf-8", "surrogateescape"))
        case list() | tuple() | dict():
            return len(value)
    raise Wrong(f"len of {_kind(value)}")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        match value:
            case dict():
                if isinstance(value, Fields):
                    raise Wrong("index of a struct: its fields are read with a dot")
                # A key that is not there is the zero value, which for texts is the empty one.
                value = value.get(_text(key, "index of a map"), "")
            case list() | tuple() | str():
                number = _number(key, "index of a list")
                if not 0 <= number < _len(value):
                    raise Wrong(f"there is no element {number}, but {_len(value)} in all")
                value = value.encode()[number] if isinstance(value, str) else value[number]
            case None | NoValue():
                raise Wrong("index of nothing")
            case _:
                raise Wrong(f"index of {_kind(value)}")
    return value


def _slice(value: object, *ends: object) -> object:
    if not isinstance(value, str | list | tuple):
        raise Wrong(f"slice of {_kind(value)}")
    if len(ends) > (2 if isinstance(value, str) else 3):
        raise Wrong("slice takes fewer numbers")
    numbers = [_number(end, "slice") for end in ends]
    limits = [*(numbers or [0])]
    end = limits[1] if len(limits) > 1 else _len(value)
    if not 0 <= limits[0] <= end <= _len(value) or (len(limits) > 2 and not end <= limits[2] <= _len(value)):
        raise Wrong(f"there is no part {':'.join(map(str, numbers))} of {_len(value)}")
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")[limits[0] : end].decode("utf-8", "replace")
    return list(value[limits[0] : end])


def _basic(value: object) -> str:
    match value:
        case bool():
            return "truth value"
        case int():
            return "number"
        case float():
            return "float"
        case str():
            return "text"
        case None | NoValue():
            return "nothing"
    raise Wrong(f"{_kind(value)} cannot be compared")


def _eq(first: object, *others: object) -> bool:
    if not others:
        raise Wrong("eq takes two values or more")
    for other in others:
        kinds = {_basic(first), _basic(other)}
        if len(kinds) > 1 and "nothing" not in kinds:
            raise Wrong(f"{_kind(first)} is compared with {_kind(other)}")
        if len(kinds) == 1 and (first == other or kinds == {"nothing"}):
            return True
    return False


def _less(first: object, other: object) -> bool:
    match first, other:
        case bool(), _:
            pass
        case _, bool():
            pass
        case str(), str():
            return first < other
        case int(), int():
            return first < other
        case float(), float():
            return first < other
    raise Wrong(f"{_kind(first)} and {_kind(other)} have no order")


def _printf(form: object, *values: object) -> str:
    left = list(values)

    def shown(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        if max(int(width[:9] or 0), int((precision or "0")[:9])) > _MOST:
            raise Wrong("printf with a width that is too big")
        text = _formatted(left.pop(0), verb, flags, None if precision is None else int(precision or 0))
        if "-" in flags:
            return text.ljust(int(width or 0))
        if "0" in flags and verb in "dxXf":
            return text.zfill(int(width or 0))
        return text.rjust(int(width or 0))

    text = _VERB.sub(shown, _text(form, "printf"))
    # As Go says it.
    return text + (f"%!(EXTRA {', '.join(map(_typed, left))})" if left else "")


def _formatted(value: object, verb: str, flags: str, precision: int | None) -> str:
    number = isinstance(value, int) and not isinstance(value, bool)
    match verb:
        case "v" | "s":
            text = show(value)
            return text if precision is None or verb == "v" else text[:precision]
        case "q" if isinstance(value, str):
            return to_json(value)
        case "t" if isinstance(value, bool):
            return show(value)
        case "d" if number:
            return f"{value:+d}" if "+" in flags else str(value)
        case "x" | "X" if number:
            return format(value, verb)
        case "x" if isinstance(value, str):
            return value.encode().hex()
        case "f" if isinstance(value, float):
            return f"{value:.{6 if precision is None else precision}f}"
    # As Go says it.
    return f"%!{verb}({_typed(value)})"


def _typed(value: object) -> str:
    match value:
        case None | NoValue():
            return "<nil>"
        case bool():
            return f"bool={show(value)}"
        case int():
            return f"int={value}"
        case float():
            return f"float64={show(value)}"
        case str():
            return f"string={value}"
    return f"interface {{}}={show(value)}"


def _print(*values: object) -> str:
    """A space stands between two values of which neither is a text."""
    parts: list[str] = []
    for before, value in zip([None, *values], values):
        if parts and not isinstance(before, str) and not isinstance(value, str):
            parts.append(" ")
        parts.append(show(value))
    return "".join(parts)


def _join(value: object, between: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, list | tuple):
        raise Wrong(f"join takes a list, not {_kind(value)}")
    return _text(between, "join").join(show(each) for each in value)


def _split(value: object, at: object) -> list[str]:
    text, between = _text(value, "split"), _text(at, "split")
    return text.split(between) if between else list(text)


def _pad(value: object, before: object, after: object) -> str:
    text, left, right = _text(value, "pad"), _number(before, "pad"), _number(after, "pad")
    if max(left, right) > _MOST:
        raise Wrong("pad with a width that is too big")
    return " " * left + text + " " * right if text else ""


def _truncate(value: object, length: object) -> str:
    return _text(value, "truncate")[: max(0, _number(length, "truncate"))]


def _title(value: object) -> str:
    return re.sub(r"(?<!\w)\w", lambda found: found[0].upper(), _text(value, "title"))


def _html(*values: object) -> str:
    return "".join(_HTML.get(char, char) for char in _print(*values))


def _js(*values: object) -> str:
    return "".join({"<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D", "'": "\\'"}.get(c, to_json(c)[1:-1])
                   for c in _print(*values))  # fmt: skip


FUNCTIONS: dict[str, Callable[..., object]] = {
    # `and` and `or` are evaluated no further than needed: see `evaluate`.
    "and": lambda *values: values[-1],
    "or": lambda *values: values[-1],
    "not": lambda value: not is_true(value),
    "eq": _eq,
    "ne": lambda first, other: not _eq(first, other),
    "lt": _less,
    "le": lambda first, other: _less(first, other) or first == other,
    "gt": lambda first, other: not _less(first, other) and first != other,
    "ge": lambda first, other: not _less(first, other),
    "html": _html,
    "index": _index,
    "js": _js,
    "len": _len,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(map(show, values)) + "\n",
    "slice": _slice,
    "urlquery": lambda *values: urllib.parse.quote_plus(_print(*values), errors="surrogateescape"),
    "join": _join,
    "json": to_json,
    "lower": lambda value: _text(value, "lower").lower(),
    "pad": _pad,
    "split": _split,
    "title": _title,
    "truncate": _truncate,
    "upper": lambda value: _text(value, "upper").upper(),
}
