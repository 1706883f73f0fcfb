"""Foreign text made safe and fitted for a screen: what a step printed, what a Dockerfile says. Pure.

Sources: ECMA-48 (control sequences), xterm's "ctlseqs", Unicode annex 11 (wide characters).
"""

from __future__ import annotations

_ESCAPES = (
    # CSI: parameters, intermediates, final byte.
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    # OSC, DCS, SOS, PM, APC: a string up to BEL or ST. Without an end only the introducer goes, the text stays visible.
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    # Everything else that starts with ESC.
    r"|\x1b[ -/]*[0-~]"
)
_SGR = r"\x1b\[[0-9;:]*m"
# Joiners and selectors shape the characters beside them and move nothing.
_SHAPING = "\u200c\u200d\ufe0e\ufe0f"
RESET = "\x1b[0m"


def clean(line: bytes | str, *, colors: bool = False) -> str:
    """One line of foreign text without anything that acts on a terminal.

    Escape sequences are removed, a backspace takes the character before it, tabs become spaces, a bell is dropped, and what is
    left of control characters, bidirectional overrides and invalid UTF-8 is shown (``\\x00``, U+FFFD). With `colors`, SGR
    sequences stay and the line ends with a reset.
    """
    text = line.decode(errors="replace") if isinstance(line, bytes) else line
    if text.isprintable():
        return text
    kept: list[str] = []
    shown = "".join(_plain(part) if not sequence else part for part, sequence in _parts(text, colors, kept))
    return shown + RESET if kept else shown


def _parts(text: str, colors: bool, kept: list[str]) -> list[tuple[str, bool]]:
    """`text` as (piece, is an SGR sequence to keep); the other sequences are gone."""
    import re  # for the few lines that hold a control character

    parts: list[tuple[str, bool]] = []
    start = 0
    for match in re.finditer(_ESCAPES, text):
        parts.append((text[start : match.start()], False))
        if colors and re.fullmatch(_SGR, match.group()):
            parts.append((match.group(), True))
            kept.append(match.group())
        start = match.end()
    return [*parts, (text[start:], False)]


def _plain(text: str) -> str:
    if text.isprintable():
        return text
    text = text.expandtabs(8)
    if "\b" not in text:
        return text.translate(_SHOWN)
    out: list[str] = []
    for char in text:
        if char == "\b":
            del out[-1:]
        elif shown := char.translate(_SHOWN):
            out.append(shown)
    return "".join(out)


class _Shown(dict[int, str]):
    """How each character is shown; binary output has many of few."""

    def __missing__(self, number: int) -> str:
        char = chr(number)
        if char.isprintable() or char in _SHAPING:
            shown = char
        elif char in "\n\r" or (char.isspace() and char > "\x9f" and char not in "\u2028\u2029"):
            shown = " "
        else:
            shown = "" if char == "\a" else char.encode("unicode_escape").decode()
        self[number] = shown
        return shown


_SHOWN = _Shown()


def columns(text: str) -> int:
    """The columns that `text` takes. Joined emoji count as their parts: too wide is harmless, too narrow would wrap."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def fit(text: str, limit: int) -> str:
    """`text` cut to at most `limit` columns, with ``...`` where something is missing and there is room to say so."""
    if columns(text) <= limit:
        return text
    mark = "..." if limit > 6 else ""
    room = limit - len(mark)
    used = 0
    for index, char in enumerate(text):
        used += _width(char)
        if used > room:
            return text[:index] + mark
    return text


def _width(char: str) -> int:
    if char < "\u0300":
        return 1
    import unicodedata  # only for those who print more than Latin

    if char == "\ufe0f":
        return 1  # emoji presentation makes the narrow character before it wide
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
