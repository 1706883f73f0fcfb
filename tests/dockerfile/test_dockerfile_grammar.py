"""The parser's tables: those beside the grammar are lark's for it, and what runs them reads as lark does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lark import Lark, UnexpectedInput

from builder.dockerfile import grammar

ROOT = Path(__file__).parents[2]

_PIECES = [
    *("FROM", "RUN", "COPY", "ADD", "HEALTHCHECK", "ONBUILD", "ARG", "env", "Label", "EXPOSE", "VOLUME", "CMD", "ENTRYPOINT"),
    *("SHELL", "MAINTAINER", "STOPSIGNAL", "USER", "WORKDIR", "AS", "as", "NONE", "none", "ASx", "FROMx", "ſtopsignal"),
    *("--", "--platform", "--platform=a", "--mount=type=bind,x='a b'", '--network="a', "--from=x", "--chown=1:1", "--link"),
    *("--interval=3s", "--nonsense", "--nonsense=\\ x", "--keep-git-dir=true", "---", "-", "--=", "--from", "--frommage=x"),
    *("a", "b=c", 'd="e f"', "g='h i'", '"', "'", "\\", "\\ ", "`", "$x", "[", '["a", "b"]', "é", "=", "<<EOF", "#"),
    *(" ", " ", " ", "  ", "\t", "\v", "\f", "\r", "\n", "\x85", "\xa0", "\u2003", "\u3000", "\x1c", "\x00"),
]  # fmt: skip
_TEXTS = st.one_of(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join), st.text(max_size=20))


@cache
def _lark() -> Lark:
    text = Path(grammar.path()).read_text(encoding="utf-8")
    return Lark(text, parser="lalr", lexer="contextual", maybe_placeholders=False, propagate_positions=False)


def _by_lark(text: str) -> object:
    try:
        found: Any = _lark().parse(text).children[0]
    except UnexpectedInput as error:
        at_end = getattr(error, "token", None) == ""
        return len(text) if at_end else error.pos_in_stream
    return [(token.type, token.start_pos, token.end_pos) for token in found.children]


def _by_tables(text: str) -> object:
    try:
        return grammar.tokens(text, "\\")
    except grammar.SyntaxMismatch as error:
        return error.offset


@given(_TEXTS)
def test_the_tables_are_read_as_lark_reads_them(text: str) -> None:
    assert _by_tables(text) == _by_lark(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM --platform=a b AS c", [("FROM_FLAG", 5, 17), ("WORD", 18, 19), ("WORD", 23, 24)]),
        ("FROM a b", 7),
        ("FROM", 4),
        ("FROM a AS", 9),
        ("COPY -- --from=x b", [("WORD", 8, 16), ("WORD", 17, 18)]),
        ("RUN --nonsense=1 a", [("FLAG", 4, 16), ("COMMAND", 17, 18)]),
        ("NOTHING a", 0),
        ("", 0),
    ],
)
def test_tokens_and_where_reading_stops(text: str, expected: object) -> None:
    """The control of the test above: both could be wrong in one way."""
    assert _by_tables(text) == expected
    assert _by_lark(text) == expected


def test_the_tables_beside_the_grammar_are_made_of_it() -> None:
    assert Path(grammar.tables_path()).read_text(encoding="utf-8") == grammar.generated(), "run `make grammar`"


CODE = """
import sys
from builder.dockerfile import grammar
print(grammar.path())
print(grammar.tokens("BUILDFROM a AS b", "\\\\"), "lark" in sys.modules)
"""


@pytest.mark.parametrize("tables", ["another grammar's", "of another format", "none"])
def test_tables_that_are_not_the_grammars_are_not_used(tmp_path: Path, tables: str) -> None:
    shutil.copytree(ROOT / "builder", tmp_path / "builder", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "grammar", tmp_path / "grammar")
    file = tmp_path / "grammar" / "dockerfile.lark"
    file.write_text(file.read_text().replace("/FROM(?!", "/BUILDFROM(?!"))
    beside = tmp_path / "grammar" / "dockerfile.tables.json"
    if tables == "none":
        beside.unlink()
    elif tables == "of another format":
        beside.write_text('{"format":0}\n')
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [str(file), "[('WORD', 10, 11), ('WORD', 15, 16)] True"]
