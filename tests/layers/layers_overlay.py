"""Real overlay mounts of layers, for the tests of what a step leaves behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from builder.layers.diff import Committed, commit_upper
from builder.layers.entry import BytesSource, Entry, Item
from builder.layers.folder import materialise, set_root
from builder.layers.index import Tree
from builder.layers.order import sort_items
from builder.layers.scan import scan
from builder.layers.tarwriter import write_layer

OPTIONS = "userxattr,redirect_dir=nofollow,metacopy=off,index=off"
TIME = 1_600_000_000 * 10**9 + 123456789


def file(path: str, data: bytes = b"", mode: int = 0o644, **more: Any) -> Item:
    return Item(Entry(os.fsencode(path), "file", mode, size=len(data), mtime=TIME)._replace(**more), BytesSource(data))


def folder(path: str, mode: int = 0o755, **more: Any) -> Item:
    return Item(Entry(os.fsencode(path), "dir", mode, mtime=TIME)._replace(**more))


def symlink(path: str, target: str) -> Item:
    return Item(Entry(os.fsencode(path), "symlink", 0o777, link=os.fsencode(target), mtime=TIME))


def hardlink(path: str, owner: str) -> Item:
    return Item(Entry(os.fsencode(path), "hardlink", link=os.fsencode(owner)))


def whiteout(path: str) -> Item:
    return Item(Entry(os.fsencode(path), "whiteout"))


def opaque(path: str) -> Item:
    return Item(Entry(os.fsencode(path), "opaque"))


class Seen(NamedTuple):
    """An entry as a process sees it: hard links are files, times are apart."""

    kind: str
    mode: int
    owner: tuple[int, int]
    digest: str
    link: bytes
    rdev: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]


def seen(entries: Iterable[Entry]) -> dict[bytes, Seen]:
    """What entries with digests show, the root apart."""
    return {
        entry.path: Seen(
            "file" if entry.kind == "hardlink" else entry.kind,
            entry.mode,
            (entry.uid, entry.gid),
            entry.digest,
            entry.link if entry.kind == "symlink" else b"",
            entry.rdev,
            entry.xattrs,
        )
        for entry in entries
        if entry.path
    }


def digested(items: Sequence[Item]) -> list[Entry]:
    """The entries with their digests; opaque marks, which no tar of ours has, are added again."""
    written = write_layer([item for item in items if item.entry.kind != "opaque"], None).entries
    return [*written, *(item.entry for item in items if item.entry.kind == "opaque")]


def look(root: Path) -> dict[bytes, Seen]:
    """What a folder shows, through a mount or not."""
    return seen(digested(scan(str(root), owners="keep")))


class Stack:
    """Layers as folders in `place`, and the tree of them; steps run on top."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.tree = Tree()
        self.folders: list[str] = []
        self.warnings: list[str] = []

    def add(self, *items: Item) -> Stack:
        """A layer of these items, in any order."""
        made = self.place / f"layer{len(self.folders)}"
        made.mkdir()
        ordered = sort_items(items)
        materialise(ordered, str(made), self.tree)
        self.tree.apply(digested(ordered), len(self.folders))
        self.folders.append(str(made))
        return self

    @contextmanager
    def mounted(self, upper: Path | None = None) -> Iterator[Path]:
        """The merged folder; with `upper`, writable."""
        merged = self.place / "merged"
        merged.mkdir(exist_ok=True)
        empty = self.place / "empty"
        empty.mkdir(exist_ok=True)
        # One lower folder alone is no overlay.
        lowers = ":".join([*reversed(self.folders), str(empty)])
        options = f"{OPTIONS},lowerdir={lowers}"
        if upper is not None:
            work = self.place / f"work{len(self.folders)}"
            work.mkdir()
            options += f",upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
        try:
            yield merged
        finally:
            subprocess.run(["umount", merged], check=True)

    @contextmanager
    def step(self) -> Iterator[Path]:
        """A step's root: what is done in it lies in `upper` afterwards."""
        self.upper = self.place / f"layer{len(self.folders)}"
        self.upper.mkdir()
        set_root(str(self.upper), self.tree)
        with self.mounted(self.upper) as merged:
            yield merged
            self.left = look(merged)

    def commit(self) -> Committed:
        """The step's layer on top of the others. What a process saw at the step's end, what the tree says and what a
        mount of the normalised folder shows must be the same, but for what no layer carries."""
        committed = commit_upper(str(self.upper), self.folders, self.tree, warn=self.warnings.append)
        items = committed.items
        assert [item.entry for item in items] == [item.entry for item in sort_items(items)]
        gone = {item.entry.path for item in items if item.entry.kind == "whiteout"}
        brought = {item.entry.path for item in items if item.entry.kind != "whiteout"}
        assert not gone & brought
        assert len(gone) + len(brought) == len(items)
        entries = digested(items)
        self._agrees(entries)
        self.tree.apply(entries, len(self.folders))
        self.folders.append(str(self.upper))
        with self.mounted() as merged:
            assert look(merged) == seen(self.tree.walk(b"")) == self.left
        return committed

    def _agrees(self, entries: list[Entry]) -> None:
        """The folder holds the items, and else only folders as the base has them."""
        inside = {entry.path: entry for entry in digested(scan(str(self.upper), owners="keep", overlay=True))}
        for entry in entries:
            assert inside.pop(entry.path, self.tree.lookup(b"") if not entry.path else None) == entry or not entry.path
        for path, entry in inside.items():
            known = self.tree.lookup(path)
            if path:
                assert entry.kind == "dir" and known is not None
                assert seen([entry]) == seen([known])

    def run(self, script: str) -> list[str]:
        """A step of one shell script, committed: its items as `- path` (deleted), `path` and `path -> owner` (hard link)."""
        with self.step() as merged:
            subprocess.run(["sh", "-euc", f"umask 022; {script}"], cwd=merged, check=True)
        return names(self.commit().items)


def names(items: Iterable[Item]) -> list[str]:
    out = []
    for item in items:
        path = os.fsdecode(item.entry.path)
        match item.entry.kind:
            case "whiteout":
                out.append(f"- {path}")
            case "opaque":
                out.append(f"! {path}")
            case "hardlink":
                out.append(f"{path} -> {os.fsdecode(item.entry.link)}")
            case _:
                out.append(path)
    return out
