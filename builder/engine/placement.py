"""Where a COPY puts things: the selection and the file system below make one list of entries, without touching a disk.

BuildKit's rules (fsutil's copy): links in the destination are followed inside the image; missing folders are made 0755,
owned as `--chown` says; a folder that is the destination keeps its metadata, one below it takes the source's; a file goes
into an existing folder; a file replaces a file or a link; what is no folder is never replaced by one, nor the reverse.
"""

from __future__ import annotations

from collections.abc import Callable

from builder.engine.selection import Picked
from builder.errors import BuildError
from builder.layers.entry import Entry, Item
from builder.layers.index import Tree
from builder.layers.names import show
from builder.layers.order import sort_items
from builder.layers.resolve import resolve
from builder.values import NamedTuple

Unpack = Callable[[Item], list[Item] | None]
"""The members of a local archive in archive order, None for a file that is none."""


class Owner(NamedTuple):
    uid: int
    gid: int


def place(
    selection: tuple[Picked, ...],
    below: Tree,
    dest: str,
    *,
    owner: Owner | None,
    mode: int | None,
    now: int,
    unpack: Unpack | None = None,
) -> list[Item]:
    """The layer that the copy makes: canonical items, complete, each path once.

    `dest` is absolute and ends in a slash when it is a folder. `now` (ns) is the true time of the folders that are made.
    Raises BuildError for a clash of files and folders and for several sources that go to what is no folder.
    """
    draft = _Draft(below, owner, now)
    folder = dest.endswith("/")
    path = dest.strip("/").encode("utf-8", "surrogateescape")
    if len(selection) > 1 and not folder and not draft.is_dir(draft.resolve(path)):
        raise BuildError(
            f"several sources need a folder to go to, and '{dest}' is none", hint=f"end it with a slash: '{dest.rstrip('/')}/'"
        )
    for picked in selection:
        members = unpack(picked.items[0]) if unpack and not picked.is_dir else None
        if members is not None:
            _unpack(draft, members, path, owner)
        else:
            _copy(draft, picked, path, folder, owner, mode)
    return sort_items(draft.new.values())


def make_folders(path: str, below: Tree, owner: Owner | None, *, now: int) -> list[Item]:
    """WORKDIR: the folders that are missing on the way to `path`, links followed. Raises BuildError where a file is."""
    draft = _Draft(below, owner, now)
    draft.make(draft.resolve(path.strip("/").encode("utf-8", "surrogateescape")))
    return sort_items(draft.new.values())


class _Draft:
    """The file system below with what the copy has put on it so far."""

    def __init__(self, below: Tree, owner: Owner | None, now: int) -> None:
        self.below = below
        self.now = now
        self.new: dict[bytes, Item] = {}
        self.owner = owner or Owner(0, 0)

    def lookup(self, path: bytes) -> Entry | None:
        item = self.new.get(path)
        return item.entry if item else self.below.lookup(path)

    def is_dir(self, path: bytes) -> bool:
        entry = self.lookup(path)
        return entry is not None and entry.kind == "dir"

    def resolve(self, path: bytes) -> bytes:
        return resolve(path, self.lookup)

    def make(self, path: bytes) -> None:
        """`mkdir -p` of a path without links."""
        parts = path.split(b"/") if path else []
        for end in range(1, len(parts) + 1):
            at = b"/".join(parts[:end])
            entry = self.lookup(at)
            if entry is None:
                self.new[at] = Item(Entry(at, "dir", 0o755, self.owner.uid, self.owner.gid, mtime=self.now))
            elif entry.kind != "dir":
                raise BuildError(f"'/{show(at)}' is no folder", hint="choose another destination, or remove that file first")

    def put(self, item: Item) -> None:
        """A file, link or device at its path; replaces what is there unless that is a folder."""
        entry = self.lookup(item.entry.path)
        if entry is not None and entry.kind == "dir":
            raise BuildError(
                f"'/{show(item.entry.path)}' is a folder and cannot be replaced by a file",
                hint="choose another name, or remove the folder first",
            )
        self.new[item.entry.path] = item


def _copy(draft: _Draft, picked: Picked, dest: bytes, folder: bool, owner: Owner | None, mode: int | None) -> None:
    if folder:
        draft.make(draft.resolve(dest))
    elif b"/" in dest:
        draft.make(draft.resolve(dest.rpartition(b"/")[0]))
    at = draft.resolve(dest)
    if picked.is_dir:
        draft.make(at.rpartition(b"/")[0])
        top = draft.lookup(at)
        if top is not None and top.kind != "dir":
            raise BuildError(f"'/{show(at)}' is a file and cannot be replaced by a folder", hint="choose another destination")
        if top is None:
            _put_dir(draft, picked.items[0].entry, at, owner, mode)
        rest = picked.items[1:]
    else:
        if draft.is_dir(at):
            at = _join(at, picked.name)
        rest = picked.items
    owners: dict[bytes, bytes] = {}
    for item in rest:
        path = _join(at, item.entry.path) if item.entry.path else at
        entry = _dressed(item.entry, path, owner, mode)
        if entry.kind == "dir":
            _put_dir(draft, item.entry, path, owner, mode)
        elif entry.kind == "hardlink":
            draft.put(Item(entry._replace(link=owners[item.entry.link])))
        else:
            owners[item.entry.path] = path
            draft.put(Item(entry, item.source))


def _put_dir(draft: _Draft, source: Entry, path: bytes, owner: Owner | None, mode: int | None) -> None:
    there = draft.lookup(path)
    if there is not None and there.kind != "dir":
        raise BuildError(f"'/{show(path)}' is a file and cannot be replaced by a folder", hint="choose another destination")
    draft.new[path] = Item(_dressed(source, path, owner, mode))


def _dressed(entry: Entry, path: bytes, owner: Owner | None, mode: int | None) -> Entry:
    if owner is not None:
        entry = entry._replace(uid=owner.uid, gid=owner.gid)
    if mode is not None and entry.kind != "symlink":
        entry = entry._replace(mode=mode)
    return entry._replace(path=path)


def _unpack(draft: _Draft, members: list[Item], dest: bytes, owner: Owner | None) -> None:
    """Docker's way with a local archive: the destination is a folder, members replace what is there, a folder's metadata
    is the archive's, names run through links inside the image."""
    root = draft.resolve(dest)
    draft.make(root)
    for item in members:
        entry = item.entry
        if entry.kind in ("whiteout", "opaque"):
            raise BuildError(f"'{show(entry.path)}' in the archive has a name that layers keep for whiteouts")
        path = _member_path(draft, _join(root, entry.path) if entry.path else root)
        parent = path.rpartition(b"/")[0]
        draft.make(parent)
        there = draft.lookup(path)
        if owner is not None:
            entry = entry._replace(uid=owner.uid, gid=owner.gid)
        if entry.kind == "dir":
            if there is not None and there.kind != "dir":
                draft.new.pop(path, None)
        elif there is not None and there.kind == "dir":
            _remove_dir(draft, path)
        if entry.kind == "hardlink":
            _put_hardlink(draft, entry, path, _member_path(draft, _join(root, entry.link)))
        else:
            draft.new[path] = item._replace(entry=entry._replace(path=path))


def _member_path(draft: _Draft, path: bytes) -> bytes:
    folder, slash, name = path.rpartition(b"/")
    return _join(draft.resolve(folder), name) if slash else name


def _put_hardlink(draft: _Draft, entry: Entry, path: bytes, target: bytes) -> None:
    owner = draft.new.get(target)
    if owner is None or owner.entry.kind not in ("file", "hardlink"):
        raise BuildError(
            f"the archive's hard link '{show(entry.path)}' names '{show(entry.link)}', which the archive does not hold",
            hint="pack the archive with the file that the link names",
        )
    first = owner.entry.link if owner.entry.kind == "hardlink" else target
    draft.new[path] = Item(owner.entry._replace(path=path, kind="hardlink", link=first))


def _remove_dir(draft: _Draft, path: bytes) -> None:
    """A file of an archive where a folder was: the folder goes, as with Docker's untar."""
    for below in [key for key in draft.new if key.startswith(path + b"/")]:
        del draft.new[below]


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
