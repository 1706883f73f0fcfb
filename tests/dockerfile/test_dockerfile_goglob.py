"""Go's filepath.Match. The tables follow its documentation (pkg.go.dev/path/filepath#Match) and Go's own tests."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile import goglob
from builder.errors import DockerfileError, Span


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("", "", True),
        ("", "a", False),
        # `*`: any characters but `/`.
        ("*", "abc", True),
        ("*", "", True),
        ("*", "a/b", False),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("**", "ab", True),
        ("**", "a/b", False),
        ("a**b", "acb", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("*x", "xxx", True),
        ("*a*", "bbb", False),
        # `?`: one character but `/`.
        ("a?b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("a?b", "a/b", False),
        ("a?b", "a\nb", True),
        # Classes: ranges, negation by `^` alone, escapes; a `/` is a character for them.
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("[!a]", "!", True),
        ("[!a]", "b", False),
        ("a[^a]b", "a☺b", True),
        ("a[^a][^a]b", "a☺b", False),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[x\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[\\^a]", "^", True),
        ("[^^]", "^", False),
        ("[z-a]", "m", False),
        ("[^z-a]", "m", True),
        ("a[^x]b", "a/b", True),
        ("[a*?]", "*", True),
        ("[a*?]", "b", False),
        # Dockerfile reference, COPY: files with special characters in their names.
        ("arr[[]0].txt", "arr[0].txt", True),
        ("arr[[]0].txt", "arr0.txt", False),
        # Escapes: any character.
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("\\a\\[", "a[", True),
        # Nothing of a regular expression is special.
        ("a.b+(c)|{d}^$", "a.b+(c)|{d}^$", True),
        ("a.b", "axb", False),
        # A byte that is not UTF-8 is one character, U+FFFD to a class.
        ("a?b", "a\udcffb", True),
        ("a[^x]b", "a\udcffb", True),
        ("a[\uff00-\uffff]b", "a\udcffb", True),
        ("a[a-z]b", "a\udcffb", False),
        ("a*b", "a\udcff\udcfeb", True),
    ],
)
def test_match(pattern: str, name: str, expected: bool) -> None:
    assert goglob.match(pattern, name) is expected


@pytest.mark.parametrize(
    ("pattern", "message", "column"),
    [
        ("[]a]", "a ']' out of place in a [...]", 2),
        ("[-]", "a '-' out of place in a [...]", 2),
        ("[x-]", "a ']' out of place in a [...]", 4),
        ("[-x]", "a '-' out of place in a [...]", 2),
        ("[a-b-c]", "a '-' out of place in a [...]", 5),
        ("[^]", "a ']' out of place in a [...]", 3),
        ("ab[", "a '[' without its ']'", 3),
        ("[^", "a '[' without its ']'", 1),
        ("[^bc", "a '[' without its ']'", 1),
        ("[a-", "a '[' without its ']'", 1),
        ("[\\", "a '[' without its ']'", 1),
        ("a/b[", "a '[' without its ']'", 4),
        ("ab\\", "a lone \\ at its end", 3),
        ("[\udcff]", "a byte that is not UTF-8 in a [...]", 2),
    ],
)
def test_a_bad_pattern_is_an_error_whatever_the_name_is(pattern: str, message: str, column: int) -> None:
    for name in ("", "x", "ab"):
        with pytest.raises(DockerfileError) as caught:
            goglob.match(pattern, name)
        assert caught.value.message == f"the pattern '{pattern}' has {message}"
        assert caught.value.span == Span(1, column, 1, column + 1)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("pattern", "expected"), [("a/b.c", False), ("a*", True), ("a?", True), ("[a]", True), ("a\\b", True), ("a]", False)]
)
def test_has_meta(pattern: str, expected: bool) -> None:
    assert goglob.has_meta(pattern) is expected


def test_patterns_take_no_exponential_time() -> None:
    assert not goglob.match("*a" * 100 + "b", "a" * 4000)
    assert not goglob.match("*" + "?" * 2000 + "b", "a" * 4000)


_PARTS = st.sampled_from(["a", "b", "/", "*", "?", "[a]", "[^a]", "[a-b]", "\\a", "\\*", "[^/]"])


def _slow(parts: list[str], name: str) -> bool:
    """By the documentation, word for word, trying everything."""
    if not parts:
        return name == ""
    part, rest = parts[0], parts[1:]
    if part == "*":
        return _slow(rest, name) or (name[:1] not in ("", "/") and _slow(parts, name[1:]))
    if not name:
        return False
    char = name[0]
    takes = {"?": char != "/", "[a]": char == "a", "[^a]": char != "a", "[a-b]": char in "ab", "[^/]": char != "/"}
    return takes.get(part, char == part[-1]) and _slow(rest, name[1:])


@settings(max_examples=200)
@given(st.lists(_PARTS, max_size=7), st.text("ab/*", max_size=7))
def test_the_same_as_trying_everything(parts: list[str], name: str) -> None:
    assert goglob.match("".join(parts), name) is _slow(parts, name)


@settings(max_examples=200)
@given(st.text(st.sampled_from("[]^-\\*?/ab") | st.characters(categories=None), max_size=12), st.text(max_size=8))
def test_any_pattern_matches_or_is_a_dockerfile_error(pattern: str, name: str) -> None:
    try:
        goglob.match(pattern, name)
    except DockerfileError as error:
        assert error.span is not None
        assert 1 <= error.span.column < error.span.end_column <= len(pattern) + 1


@settings(max_examples=100)
@given(st.text(st.characters(categories=None), max_size=12))
def test_an_escaped_name_matches_itself(name: str) -> None:
    assert goglob.match("".join(f"\\{char}" for char in name), name)
