"""An image in an OCI layout as a person would look at it: its config, its history and its flattened tree, path by path.

Read by tarfile and json alone, so that what is compared does not come out of the program's own code.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What Docker sets where the base has no PATH."""

_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}


class Node(NamedTuple):
    """One path: `mode` in octal digits, `owner` as uid:gid, `data` the content of a file or the target of a link.

    The mode of a symlink says nothing and is empty. `group` is the first path of a hard-linked file, empty for others.
    """

    kind: str
    mode: str = ""
    owner: str = "0:0"
    data: bytes = b""
    group: str = ""


Tree = dict[str, Node]
"""By path without a slash at either end."""


class Image(NamedTuple):
    """`config` is the inner object of the config blob, `layers` the digests of the layers' blobs, `history` as it stands."""

    config: dict[str, Any]
    history: list[dict[str, Any]]
    layers: list[str]
    tree: Tree


class Layouts:
    """Reads layouts, and each layer's tar only once: bases are shared by many images."""

    def __init__(self) -> None:
        self._layers: dict[str, list[tuple[str, Node]]] = {}

    def read(self, folder: Path) -> Image:
        """The only image of the layout in `folder`."""
        index = json.loads((folder / "index.json").read_bytes())
        manifest = self._json(folder, index["manifests"][0]["digest"])
        config = self._json(folder, manifest["config"]["digest"])
        layers = [layer["digest"] for layer in manifest["layers"]]
        tree: Tree = {}
        for digest in layers:
            _apply(tree, self._layer(folder, digest))
        return Image(config.get("config") or {}, config.get("history") or [], layers, _grouped(tree))

    def _json(self, folder: Path, digest: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(_blob(folder, digest))
        return value

    def _layer(self, folder: Path, digest: str) -> list[tuple[str, Node]]:
        if digest not in self._layers:
            self._layers[digest] = _members(_blob(folder, digest))
        return self._layers[digest]


def _blob(folder: Path, digest: str) -> bytes:
    data = (folder / "blobs" / digest.replace(":", "/")).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    return data


def _members(data: bytes) -> list[tuple[str, Node]]:
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            kind = _KINDS[member.type]
            content = b""
            if kind == "file":
                file = archive.extractfile(member)
                assert file is not None
                content = file.read()
            elif kind in ("link", "hard"):
                content = os.fsencode(member.linkname)
            mode = "" if kind == "link" else f"{stat.S_IMODE(member.mode):o}"
            path = member.name.removeprefix("./").strip("/")
            found.append((path, Node(kind, mode, f"{member.uid}:{member.gid}", content)))
    return found


def _apply(tree: Tree, members: list[tuple[str, Node]]) -> None:
    """One layer over the others, as the OCI layer spec has it."""
    for path, _ in members:
        folder, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            for below in [other for other in tree if other.startswith(f"{folder}/")]:
                del tree[below]
        elif name.startswith(".wh."):
            _remove(tree, f"{folder}/{name[4:]}".lstrip("/"))
    for path, node in members:
        if path.rpartition("/")[2].startswith(".wh.") or path in ("", "."):
            continue
        if node.kind == "hard":
            first = os.fsdecode(node.data).removeprefix("./").strip("/")
            # What a hard link repeats is the file that it names, as it is now.
            node = tree[first]._replace(group=tree[first].group or first)
            tree[first] = node
        elif path in tree and "dir" in (node.kind, tree[path].kind) and node.kind != tree[path].kind:
            _remove(tree, path)
        tree[path] = node


def _remove(tree: Tree, path: str) -> None:
    for below in [other for other in tree if other == path or other.startswith(f"{path}/")]:
        del tree[below]


def _grouped(tree: Tree) -> Tree:
    """Hard links named by their first path in order; a link that is left alone is a file like others."""
    groups: dict[str, list[str]] = {}
    for path, node in tree.items():
        if node.group:
            groups.setdefault(node.group, []).append(path)
    for paths in groups.values():
        first = min(paths)
        for path in paths:
            tree[path] = tree[path]._replace(group=first if len(paths) > 1 else "")
    return tree


def changes(tree: Tree, base: Tree) -> dict[str, Node | None]:
    """What differs from the base; None for what is gone."""
    found: dict[str, Node | None] = {path: node for path, node in tree.items() if base.get(path) != node}
    found.update({path: None for path in base if path not in tree})
    return found
