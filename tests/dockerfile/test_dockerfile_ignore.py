"""The .dockerignore. The tables follow the Docker documentation ("Build context", ".dockerignore files") and the behaviour
of moby/patternmatcher; hypothesis asks a slow reading of the same rules."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile.ignore import MAX_LINE, Matcher
from builder.errors import DockerfileError, SourceFile, Span


def _ignored(text: str, path: str) -> bool:
    return Matcher.parse(text, ".dockerignore").ignored(path.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        # A pattern is relative to the root, and what lies below what it matches is ignored too.
        ("foo", "foo", True),
        ("foo", "foo/bar/x", True),
        ("foo", "bar/foo", False),
        ("foo", "foobar", False),
        ("foo/bar", "foo/bar", True),
        ("foo/bar", "foo", False),
        # `*` and `?` stay inside a component.
        ("*", "a", True),
        ("*", "a/b", True),
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/temp*", "somedir/temp/x", True),
        ("*/temp*", "temp", False),
        ("*/*/temp*", "a/b/temp", True),
        ("*/*/temp*", "a/temp", False),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("a/*.txt", "a/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("a?c", "a/c", False),
        ("a?c", "a☺c", True),
        # `**` is any number of folders, none included.
        ("**", "a/b/c", True),
        ("**/", "file", True),
        ("**/**", "dir/file", True),
        ("**/*.go", "a.go", True),
        ("**/*.go", "a/b/c.go", True),
        ("**/*.go", "a/b/c.god", False),
        ("**/dir", "dir/file", True),
        ("**/dir", "x/dir", True),
        ("**/dir", "xdir", False),
        ("**/dir/*", "x/dir/y/z", True),
        ("**/dir/**", "x/dir/y/z", True),
        ("**/dir/**", "x/dir", False),
        ("**/foo/bar", "x/y/foo/bar", True),
        ("**/**/*.txt", "file.txt", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        # The folders of a `**` may begin inside a name.
        ("a**/*.txt", "abc/file.txt", True),
        ("a/*.txt**", "a/file.txt/b", True),
        # The first place where a piece fits is not always the right one.
        ("*a**/b", "aab", True),
        ("**/a**/b?", "ac/abx", True),
        ("**/a*b", "ac/ab", True),
        ("*a*b*", "aacb", True),
        ("abc/**", "abc", False),
        ("abc/**", "abc/def/ghi", True),
        ("**/.foo", "bar.foo", False),
        # `**name` alone is the end of any path; with a wildcard behind it, it begins a name.
        ("**file", "dir/myfile", True),
        ("**file", "file", True),
        ("**fil?", "dir/file", True),
        ("**fil?", "dir/myfile", False),
        # Wildcards that no regular expression could try one by one.
        ("**a**b**c**d**e", "a/xb", False),
        ("**a**b**c**d*", "a/b/c/dd", True),
        ("**a**b**c**d*", "x/abcd", True),
        ("**a**b**c**d*", "x/abd", False),
        ("**a**b**c**d?", "a/b/cdd", True),
        ("**a**b**c**d?", "a/b/cxdd", False),
        ("[^x]*[^x]*[^x]*[^x]*y", "abcdy", True),
        ("[^x]*[^x]*[^x]*[^x]*y", "xbcdy", False),
        ("[^x]*[^x]*[^x]*[^x]*y", "ab/c/dy", True),
        ("**[^x]?**/z**\\a*", "yy/q/z/a/b", True),
        # Classes, as filepath.Match has them.
        ("a[b-d]e", "ace", True),
        ("a[b-d]e", "aae", False),
        ("a[^b-d]e", "aze", True),
        ("a[^b-d]e", "a/e", True),
        ("[[]x]", "[x]", True),
        ("[\\]a]", "]", True),
        ("[a*]", "*", True),
        # Escapes, and characters that a regular expression would read.
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a\\\\", "a\\", True),
        ("\\d", "d", True),
        ("\\#a", "#a", True),
        ("\\!a", "!a", True),
        ("abc.def", "abcZdef", False),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
        ("a.|)$(}+{b?", "a.|)$(}+{bc", True),
        ("^a?", "^ab", True),
        ("dist/*.whl", "dist/x-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
        # Cleaning: `/` in front, `./`, `..`, doubled and trailing slashes, white space around.
        ("/foo", "foo", True),
        ("./foo", "foo", True),
        ("foo/", "foo", True),
        ("foo//bar/.", "foo/bar", True),
        ("foo/../bar", "bar", True),
        ("  foo\t", "foo", True),
        ("foo\r", "foo", True),
        ("fo o", "fo o", True),
        ("\u3000foo\xa0", "foo", True),
        ("../foo", "foo", False),
        ("/", "foo", False),
        (".", "foo", False),
        # Comments begin a line; elsewhere a # is a character.
        ("# foo\nfoo #", "foo", False),
        ("foo#bar", "foo#bar", True),
        (" #foo", "#foo", True),
        ("\ufefffoo", "foo", True),
        ("\ufeff# foo", "foo", False),
        # Names may be anything.
        ("a*", "a\udcff/b", True),
        ("a?c", "a\udcffc", True),
        ("a*c", "a\nc", True),
        ("**/c", "a\n/c", True),
        ("한*", "한국", True),
    ],
)
def test_one_pattern(pattern: str, path: str, expected: bool) -> None:
    assert _ignored(pattern, path) is expected


@pytest.mark.parametrize(
    ("lines", "path", "expected"),
    [
        # The last match wins.
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README.md", "CHANGES.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("!a\n*", "a", True),
        # `!` re-includes below an ignored folder.
        ("docs\n!docs/README.md", "docs/README.md", False),
        ("docs\n!docs/README.md", "docs/other", True),
        ("docs/\n!docs/README.md", "docs/README.md", False),
        ("*\n!src", "src/a/b", False),
        ("*\n!src", "srcs", True),
        ("*\n!src\nsrc/*.log", "src/a.log", True),
        ("*\n!src\nsrc/*.log", "src/a.c", False),
        ("**\n!util/web", "util/web/foo", False),
        ("**\n!util/web\nutil/web/foo", "util/web/foo", True),
        ("*\n!**/*.md", "a/b/c.md", False),
        ("*\n!**/*.md", "a/b/c.txt", True),
        # White space and a slash may follow the `!`; a second `!` is of the name.
        ("a\n! a", "a", False),
        ("a\n!/a/", "a", False),
        ("!a\n!!a", "!a", False),
        ("*\n!!a", "!a", False),
        # A pattern that had nothing to do for a folder is asked about the longer path only (BuildKit).
        ("a\n!a/x\na", "a/x", False),
        ("a\n!a/x\na/*", "a/x", True),
        ("!a\na\n!a/x", "a/y", True),
    ],
)
def test_the_last_match_wins(lines: str, path: str, expected: bool) -> None:
    assert _ignored(lines, path) is expected


def test_nothing_ignores_nothing() -> None:
    for matcher in (Matcher(), Matcher.parse("", "x"), Matcher.parse("# only\n\n \t\n", "x")):
        assert not matcher.ignored(b"a/b")
        assert matcher.may_contain(b"a")


def test_the_root_is_never_ignored() -> None:
    matcher = Matcher.parse("**\n*\n.\n/\n", "x")
    assert not matcher.ignored(b"")
    assert matcher.may_contain(b"")


@pytest.mark.parametrize(
    ("lines", "walked", "skipped"),
    [
        ("node_modules", "src node_modulesx", "node_modules node_modules/a/b"),
        ("*", "", "a a/b"),
        ("*\n!src", "src src/a", "node_modules srcs"),
        ("*\n!src/main/app", "src src/main src/main/app src/main/app/x", "src/test src/main/other a"),
        ("*\n!src/*/app", "src src/a src/b src/a/app", "a src/a/b"),
        ("*\n!src/*.c", "src", "src/a a"),
        ("*\n!docs/**", "docs docs/a", "src"),
        ("*\n!docs/**/*.md", "docs docs/a docs/a/b", "src doc"),
        ("*\n!**/*.md", "a a/b", ""),
        ("*\n![^x]", "a a/b", ""),
        ("*\n!lib/[a-c]*/x", "lib lib/b lib/cc lib/cc/x", "lib/d lib/b/y a"),
        ("*\n!lib/[^a-c]*/x", "lib lib/a", "a"),
        # What a later pattern ignores again, an earlier `!` does not bring back.
        ("!a/b\na", "", "a a/b"),
        ("*\n!a\na/b", "a a/c", "a/b"),
        ("*\n!a\na/b\n!a/b/c", "a a/b a/b/c", "b a/b/d"),
    ],
)
def test_folders_that_need_not_be_walked(lines: str, walked: str, skipped: str) -> None:
    matcher = Matcher.parse(lines, "x")
    assert [folder for folder in walked.split() if not matcher.may_contain(folder.encode())] == []
    assert [folder for folder in skipped.split() if matcher.may_contain(folder.encode())] == []


@pytest.mark.parametrize(
    ("text", "message", "span"),
    [
        ("ok\n  a[\n", "the pattern 'a[' has a '[' without its ']'", Span(2, 3, 2, 5)),
        ("a\\", "the pattern 'a\\' has a lone \\ at its end", Span(1, 1, 1, 3)),
        ("![]a]", "the pattern '[]a]' has a ']' out of place in a [...]", Span(1, 1, 1, 6)),
        ("\ufeff[-x]", "the pattern '[-x]' has a '-' out of place in a [...]", Span(1, 1, 1, 5)),
        ("x\r\n[Local-Only]/\r\n", "the pattern '[Local-Only]' has a range that runs backwards, l-O", Span(2, 1, 2, 14)),
        ("!", "'!' names nothing", Span(1, 1, 1, 2)),
        ("a\n ! \n", "'!' names nothing", Span(2, 2, 2, 3)),
        ("!/", "'!' names nothing", Span(1, 1, 1, 3)),
        ("a" * (MAX_LINE + 1), f"the line is longer than {MAX_LINE} characters", Span(1, 1, 1, 2)),
    ],
)
def test_errors_name_the_line(text: str, message: str, span: Span) -> None:
    with pytest.raises(DockerfileError) as caught:
        Matcher.parse(text, "app/.dockerignore")
    error = caught.value
    assert (error.message, error.span) == (message, span)
    assert error.source == SourceFile("app/.dockerignore", text.removeprefix("\ufeff"))
    assert error.hint


def test_paths_may_be_as_deep_as_they_like() -> None:
    matcher = Matcher.parse("**/x\n!**/x/keep", "x")
    deep = b"/".join([b"d"] * 3000)
    assert not matcher.ignored(deep)
    assert matcher.ignored(deep + b"/x/y")
    assert not matcher.ignored(deep + b"/x/keep/y")


@pytest.mark.parametrize("pattern", ["*a" * 50 + "b", "**/*a" * 50 + "b", "[^x]*" * 50 + "x", "**a" * 50 + "b"])
def test_patterns_take_no_exponential_time(pattern: str) -> None:
    for path in ("a" * 200, "a/" * 100 + "a", "/".join(["aaa"] * 50)):
        assert not _ignored(pattern, path)


# Patterns that need no cleaning, of few characters, so that they often match.
_PART = st.sampled_from(["a", "b", "*", "?", "**", "[a]", "[^b]"])
_COMPONENT = st.lists(_PART, min_size=1, max_size=3).map("".join)
_PATTERN = st.lists(_COMPONENT | st.just("**"), min_size=1, max_size=4).map("/".join)
_LINES = st.lists(st.tuples(st.booleans(), _PATTERN), max_size=5)
_NAMES = ("a", "b", "ab", "aba")
_PATHS = ["/".join(names) for depth in (1, 2, 3, 4) for names in itertools.product(_NAMES[: 6 - depth], repeat=depth)]


def _test_of(pattern: str) -> Callable[[str], bool]:
    """What one pattern takes, by a regular expression that tries everything."""
    if re.fullmatch(r"\*\*[ab/]*", pattern):
        end = pattern[2:]
        return lambda path: path.endswith(end) or f"/{path}" == end

    def star(found: re.Match[str]) -> str:
        if found[0] in ("*", "?"):
            return "[^/]*" if found[0] == "*" else "[^/]"
        return ".*" if found.end() == len(pattern) else "(?:.*/)?"

    regex = re.compile(re.sub(r"\*\*/?|\*|\?", star, pattern))
    return lambda path: regex.fullmatch(path) is not None


def _slowly_ignored(lines: list[tuple[bool, Callable[[str], bool]]], path: str) -> bool:
    """patternmatcher's MatchesUsingParentResults, from the top folder down to the path."""
    hits = [False] * len(lines)
    ignored = False
    names = path.split("/")
    for depth in range(1, len(names) + 1):
        ignored = False
        for number, (negated, matches) in enumerate(lines):
            if not hits[number] and negated == ignored:
                hits[number] = matches("/".join(names[:depth]))
            if hits[number]:
                ignored = not negated
    return ignored


def _text(lines: list[tuple[bool, str]]) -> str:
    return "\n".join("!" * negated + pattern for negated, pattern in lines)


@settings(max_examples=200, deadline=None)
@given(_LINES)
def test_the_same_as_trying_everything(lines: list[tuple[bool, str]]) -> None:
    matcher = Matcher.parse(_text(lines), "x")
    slow = [(negated, _test_of(pattern)) for negated, pattern in lines]
    for path in _PATHS:
        assert (path, matcher.ignored(path.encode())) == (path, _slowly_ignored(slow, path))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.just("*") | _PATTERN), min_size=1, max_size=5))
def test_what_is_not_ignored_is_never_below_a_folder_that_is_not_walked(lines: list[tuple[bool, str]]) -> None:
    matcher = Matcher.parse(_text(lines), "x")
    dead = {path for path in _PATHS if not matcher.may_contain(path.encode())}
    for path in _PATHS:
        parents = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        if not matcher.ignored(path.encode()):
            assert dead.isdisjoint(parents)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(_PATHS), max_size=6), _LINES)
def test_the_order_of_the_questions_does_not_matter(paths: list[str], lines: list[tuple[bool, str]]) -> None:
    matcher = Matcher.parse(_text(lines), "x")
    for path in paths:
        fresh = Matcher.parse(_text(lines), "x")
        assert matcher.ignored(path.encode()) is fresh.ignored(path.encode())
        assert matcher.may_contain(path.encode()) is fresh.may_contain(path.encode())


_LINE = st.text(st.sampled_from("!#*?[]^-\\/. ab\r") | st.characters(categories=None), max_size=12)


@settings(max_examples=200)
@given(st.lists(_LINE, max_size=5).map("\n".join), st.binary(min_size=1, max_size=12))
def test_any_text_is_a_matcher_or_a_dockerfile_error(text: str, path: bytes) -> None:
    try:
        matcher = Matcher.parse(text, "x")
    except DockerfileError as error:
        assert error.span is not None
        assert error.source is not None
        assert error.source.line(error.span.line)[error.span.column - 1 :]
    else:
        matcher.ignored(path)
        matcher.may_contain(path)
