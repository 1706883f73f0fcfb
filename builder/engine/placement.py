"""Where a COPY puts things: the selection and the file system below make one list of entries, without touching a disk.

BuildKit's rules (fsutil's copy): links in the destination are followed inside the image; missing folders are made 0755,
owned as `--chown` says; of a folder only the contents are copied, so that the destination keeps its metadata, or is made
0755, while a folder inside takes the source's; a file goes into an existing folder; a file replaces a file or a link; what
is no folder is never replaced by one, nor the reverse. ADD unpacks an archive as in a chroot at the destination.
"""

from __future__ import annotations

from collections.abc import Callable

from builder.context.items import FolderItems
from builder.engine.selection import Picked
from builder.engine.sources import TreeItems
from builder.errors import BuildError
from builder.layers import settle
from builder.layers.draft import Draft, Node, join
from builder.layers.entry import Entry, Item
from builder.layers.names import MAX_PATH, show
from builder.values import NamedTuple, new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.layers.entry import Source
    from builder.layers.index import Tree

Unpack = Callable[[Picked], list[Item] | None]
"""The members of a local archive in archive order, None for a file that is none."""


class Owner(NamedTuple):
    uid: int
    gid: int


class Dress(NamedTuple):
    """What the instruction makes of metadata."""

    owner: Owner | None
    mode: int | None
    now: int
    """The true time (ns) of the folders that are made."""

    def folder(self, path: bytes) -> Entry:
        """A folder on the way to the destination; `--chmod` is for it too (moby/buildkit, testCopyChmod)."""
        uid, gid = self.owner or (0, 0)
        return Entry(path, "dir", 0o755 if self.mode is None else self.mode, uid, gid, mtime=self.now)

    def copied(self, entry: Entry, path: bytes) -> Entry:
        # Written out: `_replace` costs three times as much, and there may be many files.
        _, kind, mode, uid, gid, size, digest, link, rdev, xattrs, mtime = entry
        if self.owner is not None:
            uid, gid = self.owner
        if self.mode is not None and kind != "symlink":
            mode = self.mode
        return new(Entry, (path, kind, mode, uid, gid, size, digest, link, rdev, xattrs, mtime))

    def owned(self, entry: Entry) -> Entry:
        return entry if self.owner is None else entry._replace(uid=self.owner.uid, gid=self.owner.gid)


def place(
    selection: tuple[Picked, ...],
    below: Tree,
    dest: str,
    dress: Dress,
    *,
    unpack: Unpack | None = None,
    lower_source: Callable[[bytes], Source] | None = None,
) -> list[Item]:
    """The layer that the copy makes: canonical items, complete, each path once.

    `dest` is absolute and ends in a slash when it is a folder. `lower_source` gives the content of a file below, for a hard
    link of an archive that names it. Raises BuildError for a clash of files and folders and for several sources that go to
    what is no folder.
    """
    draft = Draft(below)
    folder = dest.endswith("/")
    path = dest.strip("/").encode("utf-8", "surrogateescape")
    if not selection:
        # All was excluded: what a copy begins with is done all the same.
        draft.make_folders(draft.resolve(path if folder else path.rpartition(b"/")[0]), dress.folder)
    for picked in selection:
        members = unpack(picked) if unpack and picked.unpack and not picked.is_dir else None
        if members is not None:
            _unpack(draft, members, path, dress)
        elif len(selection) > 1 and not folder and not picked.is_dir and not _is_dir(draft, draft.resolve(path)):
            raise BuildError(
                f"several sources need a folder to go to, and '{dest}' is none",
                hint=f"end it with a slash: '{dest.rstrip('/')}/'",
            )
        else:
            _copy(draft, picked, path, folder, dress)
    items = draft.result()
    return settle.fill(items, lower_source) if lower_source else items


class Alone:
    """The items of a folder that goes where nothing is, one at least and none of them a hard link. Each is made when it is
    asked for, every time anew: there may be many."""

    def __init__(self, folders: list[Item], picked: Picked, at: bytes, dress: Dress) -> None:
        self._folders = folders
        self._picked = picked
        self._at = at
        self._dress = dress

    def __iter__(self) -> Iterator[Item]:
        yield from self._folders
        # Those of a selection are in order, and stay so below one folder.
        at, copied = self._at, self._dress.copied
        for entry, source in self._picked.inside():
            yield new(Item, (copied(entry, join(at, entry.path)), source))


def place_alone(selection: tuple[Picked, ...], below: Tree, dest: str, dress: Dress) -> Alone | None:
    """What `place` gives, where it is so simple. Raises as `place`."""
    if len(selection) != 1 or not selection[0].is_dir or selection[0].ways:
        return None
    draft = Draft(below)
    path = dest.strip("/").encode("utf-8", "surrogateescape")
    draft.make_folders(draft.resolve(path if dest.endswith("/") else path.rpartition(b"/")[0]), dress.folder)
    at = draft.resolve(path)
    _make_top(draft, at, dress)
    items = selection[0].items
    # No folder, be it of the host or of a layer, has a name that is too long for one.
    is_simple = isinstance(items, FolderItems | TreeItems) and not items.has_links and items.longest <= MAX_PATH - len(at) - 1
    if not is_simple or below.children(at):
        return None
    folders = draft.result()
    return Alone(folders, selection[0], at, dress) if folders or len(items) > 1 else None


def make_folders(path: str, below: Tree, owner: Owner | None, *, now: int) -> list[Item]:
    """WORKDIR: the folders that are missing on the way to `path`, links followed. Raises BuildError where a file is."""
    draft = Draft(below)
    draft.make_folders(draft.resolve(path.strip("/").encode("utf-8", "surrogateescape")), Dress(owner, None, now).folder)
    return draft.result()


def _copy(draft: Draft, picked: Picked, dest: bytes, folder: bool, dress: Dress) -> None:
    draft.make_folders(draft.resolve(dest if folder else dest.rpartition(b"/")[0]), dress.folder)
    at = draft.resolve(dest)
    if picked.is_dir:
        _make_top(draft, at, dress)
    else:
        draft.make_folders(at.rpartition(b"/")[0], dress.folder)
        if _is_dir(draft, at):
            at = join(at, picked.name)
    owners: dict[bytes, Node] = {}
    for item in picked.inside() if picked.is_dir else picked.items:
        path = join(at, item.entry.path)
        entry = dress.copied(item.entry, path)
        if entry.kind == "dir":
            _check_folder(draft, path)
            there = draft.lookup(path) if item.entry.path in picked.ways else None
            if there is None or there.mode != entry.mode:
                draft.put(path, Node(there._replace(mode=entry.mode) if there else entry, None))
            continue
        _check_file(draft, path)
        node = owners[entry.link] if entry.kind == "hardlink" else Node(entry, item.source)
        owners[item.entry.path] = node
        draft.put(path, node)


def _make_top(draft: Draft, path: bytes, dress: Dress) -> None:
    """The folder that the contents of a folder go to."""
    _check_folder(draft, path)
    if draft.lookup(path) is None:
        draft.make_folders(path.rpartition(b"/")[0], dress.folder)
        draft.put(path, Node(dress.folder(path), None))


def _unpack(draft: Draft, members: list[Item], dest: bytes, dress: Dress) -> None:
    """`--chown` owns all that the archive names, and `--chmod` has no say in it (BuildKit's `unpack`)."""
    root = draft.resolve(dest)
    draft.make_folders(root, dress._replace(mode=None).folder)
    owned = (item._replace(entry=dress.owned(item.entry)) for item in members)
    settle.unpack(owned, draft, root, root_entry=False, follow_folders=True)


def _is_dir(draft: Draft, path: bytes) -> bool:
    entry = draft.lookup(path)
    return entry is not None and entry.kind == "dir"


def _check_folder(draft: Draft, path: bytes) -> None:
    there = draft.lookup(path)
    if there is not None and there.kind != "dir":
        what = "link" if there.kind == "symlink" else "file"
        raise BuildError(f"'/{show(path)}' is a {what} and cannot be replaced by a folder", hint="choose another destination")


def _check_file(draft: Draft, path: bytes) -> None:
    if _is_dir(draft, path):
        raise BuildError(
            f"'/{show(path)}' is a folder and cannot be replaced by a file",
            hint="choose another name, or remove the folder first",
        )
