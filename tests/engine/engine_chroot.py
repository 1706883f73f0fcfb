"""Doing things to a folder of the host as a process whose root it is: the kernel resolves the links."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def inside(root: Path, act: Callable[[], None]) -> str:
    """Call `act` in a child that is chrooted to `root`. Empty, or what kind of OSError ended it: its errno's name."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            os.umask(0)
            os.chroot(root)
            os.chdir("/")
            act()
            code = 0
        except OSError as error:
            os.write(writing, errno.errorcode[error.errno or 0].encode())
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return said


Planted = dict[str, tuple[str, bytes, int]]
"""Path to kind, content or target, and mode."""


def plant(root: Path, tree: Planted) -> None:
    """What of the tree can be there: what comes first has its place. The owner tells files apart: each has its own."""
    root.mkdir()
    first: Path | None = None
    for number, (name, (kind, data, mode)) in enumerate(tree.items(), 1):
        path = root / name
        above = [folder for folder in path.parents if root in folder.parents]
        if (
            path.is_symlink()
            or path.exists()
            or any(folder.is_symlink() or (folder.exists() and not folder.is_dir()) for folder in above)
        ):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "file":
                path.write_bytes(data)
                first = first or path
            case "dir":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "link":
                os.symlink(data, os.fsencode(path))
            case _:
                if first is not None:
                    os.link(first, path)
                continue
        os.chown(path, number, 100 + number, follow_symlinks=False)
        if kind != "link":
            path.chmod(mode)
