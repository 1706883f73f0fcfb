"""Where a command finds an archive of images: a file, a folder, or standard input."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

from builder.errors import BuildError, UsageError
from builder.oci.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.archives.archive import Archive

FILES = ("oci-archive", "docker-archive", "oci", "dir")
"""What may stand in front of a path, with a colon, as skopeo has it."""


def any_platform(texts: Sequence[str]) -> Platform:
    """The platform whose image is read of several; this machine's where none is named. Raises UsageError."""
    if not texts:
        return Platform.of_machine(os.uname().machine)
    try:
        return Platform.parse(texts[-1])
    except BuildError as error:
        raise UsageError(error.message, hint=error.hint) from None


def path_and_name(rest: str) -> tuple[str, str] | None:
    """`FILE[:NAME]`: the longest beginning that is there."""
    at = len(rest)
    while at > 0:
        if os.path.exists(rest[:at]):
            return rest[:at], rest[at + 1 :]
        at = rest.rfind(":", 0, at)
    return None


@contextmanager
def opened(path: str, scratch: str) -> Iterator[Archive]:
    """The archive at `path`, or on standard input for `-`; what is compressed or piped is unpacked into the folder `scratch`.
    Raises UsageError."""
    from builder.archives.folder import open_folder
    from builder.archives.tar import open_tar

    if path != "-" and os.path.isdir(path):
        with open_folder(path) as archive:
            yield archive
        return
    shown = "standard input" if path == "-" else path
    if path == "-" and os.isatty(0):
        raise UsageError("an archive is not read from a terminal", hint="redirect standard input, or name a file: -i FILE")
    try:
        descriptor = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UsageError(f"'{path}' does not exist", hint="give an archive of images, or a folder with an OCI layout") from None
    try:
        with tempfile.TemporaryFile(dir=scratch) as spool:
            yield open_tar(descriptor, shown, spool.fileno())
    finally:
        os.close(descriptor)
