"""Every error of the language, whole: a golden for each place that makes one, with a hint, and the ones of .dockerignore."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from builder.dockerfile.ignore import Matcher
from builder.errors import DockerfileError, render
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden"
IGNORE = sorted(path.stem for path in (GOLDEN / "ignore").glob("*.dockerignore"))
TEXTS = {path: path.read_text() for path in GOLDEN.rglob("*.txt")}

# Errors that no golden shows, and why. The tests of their modules have the messages.
WITHOUT_GOLDEN = {
    "the Dockerfile is larger than": "needs a file of megabytes",
    "the Dockerfile has more than": "needs a file of 50,000 instructions",
    "the Dockerfile is too large to be planned": "needs thousands of lines",
    "the line is longer than": "needs a line of 65,536 characters",
    "a pattern of": "needs a value of megabytes",
    "the word expands to more than": "needs a value of megabytes",
    "variables stand in each other more than": "needs a line of hundreds of characters",
    "U+": "a file of bytes cannot hold a surrogate",
    "a byte that is not UTF-8": "a pattern of characters cannot hold a byte",
    "an ONBUILD trigger is exactly one instruction": "stands in an image, not in a Dockerfile",
    "invalid check option": "has a golden case under tests/golden/checks",
    "the check option 'error'": "has a golden case under tests/golden/checks",
    "lint violation found for rules": "has a golden case under tests/golden/checks",
    "the base has ": "stands in an image, not in a Dockerfile",
    "the arguments of": "no text is known that the grammar refuses",
}


@pytest.mark.parametrize("case", IGNORE)
def test_messages_of_dockerignore(case: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        Matcher.parse((GOLDEN / "ignore" / f"{case}.dockerignore").read_text(), ".dockerignore")
    assert render(caught.value) + "\n" == TEXTS[GOLDEN / "ignore" / f"{case}.txt"]


# Functions that make an error, and which of their arguments is the message.
_MAKERS = {"DockerfileError": 0, "_error": 0, "_wrong": 1, "_bad": 2, "_not_text": 2}


def messages(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Line and literal pieces of each message; messages that come from elsewhere have none."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        place = _MAKERS.get(name)
        if place is not None and len(node.args) > place:
            for message in _branches(node.args[place]):
                yield node.lineno, _pieces(message)


def _branches(message: ast.expr) -> list[ast.expr]:
    return [message.body, message.orelse] if isinstance(message, ast.IfExp) else [message]


def _pieces(message: ast.expr) -> list[str]:
    values = message.values if isinstance(message, ast.JoinedStr) else [message]
    return [part.value for part in values if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def sites() -> Iterator[tuple[str, list[str]]]:
    for folder in ("dockerfile", "plan"):
        for path in sorted((ROOT / "builder" / folder).rglob("*.py")):
            for line, pieces in messages(ast.parse(path.read_text())):
                if "".join(pieces).strip():
                    yield f"{path.relative_to(ROOT)}:{line}", pieces


def test_every_message_has_a_golden() -> None:
    """`WITHOUT_GOLDEN` is for what a file cannot show; anything else gets a Dockerfile and its message under tests/golden."""
    heads = [text.partition("\n")[0] for text in TEXTS.values()]
    missing = [
        f"{where}: {'...'.join(pieces)}"
        for where, pieces in sites()
        if not any(re.search(".*".join(map(re.escape, pieces)), head) for head in heads)
        and not any("".join(pieces).startswith(start) for start in WITHOUT_GOLDEN)
    ]
    assert not missing, "\n".join(missing)
    assert len(list(sites())) > 80


@pytest.mark.parametrize("folder", ["dockerfile", "plan", "ignore"])
def test_every_error_says_what_to_do_next(folder: str) -> None:
    without = [path.name for path, text in TEXTS.items() if path.parent == GOLDEN / folder and "\n  hint: " not in text]
    assert without == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise DockerfileError('a b', span)", ["a b"]),
        ("raise DockerfileError(f'{x} is {y} no', span)", [" is ", " no"]),
        ("raise DockerfileError('a' if x else f'b{x}')", ["a", "b"]),
        ("return self._error('a', 1)", ["a"]),
        ("raise DockerfileError(error.message, span)", []),
    ],
)
def test_messages_are_found(source: str, expected: list[str]) -> None:
    """The control of the test above."""
    assert [piece for _, pieces in messages(ast.parse(source)) for piece in pieces] == expected
