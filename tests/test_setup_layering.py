"""The direction of the arrows: which part of the program may import which, read from the sources themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "builder"

_VALUES = {"errors", "values", "canonical", "hashing", "redact", "oci", "cancellation"}
_PURE = _VALUES | {"dockerfile", "plan", "events"}
_DISK = {"archives", "cache", "docker", "layers", "store", "context", "export", "sandbox", "registry", "http"}
ALLOWED = {
    "values": set[str](),
    "canonical": set[str](),
    "hashing": set[str](),
    "redact": set[str](),
    # How all of these are loaded.
    "loading": set[str](),
    "cancellation": {"errors"},
    "errors": {"values", "redact"},
    "events": {"errors", "values"},
    "oci": {"errors", "values", "canonical", "hashing"},
    "dockerfile": {"errors", "values", "canonical", "hashing"},
    "plan": _VALUES | {"dockerfile"},
    "layers": _VALUES,
    "http": {"errors"},
    "context": _VALUES | {"layers", "http"},
    "store": _VALUES | {"layers"},
    # Of layers it knows the blobs alone.
    "cache": _VALUES,
    "export": _VALUES | {"layers"},
    "archives": _VALUES | {"layers"},
    "docker": _VALUES,
    "gotemplate": {"errors", "values"},
    # What differs between two images: of layers it knows the pure parts, entries and trees.
    "verify": {"errors", "values", "layers"},
    "registry": _VALUES | {"http"},
    # A program of its own: it must start in milliseconds, and knows nothing of builds.
    "sandbox": {"errors", "values"},
    "report": {"events", "errors"},
    "engine": _PURE | _DISK,
    # What a command does, each told on one page.
    "request": _PURE | _DISK | {"engine"},
    "reading": _PURE | _DISK | {"engine", "request"},
    "contexts": _PURE | _DISK | {"engine", "request", "reading"},
    "caches": _PURE | _DISK | {"engine", "request"},
    "delivery": _PURE | _DISK | {"engine", "request", "caches"},
    "recording": _PURE | _DISK | {"engine", "request"},
    "build": _PURE | _DISK | {"engine", "request", "contexts", "caches", "delivery", "recording"},
    "locking": _PURE | _DISK | {"engine", "request", "reading", "contexts", "build"},
    "run": _PURE | _DISK | {"engine", "forwarding", "piping", "terminal"},
    "check": _PURE | _DISK | {"engine", "request", "contexts"},
    "history": _PURE | _DISK | {"engine"},
    "shell": _PURE | _DISK | {"engine", "history", "run"},
    # Only relay bytes and signals: they know neither images nor sandboxes.
    "terminal": {"errors", "values"},
    "piping": {"errors", "values"},
    "forwarding": {"errors", "values"},
    "diff": _PURE | _DISK | {"engine", "verify"},
    "causes": _PURE | _DISK | {"engine"},
    "verifying": _PURE | _DISK | {"engine", "request", "contexts", "build", "diff", "verify", "causes"},
    "importing": _PURE | _DISK | {"engine"},
}
"""The command line, `cli`, stands above and may import them all."""


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and part for each import from this package, wherever in a module it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name.split(".")[1]) for name in names if name.startswith("builder."))


def sources(folder: str = "") -> list[Path]:
    found = sorted((PACKAGE / folder).rglob("*.py"))
    assert found, f"nothing in {folder or 'the package'}"
    return found


def test_arrows_go_down_only() -> None:
    wrong = []
    for path in sources():
        own = part(path)
        if own in ("cli", "__init__"):
            continue
        assert own in ALLOWED, f"{path} is a part that this test does not know: say here what it may import"
        for line, name in imports(ast.parse(path.read_text())):
            if name != own and name not in ALLOWED[own]:
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line}: {own} imports {name}")
    assert not wrong, "\n".join(wrong)


def _reaches_outside(node: ast.AST) -> bool:
    """Whether this is `print(...)`, `sys.exit(...)`, `os.environ` or `os.getenv`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("print", "input", "exit")
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return (node.value.id, node.attr) in {("sys", "exit"), ("os", "environ"), ("os", "getenv"), ("sys", "argv")}
    return False


def test_only_the_command_line_prints_exits_and_reads_the_environment() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 0)}"
        for path in sources()
        # The sandbox's fork server is a program of its own, with its own arguments and exit; so are those beside the builder.
        if part(path) not in ("cli", "sandbox") and path.stem not in ("beside", "readahead_main", "filling_main")
        for node in ast.walk(ast.parse(path.read_text()))
        if _reaches_outside(node)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from builder.cli.main import main", [(1, "cli")]),
        ("import builder.store.store", [(1, "store")]),
        ("def f():\n    from builder import engine", [(2, "engine")]),
        ("import os\nfrom builderish import x", []),
    ],
)
def test_imports_are_found_wherever_they_stand(source: str, expected: list[tuple[int, str]]) -> None:
    """The control of the tests above: what they look for is seen."""
    assert list(imports(ast.parse(source))) == expected
