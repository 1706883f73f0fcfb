"""Calls of `pybuild` in messages, so that whoever copies one finds the same store, and the same build, again."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cli.flags import Parsed


def again(text: str, parsed: Parsed, *, file: bool = False) -> str:
    """`text` with the flag `--root` of this call in those that it names, and with `file` its `-f`, too."""
    from shlex import quote  # for those who see a message

    root = parsed.text("root")
    name = parsed.text("file") if file else None
    before = f"--root {quote(root)} " if root else ""
    behind = f"-f {quote(name)} " if name else ""
    for command in ("shell", "why"):
        text = text.replace(f"pybuild {command} ", f"pybuild {before}{command} {behind}")
    return text
