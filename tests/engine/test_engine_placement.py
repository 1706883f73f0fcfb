"""Where COPY and ADD put things, against a copier and an unpacker that do the same in a chroot, where the kernel resolves the
links. Both are written from BuildKit's own (fsutil copy; llbsolver/file unpack), step by step, with os calls."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from builder.cancellation import NEVER
from builder.context.directory import DirectoryContext
from builder.context.ignoring import NothingIgnored
from builder.dockerfile.ignore import Matcher
from builder.engine import selection
from builder.engine.placement import Alone, Dress, Owner, make_folders, place, place_alone
from builder.engine.roots import Root, Roots
from builder.engine.selection import Picked, select
from builder.engine.sources import StackTree, below
from builder.engine.work import Worker
from builder.errors import BuildError, Span
from builder.layers.entry import BytesSource, Entry, FileSource, Item
from builder.layers.index import Tree
from builder.layers.scan import scan
from builder.layers.tarreader import read_tar
from builder.layers.tarwriter import write_layer
from builder.plan.modes import mode as parse_mode
from builder.plan.steps import CopySource, CopyStep, StageOrigin
from builder.store.store import Store
from tests.engine.engine_chroot import Planted, inside, plant

SPAN = Span(1, 1, 1, 2)
NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.sampled_from([b"a", b"/b", b"../c", b"/a/../b/c", b"nowhere/x", b"../../../d", b".", b"/", b"c"])
NODES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=3), st.sampled_from([0o644, 0o4755])),
    st.tuples(st.just("dir"), st.just(b""), st.sampled_from([0o755, 0o700])),
    st.tuples(st.just("link"), TARGETS, st.just(0)),
    st.tuples(st.just("hard"), st.just(b""), st.just(0)),
    st.tuples(st.just("fifo"), st.just(b""), st.just(0o600)),
)
TREES = st.dictionaries(PATHS, NODES, max_size=8)
OWNERS = st.none() | st.just(Owner(7, 8))
DESTINATIONS = st.builds(lambda path, slash: f"/{path}{slash}", PATHS, st.sampled_from(["", "/"])) | st.just("/")
DRESSES = st.builds(Dress, OWNERS, st.none() | st.sampled_from([0o640, 0o1777]), st.just(10**18))

Seen = dict[bytes, tuple[object, ...]]


def index(items: Iterable[Item]) -> Tree:
    """The merged tree of one layer, with digests."""
    tree = Tree()
    tree.apply(write_layer(items, None).entries, 0)
    return tree


def seen(tree: Tree) -> Seen:
    """All but times."""
    return {e.path: (e.kind, e.mode, e.uid, e.gid, e.size, e.digest, e.link) for e in tree.walk(b"") if e.path}


def found(root: Path, without: bytes = b"\0") -> Seen:
    items = [item for item in scan(str(root), owners="keep") if item.entry.path]
    return seen(index(item for item in items if item.entry.path.split(b"/")[0] != without))


def merged(below: Tree, items: list[Item]) -> Seen:
    below.apply(write_layer(items, None).entries, 1)
    return seen(below)


def make(path: str, uid: int = 0, gid: int = 0, mode: int | None = None) -> None:
    """mkdir -p, 0755 unless told; never through what is no folder."""
    if os.path.isdir(path):
        return
    if os.path.lexists(path):
        raise NotADirectoryError(20, "no folder")
    make(os.path.dirname(path), uid, gid, mode)
    os.mkdir(path)
    os.chmod(path, 0o755 if mode is None else mode)
    os.chown(path, uid, gid)


def copy_on_disk(source: str, name: str, dest: str, dress: Dress) -> None:
    owner = dress.owner or (0, 0)
    linked: dict[int, str] = {}

    def copy(start: str, path: str, *, top: bool) -> None:
        info = os.lstat(start)
        there = os.lstat(path) if os.path.lexists(path) else None
        if stat.S_ISDIR(info.st_mode):
            if there is None:
                os.mkdir(path)
            elif not stat.S_ISDIR(there.st_mode):
                raise NotADirectoryError(20, "no folder")
            for entry in sorted(os.listdir(start)):
                copy(f"{start}/{entry}", f"{path}/{entry}", top=False)
            if top:
                return
        elif there is not None:
            os.unlink(path)
        if stat.S_ISREG(info.st_mode):
            if info.st_ino in linked:
                os.link(linked[info.st_ino], path)
                return
            linked[info.st_ino] = path
            shutil.copyfile(start, path)
        elif stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(start), path)
        elif stat.S_ISFIFO(info.st_mode):
            os.mkfifo(path)
        os.chown(path, *owner, follow_symlinks=False)
        if not stat.S_ISLNK(info.st_mode):
            os.chmod(path, stat.S_IMODE(info.st_mode) if dress.mode is None else dress.mode)

    # moby/buildkit, testCopyChmod and issue 4945: --chmod is for the folders that are made as well.
    make(os.path.realpath(os.path.dirname(dest)), *owner, dress.mode)
    at = os.path.realpath(dest)
    if os.path.isdir(source):
        if not os.path.lexists(at):
            make(at, *owner, dress.mode)
        copy(source, at, top=True)
    else:
        make(os.path.dirname(at), *owner, dress.mode)
        copy(source, f"{at}/{name}" if os.path.isdir(at) else at, top=True)


@settings(max_examples=100, deadline=None)
@given(below=TREES, source=TREES, take=NAMES | st.just("."), dest=DESTINATIONS, dress=DRESSES)
@example({"a": ("link", b"/b/c", 0)}, {"x": ("file", b"1", 0o644)}, ".", "/a/", Dress(None, None, 0))
@example({"b": ("dir", b"", 0o700)}, {"b": ("dir", b"", 0o711)}, ".", "/", Dress(None, None, 0))
@example({}, {"b/a": ("file", b"1", 0o600), "b-a": ("link", b"c", 0)}, ".", "/new/one/", Dress(Owner(7, 8), 0o640, 0))
def test_copy_does_what_the_copier_does(below: Planted, source: Planted, take: str, dest: str, dress: Dress) -> None:
    with tempfile.TemporaryDirectory(prefix="place-") as folder:
        root = Path(folder, "root")
        plant(root, below)
        tree = index(scan(str(root), owners="keep"))
        plant(root / "source", source)
        # A link that is named as a source leads elsewhere in a chroot: see the tests of the selection.
        assume(os.path.lexists(root / "source" / take) and not (root / "source" / take).is_symlink())
        sources = DirectoryContext(str(root / "source"), Matcher.parse("", ""), pytest.fail)
        message = ""
        ours: Seen = {}
        try:
            picked = select((CopySource(take, Span(1, 1, 1, 2)),), sources, where="it", keyword="COPY")
            items = place(picked, tree, dest, dress)
            # The way of many files, where it is one for these: nothing less, and in this order.
            alone = place_alone(picked, tree, dest, dress)
            assert alone is None or list(alone) == items
            ours = merged(tree, items)
        except BuildError as error:
            message = error.message
        finally:
            sources.close()
        # realpath(3) takes a loop for a name; the kernel does not, and we do not.
        assume("symbolic links" not in message)
        start = "/source" if take == "." else f"/source/{take}"
        said = inside(root, lambda: copy_on_disk(start, take, dest, dress))
        assert bool(said) == bool(message), (said, message)
        if not said:
            assert ours == found(root, b"source")


MEMBERS = st.lists(st.tuples(PATHS, NODES, PATHS), max_size=7)
KINDS = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hard": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def pack(path: Path, members: list[tuple[str, tuple[str, bytes, int], str]]) -> list[tarfile.TarInfo]:
    """As archivers do it: the header of a hard link repeats the metadata of what it names."""
    infos: dict[str, tarfile.TarInfo] = {}
    packed = []
    with tarfile.open(path, "w") as archive:
        for number, (name, (kind, data, mode), target) in enumerate(members, 50):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid = KINDS[kind], mode or 0o640, number, number
            if kind == "hard" and target in infos:
                info.mode, info.uid, info.gid = infos[target].mode, infos[target].uid, infos[target].gid
            info.linkname = os.fsdecode(data) if kind == "link" else target if kind == "hard" else ""
            info.size = len(data) if kind == "file" else 0
            archive.addfile(info, BytesIO(data))
            infos[name] = info
            packed.append(info)
    return packed


def unpack_on_disk(members: list[tarfile.TarInfo], contents: list[bytes], owner: Owner | None) -> None:
    """In the chroot of the destination. A hard link to a file that was there before is a copy: a layer cannot say otherwise."""
    brought: set[int] = set()

    def resolved(name: str) -> str:
        folder, _, last = name.rpartition("/")
        return os.path.join(os.path.realpath("/" + folder), last)

    def create(member: tarfile.TarInfo, data: bytes, path: str) -> bool:
        """Whether the metadata is the member's."""
        if member.isdir():
            if not os.path.isdir(path):
                os.mkdir(path)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.isfifo():
            os.mkfifo(path)
        elif member.isreg():
            Path(path).write_bytes(data)
        else:
            target = resolved(member.linkname)
            info = os.lstat(target)
            if stat.S_ISDIR(info.st_mode):
                raise IsADirectoryError(21, "a folder")
            if info.st_ino in brought and stat.S_ISREG(info.st_mode):
                os.link(target, path)
            elif stat.S_ISREG(info.st_mode):
                shutil.copyfile(target, path)
            else:
                os.symlink(os.readlink(target), path) if stat.S_ISLNK(info.st_mode) else os.mkfifo(path)
                os.chown(path, info.st_uid, info.st_gid, follow_symlinks=False)
                if not stat.S_ISLNK(info.st_mode):
                    os.chmod(path, stat.S_IMODE(info.st_mode))
                return False
        return True

    for member, data in zip(members, contents, strict=True):
        path = os.path.realpath("/" + member.name) if member.isdir() else resolved(member.name)
        make(os.path.dirname(path))
        if os.path.lexists(path) and not (member.isdir() and os.path.isdir(path)):
            shutil.rmtree(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)
        if create(member, data, path):
            os.chown(path, *(owner or (member.uid, member.gid)), follow_symlinks=False)
            if not os.path.islink(path):
                os.chmod(path, member.mode)
        brought.add(os.lstat(path).st_ino)


@settings(max_examples=100, deadline=None)
@given(below=TREES, members=MEMBERS, owner=OWNERS, deep=st.booleans())
@example(
    {"a": ("dir", b"", 0o755), "a/b": ("file", b"1", 0o644)},
    [("a", ("file", b"2", 0o644), ""), ("a", ("dir", b"", 0o700), "")],
    None,
    True,
)
def test_add_does_what_the_unpacker_does(
    below: Planted, members: list[tuple[str, tuple[str, bytes, int], str]], owner: Owner | None, deep: bool
) -> None:
    # A hard link to what it takes the place of is an error there; here the lower file is still at hand.
    assume(not any(node[0] == "hard" and f"{target}/".startswith(f"{name}/") for name, node, target in members))
    with tempfile.TemporaryDirectory(prefix="add-") as folder:
        root = Path(folder, "root")
        dest = root / "dest" if deep else root
        if deep:
            root.mkdir()
        plant(dest, below)
        dest.chmod(0o755)
        tree = index(scan(str(root), owners="keep"))
        infos = pack(Path(folder, "tar"), members)
        items = list(read_tar(str(Path(folder, "tar")), whiteouts=False))
        file = Item(Entry(b"", "file"), BytesSource(b""))
        message = ""
        ours: Seen = {}
        try:
            placed = place(
                (Picked(b"tar", (file,)),),
                tree,
                "/dest" if deep else "/",
                Dress(owner, 0o777, 0),
                unpack=lambda _: items,
                lower_source=lambda path: FileSource(str(root), path),
            )
            ours = merged(tree, placed)
        except BuildError as error:
            message = error.message
        assume("symbolic links" not in message)
        said = inside(dest, lambda: unpack_on_disk(infos, [node[1] for _, node, _ in members], owner))
        assert bool(said) == bool(message), (said, message)
        if not said:
            assert ours == found(root)


def tree_of(*entries: Entry) -> Tree:
    tree = Tree()
    tree.apply(entries, 0)
    return tree


BELOW = (
    Entry(b"bin", "symlink", 0o777, link=b"usr/bin"),
    Entry(b"file", "file", 0o644, size=1),
    Entry(b"usr", "dir", 0o755),
    Entry(b"usr/bin", "dir", 0o711, 3, 4),
)


def test_the_folders_of_workdir() -> None:
    assert make_folders("/usr/bin", tree_of(*BELOW), Owner(1, 2), now=5) == []
    assert make_folders("/bin/", tree_of(*BELOW), None, now=5) == []
    assert make_folders("/", tree_of(*BELOW), None, now=5) == []
    made = make_folders("/bin/../new/deep", tree_of(*BELOW), Owner(1, 2), now=5)
    assert [item.entry for item in made] == [
        Entry(b"usr/new", "dir", 0o755, 1, 2, mtime=5),
        Entry(b"usr/new/deep", "dir", 0o755, 1, 2, mtime=5),
    ]
    with pytest.raises(BuildError, match="'/file' is no folder"):
        make_folders("/file/x", tree_of(*BELOW), None, now=5)


def test_several_archives_see_one_another() -> None:
    """A file of the first, taken for a folder by the second, hides what lies below; a link of the second names a file of the
    first."""
    below = tree_of(Entry(b"d", "dir", 0o755), Entry(b"d/old", "file", 0o644, size=3))
    archives = {
        b"one": [
            Item(Entry(b"d", "file", 0o644, size=1), BytesSource(b"1")),
            Item(Entry(b"first", "file", 0o600, 5, 6, size=5), BytesSource(b"first")),
        ],
        b"two": [
            Item(Entry(b"d", "dir", 0o700)),
            Item(Entry(b"d/new", "file", 0o644, size=1), BytesSource(b"2")),
            Item(Entry(b"same", "hardlink", 0o600, 5, 6, link=b"first")),
        ],
    }

    def unpack(picked: Picked) -> list[Item] | None:
        return archives[picked.name]

    picked = tuple(Picked(name, (Item(Entry(b"", "file"), BytesSource(b"")),)) for name in archives)
    refuse: Callable[[bytes], FileSource] = pytest.fail  # type: ignore[assignment]  # nothing below is needed
    items = place(picked, below, "/", Dress(None, None, 0), unpack=unpack, lower_source=refuse)
    assert [(item.entry.path, item.entry.kind, item.entry.link) for item in items] == [
        (b"d", "dir", b""),
        (b"d/old", "whiteout", b""),
        (b"d/new", "file", b""),
        (b"first", "file", b""),
        (b"same", "hardlink", b"first"),
    ]


def test_a_hard_link_to_a_link_is_a_link() -> None:
    link = Entry(b"dest/l", "symlink", 0o777, link=b"/t")
    below = tree_of(Entry(b"dest", "dir", 0o755), link, link._replace(path=b"dest/m", kind="hardlink", link=b"dest/l"))
    members = [Item(Entry(b"m/x", "file", 0o644, size=1), BytesSource(b"1"))]
    picked = (Picked(b"tar", (Item(Entry(b"", "file"), BytesSource(b"")),)),)
    items = place(picked, below, "/dest", Dress(None, None, 0), unpack=lambda _: members)
    assert [item.entry.path for item in items] == [b"dest/t", b"dest/t/x"]
    copied = (Picked(b"x", (Item(members[0].entry._replace(path=b""), members[0].source),)),)
    assert [item.entry.path for item in place(copied, below, "/dest/m/", Dress(None, None, 0))] == [b"t", b"t/x"]


def test_many_sources_need_a_folder() -> None:
    file = Item(Entry(b"", "file", 0o644, size=1), BytesSource(b"1"))
    picked = (Picked(b"x", (file,)), Picked(b"y", (file,)))
    for dest in ("/usr", "/bin", "/new/", "/"):
        paths = [item.entry.path for item in place(picked, tree_of(*BELOW), dest, Dress(None, None, 0))]
        assert [path.rpartition(b"/")[2] for path in paths if path != b"new"] == [b"x", b"y"]
    for dest in ("/file", "/new", "/usr/new"):
        with pytest.raises(BuildError, match="several sources need a folder to go to"):
            place(picked, tree_of(*BELOW), dest, Dress(None, None, 0))


def test_one_folder_that_goes_where_nothing_is_needs_no_draft(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    picked = (selection.folder(b"", DirectoryContext(str(tmp_path), NothingIgnored(), pytest.fail)),)
    dress = Dress(None, None, 0)
    alone = place_alone(picked, Tree(), "/new/", dress)
    assert alone is not None and list(alone) == place(picked, Tree(), "/new/", dress)
    assert [item.entry.path for item in alone] == [b"new", b"new/x"]
    # Whatever asks for more does not get it so.
    below = tree_of(Entry(b"new", "dir", 0o755), Entry(b"new/x", "symlink", 0o777, link=b"y"))
    assert place_alone(picked, below, "/new/", dress) is None
    assert place_alone((*picked, *picked), Tree(), "/new/", dress) is None
    assert place_alone((picked[0]._replace(items=tuple(picked[0].items)),), Tree(), "/new/", dress) is None
    os.link(tmp_path / "x", tmp_path / "y")
    linked = (selection.folder(b"", DirectoryContext(str(tmp_path), NothingIgnored(), pytest.fail)),)
    assert place_alone(linked, Tree(), "/new/", dress) is None
    far = "/new" * 1023
    assert place_alone(picked, Tree(), far, dress) is not None
    assert place_alone(picked, Tree(), f"{far}/", dress) is not None
    assert place_alone(picked, Tree(), f"{far}/abc", dress) is None


@settings(max_examples=200, deadline=None)
@given(TREES, st.sampled_from([".", "a", "b", "a/b"]), DESTINATIONS, DRESSES)
def test_many_files_of_a_stage_are_placed_as_few_are(files: Planted, take: str, dest: str, dress: Dress) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder, "root"), files)
        tree = index(scan(f"{folder}/root", owners="keep"))
    stack = StackTree(tree, lambda entry, layer: BytesSource(b"%b of %d" % (entry.path, layer)))
    try:
        picked = select((CopySource(take, Span(1, 1, 1, 2)),), stack, where="it", keyword="COPY")
        # One that is made of nothing but entries.
        eager = tuple(one._replace(items=tuple(one.items)) for one in picked)
        few = place(eager, Tree(), dest, dress)
    except BuildError:
        return
    alone = place_alone(picked, Tree(), dest, dress)
    links = any(entry.kind == "hardlink" for entry in below(stack.resolve(take.encode()), stack))
    assert (alone is None) == (not picked[0].is_dir or links or not few)
    assert alone is None or list(alone) == few
    assert place(picked, Tree(), dest, dress) == few


def test_what_was_taken_of_a_stage_stays_when_its_tree_grows() -> None:
    """`Roots` makes the tree of a stack of the one that lies below it."""
    tree = tree_of(Entry(b"src", "dir", 0o755), Entry(b"src/one", "file", 0o644, 1, 2, 3, "0" * 64))
    stack = StackTree(tree, lambda entry, layer: BytesSource(b"%b of %d" % (entry.path, layer)))
    picked = selection.folder(b"src", stack)
    before = tuple(picked.items)
    tree.apply([Entry(b"src/one", "file", 0o600), Entry(b"src/two", "file", 0o600)], 1)
    assert tuple(picked.items) == before
    assert [(item.entry.path, item.source) for item in before] == [(b"", None), (b"one", BytesSource(b"src/one of 0"))]


def test_the_digest_of_a_stages_files_is_made_without_looking_for_them() -> None:
    tree = tree_of(Entry(b"src", "dir", 0o755), Entry(b"src/one", "file", 0o640, 1, 2, 3, "0" * 64, mtime=4))
    picked = selection.folder(b"src", StackTree(tree, lambda entry, layer: pytest.fail("looked for")))
    same = Picked(b"src", (Item(Entry(b"", "dir", 0o755)), Item(Entry(b"one", "file", 0o640, 1, 2, 3, "0" * 64))))
    for mode in (None, parse_mode("g+w")):
        assert not isinstance(mode, int)
        digests = set()
        for one in (picked, same):
            taken = (one,) if mode is None else selection.with_modes((one,), mode)
            digests.add(selection.content_digest(taken, owners=True, modes=True))
        assert len(digests) == 1


def test_files_of_tars_are_found_before_the_tree_below_is_asked_for(tmp_path: Path) -> None:
    """To look through a layer's tar takes the tree of those below it, and that may be made of the one that files go to."""
    file = Entry(b"usr/src/file", "file", 0o644, size=3, mtime=1)
    layers: list[list[Item]] = [
        [Item(Entry(b"usr", "dir", 0o755))],
        [Item(Entry(b"usr", "dir", 0o700)), Item(Entry(b"usr/alone", "symlink", 0o777, link=b"x"))],
        [Item(Entry(b"usr/src", "dir", 0o755)), Item(file, BytesSource(b"abc"))],
    ]
    with Store(str(tmp_path / "store")) as store:
        roots = Roots(store, unpacks=False)
        root = Root()
        stacks = []
        for number, items in enumerate(layers):
            with store.blob_writer() as blob:
                written = write_layer(items, blob.write)
                blob.commit(written.diff_id)
            root = roots.add_foreign(root, written.diff_id, store.blob_path(written.diff_id), name=str(number), packed=True)
            stacks.append(root)
        lower, upper = stacks[0], stacks[2]
        # As in a build that was begun anew: nothing was looked through yet.
        roots = Roots(store, unpacks=False)
        stack = StackTree(roots.tree(upper), lambda entry, layer: roots.locate(upper, entry, layer))
        picked = selection.folder(b"usr/src", stack)
        step = CopyStep(
            1, "COPY", SPAN, 0, "COPY", StageOrigin(0), (CopySource("usr/src", SPAN),), "/usr/new", SPAN, "", SPAN, None, False
        )
        placed = Worker(store, roots, lambda event: None, NEVER).place(step, (picked,), lower, str(tmp_path))
        assert isinstance(placed, Alone)
        tree = roots.tree(lower)
        assert [item.entry.path for item in placed] == [b"usr/new", b"usr/new/file"]
        assert [(entry.path, entry.mode) for entry in tree.walk(b"")] == [(b"", 0o755), (b"usr", 0o755)]
