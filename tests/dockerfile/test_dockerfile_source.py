"""Text to logical lines: directives, continuations, comments, heredocs, places. Expected values follow the Dockerfile
reference and BuildKit's own parser tests."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile import heredoc, source
from builder.dockerfile.ast import Directives
from builder.dockerfile.source import MAX_INSTRUCTIONS, LogicalLine
from builder.dockerfile.text import MAX_SIZE, decode, without_tabs
from builder.errors import DockerfileError, SourceFile, Span


def _lines(text: str) -> list[LogicalLine]:
    return source.read(SourceFile("Dockerfile", text))[1]


def _texts(text: str) -> list[str]:
    return [line.text for line in _lines(text)]


def _directives(text: str) -> Directives:
    return source.read(SourceFile("Dockerfile", text))[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a\n", ["RUN a"]),
        ("RUN a", ["RUN a"]),
        ("\n \t\nRUN a\n\n", ["RUN a"]),
        ("  RUN a  \n", ["RUN a"]),
        ("RUN a \\\n  b\n", ["RUN a   b"]),
        ("RUN a \\  \t\n  b\n", ["RUN a   b"]),
        ("RUN a \\\r\n  b\r\n", ["RUN a   b"]),
        ("RUN a\\\nb\n", ["RUN ab"]),
        ("RUN a \\\n# comment\n  # comment \\\nb\n", ["RUN a b"]),
        ("RUN a \\\n\n \t\nb\n", ["RUN a b"]),
        ("RUN a \\\n  b \\\n  c\nRUN d\n", ["RUN a   b   c", "RUN d"]),
        # An escaped escape character does not continue the line.
        ("RUN a \\\\\nRUN b\n", ["RUN a \\\\", "RUN b"]),
        # What follows the escape character must be a space or a tab.
        ("RUN a \\x\nRUN b\n", ["RUN a \\x", "RUN b"]),
        # A line of nothing but the escape character.
        ("\\\nRUN a\n", ["RUN a"]),
        ("RUN a\\\n\\\nb\n", ["RUN ab"]),
        ("RUN a \\", ["RUN a"]),
        ("RUN a \\\n", ["RUN a"]),
        ("\\\n", []),
        ("# a \\\nRUN b\n", ["RUN b"]),
        ("RUN a # no comment\n", ["RUN a # no comment"]),
        ("# escape=`\nRUN a `\n  b\\\nRUN c\n", ["RUN a   b\\", "RUN c"]),
        ("RUN a `\nRUN b\n", ["RUN a `", "RUN b"]),
        ("\ufeffRUN a\n", ["RUN a"]),
        ("RUN a\\\n  \\\n  b\n", ["RUN a    b"]),
    ],
)
def test_logical_lines(text: str, expected: list[str]) -> None:
    assert _texts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\n", Directives()),
        ("# syntax=docker/dockerfile:1\nFROM a\n", Directives(syntax="docker/dockerfile:1")),
        ("#syntax=docker/dockerfile\nFROM a\n", Directives(syntax="docker/dockerfile")),
        ("#\t SynTax =\tdocker/dockerfile:1.7-labs  \nFROM a\n", Directives(syntax="docker/dockerfile:1.7-labs")),
        ("# syntax=docker.io/docker/dockerfile:1@sha256:00\n", Directives(syntax="docker.io/docker/dockerfile:1@sha256:00")),
        ("# syntax=localhost:5000/x/docker/dockerfile\n", Directives(syntax="localhost:5000/x/docker/dockerfile")),
        ("# syntax=docker/dockerfile-upstream:master-labs\n", Directives(syntax="docker/dockerfile-upstream:master-labs")),
        ("# escape=`\n# check=skip=A,B;error=true\n", Directives(escape="`", check="skip=A,B;error=true")),
        ("# escape=\\\nFROM a\n", Directives()),
        ("\ufeff# escape=`\r\nFROM a\r\n", Directives(escape="`")),
        ("#!/usr/bin/env pybuild\n# escape=`\nFROM a\n", Directives(escape="`")),
        # An unknown directive and other comments are comments.
        ("# unknown=x\n# Copyright\n# escape=`\nFROM a\n", Directives(escape="`")),
        # The first other line ends the directives.
        ("\n# escape=`\nFROM a\n", Directives()),
        ("FROM a\n# escape=`\n# escape=`\n# syntax=other\n", Directives()),
        ("# escape=\nFROM a\n", Directives()),
        ("# esc\\\nape=`\nFROM a\n", Directives()),
    ],
)
def test_directives(text: str, expected: Directives) -> None:
    assert _directives(text) == expected


@pytest.mark.parametrize(
    "image", ["dockerfile:1", "docker/other", "docker/dockerfile2", "docker", "docker/dockerfile/x", ":", "@"]
)
def test_other_frontends_are_refused(image: str) -> None:
    with pytest.raises(DockerfileError, match="is not the Dockerfile frontend"):
        _directives(f"# syntax={image}\nFROM a\n")


def _marks(line: str) -> list[tuple[str, bool, bool]]:
    return [(mark.name, mark.expand, mark.strip_tabs) for mark in heredoc.marks(line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RUN <<EOF", [("EOF", True, False)]),
        ("RUN 3<<EOF", [("EOF", True, False)]),
        ("RUN <<-EOF", [("EOF", True, True)]),
        ("RUN <<'EOF'", [("EOF", False, False)]),
        ('RUN <<-"EOF"', [("EOF", False, True)]),
        ("RUN <<eo'f'", [("eof", False, False)]),
        ("RUN <<eo\\'f", [("eo'f", True, False)]),
        ("RUN <<'e'o\\'f", [("eo'f", False, False)]),
        ("RUN <<'one two'", [("one two", False, False)]),
        ('RUN <<"a\\"b\\c"', [('a"b\\c', False, False)]),
        ("RUN <<$EOF", [("$EOF", True, False)]),
        ("RUN <<file.txt", [("file.txt", True, False)]),
        ("RUN <<  EOF > foo", [("EOF", True, False)]),
        ("RUN << -EOF", [("-EOF", True, False)]),
        ("RUN <<A <<-B", [("A", True, False), ("B", True, True)]),
        ("RUN <<EOF python3", [("EOF", True, False)]),
        ("RUN cat <<A > a && cat <<B > b", [("A", True, False), ("B", True, False)]),
        ("RUN --mount=type=cache,target=/x <<EOF", [("EOF", True, False)]),
        ("RUN \"${x:-'}'}\" <<E", [("E", True, False)]),
        ('RUN "<<EOF"', []),
        ("RUN '<<EOF'", []),
        ("RUN \\<<EOF", []),
        ("RUN cat <<<EOF", []),
        ("RUN cat<<EOF", []),
        ("RUN <<", []),
        ("RUN <<-", []),
        ("RUN <<''", []),
        ("RUN echo $((1<<2))", []),
        # BuildKit's lexer gives up on these lines.
        ("RUN it's <<EOF", []),
        ('RUN "a <<EOF', []),
        ("RUN ${a <<EOF", []),
        ("RUN ${a[@]} <<EOF", []),
        ("RUN ${#a[@]} $(( 1 << 2 ))", []),
    ],
)
def test_heredoc_marks(line: str, expected: list[tuple[str, bool, bool]]) -> None:
    assert _marks(line) == expected


def test_heredoc_bodies() -> None:
    text = "RUN <<A <<-B\na\n# not a comment\nFROM x\\\n\tA\nA\n\t\tb\nA\n\t B\n\tB\nCOPY <<X /y\nX\nRUN c\n"
    run, copy, last = _lines(text)
    assert [body.text for body in run.bodies] == ["a\n# not a comment\nFROM x\\\n\tA\n", "\t\tb\nA\n\t B\n"]
    assert without_tabs(run.bodies[1].text) == "b\nA\n B\n"
    assert [body.text for body in copy.bodies] == [""]
    assert last.text == "RUN c"


def test_heredoc_with_crlf_keeps_it_and_ends() -> None:
    (line, after) = _lines("COPY <<EOF /x\r\na\r\n\r\nEOF\r\nRUN b\r\n")
    assert [body.text for body in line.bodies] == ["a\r\n\r\n"]
    assert after.text == "RUN b"


@pytest.mark.parametrize("keyword", ["RUN", "copy", "ADD", "ONBUILD RUN", "onbuild\tadd"])
def test_instructions_with_heredocs(keyword: str) -> None:
    assert [len(line.bodies) for line in _lines(f"{keyword} <<EOF /x\nEOF\n")] == [1]


@pytest.mark.parametrize("keyword", ["USER", "CMD", "ENV", "ONBUILD USER", "ONBUILD ONBUILD RUN", "RUNX", "HEALTHCHECK CMD"])
def test_instructions_without_heredocs(keyword: str) -> None:
    assert _texts(f"{keyword} <<EOF\nEOF\n") == [f"{keyword} <<EOF", "EOF"]


def test_every_character_knows_its_place() -> None:
    text = "# c\n  RUN a \\\n\t# c\n\n\tb\\ \r\n\u00e9 'd'\nUSER x\n"
    run, user = _lines(text)
    assert run.text == "RUN a \tb\u00e9 'd'"
    places = [run.span(n, n + 1)[:2] for n in range(len(run.text))]
    first = [(2, 3 + n) for n in range(len("RUN a "))]
    assert places == [*first, (5, 1), (5, 2), (6, 1), (6, 2), (6, 3), (6, 4), (6, 5)]
    assert run.span(4, 9) == Span(2, 7, 6, 2)
    assert user.span(5, 6) == Span(7, 6, 7, 7)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="RUNa \\`\t\n\r#<'-\u00a0\v", max_size=60), st.sampled_from(["", "# escape=`\n"]))
def test_places_lead_back_to_the_characters(text: str, head: str) -> None:
    whole = head + text
    file = whole.split("\n")
    try:
        lines = _lines(whole)
    except DockerfileError as error:
        assert "has no end" in error.message
        return
    for line in lines:
        for offset, character in enumerate(line.text):
            span = line.span(offset, offset + 1)
            assert file[span.line - 1][span.column - 1] == character
        assert line.text == line.text.strip(" \t\n\r\v\u00a0")


def test_decode_drops_the_byte_order_mark_and_keeps_line_ends() -> None:
    assert decode("D", b"\xef\xbb\xbfFROM \xc3\xa9\r\n") == SourceFile("D", "FROM \u00e9\r\n")


def test_comments_may_be_in_another_encoding() -> None:
    """They say nothing to a build; those of a heredoc are its content."""
    text = decode("D", b"# Jos\xe9\nFROM a\nRUN x \\\n  # caf\xe9\n  y\n#\xff")
    assert text.text == "# Jos\ufffd\nFROM a\nRUN x \\\n  # caf\ufffd\n  y\n#\ufffd"
    assert [line.text for line in source.read(text)[1]] == ["FROM a", "RUN x   y"]


@pytest.mark.parametrize(
    ("data", "message", "span"),
    [
        (b"a\nb\xff", "byte 0xff is not UTF-8", Span(2, 2, 2, 3)),
        (b"\xef\xbb\xbf\xc3", "byte 0xc3 is not UTF-8", Span(1, 1, 1, 2)),
        (b"\xed\xa0\x80", "byte 0xed is not UTF-8", Span(1, 1, 1, 2)),
        (b"a\n\n\0", "NUL", Span(3, 1, 3, 2)),
        (b"\xff\xfeF\0", "byte 0xff is not UTF-8", Span(1, 1, 1, 2)),
        (b"# \xe9\nFROM a\nRUN \xe9\n", "byte 0xe9 is not UTF-8", Span(3, 5, 3, 6)),
        (b"FROM a\nRUN <<E\n# \xe9\nE\n", "byte 0xe9 is not UTF-8", Span(3, 3, 3, 4)),
        (b"FROM a\nRUN <<E\n# \xe9\n", "byte 0xe9 is not UTF-8", Span(3, 3, 3, 4)),
        (b"# \xe9\n\0", "byte 0xe9 is not UTF-8", Span(1, 3, 1, 4)),
    ],
)
def test_what_is_not_text_is_refused(data: bytes, message: str, span: Span) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        decode("D", data)
    assert caught.value.span == span
    assert caught.value.source is not None


@pytest.mark.parametrize("text", ["FROM a\0", "FROM \ud800"])
def test_a_text_made_by_hand_is_checked_too(text: str) -> None:
    with pytest.raises(DockerfileError, match="not a text file"):
        source.read(SourceFile("D", text))


def test_limits() -> None:
    with pytest.raises(DockerfileError, match="larger than 2 MiB"):
        decode("D", b"#" * (MAX_SIZE + 1))
    with pytest.raises(DockerfileError, match="larger than 2 MiB"):
        source.read(SourceFile("D", "#" * (MAX_SIZE + 1)))
    with pytest.raises(DockerfileError, match="more than 50000 instructions") as caught:
        _lines("A\n" * 1_000_000)
    assert caught.value.span == Span(MAX_INSTRUCTIONS + 1, 1, MAX_INSTRUCTIONS + 1, 2)
