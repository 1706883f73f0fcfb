"""Folders below one folder of the host, reached by descriptors alone.

No name is ever followed: a symlink in the way is ENOTDIR or ELOOP, so nothing that an image or a step left behind can lead out
of the root. Descriptors of the way to the folder used last stay open, which makes neighbours cheap.
"""

from __future__ import annotations

import errno
import os

from builder.errors import BuildError
from builder.layers.names import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn

LONGEST = 4095
"""The longest path, in bytes, that a program can name at once (PATH_MAX without its NUL, limits.h)."""

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Of the way so many folders stay open at its start and at its end: a hostile tree must not use up the descriptors of the
# process, and to go up again from far below must not mean to come down all the way at each step.
_KEPT = 32


class Beneath:
    """An open root, and the folders below it. A context manager, for one thread."""

    def __init__(self, root: str, *, readable: bool = True, kept: int = _KEPT) -> None:
        """Folders that are not `readable` are only passed through, and may be closed to this user's reading (open(2),
        O_PATH). At most two times `kept` stay open."""
        self._kept = kept
        self._how = os.O_RDONLY if readable else os.O_PATH
        self._names: list[bytes] = []
        self._open: list[int] = [os.open(root, self._how | os.O_DIRECTORY | os.O_CLOEXEC)]

    def __enter__(self) -> Beneath:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._close_from(0)

    @property
    def root(self) -> int:
        return self._open[0]

    def folder(self, path: bytes) -> int:
        """A descriptor of the folder at the canonical `path`, valid until the next call; never the caller's to close.

        Raises BuildError for a path that is too long; OSErrors propagate: ENOENT, ENOTDIR or ELOOP where no folder is.
        """
        if len(path) > LONGEST:
            raise BuildError(
                f"the path '{show(path[:60])}...' is longer than {LONGEST} bytes", hint="no program can open it by its name"
            )
        names = path.split(b"/") if path else []
        same = 0
        for ours, wanted in zip(self._names, names):
            if ours != wanted:
                break
            same += 1
        while self._open[same] < 0:
            same -= 1
        self._close_from(same + 1)
        for name in names[same:]:
            self._enter(name)
        return self._open[-1]

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """The descriptor of the folder that holds `path`, and the last name. As `folder`."""
        folder, _, name = path.rpartition(b"/")
        return self.folder(folder), name

    def _enter(self, name: bytes) -> None:
        if name in (b"", b".", b".."):
            raise ValueError("a path below a root is not canonical")
        self._open.append(os.open(name, self._how | _FOLDER, dir_fd=self._open[-1]))
        far = len(self._open) - 1 - self._kept
        if far > self._kept and self._open[far] >= 0:
            os.close(self._open[far])
            self._open[far] = -1
        self._names.append(name)

    def _close_from(self, depth: int) -> None:
        for descriptor in self._open[depth:]:
            if descriptor >= 0:
                os.close(descriptor)
        del self._open[depth:]
        del self._names[max(0, depth - 1) :]


def explain(error: OSError, path: bytes) -> NoReturn:
    """Raise what a failed look at `path` means: a BuildError when something else changed it meanwhile, else the OSError."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE):
        raise BuildError(
            f"'{show(path)}' changed while it was read", hint="build again when nothing else writes to it"
        ) from error
    if error.errno in (errno.EACCES, errno.EPERM):
        raise BuildError(
            f"'{show(path)}' cannot be read: permission denied",
            hint="make it readable for this user; what a build does not need .dockerignore can leave out",
        ) from error
    raise error
