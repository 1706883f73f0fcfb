"""Errors of the word scanner, moved to where the word stands. What words expand to is tested with the scanner."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile.ast import Word
from builder.errors import DockerfileError, Span
from builder.plan.expand import expand, expand_list


def word(text: str, line: int = 3, column: int = 7) -> Word:
    return Word(text, Span(line, column, line, column + len(text)))


@pytest.mark.parametrize(
    ("text", "escape", "result"),
    [
        ("plain", "\\", "plain"),
        ("a\\b", "`", "a\\b"),
        ("a\\b", "\\", "ab"),
        ("a`b", "`", "ab"),
        ("a`b", "\\", "a`b"),
        ("'a'\"b\"", "\\", "ab"),
        ("$A${B}", "\\", "1"),
        ("", "\\", ""),
    ],
)
def test_words(text: str, escape: str, result: str) -> None:
    assert expand(word(text), {"A": "1"}, escape) == result
    assert expand_list(word(text), {"A": "1"}, escape) == ([result] if result else [])


def test_a_list_may_become_several_words() -> None:
    assert expand_list(word("$A-$A '$A' x"), {"A": "1 2"}, "\\") == ["1", "2-1", "2", "$A", "x"]


def test_an_error_points_into_its_word() -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(word("abc${x:?gone}d"), {}, "\\")
    assert (caught.value.message, caught.value.span) == ("x: gone", Span(3, 10, 3, 20))
    with pytest.raises(DockerfileError) as caught:
        expand_list(word('ab"c'), {}, "\\")
    assert (caught.value.message, caught.value.span) == ("the double quote is not closed", Span(3, 9, 3, 11))


@pytest.mark.parametrize(
    "span",
    [
        Span(3, 7, 4, 3),  # continued on the next line
        Span(3, 7, 3, 40),  # with quotes or escapes around it that are gone
    ],
)
def test_an_error_is_the_whole_word_where_its_columns_are_others(span: Span) -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(Word("abc${x:?gone}d", span), {}, "\\")
    assert caught.value.span == span


@settings(max_examples=150, deadline=None)
@given(st.text("ab${}:?\"'\\ é", max_size=14))
def test_any_word_is_a_text_or_an_error_inside_it(text: str) -> None:
    here = word(text)
    for function in (expand, expand_list):
        try:
            function(here, {"a": "x"}, "\\")
        except DockerfileError as error:
            assert error.span is not None
            assert error.span.line == error.span.end_line == 3
            assert here.span.column <= error.span.column < error.span.end_column <= here.span.end_column
