"""Words: quotes, escapes and variables. The tables follow the Dockerfile reference, "Environment replacement", and what
BuildKit's own lexer does; dash and bash are asked about the part of the language that they share."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile import words
from builder.errors import DockerfileError, Span

ENV = {"PWD": "/home", "SHELL": "bash", "NULL": "", "v": "a.tar.gz", "path": "/usr/local/bin", "name": "한국어", "sp": "x  y"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # Quotes: single ones are literal, double ones keep variables; adjacent pieces are one word.
        ("hello", "hello"),
        ("", ""),
        ("he'll'o", "hello"),
        ("'a b'\"c d\"e", "a bc de"),
        ('"hel\'lo"', "hel'lo"),
        ("'\"hello\"'", '"hello"'),
        ("\"''\"", "''"),
        ("'$PWD'", "$PWD"),
        ('"$PWD"', "/home"),
        ("\"'$PWD'\"", "'/home'"),
        ("'a\\'", "a\\"),
        # The escape character takes any character outside quotes, three of them inside, and nothing at the end.
        ("a\\tb", "atb"),
        ('"a\\tb"', "a\\tb"),
        ("a\\'b", "a'b"),
        ("a\\\\b", "a\\b"),
        ("a\\", "a"),
        ("a\\\\", "a\\"),
        ("a\\ b", "a b"),
        ('"a\\"b\\\\c\\$d"', 'a"b\\c$d'),
        ("\\$PWD", "$PWD"),
        ("'\\$PWD'", "\\$PWD"),
        ("\\\\$PWD", "\\/home"),
        ("\\${PWD}", "${PWD}"),
        ("a`b", "a`b"),
        # `$name` and `${name}`; a name is letters, digits and `_`, of any script.
        ("he$PWD.", "he/home."),
        ("he${PWD}x", "he/homex"),
        ("$PWDx", ""),
        ("$name", "한국어"),
        ("안녕$name", "안녕한국어"),
        ("안\\t녕", "안t녕"),
        ("$v$v", "a.tar.gza.tar.gz"),
        # A shell's parameters are variables without a value; digits are a name of their own.
        ("$1", ""),
        ("he$1x", "hex"),
        ("$999aaa", "aaa"),
        ("${999}aaa", "aaa"),
        ("$0", ""),
        ("a$@b$*c$#d$?e$-f$$g$!h", "abcdefgh"),
        ("${@}${#}${?}", ""),
        # A `$` before anything else is itself.
        ("$", "$"),
        ("a$.b", "a$.b"),
        ("$ $/", "$ $/"),
        ('"$"', "$"),
        # `-` and `+`: with a colon the empty value counts as unset.
        ("${NONE:-x}", "x"),
        ("${NULL:-x}", "x"),
        ("${PWD:-x}", "/home"),
        ("${NONE-x}", "x"),
        ("${NULL-x}", ""),
        ("${PWD-x}", "/home"),
        ("${NONE:+x}", ""),
        ("${NULL:+x}", ""),
        ("${PWD:+x}", "x"),
        ("${NONE+x}", ""),
        ("${NULL+x}", "x"),
        ("${PWD+x}", "x"),
        ("${NONE:-}", ""),
        ("${PWD:?no}", "/home"),
        ("${PWD?no}", "/home"),
        ("${NULL?no}", ""),
        # The word behind them may hold anything, quotes and variables too, and they are taken out of it.
        ("${NONE:-$PWD}", "/home"),
        ("${NONE:-${NULL:-${SHELL}}}x", "bashx"),
        ("${NONE:-a b}", "a b"),
        ("${NONE:-'a}b'}", "a}b"),
        ("${NONE:-a\\}b}", "a}b"),
        ('"${NONE:-"a b"}"', "a b"),
        ("\"${NONE:-'a'}\"", "a"),
        ("${NONE:-\\${PWD}z}x", "${PWDz}x"),
        ("${PWD:+${PWD}:}x", "/home:x"),
        ("f-1.2${NONE:+-${NONE}}.tgz", "f-1.2.tgz"),
        # `#` and `%`: once for the shortest match, twice for the longest.
        ("${v#*.}", "tar.gz"),
        ("${v##*.}", "gz"),
        ("${v%.*}", "a.tar"),
        ("${v%%.*}", "a"),
        ("${v#b}", "a.tar.gz"),
        ("${v%b}", "a.tar.gz"),
        ("${v#}${v##}${v%}${v%%}", "a.tar.gz" * 4),
        ("${v#*}", "a.tar.gz"),
        ("${v##*}", ""),
        ("${v%%*}", ""),
        ("${v#?}", ".tar.gz"),
        ("${v%??}", "a.tar."),
        ("${path##*/}", "bin"),
        ("${path%/*}", "/usr/local"),
        ("${path#$PWD}", "/usr/local/bin"),
        ("${path%%${NONE:-/b*}}", "/usr/local"),
        ("${NONE#x}", ""),
        ("${name#?}", "국어"),
        ("${name%어}", "한국"),
        ("${v:#*.}", "tar.gz"),
        ("${NONE:-${v#*.}}", "tar.gz"),
        # `/` and `//`: the leftmost match, as long as it can be.
        ("${v/a/b}", "b.tar.gz"),
        ("${v//a/b}", "b.tbr.gz"),
        ("${v/.*./-}", "a-gz"),
        ("${v//./}", "atargz"),
        ("${v/?./-}", "-tar.gz"),
        ("${v//[/x}", "a.tar.gz"),
        ("${path//\\//\\/}", "\\/usr\\/local\\/bin"),
        ("${path/\\/usr/}", "/local/bin"),
        ("${v/a/$SHELL}", "bash.tar.gz"),
        ("${v/$NULL/x}", "xa.tar.gz"),
        ("${v//$NULL/-}", "-a-.-t-a-r-.-g-z-"),
        ("${NONE//a/b}", ""),
        ("${v///}", "a.tar.gz"),
    ],
)
def test_expand(word: str, expected: str) -> None:
    assert words.expand(word, ENV) == expected


@pytest.mark.parametrize(
    ("word", "value", "expected"),
    [
        # In a pattern, what regular expressions know is nothing special; `\` makes the wildcards literal.
        ("${x#()[]{\\}^$.\\*\\?|\\\\}", "()[]{}^$.*?|\\x", "x"),
        ("${x%%\\**}", "xx**", "xx"),
        ("${x%%\\**\\*}", "a***yy*", "a"),
        ("${x#*x*y}", "xxyy", "y"),
        ("${x#?\\?}", "???y", "?y"),
        ("${x#'*'y}", "a*y", ""),
        ('${x#"\\a"}', "\\ab", "b"),
        ("${x##*x*y}", "xyx", "x"),
        ("${x%x*y*}", "yxyy", "y"),
        # A wildcard stays on its line, since it is a dot of Go's regular expressions.
        ("${x#*b}", "a\nb", "a\nb"),
        ("${x##*}", "a\nb", "\nb"),
        ("${x%%*}", "a\nb", "a\n"),
        ("${x//?/-}", "ab\nc", "--\n-"),
        ("${x/a*c/-}", "ab\nabc", "ab\n-"),
        ("${x/*\n*/-}", "a\nb\nc", "-\nc"),
        # Matches do not overlap, and an empty one right behind another does not count.
        ("${x//aa/b}", "aaaaa", "bba"),
        ("${x//*/b}", "aaa", "b"),
        ("${x//a*/b}", "xaya", "xb"),
        # Go reads `$` once more in the replacement of `//`, and not in that of `/`.
        ("${x//b/[\\$0]}", "abc", "a[\\b]c"),
        ("${x//b/'<$0>$1$$'}", "abc", "a<b>$c"),
        ("${x//b/'${0}${none}$.'}", "abc", "ab$.c"),
        ("${x/b/'<$0>'}", "abc", "a<$0>c"),
    ],
)
def test_patterns(word: str, value: str, expected: str) -> None:
    assert words.expand(word, {"x": value}) == expected


def test_the_sign_that_doubles_a_pattern_may_come_from_a_variable() -> None:
    assert words.expand("${v#$p}", {"v": "a.b.c", "p": "#*."}) == "c"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("`$PWD", "$PWD"),
        ("a``b", "a`b"),
        ("C:\\path\\$SHELL", "C:\\path\\bash"),
        ('"a`"b"', 'a"b'),
        ("'a`'", "a`"),
        ("${NONE:-a`}b}", "a}b"),
        ("a`", "a"),
    ],
)
def test_the_escape_character_is_that_of_the_directive(word: str, expected: str) -> None:
    assert words.expand(word, ENV, escape="`") == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("hello", ["hello"]),
        ("  hello \t there\u3000x ", ["hello", "there", "x"]),
        ("a${sp}b", ["ax", "yb"]),
        ('a"${sp}"b', ["ax  yb"]),
        ('a "${sp}"b', ["a", "x  yb"]),
        ("a\\ b", ["a b"]),
        ("'a b' c", ["a b", "c"]),
        ("$NULL", []),
        ("", []),
        # BuildKit loses quoted empty words too.
        ("'' a \"\"", ["a"]),
        ("${NONE:-80 443}", ["80", "443"]),
        ("${NONE:-'80 443'}", ["80", "443"]),
        ("8000-8010/tcp $PWD", ["8000-8010/tcp", "/home"]),
        # A character that str.split() takes for white space and Go does not.
        ("a\x1cb", ["a\x1cb"]),
    ],
)
def test_expand_list(word: str, expected: list[str]) -> None:
    assert words.expand_list(word, ENV) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a '$PWD' \"${SHELL}\"\n", "a '/home' \"bash\"\n"),
        ("it's $PWD\n", "it's /home\n"),
        ("\\$PWD \\\\ $\n", "$PWD \\ $\n"),
        ('${NONE:-"x"}\n', '"x"\n'),
        ("nothing\n", "nothing\n"),
    ],
)
def test_heredoc_bodies_keep_their_quotes(body: str, expected: str) -> None:
    assert words.expand_heredoc(body, ENV) == expected


@pytest.mark.parametrize(
    ("word", "message", "column", "end"),
    [
        ("ab'c", "the single quote is not closed", 3, 5),
        ('ab"c$PWD', "the double quote is not closed", 3, 9),
        ('"a\\', "the double quote is not closed", 1, 4),
        ("x${", "'${' is not closed", 2, 4),
        ("x${A\ny", "'${' is not closed", 2, 7),
        ("x${PWD", "'${' is not closed", 2, 7),
        ("x${PWD:", "'${' is not closed", 2, 8),
        ("x${PWD:-a", "'${' is not closed", 2, 10),
        ("${a:-${b:-c}", "'${' is not closed", 1, 13),
        ("${a:-${b", "'${' is not closed", 6, 9),
        ("${a:-'}", "the single quote is not closed", 6, 8),
        ("x${}y", "'${' is not followed by a name", 2, 5),
        ("${{a}}", "'${' is not followed by a name", 1, 4),
        ("${:-a}", "'${' is not followed by a name", 1, 4),
        ("${.}", "'.' is not a modifier of a variable", 1, 4),
        ("a${PWD=x}b", "'=' is not a modifier of a variable", 2, 8),
        ("${PWD:=x}", "':=' is not a modifier of a variable", 1, 8),
        ("${PWD:x}", "':x' is not a modifier of a variable", 1, 8),
        ("${PWD:}", "':}' is not a modifier of a variable", 1, 8),
        ("${PWD:/a/b}", "':/' is not a modifier of a variable", 1, 8),
        ("${PWD^}", "'^' is not a modifier of a variable", 1, 7),
        ("${#PWD}", "'P' is not a modifier of a variable", 1, 5),
        ("${PWD/a}", "the pattern has no '/' after it", 1, 9),
        ("${PWD//}", "the pattern has no '/' after it", 1, 9),
        ("${PWD/a/b", "'${' is not closed", 1, 10),
        ("x${NONE?}", "NONE: is not allowed to be unset", 2, 10),
        ("x${NONE:?}", "NONE: is not allowed to be unset", 2, 11),
        ("x${NULL:?}", "NULL: is not allowed to be empty", 2, 11),
        ("${NONE:?set it, $SHELL}", "NONE: set it, bash", 1, 24),
        # The word is expanded also where its value is not used.
        ("${PWD:-${NONE?x}}", "NONE: x", 8, 17),
        ("a${PWD#\\x}", "the pattern '\\x' has a bad escape '\\x'", 2, 11),
        ("${PWD//\\x/b}", "the pattern '\\x' has a bad escape '\\x'", 1, 13),
    ],
)
def test_errors_point_at_the_piece(word: str, message: str, column: int, end: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        words.expand(word, ENV)
    error = caught.value
    assert (error.message, error.span) == (message, Span(1, column, 1, end))
    assert error.hint


def test_missing_names_what_is_read_and_has_no_value() -> None:
    seen: list[str] = []
    words.expand("$a ${b} ${c:-$d} ${e+x} ${f#x} $PWD $NULL '$g' ${PWD:-$h} $1", ENV, missing=seen.append)
    assert seen == ["a", "b", "d", "f", "h", "1"]


def test_needed_names_every_variable_set_or_not() -> None:
    word = "$a ${b:-$c} '$d' ${e:?x} \"${f#$g}\" ${h/$i/$j} \\$k ${l+m}"
    assert words.needed(word) == {"a", "b", "c", "e", "f", "g", "h", "i", "j", "l"}


def _nested(levels: int) -> str:
    return "${a:-" * levels + "x" + "}" * levels


def test_nesting_has_a_limit() -> None:
    assert words.expand(_nested(words.MAX_DEPTH), {}) == "x"
    for word in (_nested(words.MAX_DEPTH + 1), _nested(100_000), '"${a:-' * 100_000):
        with pytest.raises(DockerfileError, match="levels deep"):
            words.expand(word, {})


def test_growth_has_a_limit() -> None:
    value = "x" * (words.MAX_LENGTH // 4)
    assert len(words.expand("$v$v$v$v", {"v": value})) == words.MAX_LENGTH
    for word in ("$v$v$v$v$v", "${v//x/yyyyy}", "${short//$e/$long}"):
        with pytest.raises(DockerfileError, match=f"more than {words.MAX_LENGTH} characters"):
            words.expand(word, {"v": value, "short": "x" * 1000, "e": "", "long": "y" * (words.MAX_LENGTH // 1000)})


@pytest.mark.parametrize("operator", ["#", "##", "%", "%%", "/", "//"])
def test_patterns_take_no_exponential_time(operator: str) -> None:
    # A backtracking matcher would take longer than the universe has been there.
    pattern, value = "*a" * 50 + "b", "a" * 5000
    word = f"${{v{operator}{pattern}{'/r' if '/' in operator else ''}}}"
    assert words.expand(word, {"v": value}) == value


def test_a_pattern_and_a_value_that_are_both_huge_are_refused() -> None:
    with pytest.raises(DockerfileError, match="too long") as caught:
        words.expand("x${v#$p}", {"v": "a" * 200_000, "p": "?" * 200_000})
    assert caught.value.span == Span(1, 2, 1, 9)


# What a shell and BuildKit agree on. Not: quotes and escapes inside `${}` inside double quotes (a shell keeps them),
# quotes in patterns (a shell takes them literally), line ends under a wildcard, the shell's own parameters.
_NAMES = st.sampled_from(["a", "b", "empty", "unset"])
_VALUES = st.text("xy.*?/ '", max_size=6)
_BARE = st.text("xyz./:=-", min_size=1, max_size=4)
_ESCAPED = st.sampled_from("xy$'\" \\*{}").map("\\{}".format)
_SINGLE = st.text('xy $"\\*{}', max_size=4).map("'{}'".format)
_PATTERN = st.lists(st.sampled_from(["x", "y", ".", "*", "?", "\\*", "\\?", "$a", "${b}"]), max_size=5).map("".join)
_PLAIN_VARIABLE = _NAMES.map("${{{}}}".format) | _NAMES.map("${}".format).map("{}.".format)
_TRIMMED = st.builds("${{{}{}{}}}".format, _NAMES, st.sampled_from(["#", "##", "%", "%%"]), _PATTERN)


def _alternatives(word: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("${{{}{}{}}}".format, _NAMES, st.sampled_from([":-", "-", ":+", "+"]), word)


_QUOTED_VARIABLE = st.recursive(_PLAIN_VARIABLE | _TRIMMED, lambda inner: _alternatives(_BARE | inner), max_leaves=3)
_DOUBLE = st.lists(
    st.text("xy '*", min_size=1, max_size=3) | st.sampled_from(['\\"', "\\$", "\\\\", "\\x"]) | _QUOTED_VARIABLE, max_size=4
).map(lambda parts: '"' + "".join(parts) + '"')
_VARIABLE = st.recursive(
    _PLAIN_VARIABLE | _TRIMMED,
    lambda inner: _alternatives(st.lists(_BARE | _ESCAPED | _SINGLE | inner, max_size=3).map("".join)),
    max_leaves=4,
)
_WORD = st.lists(_BARE | _ESCAPED | _SINGLE | _DOUBLE | _VARIABLE, min_size=1, max_size=5).map("".join)


def _ask_shell(shell: str, asked: list[str], variables: dict[str, str]) -> list[str]:
    """What the shell makes of each word: an assignment neither splits nor globs."""
    script = "".join(f"r={word}\nprintf '%s\\0' \"$r\"\n" for word in asked)
    done = subprocess.run([shell, "-c", script], env=variables, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=100, deadline=None)
@given(st.lists(_WORD, min_size=1, max_size=8), _VALUES, _VALUES)
def test_the_same_as_dash(asked: list[str], a: str, b: str) -> None:
    variables = {"a": a, "b": b, "empty": ""}
    assert [words.expand(word, variables) for word in asked] == _ask_shell("dash", asked, variables)


# dash has no `/`. Not: empty matches, where the two differ; what bash reads in a replacement; escapes in a pattern (bash 5.2
# does not find `*\\*` in `*?`, though its `##` does).
_REPLACED = st.builds(
    "${{a{}{}/{}}}".format,
    st.sampled_from(["/", "//"]),
    st.text("xy.*?", min_size=1, max_size=5).filter(lambda pattern: pattern.strip("*") != ""),
    st.text("xyz", max_size=2),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(_REPLACED, min_size=1, max_size=8), st.text("xy.*?", min_size=1, max_size=12))
def test_replacing_is_the_same_as_in_bash(asked: list[str], a: str) -> None:
    assert [words.expand(word, {"a": a}) for word in asked] == _ask_shell("bash", asked, {"a": a})


_ANYTHING = st.text(st.sampled_from("$${}{}'\"\\:-+?#%/*ab1@ \n\t") | st.characters(), max_size=40)


@settings(max_examples=200)
@given(_ANYTHING, st.dictionaries(st.sampled_from(["a", "b", "ab", "1"]), _ANYTHING), st.sampled_from("\\`"))
def test_any_text_is_expanded_or_a_dockerfile_error(word: str, variables: dict[str, str], escape: str) -> None:
    for expand in (words.expand, words.expand_list):
        try:
            expand(word, variables, escape=escape)
        except DockerfileError as error:
            assert error.span is not None
            assert 1 <= error.span.column < error.span.end_column <= len(word) + 1


@settings(max_examples=100)
@given(st.text(st.characters(exclude_characters="\ufeff")))
def test_what_is_quoted_comes_back(text: str) -> None:
    bare = text.replace("'", "")
    assert words.expand(f"'{bare}'", {}) == bare
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    assert words.expand(f'"{escaped}"', {}) == text
    assert words.expand("".join("\\" + char for char in text), {}) == text
