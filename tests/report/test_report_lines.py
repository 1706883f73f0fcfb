"""Cutting a log into lines, making foreign text harmless, measuring it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.report.lines import LONGEST, LineCutter, incomplete, last_state
from builder.report.text import clean, columns, fit
from builder.report.units import duration, size


def cut(*chunks: bytes) -> list[bytes]:
    cutter = LineCutter()
    return [line for chunk in chunks for line in cutter.feed(chunk)] + cutter.flush()


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ((b"",), []),
        ((b"a\nb\n",), [b"a", b"b"]),
        ((b"a\nb",), [b"a", b"b"]),
        ((b"a", b"b\nc", b"\n"), [b"ab", b"c"]),
        ((b"\n\n",), [b"", b""]),
        ((b"a\r\nb\r\n",), [b"a", b"b"]),
        ((b"a\r", b"\nb"), [b"a", b"b"]),
        ((b"10%\r20%\r30%\n",), [b"30%"]),
        ((b"10%\r", b"20%\r", b"30%\r"), [b"30%"]),
        ((b"10%\r", b"done\n"), [b"done"]),
        ((b"a\r\r\n",), [b"a"]),
        ((b"\r\n",), [b""]),
        ((b"\r", b"a"), [b"a"]),
        ((b"x" * (LONGEST + 3) + b"\ny",), [b"x" * LONGEST, b"xxx", b"y"]),
        ((b"x" * LONGEST, b"xxx"), [b"x" * LONGEST, b"xxx"]),
        ((b"x" * (LONGEST - 1) + "é".encode(),), [b"x" * (LONGEST - 1), "é".encode()]),
    ],
)
def test_lines(chunks: tuple[bytes, ...], lines: list[bytes]) -> None:
    assert cut(*chunks) == lines


def test_a_progress_bar_shows_its_present_state() -> None:
    cutter = LineCutter()
    cutter.feed(b"one\n10%\r20%\r")
    assert cutter.partial() == b"20%"


def test_a_log_without_line_ends_costs_no_memory() -> None:
    cutter = LineCutter()
    for _ in range(50):
        cutter.feed(b"x" * 10_000)
        assert len(cutter.partial()) <= LONGEST


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=12)), st.data())
def test_where_a_log_is_cut_changes_nothing(chunks: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(chunks)
    assert cut(*chunks) == cut(whole)
    expected = [last_state(line) for line in whole.split(b"\n")]
    assert cut(whole) == (expected if expected[-1] else expected[:-1])


@settings(max_examples=200)
@given(st.text(), st.integers(0, 50))
def test_the_start_of_a_character_waits_for_its_end(text: str, at: int) -> None:
    data = text.encode(errors="replace")[:at]
    back = incomplete(data)
    data[: len(data) - back].decode()  # raises when a character was cut


@given(st.binary(max_size=8))
def test_at_most_three_bytes_wait(data: bytes) -> None:
    assert 0 <= incomplete(data) <= min(3, len(data))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain text", "plain text"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[2J\x1b[1;1Hgone", "gone"),
        (b"\x1b]0;title\x07after", "after"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1bPq#0\x1b\\after", "after"),
        (b"\x1b(Bx\x1b7y\x1bcz", "xyz"),
        (b"\x1b]0;never closed", "0;never closed"),
        (b"\x1b[31", "31"),
        (b"end\x1b", "end\\x1b"),
        ("\x9b2Jx".encode(), "x"),
        ("\x9d0;t\x9cx".encode(), "x"),
        (b"a\tb", "a       b"),
        (b"ab\b\bc", "c"),
        (b"\b\ba", "a"),
        (b"ding\a", "ding"),
        (b"\x00\x01\x7f", "\\x00\\x01\\x7f"),
        (b"caf\xe9", "caf\ufffd"),
        ("a\u202eb".encode(), "a\\u202eb"),
        ("a\u00a0b\u3000c".encode(), "a b c"),
        ("a\u2028b".encode(), "a\\u2028b"),
        ("👩\u200d👧".encode(), "👩\u200d👧"),
        ("two\nlines\r", "two lines "),
        ("\udc80", "\\udc80"),
    ],
)
def test_foreign_text_is_made_harmless(raw: bytes | str, shown: str) -> None:
    assert clean(raw) == shown


def test_colors_stay_when_asked_and_end_with_the_line() -> None:
    assert clean(b"\x1b[31mred\x1b[2J", colors=True) == "\x1b[31mred\x1b[0m"
    assert clean(b"none\x1b[2J", colors=True) == "none"


@settings(max_examples=200)
@given(st.binary() | st.text(alphabet=st.characters(exclude_categories=[])))
def test_nothing_acts_on_the_terminal(raw: bytes | str) -> None:
    for char in clean(raw):
        assert unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp"), hex(ord(char))
        assert unicodedata.bidirectional(char) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def test_a_hostile_line_takes_no_time() -> None:
    clean(b"\x1b]" * (LONGEST // 2))
    clean(("\x9d" * LONGEST).encode())


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3),
        ("日本", 4),
        ("e\u0301", 1),
        ("é", 1),
        ("ｆ", 2),
        ("\u200d", 0),
        ("한", 2),
        ("\u1112\u1161\u11ab", 2),
        ("❤\ufe0f", 2),
    ],
)
def test_columns(text: str, width: int) -> None:
    assert columns(text) == width


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("abcdefgh", 8, "abcdefgh"),
        ("abcdefghi", 8, "abcde..."),
        ("abcdefghi", 5, "abcde"),
        ("日本語日本語", 8, "日本..."),
        ("日本", 3, "日"),
        ("日本", 1, ""),
        ("abc", 0, ""),
    ],
)
def test_fit(text: str, limit: int, shown: str) -> None:
    assert fit(text, limit) == shown


@settings(max_examples=100)
@given(st.text(), st.integers(0, 30))
def test_fit_never_exceeds(text: str, limit: int) -> None:
    assert columns(fit(text, limit)) <= limit


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234567, "1.2 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (5 * 10**9, "5.0 GB"),
        (2 * 10**15, "2.0 PB"),
    ],
)
def test_size(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0s"),
        (-1, "0.0s"),
        (0.54, "0.5s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (65, "1m05s"),
        (3599.6, "1h00m"),
        (7380, "2h03m"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
