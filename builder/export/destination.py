"""Where an output goes: a file that appears under its name when it is whole, or standard output."""

from __future__ import annotations

import os
import stat

from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def check(dest: str, *, folder: bool = False) -> None:
    """Raise before a build the UsageError that writing to `dest` would meet after it: a file, or with `folder` a folder."""
    real = os.path.realpath(dest)
    if dest in ("", "-"):
        return
    if folder:
        if os.path.lexists(real) and not os.path.isdir(real):
            raise UsageError(f"the destination '{dest}' is not a folder", hint="give another name, or remove it")
    elif os.path.isdir(real):
        raise UsageError(f"the destination '{dest}' is a folder", hint="give the name of a file: dest=FILE")
    elif not os.path.isdir(os.path.dirname(real)):
        parent = os.path.dirname(real if os.path.islink(dest) else dest)
        raise UsageError(f"the folder '{parent}' of the destination is not there", hint="make it first")


class Destination:
    """``with Destination(dest) as out: out.write(data)``. `dest` is a path, or `-` for the descriptor `stdout`.

    A file is written under a temporary name beside its own and renamed at the end; leaving the block by an exception
    removes it. What exists and is no regular file (a fifo, /dev/null) is written as it is. Raises UsageError for a folder,
    for a parent that is not there, and for a terminal.
    """

    def __init__(self, dest: str, *, stdout: int = 1) -> None:
        self._dest = dest
        self._stdout = stdout
        self._fd = -1
        self._temporary = ""
        self.size = 0
        """Bytes written so far."""

    def __enter__(self) -> Destination:
        if self._dest == "-":
            if os.isatty(self._stdout):
                raise UsageError("an archive is not written to a terminal", hint="redirect the output, or give dest=FILE")
            self._fd = os.dup(self._stdout)
        else:
            self._open()
        return self

    def write(self, data: bytes) -> None:
        """Append. OSErrors (a full disk, a closed pipe) propagate."""
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError as error:
                error.filename = self._dest if self._dest != "-" else "standard output"
                raise
            self.size += written
            view = view[written:]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._fd)
        if not self._temporary:
            return
        if error is None:
            try:
                os.rename(self._temporary, self._dest)
                return
            except OSError:
                os.unlink(self._temporary)
                raise
        os.unlink(self._temporary)

    def _open(self) -> None:
        check(self._dest)
        mode = os.stat(self._dest).st_mode if os.path.exists(self._dest) else stat.S_IFREG
        if not stat.S_ISREG(mode):
            # By the path as it was given: what /dev/stdout or a shell's >(...) leads to may have no other name.
            self._fd = os.open(self._dest, os.O_WRONLY | os.O_CLOEXEC)
            return
        # The user's own path: where it is a link, the file that it leads to is meant.
        self._dest = os.path.realpath(self._dest)
        folder, name = os.path.split(self._dest)
        temporary = os.path.join(folder, f".{name[:200]}.{os.urandom(6).hex()}")
        # The mode of any new file of the user's: the umask decides.
        self._fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self._temporary = temporary
