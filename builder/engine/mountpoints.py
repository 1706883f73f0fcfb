"""Mount points that leave no trace: where the sandbox mounts, and the stub layer that holds what the image lacks for it.

A mount point that the image does not have would end up in the upper directory, with new times on its parents. A small lower
layer between the image and the upper holds it instead, with copies of the folders above it, since the topmost folder of
an overlay gives its metadata. What lies inside another mount, or below /dev, is made there by the sandbox.
"""

from __future__ import annotations

import errno
import os

from builder.engine.stubs import Stub
from builder.errors import BuildError, DockerfileError
from builder.layers.names import MAX_NAME, MAX_PATH, show
from builder.layers.resolve import resolve
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.errors import Span
    from builder.layers.entry import Entry
    from builder.layers.index import Tree
    from builder.sandbox.spec import Mount, Outcome

FOLDERS = (b"dev", b"proc", b"sys")


class Attachment(NamedTuple):
    """A mount that a RUN asks for. The target of `mount` is absolute, cleaned, and may lead through links of the image."""

    mount: Mount
    is_folder: bool
    span: Span | None = None


class MountPoints(NamedTuple):
    stub: Stub
    """What the image lacks."""
    files: tuple[tuple[str, str], ...]
    """For each file asked for: its name and the absolute path in the image that it has without links."""
    mounts: tuple[tuple[Mount, Span | None], ...] = ()
    """What was asked for, with targets that lead through no link of the image, outer ones before inner ones."""


def find(
    tree: Tree,
    files: tuple[bytes, ...],
    attachments: Sequence[Attachment] = (),
    folders: Sequence[str] = (),
) -> MountPoints:
    """`files` are paths as programs know them (`etc/hosts`). `folders` are made where the image lacks them, unless a mount lies
    there.

    Raises BuildError where the image has something of another kind at a mount point, and where nothing can be mounted.
    """
    stub = _Stub(tree)
    for path in FOLDERS:
        entry = tree.lookup(path)
        if entry is not None and entry.kind != "dir":
            raise BuildError(f"the image's '/{show(path)}' is no folder, so nothing can be mounted there")
        if entry is None:
            stub.add_folder(path)
    found = []
    for path in files:
        real = tree.resolve(path)
        entry = tree.lookup(real)
        if entry is not None and entry.kind not in ("file", "hardlink"):
            raise BuildError(f"the image's '/{show(path)}' is no file, so nothing can be mounted there")
        if entry is None:
            stub.add_file(real)
        found.append((os.fsdecode(path), "/" + os.fsdecode(real)))
    mounts = _place_all(tree, stub, attachments, found) if attachments else ()
    for each in folders:
        _make_folder(tree, stub, each, [mount.target for mount, _ in mounts])
    return MountPoints(stub.value(), tuple(found), mounts)


def _make_folder(tree: Tree, stub: _Stub, path: str, mounts: Sequence[str]) -> None:
    real = tree.resolve(_bytes(path).strip(b"/"))
    where = "/" + real.decode("utf-8", "surrogateescape")
    inside = any(where == mount or where.startswith(mount + "/") for mount in (*mounts, "/dev", "/proc", "/sys"))
    parts = real.split(b"/")
    above = [tree.lookup(b"/".join(parts[:end])) for end in range(1, len(parts) + 1)]
    # Where a file is in the way, the command's own change of folder says so.
    if not inside and above[-1] is None and all(entry is None or entry.kind == "dir" for entry in above):
        stub.add_folder(real)


# What a RUN asks for


def _place_all(
    tree: Tree, stub: _Stub, attachments: Sequence[Attachment], files: list[tuple[str, str]]
) -> tuple[tuple[Mount, Span | None], ...]:
    """As BuildKit, a mount is made before those that lie in it, whatever the order of the flags."""
    places = _Places(tree, files)
    for attachment in sorted(attachments, key=lambda each: tree.resolve(_bytes(each.mount.target))):
        try:
            places.add(attachment, stub)
        except BuildError as error:
            error.span = error.span or attachment.span
            raise
    return tuple(places.done)


def unmounted(outcome: Outcome, mounts: Sequence[tuple[Mount, Span | None]]) -> DockerfileError | None:
    """The error where one of `mounts` could not be put in its place; None where something else went wrong, or nothing."""
    for mount, span in mounts:
        # The server cuts what it says.
        if outcome.failed_at == f"mount {mount.target}"[:500]:
            reason = os.strerror(outcome.exec_error)
            return DockerfileError(
                f"nothing can be mounted at '{mount.target}': {reason[:1].lower()}{reason[1:]}",
                span,
                hint=_HINTS.get(outcome.exec_error, "it lies in another mount of this RUN: choose a target outside of it"),
            )
    return None


_HINTS = {
    errno.EROFS: "it lies in a read-only cache that does not have it: leave 'readonly' out there, or choose another target",
    errno.ENOTDIR: "it lies in another mount of this RUN, which has a file where a folder is needed, or the other way round",
}


class _Places:
    """Where mounts are already: what the image has there is hidden."""

    def __init__(self, tree: Tree, files: list[tuple[str, str]]) -> None:
        self._tree = tree
        # Whether it is a folder that is mounted there.
        self._taken = dict.fromkeys(FOLDERS, True) | {os.fsencode(path[1:]): False for _, path in files}
        self._asked: set[bytes] = set()
        self.done: list[tuple[Mount, Span | None]] = []

    def add(self, attachment: Attachment, stub: _Stub) -> None:
        target = attachment.mount.target
        path = resolve(_bytes(target), self._lookup)
        self._refuse(path, target)
        if self._hidden_by(path) is None:
            self._make(path, target, stub, is_folder=attachment.is_folder)
        self._asked.add(path)
        self._taken[path] = attachment.is_folder
        self.done.append((attachment.mount._replace(target="/" + path.decode("utf-8", "surrogateescape")), attachment.span))

    def _refuse(self, path: bytes, target: str) -> None:
        top = path.split(b"/")[0]
        leads = f"'{target}'" if _bytes(target) == b"/" + path else f"'{target}', which is '/{show(path)}' in the image"
        if not path:
            raise DockerfileError(f"nothing can be mounted at {leads}", hint="name a folder, as target=/cache")
        if len(path) > MAX_PATH - 2 or any(len(name) > MAX_NAME for name in path.split(b"/")):
            raise DockerfileError(f"the target '{target[:60]}...' is longer than a path can be", hint="choose a shorter one")
        if path in FOLDERS or top in (b"proc", b"sys"):
            raise DockerfileError(
                f"nothing can be mounted at {leads}: the sandbox has its own /{show(top)}",
                hint="a mount below /dev is possible, as at /dev/shm" if top == b"dev" else "choose another target",
            )
        if path in self._asked:
            raise DockerfileError(f"two mounts have the target {leads}", hint="give each a target of its own")
        outer = self._hidden_by(path)
        if outer is not None and not self._taken[outer]:
            raise DockerfileError(
                f"nothing can be mounted at {leads}: '/{show(outer)}' is a file there", hint="choose another target"
            )

    def _make(self, path: bytes, target: str, stub: _Stub, *, is_folder: bool) -> None:
        entry = self._tree.lookup(path)
        if entry is not None or path in self._taken:
            if (entry is not None and entry.kind == "dir") != is_folder:
                kinds = ("a folder", "a file") if is_folder else ("a file", "a folder")
                raise DockerfileError(
                    f"{kinds[0]} cannot be mounted at '{target}', where the image has {kinds[1]}", hint="choose another target"
                )
        elif is_folder:
            stub.add_folder(path)
        else:
            stub.add_file(path)

    def _hidden_by(self, path: bytes) -> bytes | None:
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._taken:
                return path
        return None

    def _lookup(self, path: bytes) -> Entry | None:
        """What the image has where no mount hides it."""
        return None if path in self._taken or self._hidden_by(path) is not None else self._tree.lookup(path)


def _bytes(target: str) -> bytes:
    return target.encode("utf-8", "surrogateescape")


class _Stub:
    """What a stub is going to have."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._folders: dict[bytes, Entry | None] = {}
        self._files: list[bytes] = []

    def add_folder(self, path: bytes) -> None:
        """With those above it. Raises BuildError where the image has something else there."""
        parts = path.split(b"/") if path else []
        for end in range(1, len(parts) + 1):
            at = b"/".join(parts[:end])
            entry = self._tree.lookup(at)
            if entry is not None and entry.kind != "dir":
                raise BuildError(f"the image's '/{show(at)}' is no folder, so nothing can be mounted below it")
            self._folders[at] = entry

    def add_file(self, path: bytes) -> None:
        self.add_folder(path.rpartition(b"/")[0])
        self._files.append(path)

    def value(self) -> Stub:
        return Stub(tuple(self._folders.items()), tuple(self._files), self._tree.lookup(b""))
