"""The texts of a build, a Dockerfile and a .dockerignore, from files of this machine and from trees."""

from __future__ import annotations

import errno
import os
import stat

from builder.context.ignoring import NothingIgnored
from builder.dockerfile.text import decode
from builder.errors import UsageError, did_you_mean
from builder.layers.names import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.context.ignoring import Ignore
    from builder.engine.sources import SourceTree
    from builder.errors import SourceFile

DOCKERFILE_LIMIT = 64 << 20
"""Bytes."""
LOCK_LIMIT = 4 << 20
"""The same."""
NAMES = ("Dockerfile", "Containerfile")
"""What a Dockerfile is called without -f."""


def read_dockerfile(context: str, named: str) -> SourceFile:
    """The Dockerfile at the path `named`, or without one in the folder `context`. Raises UsageError when there is none,
    DockerfileError when it is no text."""
    candidates = [named] if named else [os.path.join(context, name) for name in NAMES]
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
    if named and os.path.islink(named):
        raise UsageError(
            f"the Dockerfile '{named}' is a link to '{os.readlink(named)}', which is not there", hint="name the file itself"
        )
    if named:
        inside = os.path.join(context, named)
        if os.path.isfile(inside):
            near = f"-f counts from the current folder, not from the context: -f {inside}"
        raise UsageError(f"there is no Dockerfile at '{named}'", hint=near)
    raise UsageError(
        f"there is no Dockerfile in the build context '{context}'",
        hint=f"{near} name it with -f" if near else "name it with -f, or run pybuild in the folder that holds it",
    )


def read_lock(path: str) -> SourceFile:
    """The lock file at `path`. Raises UsageError where there is none, DockerfileError when it is no text."""
    try:
        # What is no file is not waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(
                    f"the lock file '{os.path.normpath(path)}' is no file", hint="remove it, and run `pybuild lock`"
                )
            data = file.read(LOCK_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"there is no lock file '{os.path.normpath(path)}'", hint="`pybuild lock`, with the same flags, writes it"
        ) from None
    except (PermissionError, IsADirectoryError) as error:
        raise UsageError(f"the lock file '{os.path.normpath(path)}' cannot be read: {error.strerror}") from None
    if len(data) > LOCK_LIMIT:
        # A part of it would be a lock that lacks names.
        raise UsageError(
            f"the lock file '{os.path.normpath(path)}' is larger than {LOCK_LIMIT >> 20} MiB",
            hint="that is no lock: remove it, and run `pybuild lock`",
        )
    return decode(os.path.normpath(path), data)


def dockerfile_inside(tree: SourceTree, context: str, named: str) -> SourceFile:
    """The same inside of a tree; links are followed there alone. `context` is what messages call it."""
    for path in [named] if named else NAMES:
        data = read_inside(tree, path)
        if data is not None:
            return decode(os.path.normpath(path.strip("/")), data)
    for path in [named] if named else NAMES:
        entry = tree.lookup(tree.resolve(os.fsencode(path), follow_last=False))
        if entry is not None and entry.kind == "symlink":
            raise UsageError(
                f"the Dockerfile '{path}' in {context} is a link to '{show(entry.link)}', where nothing is",
                hint="links are followed inside of the context alone",
            )
    folder, _, name = (named or NAMES[0]).rpartition("/")
    at = tree.lookup(tree.resolve(os.fsencode(folder)))
    known = [os.fsdecode(child) for child in tree.children(at.path)] if at is not None and at.kind == "dir" else []
    near = did_you_mean(name, known)
    if named:
        raise UsageError(f"there is no Dockerfile '{named}' in {context}", hint=near or "-f names a path inside of the context")
    raise UsageError(f"there is no Dockerfile in {context}", hint=f"{near} name it with -f" if near else "name it with -f")


def read_inside(tree: SourceTree, path: str) -> bytes | None:
    """The first `DOCKERFILE_LIMIT` bytes of a file of the tree; None where nothing is there. Raises UsageError for what is no
    file."""
    from builder.layers.source import open_source

    entry = tree.lookup(tree.resolve(os.fsencode(path)))
    if entry is None:
        return None
    if entry.kind not in ("file", "hardlink"):
        raise UsageError(f"'{path}' of the build context is no file", hint="name the file that is meant")
    data = bytearray()
    for chunk in open_source(tree.source(entry)):
        data += chunk
        if len(data) >= DOCKERFILE_LIMIT:
            break
    return bytes(data[:DOCKERFILE_LIMIT])


def check_folder(shown: str, path: str) -> None:
    """Raises UsageError where `path` is no folder of this machine."""
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
    try:
        known = sorted(os.listdir(folder or "."))
    except OSError:  # No folder, or one that others may list: then nothing is near.
        return None
    return did_you_mean(os.path.join(folder, name), [os.path.join(folder, other) for other in known])


def ignore_beside(dockerfile: str) -> Ignore | None:
    """`<Dockerfile>.dockerignore` beside a Dockerfile of this machine; None where there is none."""
    path = f"{dockerfile}.dockerignore"
    try:
        with open(path, "rb") as file:
            return ignore_of(file.read(DOCKERFILE_LIMIT), os.path.normpath(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def ignore_in(context: str) -> Ignore:
    """The .dockerignore of a folder of this machine. Where it is a link, that is followed inside of the folder alone."""
    path = os.path.join(context, ".dockerignore")
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return NothingIgnored()
    except OSError as error:
        # So says open(2) of a link with O_NOFOLLOW, and ENXIO of a socket.
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        from builder.context.directory import DirectoryContext  # for a link

        tree = DirectoryContext(context, NothingIgnored(), lambda _: None)
        try:
            data = read_inside(tree, ".dockerignore")
        finally:
            tree.close()
        return NothingIgnored() if data is None else ignore_of(data, os.path.normpath(path))
    # Python opens no folder as a file.
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise UsageError(f"'{path}' is no file", hint="name the patterns in a file, or remove it")
    with open(file, "rb") as opened:
        return ignore_of(opened.read(DOCKERFILE_LIMIT), os.path.normpath(path))


def ignore_of(data: bytes, name: str) -> Ignore:
    """The rules of a .dockerignore's text. Raises DockerfileError."""
    from builder.dockerfile.ignore import Matcher

    return Matcher.parse(decode(name, data).text, name)
