"""A folder with what an archive holds: an OCI layout, an unpacked `docker save`, or skopeo's `dir:`.

It may come from anywhere: its links are never followed on the host, and what is no file, folder or link in it is an error.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from builder.archives.archive import MOST_MEMBERS, Archive, Link, Regular, link_target
from builder.errors import UsageError
from builder.layers.beneath import Beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.archives.archive import Member

_DEEPEST = 8
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def open_folder(path: str) -> Iterator[Archive]:
    """``with open_folder('layout') as archive``. Raises UsageError."""
    with Beneath(path) as beneath:
        members: dict[str, Member] = {}
        _scan(beneath, "", members, path)

        @contextmanager
        def opened(name: str) -> Iterator[int]:
            try:
                parent, last = beneath.parent(os.fsencode(name))
                descriptor = os.open(last, _FILE, dir_fd=parent)
            except OSError as error:
                raise UsageError(f"'{path}/{name}' cannot be read: {error.strerror}") from error
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise UsageError(f"'{path}/{name}' is no file any more")
                yield descriptor
            finally:
                os.close(descriptor)

        yield Archive(path, members, opened)


def _scan(beneath: Beneath, folder: str, members: dict[str, Member], shown: str) -> None:
    if folder.count("/") >= _DEEPEST:
        raise UsageError(f"'{shown}' is no folder of an image: it goes too deep", hint="give the folder of an OCI layout")
    inner = []
    descriptor = beneath.folder(os.fsencode(folder))
    with os.scandir(descriptor) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                inner.append(name)
            elif entry.is_symlink():
                target = os.fsencode(os.readlink(entry.name, dir_fd=descriptor))
                members[name] = Link(link_target(name, target, shown))
            elif entry.is_file(follow_symlinks=False):
                members[name] = Regular(0, entry.stat(follow_symlinks=False).st_size)
            else:
                raise UsageError(f"'{shown}/{name}' is a device, fifo or socket", hint="give the folder of an OCI layout")
            if len(members) > MOST_MEMBERS:
                raise UsageError(f"'{shown}' is no folder of an image: it has more than {MOST_MEMBERS} files")
    for name in inner:
        _scan(beneath, name, members, shown)
