"""Writes docs/checks/: a page for each build check. Run by `make docs`."""

from __future__ import annotations

from pathlib import Path

from builder.dockerfile.checks.pages import pages

FOLDER = Path(__file__).parent / "checks"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    content = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in content:
            path.unlink()
    for name, text in content.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
