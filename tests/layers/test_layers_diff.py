"""What a step leaves in a real overlay's upper folder, and the layer that it comes to: the checklist of the kernel's facts.

Every commit here is also checked as a whole by `Stack.commit`: the step's own view, the tree of entries and a mount of
the normalised folder are the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import socket
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import BuildError, StoreError
from builder.layers.diff import commit_upper
from builder.layers.folder import set_root
from builder.layers.index import Tree
from tests.layers.layers_overlay import TIME, Stack, file, folder, hardlink, names, symlink, whiteout

Operation = tuple[str, str, str]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def test_deleted_names_are_whiteouts_and_never_hard_links(stack: Stack) -> None:
    stack.add(file("a"), file("b"), file("keep"), folder("d"), file("d/x"))
    with stack.step() as root:
        (root / "a").unlink()
        (root / "b").unlink()
        (root / "d" / "x").unlink()
    # The kernel links its whiteouts together.
    assert (stack.upper / "a").stat().st_ino == (stack.upper / "b").stat().st_ino
    assert names(stack.commit().items) == ["- a", "- b", "- d/x"]


def test_a_deleted_folder_is_one_whiteout(stack: Stack) -> None:
    stack.add(folder("d"), folder("d/e"), file("d/e/f"))
    assert stack.run("rm -r d") == ["- d"]


def test_a_folder_made_again_deletes_what_it_lost(stack: Stack) -> None:
    stack.add(
        folder("d"), file("d/old"), file("d/kept", b"1"), folder("d/e"), file("d/e/old"), folder("d/gone"), file("d/gone/f")
    )
    script = "rm -r d; mkdir -p d/e; echo new > d/kept; echo new > d/e/new"
    with stack.step() as root:
        subprocess.run(["sh", "-euc", script], cwd=root, check=True)
    assert os.getxattr(stack.upper / "d", "user.overlay.opaque") == b"y"
    # The recreated d/e hides d/e/old only because its parent is opaque: both deletions are explicit.
    assert names(stack.commit().items) == ["- d/gone", "- d/old", "- d/e/old", "d/e/new", "d/kept"]


def test_a_folder_made_again_with_another_mode_is_an_entry_too(stack: Stack) -> None:
    stack.add(folder("d"), file("d/old"))
    assert stack.run("rm -r d; mkdir -m 700 d") == ["d", "- d/old"]


def test_a_folder_made_again_as_it_was_is_no_change(stack: Stack) -> None:
    stack.add(folder("d"), folder("d/e"))
    assert stack.run("rm -r d; mkdir -p d/e") == []
    assert os.listdir(stack.upper) == []


def test_deletions_across_three_layers_stay_deleted(stack: Stack) -> None:
    stack.add(folder("d"), file("d/first")).add(file("d/second")).add(whiteout("d/first"))
    # d/first is not in the base any more: nothing deletes it twice.
    assert stack.run("rm -r d; mkdir d; touch d/third") == ["- d/second", "d/third"]


def test_an_opaque_folder_where_the_base_has_none(stack: Stack) -> None:
    stack.add(file("d"))
    with stack.step() as root:
        (root / "d").unlink()
        (root / "d").mkdir()
        (root / "d" / "new").touch()
    # The kernel marks it because it put the folder in the place of its own whiteout.
    assert os.getxattr(stack.upper / "d", "user.overlay.opaque") == b"y"
    assert names(stack.commit().items) == ["d", "d/new"]
    assert os.listxattr(stack.upper / "d") == []


def test_a_folder_where_a_lower_layer_deleted_one(stack: Stack) -> None:
    stack.add(folder("d"), file("d/x")).add(whiteout("d"))
    assert stack.run("mkdir d; touch d/new") == ["d", "d/new"]
    assert b"d/x" not in stack.left


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("rm -r d; echo f > d", ["d"]),
        ("rm -r d; ln -s other d", ["d"]),
        ("rm -r d; mkfifo d", ["d"]),
        ("rm f; mkdir f; touch f/x", ["f", "f/x"]),
        ("rm f; ln -s other f", ["f"]),
        ("rm l; mkdir l; touch l/x", ["l", "l/x"]),
        ("rm l; echo file > l", ["l"]),
        ("rm l; ln -s elsewhere l", ["l"]),
        ("mv f g", ["- f", "g"]),
        # redirect_dir is off: rename(2) of a lower folder is EXDEV, and mv copies.
        ("mv d e", ["- d", "e", "e/sub", "e/sub/y", "e/x"]),
        ("mkdir n; touch n/x; mv n m", ["m", "m/x"]),
        ("mkdir n; touch n/new; rm -r d; mv n d", ["- d/sub", "- d/x", "d/new"]),
        ("rm -r d/sub; mkdir n; mv n d/sub; touch d/sub/z", ["- d/sub/y", "d/sub/z"]),
        ("rm -r d; mkdir d; rm -r d; mkdir -p d/sub/deeper", ["- d/sub/y", "- d/x", "d/sub/deeper"]),
        ("rm -r d; echo f > d; rm d; mkdir d", ["- d/sub", "- d/x"]),
        ("touch n; rm n; rm -f f; echo same > f; rm f", ["- f"]),
    ],
)
def test_one_kind_takes_the_place_of_another(stack: Stack, script: str, expected: list[str]) -> None:
    stack.add(
        folder("d"), file("d/x", b"x"), folder("d/sub"), file("d/sub/y", b"y"), file("f", b"f"), symlink("l", "f"), folder("o")
    )
    assert sorted(stack.run(script)) == sorted(expected)


@pytest.mark.parametrize(
    "script",
    [
        "chmod 644 d/f",
        "chmod 755 d",
        "chown 0:0 d/f d",
        ": >> d/f",
        "touch -a d/f",
        "touch d",
        "touch d/new; rm d/new",
        "exec 3<> d/f; exec 3>&-",
        "chown -h 0:0 d/l",
        "chmod 640 d/f; chmod 644 d/f",
        # Equal in all that counts, the inode apart.
        "cp -p d/f d/copy; mv d/copy d/f",
        "mkdir x; touch x/y; rm -r x",
        "chmod 644 d/hard; chmod 644 d/f",
        "touch -a p; rm -rf nothing",
    ],
)
def test_what_was_copied_up_and_not_changed_is_no_change(stack: Stack, script: str) -> None:
    stack.add(folder("d"), file("d/f", b"content"), symlink("d/l", "f"), hardlink("d/hard", "d/f"), file("p"))
    assert stack.run(script) == []
    assert os.listdir(stack.upper) == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("chmod 600 d/f", ["d/f"]),
        ("chmod 4755 d/f", ["d/f"]),
        ("chown 1:0 d/f", ["d/f"]),
        ("chown 0:1 d/f", ["d/f"]),
        ("chown -h 0:7 d/l", ["d/l"]),
        ("chmod 700 d", ["d"]),
        ("chown 5 d", ["d"]),
        ("echo more >> d/f", ["d/f"]),
        # Touched: the time alone is another.
        ("touch d/f", ["d/f"]),
        ("touch -h d/l", ["d/l"]),
        ("touch p", ["p"]),
        # The time and the size are the same, the content is not.
        ("cp -p d/f ../keep; printf CONTENT > d/f; touch -r ../keep d/f; rm ../keep", ["d/f"]),
        ('python3 -c \'import os; os.setxattr("d/f", "user.a", b"1")\'', ["d/f"]),
        ('python3 -c \'import os; os.setxattr("d", "user.a", b"1")\'', ["d"]),
        ('python3 -c \'import os; os.removexattr("x", "user.was")\'', ["x"]),
    ],
)
def test_each_thing_that_makes_a_change(stack: Stack, script: str, expected: list[str]) -> None:
    stack.add(folder("d"), file("d/f", b"content"), symlink("d/l", "f"), file("p"), file("x", xattrs=((b"user.was", b"1"),)))
    assert stack.run(script) == expected


def test_unchanged_parents_stay_in_the_folder_and_are_no_items(stack: Stack) -> None:
    stack.add(folder("d", 0o750, uid=3), folder("d/e"), file("d/e/f", b"1"))
    with stack.step() as root:
        (root / "d" / "e" / "f").chmod(0o600)
    committed = stack.commit()
    assert names(committed.items) == ["d/e/f"]
    assert committed.implied_parents
    assert (stack.upper / "d").stat().st_mode & 0o777 == 0o750


def test_a_layer_without_implied_parents_says_so(stack: Stack) -> None:
    stack.add(file("f"), file("g"))
    with stack.step() as root:
        (root / "new").mkdir()
        (root / "new" / "x").touch()
        (root / "f").chmod(0o600)
        (root / "g").unlink()
    assert not stack.commit().implied_parents


def test_a_deletion_below_the_root_ties_the_folder_to_its_base(stack: Stack) -> None:
    """overlayfs lists a whiteout as a broken name where no lower layer has the folder."""
    stack.add(folder("d"), file("d/x"))
    with stack.step() as root:
        (root / "d").chmod(0o700)
        (root / "d" / "x").unlink()
    assert stack.commit().implied_parents
    alone = Stack(stack.place)
    alone.folders = [str(stack.upper)]
    with alone.mounted() as merged:
        assert os.listdir(merged / "d") == ["x"]
        assert not (merged / "d" / "x").exists()


def test_normalising_keeps_the_times_of_folders(stack: Stack) -> None:
    stack.add(folder("d"), folder("d/e"), file("d/e/old"), file("d/f", b"1"))
    with stack.step() as root:
        subprocess.run(["sh", "-euc", "rm -r d/e; mkdir -m 700 d/e; chmod 644 d/f; touch d/new"], cwd=root, check=True)
        for path in ("d/e", "d", "."):
            os.utime(root / path, ns=(TIME, TIME + len(path)))
    items = {item.entry.path: item.entry for item in stack.commit().items}
    assert (stack.upper / "d").stat().st_mtime_ns == TIME + 1
    assert (stack.upper / "d" / "e").stat().st_mtime_ns == TIME + 3 == items[b"d/e"].mtime
    assert stack.upper.stat().st_mtime_ns == TIME + 1


def test_hard_links_of_the_base_break_one_by_one(stack: Stack) -> None:
    stack.add(file("a", b"1"), hardlink("b", "a"), hardlink("c", "a"))
    # index=off: writing through one name changes that name alone, and opening another for writing copies it.
    with stack.step() as root:
        with (root / "b").open("a") as changed:
            changed.write("2")
        os.close(os.open(root / "a", os.O_WRONLY))
    assert sorted(os.listdir(stack.upper)) == ["a", "b"]
    assert names(stack.commit().items) == ["b"]
    assert os.listdir(stack.upper) == ["b"]


def test_new_hard_links_name_the_first_path(stack: Stack) -> None:
    stack.add(folder("d"))
    assert stack.run("echo 1 > z; ln z d/a; ln z b; ln z y; rm y") == ["b", "d/a -> b", "z -> b"]


def test_a_link_that_the_step_makes_of_a_lower_file_is_a_change_of_both_names(stack: Stack) -> None:
    stack.add(file("m", b"1"), file("other"))
    assert stack.run("ln m a; ln other z") == ["a", "m -> a", "other", "z -> other"]
    assert (stack.upper / "m").stat().st_ino == (stack.upper / "a").stat().st_ino


def test_linking_again_what_the_base_links_is_no_change(stack: Stack) -> None:
    stack.add(file("a", b"1"), hardlink("b", "a"), file("c", b"1"))
    assert stack.run("ln -f a b") == []
    assert stack.run("ln -f a c") == ["a", "c -> a"]


def test_the_upper_root_is_the_root(tmp_path: Path) -> None:
    stack = Stack(tmp_path).add(folder("", 0o711, uid=4, gid=5, xattrs=((b"user.root", b"1"),)), file("f"))
    with stack.step() as root:
        status = root.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o711, 4, 5)
        assert os.getxattr(root, "user.root") == b"1"
        (root / "f").unlink()
    assert names(stack.commit().items) == ["- f"]


def test_a_changed_root_is_an_entry(stack: Stack) -> None:
    stack.add(file("f"))
    with stack.step() as root:
        root.chmod(0o700)
    [item] = stack.commit().items
    assert (item.entry.path, item.entry.kind, item.entry.mode, item.source) == (b"", "dir", 0o700, None)


def test_default_acls_of_the_store_do_not_reach_the_root(tmp_path: Path) -> None:
    # Version 2; USER_OBJ, USER 1, GROUP_OBJ, MASK, OTHER (acl(5), linux/posix_acl_xattr.h).
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, 1), (4, 7, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(tmp_path, "system.posix_acl_default", acl)
    upper = tmp_path / "upper"
    upper.mkdir()
    assert "system.posix_acl_default" in os.listxattr(upper)
    set_root(str(upper), Tree())
    assert os.listxattr(upper) == []
    assert stat.S_IMODE(upper.stat().st_mode) == 0o755


def test_overlays_own_attributes_leave_the_upper_folder(stack: Stack) -> None:
    stack.add(folder("d"), file("d/f", b"1"))
    with stack.step() as root:
        (root / "d" / "f").write_text("2")
        (root / "e").mkdir()
        (root / "e").rename(root / "d" / "g")
    before = {name for path in (stack.upper, stack.upper / "d", stack.upper / "d" / "f") for name in os.listxattr(path)}
    assert {"user.overlay.origin", "user.overlay.impure"} <= before
    for name in ("opaque", "redirect", "metacopy", "nlink", "uuid", "protattr"):
        os.setxattr(stack.upper / "d" / "f", f"trusted.overlay.{name}", b"x")
    stack.commit()
    for path in (stack.upper, stack.upper / "d", stack.upper / "d" / "f", stack.upper / "d" / "g"):
        assert os.listxattr(path) == []
    assert stack.warnings == []


def test_only_capabilities_and_user_attributes_are_carried(stack: Stack) -> None:
    # Version 2, effective: CAP_NET_BIND_SERVICE permitted (linux/capability.h).
    capability = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry)
        for entry in [(1, 6, 0xFFFFFFFF), (2, 4, 9), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF)]
    )
    stack.add(file("unchanged"))
    with stack.step() as root:
        for name in ("cap", "acl", "own"):
            (root / name).touch()
        os.setxattr(root / "cap", "security.capability", capability)
        os.setxattr(root / "cap", "user.b", b"2")
        os.setxattr(root / "cap", "user.a", b"1")
        os.setxattr(root / "acl", "system.posix_acl_access", acl)
        os.setxattr(root / "unchanged", "system.posix_acl_access", acl)
        # Seen from inside this is a plain name: since Linux 6.7 overlayfs stores it escaped, before it refuses.
        escaped = ["the extended attribute user.overlay.overlay.opaque of 'own' is left out"]
        try:
            os.setxattr(root / "own", "user.overlay.opaque", b"y")
        except OSError as error:
            assert error.errno in (errno.EPERM, errno.EOPNOTSUPP)
            escaped = []
        os.setxattr(root / "own", "trusted.mine", b"1")
    items = {item.entry.path: item.entry for item in stack.commit().items}
    assert sorted(items) == [b"acl", b"cap", b"own"]
    assert items[b"cap"].xattrs == ((b"security.capability", capability), (b"user.a", b"1"), (b"user.b", b"2"))
    assert items[b"acl"].xattrs == items[b"own"].xattrs == ()
    assert sorted(stack.warnings) == [
        "the extended attribute system.posix_acl_access of 'acl' is left out",
        "the extended attribute system.posix_acl_access of 'unchanged' is left out",
        "the extended attribute trusted.mine of 'own' is left out",
        *escaped,
    ]
    # The folder form has no more than the items.
    assert os.listxattr(stack.upper / "acl") == os.listxattr(stack.upper / "own") == []
    assert os.getxattr(stack.upper / "cap", "security.capability") == capability


def test_sockets_go_and_what_they_replaced_is_deleted(stack: Stack) -> None:
    stack.add(file("f"), folder("d"), folder("run"))
    with stack.step() as root:
        (root / "f").unlink()
        (root / "d").rmdir()
        for name in ("f", "d", "new", "run/s"):
            with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(root):
                made.bind(name)
    for name in ("f", "d", "new", "run/s"):
        # A scan of the step's view has no sockets either.
        assert os.fsencode(name) not in stack.left
    assert names(stack.commit().items) == ["- d", "- f"]
    assert sorted(stack.warnings) == [f"'{name}' is a socket and is left out" for name in ("d", "f", "new", "run/s")]


def test_fifos_and_devices_are_kept(stack: Stack) -> None:
    stack.add(folder("dev"))
    with stack.step() as root:
        os.mkfifo(root / "dev" / "fifo", 0o600)
        os.mknod(root / "dev" / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root / "dev" / "disk", 0o600 | stat.S_IFBLK, os.makedev(259, 300))
        # A process cannot make what would look like a whiteout.
        with pytest.raises(PermissionError):
            os.mknod(root / "dev" / "zero", 0o600 | stat.S_IFCHR, os.makedev(0, 0))
    entries = {item.entry.path: item.entry for item in stack.commit().items}
    assert {path: (entry.kind, entry.rdev) for path, entry in entries.items()} == {
        b"dev/disk": ("block", (259, 300)),
        b"dev/fifo": ("fifo", (0, 0)),
        b"dev/null": ("char", (1, 3)),
    }


@pytest.mark.parametrize("name", [".wh.x", "d/.wh..wh..opq", ".wh."])
def test_names_that_mean_deletions_are_errors(stack: Stack, name: str) -> None:
    stack.add(folder("d"), file("x"))
    with stack.mounted(_upper(stack)) as root:
        (root / name).touch()
    with pytest.raises(BuildError, match=r"'.*\.wh\..*' cannot be in a layer") as caught:
        commit_upper(str(stack.upper), stack.folders, stack.tree, warn=stack.warnings.append)
    assert f"'{name}'" in caught.value.message


def _upper(stack: Stack) -> Path:
    stack.upper = stack.place / "upper"
    stack.upper.mkdir()
    return stack.upper


def test_names_may_be_any_bytes(stack: Stack) -> None:
    stack.add(file("old\udcff"), folder("d\udc80"))
    with stack.step() as root:
        (root / "old\udcff").unlink()
        (root / "d\udc80" / "new\udcfe\n").touch()
        (root / ("l" * 255)).symlink_to("x\udcff")
    entries = [item.entry for item in stack.commit().items]
    assert [(entry.path, entry.kind) for entry in entries] == [
        (b"old\xff", "whiteout"),
        (b"d\x80/new\xfe\n", "file"),
        (b"l" * 255, "symlink"),
    ]
    assert entries[2].link == b"x\xff"


def test_holes_stay(stack: Stack) -> None:
    stack.add(folder("d"))
    size = 64 << 20
    with stack.step() as root, (root / "d" / "sparse").open("wb") as made:
        made.seek(size - 4)
        made.write(b"tail")
    [item] = stack.commit().items
    assert item.entry.size == size
    assert (stack.upper / "d" / "sparse").stat().st_blocks * 512 < 1 << 20


def test_a_whiteout_of_what_is_not_below_goes(stack: Stack) -> None:
    """As mount points leave them: they were in a layer of their own that is no part of the image."""
    stack.add(file("f"))
    tree, folders = stack.tree, list(stack.folders)
    stub = stack.place / "stub"
    (stub / "mnt" / "deep").mkdir(parents=True)
    stack.folders.append(str(stub))
    upper = _upper(stack)
    with stack.mounted(upper) as root:
        (root / "mnt" / "deep").rmdir()
        (root / "mnt").rmdir()
    assert os.listdir(upper) == ["mnt"]
    committed = commit_upper(str(upper), folders, tree, warn=stack.warnings.append)
    assert committed == ([], False)
    assert os.listdir(upper) == []


def test_a_step_that_does_nothing_changes_nothing(stack: Stack) -> None:
    stack.add(file("f"))
    assert stack.run(":") == []


def test_a_step_on_nothing_at_all(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    with stack.step() as root:
        (root / "d").mkdir()
        (root / "d" / "f").write_bytes(b"1")
    assert names(stack.commit().items) == ["d", "d/f"]


def test_a_damaged_store_is_told(stack: Stack) -> None:
    stack.add(file("f", b"1"))
    with stack.step() as root:
        os.close(os.open(root / "f", os.O_WRONLY))
    os.unlink(Path(stack.folders[0]) / "f")
    with pytest.raises(StoreError, match="has no 'f'"):
        commit_upper(str(stack.upper), stack.folders, stack.tree, warn=stack.warnings.append)


def test_a_hostile_upper_folder_leads_nowhere(stack: Stack) -> None:
    """Symlinks to the host stay symlinks, and what they point at is not touched."""
    outside = stack.place / "outside"
    outside.mkdir()
    (outside / "secret").write_text("1")
    stack.add(folder("d"), folder("d/secret"), file("d/secret/x"))
    with stack.step() as root:
        subprocess.run(["rm", "-r", root / "d"], check=True)
        (root / "d").symlink_to(outside)
        (root / "e").symlink_to(outside / "secret")
    [first, second] = stack.commit().items
    assert (first.entry.link, second.entry.link) == (os.fsencode(outside), os.fsencode(outside / "secret"))
    assert (outside / "secret").read_text() == "1"
    assert os.listxattr(outside) == []


def test_a_tree_deeper_than_descriptors_allow(stack: Stack) -> None:
    stack.add(folder("d"))
    depth = 400
    with stack.step() as root, contextlib.chdir(root):
        for _ in range(depth):
            os.makedirs("d", exist_ok=True)
            os.chdir("d")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Counted from those that other tests of this process hold.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 150, limits[1]))
    try:
        committed = stack.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(committed.items) == depth - 1


def test_a_path_that_nobody_can_name_is_told(stack: Stack) -> None:
    stack.add(folder("d"))
    with stack.mounted(_upper(stack)) as root, contextlib.chdir(root):
        for _ in range(20):
            os.mkdir("n" * 250)
            os.chdir("n" * 250)
    with pytest.raises(BuildError, match="longer than 4095 bytes"):
        commit_upper(str(stack.upper), stack.folders, stack.tree, warn=stack.warnings.append)


NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "append", "open", "mkdir", "remove", "fifo", "touch"]), PATHS, PATHS),
        st.tuples(st.sampled_from(["move", "link", "symlink", "copy"]), PATHS, PATHS),
        st.tuples(st.just("chmod"), PATHS, st.sampled_from(["644", "755", "4711", "2750"])),
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(base=st.lists(OPERATIONS, min_size=1, max_size=2), step=OPERATIONS)
def test_whatever_steps_do(
    tmp_path_factory: pytest.TempPathFactory, base: list[list[Operation]], step: list[Operation]
) -> None:
    """Steps on steps; `Stack.commit` compares the three views after each."""
    stack = Stack(tmp_path_factory.mktemp("steps"))
    for operations in (*base, step):
        with stack.step() as root, contextlib.chdir(root):
            for operation in operations:
                do(*operation)
        stack.commit()


def do(what: str, path: str, other: str) -> None:
    """One thing that a step may do; what cannot be done is left undone."""
    with contextlib.suppress(OSError, shutil.Error):
        if what in ("write", "append", "open") and Path(path).is_fifo():
            # Opening it would wait for a reader.
            return
        match what:
            case "write":
                Path(path).write_text(other)
            case "append":
                with Path(path).open("a") as opened:
                    opened.write("more")
            case "open":
                os.close(os.open(path, os.O_WRONLY))
            case "mkdir":
                os.makedirs(path)
            case "remove" if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            case "remove":
                os.unlink(path)
            case "fifo":
                os.mkfifo(path)
            case "touch":
                os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
            case "move":
                # As mv: a copy where rename(2) is refused.
                shutil.move(path, other)
            case "link":
                os.link(path, other, follow_symlinks=False)
            case "symlink":
                os.symlink(other, path)
            case "copy" if f"{other}/".startswith(f"{path}/"):
                pass  # A folder into itself never ends.
            case "copy":
                shutil.copytree(path, other, symlinks=True) if os.path.isdir(path) else shutil.copy2(path, other)
            case "chmod":
                os.chmod(path, int(other, 8))
