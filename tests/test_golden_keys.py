"""Keys of version 1 and the digests that they hold never change their meaning (SPEC section 7).

Each golden has the bytes that are hashed, typed by hand from the description of the format, and the sha256 that
`sha256sum` gave for them: for a key of `pybuild-key-v1`, a NUL and the first line; for a selection of the first line with
its escapes undone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.engine.mountsources import digest as mounted_digest
from builder.engine.selection import Picked, content_digest, with_modes
from builder.errors import Span
from builder.layers.entry import BytesSource, Entry, Item
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.plan import keys
from builder.plan.modes import Change, SymbolicMode, mode
from builder.plan.mounts import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount
from builder.plan.steps import ContextOrigin, CopySource, CopyStep, RunStep, Script, StageOrigin, WorkdirStep

GOLDEN = Path(__file__).parent / "golden" / "keys"
ROOT = Digest("sha256", "a" * 64)
OTHER = Digest("sha256", "b" * 64)
HERE, THERE = Span(1, 1, 1, 9), Span(8, 2, 9, 3)
ARM = Platform("linux", "arm", "v7")
HELLO = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"

RUN = RunStep(
    3,
    "[x 1/2] RUN echo",
    HERE,
    2,
    ("/bin/sh", "-c", 'echo é 😀 "q" \\ \t\x01\x7f'),
    (("PATH", "/bin"), ("B", "2"), ("A", "1")),
    "/w",
    "me:staff",
    "pybuild",
    "none",
    (("db", "10.0.0.1"),),
    64 << 20,
    (("http_proxy", "http://secret"),),
)
SCRATCH_RUN = RunStep(0, "", HERE, 0, ("/x",), (), "/", "", "pybuild", "host", (), 64 << 20, ())
MOUNTS: tuple[Any, ...] = (
    BindMount("/b", ContextOrigin(""), "/src", True, HERE),
    CacheMount("/c", "pip", "locked", None, "/", False, 0o700, 1, 2, HERE),
    TmpfsMount("/t", 1024, False, HERE),
    SecretMount("/run/secrets/token", "token", "TOKEN", True, 0o400, 7, 0, HERE),
    SshMount("/run/buildkit/ssh_agent.0", "default", False, 0o600, 0, 0, HERE),
)
CONTENTS = ("c0ffee", None, None, None, None)
MOUNT_RUN = RUN._replace(mounts=MOUNTS)
SCRIPT_RUN = RUN._replace(argv=("/bin/sh", "-c", "/dev/pipes/EOF"), script=Script("EOF", "#!/bin/awk -f\né\n".encode()))
LIMITED_RUN = SCRATCH_RUN._replace(ulimits=(("core", 0, 0), ("nofile", 1024, -1)))
COPY = CopyStep(1, "n", HERE, 0, "COPY", ContextOrigin(""), (CopySource("s", HERE),), "/w/", HERE, "a:b", HERE, 0o750, False)
ADD = CopyStep(1, "n", HERE, 0, "ADD", ContextOrigin(""), (CopySource("s", HERE),), "/", HERE, "", HERE, None, True)
WORKDIR = WorkdirStep(1, "n", HERE, 0, "/w", "1000")


def golden(name: str) -> tuple[bytes, str]:
    first, second = (GOLDEN / f"{name}.txt").read_bytes().splitlines()
    return first, second.decode()


KEYS: dict[str, Callable[[], keys.Key]] = {
    "run": lambda: keys.run_key(RUN, ROOT, ARM, "root"),
    "run-scratch": lambda: keys.run_key(SCRATCH_RUN, None, Platform("linux", "amd64"), "root"),
    "run-mounts": lambda: keys.run_key(MOUNT_RUN, ROOT, ARM, "root", CONTENTS),
    "run-ulimits": lambda: keys.run_key(LIMITED_RUN, None, Platform("linux", "amd64"), "root"),
    "run-script": lambda: keys.run_key(SCRIPT_RUN, ROOT, ARM, "root"),
    "copy": lambda: keys.copy_key(COPY, ROOT, "c0ffee"),
    "add": lambda: keys.copy_key(ADD, None, "c0ffee"),
    "workdir": lambda: keys.workdir_key(WORKDIR, ROOT),
    "directory": lambda: keys.directory_key("c0ffee"),
}

CONTENT = BytesSource(b"hello\n")
FILE = Item(Entry(b"", "file", 0o644, size=6, digest=HELLO, mtime=5), CONTENT)
XATTRS = ((b"user.k", b"v\0"),)
TREE = Picked(
    b"src",
    (
        Item(Entry(b"", "dir", 0o700, 8, 9, mtime=1)),
        Item(Entry(b"a", "file", 0o4755, 1, 2, 6, HELLO, xattrs=XATTRS, mtime=2), CONTENT),
        Item(Entry(b"b", "hardlink", 0o4755, 1, 2, 6, HELLO, b"a", xattrs=XATTRS, mtime=2)),
        Item(Entry(b"d", "dir", 0o1777, mtime=3)),
        Item(Entry(b"d/\xff", "symlink", 0o777, link=b"../x", mtime=4)),
        Item(Entry(b"z", "char", 0o600, rdev=(1, 3))),
    ),
)
SELECTIONS: dict[str, Callable[[], str]] = {
    "selection-file": lambda: content_digest((Picked(b"f", (FILE,)),), owners=True, modes=True),
    "selection-tree": lambda: content_digest((TREE,), owners=True, modes=True),
    "mounted-tree": lambda: mounted_digest(TREE),
    "selection-two-owned": lambda: content_digest(
        (Picked(b"f", (FILE,)), Picked(b"p", (Item(Entry(b"", "fifo", 0o600, 5, 6)),))), owners=False, modes=False
    ),
}


def test_every_golden_is_tested() -> None:
    assert {path.stem for path in GOLDEN.glob("*")} == {*KEYS, *SELECTIONS}


@pytest.mark.parametrize("name", sorted(KEYS))
def test_key(name: str) -> None:
    preimage, expected = golden(name)
    assert hashlib.sha256(b"pybuild-key-v1\0" + preimage).hexdigest() == expected
    assert KEYS[name]() == keys.Key(expected, preimage)


@pytest.mark.parametrize("name", sorted(SELECTIONS))
def test_selection(name: str) -> None:
    escaped, expected = golden(name)
    assert hashlib.sha256(escaped.decode("unicode_escape").encode("latin-1")).hexdigest() == expected
    assert SELECTIONS[name]() == expected


@pytest.mark.parametrize(
    ("step", "root", "platform", "rung"),
    [
        (RUN._replace(argv=("/bin/bash", *RUN.argv[1:])), ROOT, ARM, "root"),
        (RUN._replace(argv=(*RUN.argv[:2], "echo")), ROOT, ARM, "root"),
        (RUN._replace(argv=(*RUN.argv, "")), ROOT, ARM, "root"),
        (RUN._replace(env=(*RUN.env[:2], ("A", "2"))), ROOT, ARM, "root"),
        (RUN._replace(env=(RUN.env[0], RUN.env[2], RUN.env[1])), ROOT, ARM, "root"),
        (RUN._replace(env=RUN.env[:2]), ROOT, ARM, "root"),
        (RUN._replace(cwd="/"), ROOT, ARM, "root"),
        (RUN._replace(user="me"), ROOT, ARM, "root"),
        (RUN._replace(hostname="other"), ROOT, ARM, "root"),
        (RUN._replace(network="host"), ROOT, ARM, "root"),
        (RUN._replace(hosts=()), ROOT, ARM, "root"),
        (RUN._replace(hosts=(("db", "10.0.0.2"),)), ROOT, ARM, "root"),
        (RUN._replace(shm_size=1 << 20), ROOT, ARM, "root"),
        (RUN._replace(security="insecure"), ROOT, ARM, "root"),
        (RUN._replace(script=Script("EOF", b"#!x")), ROOT, ARM, "root"),
        (RUN._replace(ulimits=(("nproc", 1, 1),)), ROOT, ARM, "root"),
        (RUN, OTHER, ARM, "root"),
        (RUN, None, ARM, "root"),
        (RUN, ROOT, Platform("linux", "arm", "v6"), "root"),
        (RUN, ROOT, ARM, "single-uid"),
    ],
)
def test_all_that_a_command_sees_is_in_its_key(step: RunStep, root: Digest | None, platform: Platform, rung: str) -> None:
    assert keys.run_key(step, root, platform, rung) != KEYS["run"]()


def test_what_a_command_does_not_see_is_not_in_its_key() -> None:
    other = RUN._replace(
        id=9,
        name="[y 2/3] RUN something",
        span=THERE,
        parent=7,
        proxy=(),
        security_span=THERE,
        stage="y",
        platform=ARM,
        network_span=THERE,
    )
    assert keys.run_key(other, ROOT, ARM, "root") == KEYS["run"]()
    assert set(RUN._fields) == {
        *("id", "name", "span", "parent", "proxy", "security_span", "stage", "platform", "network_span"),  # just tested
        *(
            "argv",
            "env",
            "cwd",
            "user",
            "hostname",
            "network",
            "hosts",
            "shm_size",
            "security",
            "script",
            "ulimits",
        ),  # the test before
        "mounts",  # the two tests below
    }
    assert keys.run_key(SCRIPT_RUN._replace(script=Script("EOF", b"#!")), ROOT, ARM, "root") != KEYS["run-script"]()


@pytest.mark.parametrize(
    ("place", "field", "value"),
    [
        *((place, "target", "/other") for place in range(5)),
        (0, "readonly", False),
        *(
            (1, field, value)
            for field, value in {"id": "x", "sharing": "shared", "readonly": True, "mode": 0, "uid": 0}.items()
        ),
        (1, "gid", 0),
        (2, "size", 0),
        (2, "readonly", True),
        *(
            (3, field, value)
            for field, value in {"id": "x", "env": "", "required": False, "mode": 0, "uid": 0, "gid": 1}.items()
        ),
        *((4, field, value) for field, value in {"id": "x", "required": True, "mode": 0, "uid": 1, "gid": 1}.items()),
    ],
)
def test_what_a_command_sees_of_its_mounts_is_in_its_key(place: int, field: str, value: object) -> None:
    mounts = tuple(mount._replace(**{field: value}) if at == place else mount for at, mount in enumerate(MOUNTS))
    assert mounts != MOUNTS
    assert keys.run_key(RUN._replace(mounts=mounts), ROOT, ARM, "root", CONTENTS) != KEYS["run-mounts"]()


def test_what_a_mount_shows_is_in_the_key_and_where_that_is_from_is_not() -> None:
    for contents in (("c0ffef", *CONTENTS[1:]), (CONTENTS[0], "c0ffee", *CONTENTS[2:])):
        assert keys.run_key(MOUNT_RUN, ROOT, ARM, "root", contents) != KEYS["run-mounts"]()
    bind, cache, *others = MOUNTS
    moved = [
        bind._replace(origin=StageOrigin(1), source="/elsewhere"),
        cache._replace(origin=StageOrigin(1), source="/elsewhere"),
        *others,
    ]
    mounts = tuple(mount._replace(span=THERE) for mount in moved)
    assert keys.run_key(RUN._replace(mounts=mounts), ROOT, ARM, "root", CONTENTS) == KEYS["run-mounts"]()
    tested = {
        "target",
        "readonly",
        "id",
        "sharing",
        "mode",
        "uid",
        "gid",
        "size",
        "env",
        "required",
        "origin",
        "source",
        "span",
    }
    assert {field for mount in MOUNTS for field in mount._fields} == tested


@pytest.mark.parametrize(
    ("step", "root", "content"),
    [
        (COPY._replace(dest="/w"), ROOT, "c0ffee"),
        (COPY._replace(chown="a"), ROOT, "c0ffee"),
        (COPY._replace(chmod=None), ROOT, "c0ffee"),
        (COPY._replace(chmod=0), ROOT, "c0ffee"),
        (COPY._replace(unpack=True), ROOT, "c0ffee"),
        (COPY, OTHER, "c0ffee"),
        (COPY, None, "c0ffee"),
        (COPY, ROOT, "c0ffef"),
    ],
)
def test_what_makes_the_result_of_a_copy_is_in_its_key(step: CopyStep, root: Digest | None, content: str) -> None:
    assert keys.copy_key(step, root, content) != KEYS["copy"]()


def test_a_mounted_folder_shows_its_own_metadata_and_not_its_name() -> None:
    def changed(**values: Any) -> Picked:
        top = TREE.top
        return TREE._replace(items=(top._replace(entry=top.entry._replace(**values)), *TREE.inside()))

    for other in (changed(mode=0o755), changed(uid=0), changed(gid=0), changed(xattrs=XATTRS)):
        assert mounted_digest(other) != mounted_digest(TREE)
    assert mounted_digest(changed(mtime=7)._replace(name=b"other")) == mounted_digest(TREE)


def test_where_a_copy_comes_from_is_not_in_its_key() -> None:
    other = COPY._replace(
        id=9,
        name="x",
        span=THERE,
        parent=4,
        keyword="ADD",
        origin=StageOrigin(2),
        sources=(CopySource("/other/s", THERE), CopySource("t", HERE)),
        dest_span=THERE,
        chown_span=THERE,
        exclude=("*.o",),
        parents=True,
        link=True,
        stage="y",
    )
    assert keys.copy_key(other, ROOT, "c0ffee") == KEYS["copy"]()
    assert set(COPY._fields) == {
        *("id", "name", "span", "parent", "keyword", "origin", "sources", "dest_span", "chown_span", "stage"),
        # What these do is in the digest of what is copied, and in the root, which a --link has not.
        *("exclude", "parents", "link"),
        *("dest", "chown", "chmod", "unpack"),
    }


def test_a_symbolic_mode_is_in_the_digest_and_not_in_the_key() -> None:
    """Files that have its modes already are the same copy as without it."""
    assert keys.copy_key(COPY._replace(chmod=mode("u+x")), ROOT, "x") == keys.copy_key(COPY._replace(chmod=None), ROOT, "x")
    moded = with_modes((TREE,), SymbolicMode("", ()))
    assert content_digest(moded, owners=True, modes=True) == SELECTIONS["selection-tree"]()
    moded = with_modes((TREE,), SymbolicMode("", (Change("set", 0o2000),)))
    assert content_digest(moded, owners=True, modes=True) != SELECTIONS["selection-tree"]()


def test_a_folder_that_only_holds_what_is_copied_is_in_the_digest() -> None:
    """A known folder keeps its owner where the copy's is such a one."""
    way = TREE._replace(ways=frozenset({b"d"}))
    assert content_digest((way,), owners=True, modes=True) != SELECTIONS["selection-tree"]()


def test_workdir() -> None:
    for step in (WORKDIR._replace(path="/v"), WORKDIR._replace(user="")):
        assert keys.workdir_key(step, ROOT) != KEYS["workdir"]()
    assert keys.workdir_key(WORKDIR, OTHER) != KEYS["workdir"]()
    assert keys.workdir_key(WORKDIR._replace(id=5, name="", span=THERE, parent=3, stage="y"), ROOT) == KEYS["workdir"]()
    assert set(WORKDIR._fields) == {"id", "name", "span", "parent", "path", "user", "stage"}


def test_kinds_of_steps_never_share_a_key() -> None:
    assert len({make().hex for make in KEYS.values()}) == len(KEYS)


def changed(place: int, **values: Any) -> Picked:
    items = list(TREE.items)
    items[place] = items[place]._replace(entry=items[place].entry._replace(**values))
    return TREE._replace(items=tuple(items))


@pytest.mark.parametrize(
    "picked",
    [
        TREE._replace(name=b"other"),
        TREE._replace(items=tuple(TREE.items)[:-1]),
        changed(1, path=b"A"),
        changed(1, mode=0o755),
        changed(1, uid=3),
        changed(1, gid=3),
        changed(1, size=7),
        changed(1, digest="0" * 64),
        changed(1, xattrs=()),
        changed(1, xattrs=((b"user.k", b"w\0"),)),
        changed(2, kind="file", link=b""),
        changed(2, link=b"c"),
        changed(3, mode=0o777),
        changed(4, link=b"../y"),
        changed(5, kind="block"),
        changed(5, rdev=(1, 5)),
        changed(5, rdev=(3, 1)),
    ],
)
def test_what_is_copied_is_in_the_digest(picked: Picked) -> None:
    assert content_digest((picked,), owners=True, modes=True) != SELECTIONS["selection-tree"]()


def test_times_places_and_the_folder_itself_are_not_in_the_digest() -> None:
    same = TREE._replace(items=tuple(Item(item.entry._replace(mtime=item.entry.mtime + 77)) for item in TREE.items), span=THERE)
    assert content_digest((same,), owners=True, modes=True) == SELECTIONS["selection-tree"]()
    own = changed(0, mode=0o777, uid=5, gid=6, xattrs=XATTRS)
    assert content_digest((own,), owners=True, modes=True) == SELECTIONS["selection-tree"]()


def test_owners_and_modes_that_the_instruction_gives_are_not_in_the_digest() -> None:
    def digest(picked: Picked, *, owners: bool, modes: bool) -> str:
        return content_digest((picked,), owners=owners, modes=modes)

    for flags in ({"owners": False, "modes": True}, {"owners": True, "modes": False}, {"owners": False, "modes": False}):
        owned, moded = digest(changed(1, uid=77), **flags), digest(changed(1, mode=0o600), **flags)
        assert (owned == digest(TREE, **flags)) == (not flags["owners"])
        assert (moded == digest(TREE, **flags)) == (not flags["modes"])


names = st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name and b"\0" not in name)
entries = st.builds(
    lambda path, link, kind, xattr: Item(Entry(path, kind, link=link, xattrs=xattr)),
    names,
    st.binary(max_size=3),
    st.sampled_from(["symlink", "dir"]),
    st.lists(st.tuples(names, st.binary(max_size=2)), max_size=2).map(tuple),
)
selections = st.lists(
    st.builds(lambda name, items: Picked(name, tuple(items)), names, st.lists(entries, max_size=2)), max_size=2
)


@settings(max_examples=200, deadline=None)
@given(selections, selections)
def test_different_selections_have_different_digests(left: list[Picked], right: list[Picked]) -> None:
    """Lengths stand before all that may have any bytes: no two selections are written alike."""
    digests = [content_digest(tuple(picked), owners=True, modes=True) for picked in (left, right)]
    assert (digests[0] == digests[1]) == (left == right)
