"""Workflow commands of GitHub's runners, which make annotations of a program's output (docs.github.com, "Workflow commands for
GitHub Actions"). Pure."""

from __future__ import annotations

import hashlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def command(kind: str, properties: Mapping[str, str], message: str) -> str:
    """`kind` is error, warning or notice."""
    shown = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{kind} {shown}::{_data(message)}\n"


def before(commands: Sequence[str], text: str) -> str:
    """The commands, and a text in which there is none, whatever it has in it, paths of images too: no text has its own hash in
    it."""
    token = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return "".join((*commands, f"::stop-commands::{token}\n", text, f"::{token}::\n"))


def placed(path: str, workspace: str) -> str:
    """A file as annotations name it: from the folder of the repository (GITHUB_WORKSPACE), wherever the program was started."""
    whole = os.path.abspath(path)
    below = workspace and whole.startswith(workspace.rstrip("/") + "/")
    return os.path.relpath(whole, workspace) if below else os.path.normpath(path)


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")
