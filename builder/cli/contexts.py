"""Which contexts and which Dockerfile a command line means, as fields of a request; reads a Dockerfile from stdin."""

from __future__ import annotations

import os

from builder.cli.context_spec import parse_build_context, parse_context
from builder.errors import UsageError
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cli.context_spec import ContextSpec
    from builder.cli.flags import Parsed
    from builder.context.oci_layout import Place
    from builder.engine.fetching import Remote

STDIN_LIMIT = 64 << 20
"""Bytes of a Dockerfile."""

_TICK = 200
"""Milliseconds."""


class Contexts(NamedTuple):
    """Fields of `builder.request.Request`."""

    context: str
    dockerfile: str
    dockerfile_text: bytes | None
    directories: dict[str, str]
    remotes: dict[str, Remote]
    layouts: dict[str, Place]
    images: dict[str, str]


def contexts(parsed: Parsed) -> Contexts:
    """Raises UsageError."""
    text = parsed.positionals[0]
    main = parse_context(text, is_folder=os.path.isdir(text))
    file = parsed.text("file") or ""
    if file == "-" and main.kind == "stdin":
        raise UsageError(
            "standard input cannot be both the Dockerfile and the build context",
            hint="for a Dockerfile alone: pybuild - < Dockerfile; beside a folder: pybuild -f - FOLDER < Dockerfile",
        )
    named = [parse_build_context(text) for text in parsed.texts("build-context")]
    return Contexts(
        _shown(main),
        "" if file == "-" else file,
        _read_up_to(STDIN_LIMIT) if file == "-" else None,
        {spec.name: spec.path for spec in named if spec.kind == "directory"},
        {spec.name: _remote(spec) for spec in (main, *named) if spec.kind in ("stdin", "git", "url")},
        {spec.name: _place(spec) for spec in named if spec.kind == "oci-layout"},
        {spec.name: spec.path for spec in named if spec.kind == "docker-image"},
    )


def _shown(main: ContextSpec) -> str:
    if main.kind in ("directory", "stdin"):
        return main.path
    from builder.redact import redact

    return redact(main.path)


def _remote(spec: ContextSpec) -> Remote:
    from builder.engine.fetching import Piped, WebFile

    if spec.kind == "stdin":
        return Piped(_read)
    return spec.git if spec.git is not None else WebFile(spec.path)


def _place(spec: ContextSpec) -> Place:
    from builder.context.oci_layout import Place

    return Place(spec.path, spec.tag, spec.digest)


def _read_up_to(limit: int) -> bytes:
    """What comes on stdin. Raises UsageError beyond `limit` bytes."""
    data = bytearray()
    while chunk := _read(1 << 20):
        data += chunk
        if len(data) > limit:
            raise UsageError(f"the Dockerfile on standard input is larger than {limit >> 20} MiB", hint="is it the right file?")
    return bytes(data)


def _read(size: int) -> bytes:
    """What standard input has. A signal that comes between Python's last look for one and the system call that waits does not
    end that call: none waits for long."""
    import select  # for those who pipe one in

    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    while not waiting.poll(_TICK):
        continue
    return os.read(0, size)
