"""The tables of tests/golden/words: words as BuildKit's lexer has them. They were written by hand before the first run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from builder.dockerfile import words
from builder.errors import DockerfileError
from tests.conftest import ROOT

FOLDER = ROOT / "tests" / "golden" / "words"


class Case(NamedTuple):
    shows: str
    word: str
    expected: str
    env: dict[str, str]
    escape: str


def cases(name: str) -> Iterator[Case]:
    shows, escape = "", "\\"
    env: dict[str, str] = {}
    for line in (FOLDER / name).read_text(encoding="utf-8").split("\n"):
        if line.startswith("== "):
            shows, escape, env = line[3:], "\\", {}
        elif line.startswith("escape "):
            escape = line[7:]
        elif match := re.fullmatch("env (\\w+)=(.*)", line):
            env[match[1]] = match[2]
        elif line and line != "#" and not line.startswith("# "):
            word, arrow, expected = line.partition(" ⇒")
            assert arrow, f"{name}: no arrow in {line!r}"
            yield Case(shows, word, expected.removeprefix(" "), dict(env), escape)


def outcome(expand: object, case: Case) -> str:
    """The text, or the columns of the error."""
    try:
        assert callable(expand)
        found = expand(case.word, case.env, escape=case.escape)
    except DockerfileError as error:
        assert error.span is not None and error.span.line == error.span.end_line == 1
        assert error.hint
        return f"error {error.span.column}-{error.span.end_column}"
    return found if isinstance(found, str) else "¦".join(found)


def shown(case: Case) -> str:
    return f"{case.shows}: {case.word}"


@pytest.mark.parametrize("case", list(cases("expand.txt")), ids=shown)
def test_words(case: Case) -> None:
    assert outcome(words.expand, case) == case.expected


@pytest.mark.parametrize("case", list(cases("split.txt")), ids=shown)
def test_lists_of_words(case: Case) -> None:
    assert outcome(words.expand_list, case) == case.expected.rstrip("¦")


def test_the_tables_are_whole() -> None:
    assert len(list(cases("expand.txt"))) > 250
    assert len({case.shows for case in cases("expand.txt")}) > 20
