"""Stub layers: what an image lacks for mounts is made once, with the metadata that the image has."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from builder.engine import mountpoints
from builder.engine.roots import Roots
from builder.engine.stubs import Stub, Stubs
from builder.errors import BuildError
from builder.layers.entry import Entry
from builder.layers.index import Tree
from builder.store.store import Store

FILES = (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf")
SECOND = 10**9


def tree(*entries: Entry) -> Tree:
    made = Tree()
    made.apply(list(entries), 0)
    return made


def looks(path: Path) -> tuple[str, int, int]:
    info = path.lstat()
    return stat.filemode(info.st_mode), info.st_size if path.is_file() else -1, info.st_mtime_ns


def test_what_the_image_lacks_is_found_and_made_with_the_metadata_of_what_is_above(tmp_path: Path) -> None:
    etc = Entry(b"etc", "dir", 0o2751, mtime=5 * SECOND)
    found = mountpoints.find(tree(etc, Entry(b"etc/hosts", "file", 0o600), Entry(b"proc", "dir", 0o555)), FILES)
    assert found.stub == Stub(
        ((b"dev", None), (b"sys", None), (b"etc", etc)), (b"etc/hostname", b"etc/resolv.conf"), Entry(b"", "dir", 0o755)
    )
    made = Path(Stubs(lambda: str(tmp_path / "stub")).folder(found.stub))
    assert sorted(str(path.relative_to(made)) for path in made.rglob("*")) == [
        *("dev", "etc", "etc/hostname", "etc/resolv.conf", "sys")
    ]
    assert looks(made / "etc") == ("drwxr-s--x", -1, 5 * SECOND)
    assert looks(made / "etc/hostname")[:2] == ("-rw-r--r--", 0)
    assert looks(made / "dev")[0] == "drwxr-xr-x"


def test_nothing_is_lacking() -> None:
    folders = [Entry(name, "dir", 0o755) for name in (b"dev", b"etc", b"proc", b"sys")]
    found = mountpoints.find(tree(*folders, *(Entry(name, "file", 0o644) for name in FILES)), FILES)
    assert found.stub.is_empty


def test_a_file_where_a_folder_must_be() -> None:
    with pytest.raises(BuildError, match="the image's '/etc' is no folder, so nothing can be mounted below it"):
        mountpoints.find(tree(Entry(b"etc", "file", 0o644)), FILES)


def test_equal_stubs_are_one_folder_which_goes_with_the_store(tmp_path: Path) -> None:
    lacking = mountpoints.find(tree(Entry(b"proc", "dir", 0o555)), FILES).stub
    other = mountpoints.find(tree(Entry(b"proc", "dir", 0o555), Entry(b"etc", "dir", 0o700)), FILES).stub
    with Store(str(tmp_path / "store")) as store:
        roots = Roots(store)
        first = roots.stub(lacking)
        assert roots.stub(mountpoints.find(tree(Entry(b"proc", "dir", 0o555)), FILES).stub) == first
        assert roots.stub(other) != first
        assert os.path.isfile(f"{first}/etc/resolv.conf")
    assert not os.path.exists(first)
