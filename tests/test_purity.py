"""The core takes values and returns values: no files, no network, no clock, no chance, read from the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "builder"

PURE = (
    *("errors.py", "events.py", "values.py", "redact.py", "oci", "dockerfile", "plan", "gotemplate", "verify"),
    *("cache/format.py", "cache/inline.py"),
    *("http/addresses.py", "http/proxies.py", "registry/hosts.py", "registry/manifests.py"),
)
# The standard library's modules that only compute; `urllib.parse` does, the rest of urllib does not.
COMPUTES = {
    *(
        "__future__",
        "_collections",
        "base64",
        "binascii",
        "bisect",
        "bz2",
        "collections",
        "contextlib",
        "functools",
        "graphlib",
    ),
    *(
        "hashlib",
        "heapq",
        "ipaddress",
        "itertools",
        "json",
        "marshal",
        "math",
        "re",
        "string",
        "struct",
        "textwrap",
        "tomllib",
        "types",
        "typing",
    ),
    *("difflib", "lzma", "unicodedata", "urllib.parse", "zlib"),
}
READS_A_FILE = {"dockerfile/grammar.py": ("os", "open")}
"""The grammar comes with the program, and so do its tables; lark is imported where those are not the grammar's."""


def sources() -> list[Path]:
    found = [path for name in PURE for path in ([PACKAGE / name] if name.endswith(".py") else (PACKAGE / name).rglob("*.py"))]
    assert len(found) > len(PURE)
    return sorted(found)


def impure(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each module of the standard library that does more than compute, and of `open`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names if _does_more(alias.name))
            case ast.ImportFrom(module=str(name)) if _does_more(name):
                yield node.lineno, name
            case ast.Call(func=ast.Name(id="open" | "__import__" as name)):
                yield node.lineno, name


def _does_more(module: str) -> bool:
    top = module.split(".")[0]
    return top in sys.stdlib_module_names and not {module, top} & COMPUTES


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_is_pure(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    allowed = READS_A_FILE.get(name, ())
    assert [(line, what) for line, what in impure(ast.parse(path.read_text())) if what not in allowed] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os.path", [(1, "os.path")]),
        ("def f():\n    from time import time", [(2, "time")]),
        ("import urllib.request", [(1, "urllib.request")]),
        ("import urllib.parse, re\nfrom collections.abc import Iterable\nfrom builder.store.store import Store", []),
        ("x = open('y')", [(1, "open")]),
    ],
)
def test_what_is_looked_for_is_found(source: str, expected: list[tuple[int, str]]) -> None:
    """The control of the test above."""
    assert list(impure(ast.parse(source))) == expected
