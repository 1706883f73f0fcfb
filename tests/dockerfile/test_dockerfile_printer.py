"""Printing a tree and parsing it gives the same tree; no text makes the parser raise anything but DockerfileError; the codec
gives back what it took."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder.dockerfile import ast, codec, printer, syntax
from builder.dockerfile.text import decode
from builder.errors import DockerfileError, SourceFile, render

_SPACES = st.sampled_from([" ", "  ", "\t", "\v", "\f", " \\\n ", " `\n ", "\\\n# c\n\n", "\u00a0", "\r", ""])
_PIECES = st.sampled_from(
    [
        *(
            "a",
            "b=",
            "=",
            "$x",
            "${y:-z}",
            '"',
            "'",
            '"a b"',
            "'c d'",
            "\\",
            "`",
            "\\ ",
            "\u00e9",
            "\u2003",
            "#",
            ",",
            "/",
            ".",
        ),
        *("[", "]", '["a"]', '["a", "b"]', "[1]", "[[", '"\\u0000"', "\\ud800", "--", "--x", "--x=1", "AS", "CMD", "NONE"),
        *("<<EOF", "<<-EOF", "<<'EOF'", '<<"E F"', "<< EOF", "<<$", "<<E\\ F", "<<-", "3<<X", "<", "\r", "\t", "\x1c", "-"),
        *(
            "--from=b",
            '--chown="a b"',
            "--chmod=7\\ 7",
            "--link",
            "--mount=type=cache",
            "--network=none",
            "--exclude='x",
            "--platform=p",
        ),
        *("--interval=1s", "--retries=2", "--unpack=true", "--device=x", "--security=insecure", "ONBUILD", "RUN", "COPY"),
    ]
)
_KEYWORDS = st.sampled_from(
    [*syntax.KEYWORDS, *syntax.KEYWORDS, "onbuild run", "ONBUILD COPY", "Run", "RUNX", "", "#", "# escape=`"]
)
_LINES = st.tuples(_KEYWORDS, st.lists(st.tuples(_SPACES, _PIECES), max_size=6)).map(
    lambda line: line[0] + " " + "".join(space + piece for space, piece in line[1])
)
_BODIES = st.sampled_from(["EOF", "\tEOF", "\tx\n\t\ty", "E F", "\\", "x\r", "", "$", "X", "-"])
_MARKS = st.sampled_from(
    [
        ("EOF", "EOF"),
        ("'EOF'", "EOF"),
        ('"it\'s"', "it's"),
        ("E\\ F", "E F"),
        ("$x", "$x"),
        ("'\u00e9$\\ \"'", '\u00e9$\\ "'),
        ("\\-", "-"),
    ]
)
_HEREDOCS = st.tuples(
    st.sampled_from(["RUN", "RUN cat", "COPY", "ADD --link a", "ONBUILD COPY --chown='x y'", "onbuild run --network=none"]),
    st.lists(st.tuples(st.sampled_from(["<<", "<<-"]), _MARKS, st.lists(_BODIES, max_size=2)), min_size=1, max_size=3),
).map(
    lambda parts: "\n".join(
        [
            parts[0] + "".join(f" {start}{mark[0]}" for start, mark, _ in parts[1]) + " /d",
            *("\n".join([*body, mark[1]]) for _, mark, body in parts[1]),
        ]
    )
)
_HEADS = st.sampled_from(["", "# escape=`\n", "# syntax=docker/dockerfile:1\n# check=skip=all\n", "\ufeff#!x\n#escape=`\r\n"])
_TEXTS = st.tuples(_HEADS, st.lists(_LINES | _HEREDOCS, max_size=4), st.sampled_from(["\n", "\r\n"])).map(
    lambda parts: parts[0] + parts[2].join(["FROM a", *parts[1], ""])
)


def _parse(text: str) -> ast.Dockerfile | None:
    """The tree, None for a Dockerfile that is wrong; every error can be shown and knows its file."""
    file = SourceFile("Dockerfile", text)
    try:
        return syntax.parse(file)
    except DockerfileError as error:
        assert error.source is not None
        # The grammar takes whatever follows a keyword; what is wrong with it is said by name.
        assert "can not be read" not in error.message
        assert render(error).startswith("Dockerfile")
        return None


def _check_round_trips(text: str) -> None:
    dockerfile = _parse(text)
    if dockerfile is None:
        return
    printed = printer.unparse(dockerfile)
    again = syntax.parse(SourceFile("printed", printed))
    assert printer.strip_spans(again) == printer.strip_spans(dockerfile), printed
    assert printer.unparse(again) == printed
    assert codec.load(codec.dump(dockerfile), dockerfile.source) == dockerfile


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_tree_or_a_dockerfile_error(data: bytes) -> None:
    try:
        syntax.parse(decode("Dockerfile", b"FROM a\n" + data))
    except DockerfileError as error:
        assert render(error)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100), st.sampled_from(syntax.KEYWORDS))
def test_any_text_after_a_keyword(text: str, keyword: str) -> None:
    _check_round_trips(f"FROM a\n{keyword} {text}")


@settings(max_examples=200, deadline=None)
@given(_TEXTS)
@example('FROM a\nVOLUME [\u00a0 "a"]\n')
@example('FROM a\nCOPY ["a",\v"b"]\n')
@example("FROM a\nRUN a\\\f\n")
@example('FROM a\nENV a="b\\\u00a0\n')
@example("FROM a\nCOPY <<E\\ F <<-\"it's\" <<-'$x' <<$y x y\nE F\nit's\n$x\n$y\n")
@example("# escape=`\nFROM a\nCOPY --chown='`'\\' a b\n")
@example("FROM a\nONBUILD RUN a\\\v\n")
@example("FROM -- --a AS b\nCOPY -- --x y\nCMD -- --\n")
@example("FROM a\nRUN -- -- x\n")
def test_printing_and_parsing_again_gives_the_same_tree(text: str) -> None:
    _check_round_trips(text)


def test_the_printed_text() -> None:
    dockerfile = _parse(
        "# check=error=true\n#syntax=docker/dockerfile:1\nfrom a as b\n"
        "RUN --mount=type=cache,target='/a b' \\\n x \\\n# c\n  y\n"
        "COPY s <<-E 'd'\n\tz\n\tE\n"
        'HEALTHCHECK  none\nENV  a  b  c\nCMD [ "a\' ]\nSHELL [ "s" ]\n'
    )
    assert dockerfile is not None
    assert printer.unparse(dockerfile) == (
        "# syntax=docker/dockerfile:1\n# check=error=true\n\nFROM a AS b\n"
        'RUN --mount="type=cache,target=/a b" x   y\n'
        "COPY <<-E s 'd'\n\tz\nE\n"
        'HEALTHCHECK NONE\nENV a b  c\nCMD [ "a\' ]\nSHELL ["s"]\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN " + "x" * 1_500_000,
        "FROM a\nRUN [" + '"' + "x" * 1_500_000 + '"]',
        "FROM a\nRUN " + "[" * 1_500_000,
        "FROM a\nRUN " + "${a:-" * 300_000 + " <<EOF",
        "FROM a\nRUN " + "\"${a:-'" * 100_000 + " <<EOF",
        "FROM a\nENV a=" + '"' + "\\x" * 700_000,
        "FROM a\nENV a=" + "\\x" * 700_000,
        "FROM a\nCOPY --chown=" + "'x'" * 150_000 + " a b",
        "FROM a\n" + "x" * 1_500_000,
        "FROM a\nCOPY --" + "x" * 1_500_000 + " a b",
        "FROM a\nRUN a" + " \\" * 700_000,
        "FROM a\nRUN a \\\n" * 1 + "\\\n" * 700_000,
        "FROM a\n" + "ONBUILD " * 200_000 + "RUN x",
        "# " + "syntax =" * 200_000 + "\nFROM a",
        "FROM a\nRUN <<A" + "\nB" * 700_000,
        "FROM a\nHEALTHCHECK --interval=" + "1" * 1_500_000 + "s CMD x",
        "FROM a\nHEALTHCHECK --retries=" + "1" * 1_500_000 + " CMD x",
        "FROM a AS " + "a" * 1_500_000 + "!",
        "FROM a\nLABEL a b" + "\\" * 1_500_001,
        "\n" * 1_900_000,
        "A\n" * 900_000,
    ],
    ids=range(21),
)
def test_huge_and_deep_texts_end(text: str) -> None:
    """They must end, in a tree or an error; the suite's own time limit is the only clock."""
    _parse(text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b"[2,[null,null],[]]",
        b'[1,[null,"\\\\",null],[]]',
        b'[2,[null,"\\\\",null],[["X"]]]',
    ],
)
def test_the_codec_refuses_other_bytes(data: bytes) -> None:
    if data == b"[2,[null,null],[]]":
        # Directives have defaults: this is a tree, of an empty Dockerfile.
        assert codec.load(data, SourceFile("", "")).instructions == ()
        return
    with pytest.raises(ValueError):
        codec.load(data, SourceFile("", ""))


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=10).map(
        lambda value: json.dumps([2, [None, "\\", None], value]).encode()
    )
)
def test_the_codec_raises_value_errors_alone(data: bytes) -> None:
    try:
        codec.load(data, SourceFile("", ""))
    except ValueError:
        return


def test_the_codec_names_its_version_first() -> None:
    dockerfile = _parse("FROM a\n")
    assert dockerfile is not None
    assert codec.dump(dockerfile) == b'[2,[null,"\\\\",null],[["From",[1,1,1,7],"FROM a",null,["a",[1,6,1,7]],null]]]'
