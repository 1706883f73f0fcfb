"""The texts of a build: the Dockerfile, and the .dockerignore of each context."""

from __future__ import annotations

import os

from builder.context.directory import NothingIgnored
from builder.dockerfile.text import decode
from builder.errors import UsageError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.context.directory import Ignore
    from builder.errors import SourceFile
    from builder.request import Request

DOCKERFILE_LIMIT = 64 << 20
"""Bytes."""


def read_dockerfile(request: Request) -> SourceFile:
    """The Dockerfile's text. Raises UsageError when there is none, DockerfileError when it is no text."""
    _check_folder(f"the build context '{request.context}'", request.context)
    for name, path in request.directories.items():
        _check_folder(f"the build context '{name}={path}'", path)
    if request.dockerfile_text is not None:
        return decode("Dockerfile", request.dockerfile_text)
    candidates = (
        [request.dockerfile]
        if request.dockerfile
        else [os.path.join(request.context, name) for name in ("Dockerfile", "Containerfile")]
    )
    for path in candidates:
        try:
            with open(path, "rb") as file:
                return decode(os.path.normpath(path), file.read(DOCKERFILE_LIMIT))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except IsADirectoryError:
            raise UsageError(f"the Dockerfile '{path}' is a folder", hint="name the file with -f") from None
        except PermissionError:
            raise UsageError(f"the Dockerfile '{path}' cannot be read: permission denied") from None
    near = _near(candidates[0])
    if request.dockerfile:
        raise UsageError(f"there is no Dockerfile at '{request.dockerfile}'", hint=near)
    raise UsageError(
        f"there is no Dockerfile in the build context '{request.context}'",
        hint=f"{near} name it with -f" if near else "name it with -f, or run pybuild in the folder that holds it",
    )


def _check_folder(shown: str, path: str) -> None:
    if os.path.isdir(path):
        return
    if not os.path.lexists(path):
        raise UsageError(f"{shown} does not exist", hint=_near(path) or "give the folder that holds the sources")
    name = os.path.basename(path).lower()
    wrong = f"a Dockerfile is named with -f: pybuild -f {path} ." if "dockerfile" in name or "containerfile" in name else None
    raise UsageError(f"{shown} is no folder", hint=wrong or "give the folder that holds the sources")


def _near(path: str) -> str | None:
    """A hint for a path that is not there: the nearest name in its folder."""
    folder, name = os.path.split(os.path.normpath(path))
    known = sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else []
    return did_you_mean(os.path.join(folder, name), [os.path.join(folder, other) for other in known])


def read_ignore(context: str, dockerfile: str) -> Ignore:
    """`<Dockerfile>.dockerignore` beside the Dockerfile comes before the context's own .dockerignore. `dockerfile` is the path
    that was read; empty where it says nothing about this context, or came on stdin."""
    for path in (*([f"{dockerfile}.dockerignore"] if dockerfile else []), os.path.join(context, ".dockerignore")):
        try:
            with open(path, "rb") as file:
                data = file.read(DOCKERFILE_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            continue
        from builder.dockerfile.ignore import Matcher

        return Matcher.parse(decode(os.path.normpath(path), data).text, os.path.normpath(path))
    return NothingIgnored()
