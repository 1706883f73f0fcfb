"""Go's `%q`, against strconv.Quote's documented escapes."""

from __future__ import annotations

import pytest

from builder.dockerfile.goquote import quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", '""'),
        ("plain é ☺ 😀", '"plain é ☺ 😀"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\x00\x1b\x7f", r'"\x00\x1b\x7f"'),
        ("\u200b\U000e0001\xa0", r'"\u200b\U000e0001\u00a0"'),
    ],
)
def test_strings_as_go_quotes_them(text: str, shown: str) -> None:
    assert quoted(text) == shown
