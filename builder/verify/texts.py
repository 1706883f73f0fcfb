"""What two texts have in common once dates, temporary names and ids are taken out of them. Pure."""

from __future__ import annotations

import re

from builder.verify.difference import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}"
_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_CLOCK = rb"[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?(?: ?[AaPp][Mm])?"
_SECOND = rb"[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?(?: ?[AaPp][Mm])?| ?[AaPp][Mm])"
_ZONE = rb"(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}|[A-Z]{2,5}))?"
DATE = re.compile(
    rb"(?:19|20)[0-9]{2}[-/][01][0-9][-/][0-3][0-9](?:[T _]" + _CLOCK + _ZONE + rb")?"
    # With dots alone it may as well be a version.
    rb"|(?:19|20)[0-9]{2}\.[01][0-9]\.[0-3][0-9][T _]" + _CLOCK + _ZONE +
    rb"|" + _DAY + rb",? {1,2}" + _MONTH + rb" {1,2}[0-9]{1,2},? " + _CLOCK + _ZONE + rb" (?:19|20)[0-9]{2}"
    rb"|(?:" + _DAY + rb",? {1,2})?" + _MONTH + rb" {1,2}[0-9]{1,2},? (?:19|20)[0-9]{2}(?: " + _CLOCK + _ZONE + rb")?"
    rb"|(?:" + _DAY + rb",? {1,2})?[0-9]{1,2}[ -]" + _MONTH + rb"[ -](?:19|20)[0-9]{2}(?:,? " + _CLOCK + _ZONE + rb")?"
    rb"|" + _MONTH + rb" {1,2}[0-9]{1,2} " + _CLOCK
    # Not hours and minutes alone: those may be anything.
    + rb"|" + _SECOND + _ZONE
    + rb"|(?<![0-9A-Za-z])20[0-9]{2}[01][0-9][0-3][0-9](?:[T_-]?[0-2][0-9][0-5][0-9](?:[0-5][0-9])?)?Z?(?![0-9A-Za-z])"
    # Seconds, or thousandths, since 1970: between 2014 and 2033.
    rb"|(?<![0-9A-Za-z.])1[4-9][0-9]{8}(?:[0-9]{3})?(?:\.[0-9]{1,9})?(?![0-9A-Za-z])"
)  # fmt: skip
"""A date, a time of day, or seconds since 1970, as programs write them."""
_TEMPORARY = re.compile(
    rb"(?:/var)?/tmp/[A-Za-z0-9_.+-]{1,100}|(?<![A-Za-z0-9])(?:pip|tmp|npm|cc|go-build|bazel)-?[a-z-]{0,20}[-_.]?"
    # With a bound for each part: who wrote the text may want it to take long.
    rb"(?=[A-Za-z0-9_]{0,11}[A-Z0-9])[A-Za-z0-9_]{6,12}(?![A-Za-z0-9_])"
)
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_TAKEN = (("random-id", _UUID, b"<id>"), ("temporary-path", _TEMPORARY, b"<path>"), ("date-in-text", DATE, b"<date>"))
_LARGEST = 4 << 20
"""Bytes of a text that is looked into."""
_MOST_LINES = 50_000


def is_text(data: bytes) -> bool:
    """UTF-8 without NUL; what else there may be is shown in hexadecimal."""
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def compare_texts(a: bytes, b: bytes) -> tuple[list[Finding], bool]:
    """Known causes, and whether they say all that differs."""
    if all(_is_private_key(text) for text in (a, b)):
        return [Finding("private-key")], True
    if len(a) > _LARGEST or len(b) > _LARGEST:
        return [], False
    if a.replace(b"\r\n", b"\n") == b.replace(b"\r\n", b"\n"):
        return [Finding("line-endings")], True
    if (found := _taken(a, b)) is not None:
        return found, True
    lines_a, lines_b = a.splitlines(), b.splitlines()
    if len(lines_a) > _MOST_LINES or len(lines_b) > _MOST_LINES:
        return [], False
    if a.startswith(b"#!"):
        # In a script the order says what it does.
        return [], False
    if sorted(lines_a) == sorted(lines_b):
        return [Finding("line-order")], True
    if len(lines_a) == len(lines_b) and all(_reordered(*pair) for pair in zip(lines_a, lines_b) if pair[0] != pair[1]):
        return [Finding("hash-order")], True
    # A log whose lines also come in another order.
    plain = [b"\n".join(sorted(_without(data).splitlines())) for data in (a, b)]
    if plain[0] == plain[1]:
        return [Finding("date-in-text"), Finding("line-order")], True
    return [], False


def _taken(a: bytes, b: bytes) -> list[Finding] | None:
    """The kinds of texts that, taken out of both, leave the same; None where that leaves a difference."""
    found = []
    for name, pattern, mark in _TAKEN:
        pair = next(_different(pattern, a, b), None)
        if pair is not None:
            found.append(Finding(name, detail=f"{_shown(pair[0])} -> {_shown(pair[1])}"))
        a, b = pattern.sub(mark, a), pattern.sub(mark, b)
        if a == b:
            return found
    return None


def _different(pattern: re.Pattern[bytes], a: bytes, b: bytes) -> Iterator[tuple[bytes, bytes]]:
    for one, other in zip(pattern.finditer(a), pattern.finditer(b)):
        if one[0] != other[0]:
            yield one[0], other[0]


def _without(data: bytes) -> bytes:
    for _, pattern, mark in _TAKEN:
        data = pattern.sub(mark, data)
    return data


def _reordered(a: bytes, b: bytes) -> bool:
    """Whether two lines have the same items of a list in another order, keys with their values; or, where they have none of the
    marks of lists and keys, the same words."""
    one, other = (_items(line) for line in (a, b))
    return one != other and sorted(one) == sorted(other)


def _items(line: bytes) -> list[bytes]:
    if re.search(rb"[,;:=]", line):
        return [item.strip() for item in re.split(rb"[,;{}()\[\]]+", line)]
    return re.split(rb"[\s{}()\[\]'\"]+", line)


def _shown(text: bytes) -> str:
    return text[:60].decode("utf-8", "replace")


def _is_private_key(text: bytes) -> bool:
    """RFC 7468, and the older forms of its label (EC, RSA, OPENSSH)."""
    first, _, _ = text.partition(b"\n")
    return first.startswith(b"-----BEGIN ") and first.rstrip().endswith(b"PRIVATE KEY-----")
