"""A golden case: a folder with a Dockerfile and a `case.toml` that says what the context holds and what must come out.

reference = "where the expectation comes from"
flags = ["--build-arg", "A=1"]        # more of the command line
dockerfile = "Dockerfile"             # or another file of the folder, as -f has it
roots = ["app"]                       # compare only these parts of the tree; all of it without
layers = 2                            # on top of the base's

[files]                               # the context, beside the Dockerfile
"a.txt" = "a file of this text, 0644"
"bin/run" = { text = "...", mode = "755" }
"d/" = "700"                          # a folder
"l" = { link = "target" }             # a symlink; hard = "a.txt", kind = "fifo" likewise
"x.tar.gz" = { tar = { "f" = "text" } }

[[before]]                            # images that are built first, in the same context
dockerfile = "base.Dockerfile"
tag = "parent"

[config]                              # the whole inner config but what every image has: Env of PATH, WorkingDir /
[tree]                                # what differs from the base: values as in [files], with owner = "0:0"
history = ["RUN /bin/sh -c ..."]      # the last lines; a line ends in " (empty)" when it made no layer

error = '''the whole message'''       # or, where the wording is not settled:
error_at = "Dockerfile:3:5"           # the column may be left out
error_says = ["words of the message"]
code = 3
"""

from __future__ import annotations

import io
import os
import tarfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.language.language_image import PATH, Node, Tree

KEYS = frozenset(
    [
        "reference",
        "flags",
        "dockerfile",
        "roots",
        "layers",
        "files",
        "before",
        "config",
        "tree",
        "history",
        "error",
        "error_at",
        "error_says",
        "code",
        "said",
        "unsaid",
        "bases",
    ]
)


class Case(NamedTuple):
    folder: Path
    said: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def fails(self) -> bool:
        return "code" in self.said

    def config(self, *, based: bool) -> dict[str, Any]:
        """The config that must come out, whole. `Env` holds what is set beside PATH, unless it has a PATH itself. The
        working directory of an image that is not `based` on another is /."""
        given = dict(self.said.get("config", {}))
        env = given.pop("Env", [])
        if not any(item.startswith("PATH=") for item in env):
            env = [PATH, *env]
        return {"Env": env, **({} if based else {"WorkingDir": "/"}), **given}

    def tree(self) -> dict[str, Node | None]:
        """The tree that must come out; None for what must be gone."""
        return {path.strip("/"): _node(path, value, self.said["tree"]) for path, value in self.said.get("tree", {}).items()}


def load(folder: Path) -> Case:
    said = tomllib.loads((folder / "case.toml").read_text())
    unknown = set(said) - KEYS
    assert not unknown, f"{folder.name}: case.toml has unknown keys: {unknown}"
    assert said.get("reference"), f"{folder.name}: no reference"
    return Case(folder, said)


def _node(path: str, value: Any, all_of_them: Mapping[str, Any]) -> Node | None:
    match value:
        case str() if path.endswith("/"):
            mode, _, owner = value.partition(" ")
            return Node("dir", mode or "755", owner or "0:0")
        case str():
            return _node(path, {"text": value}, all_of_them)
        case {"absent": True}:
            return None
        case {"link": target}:
            return Node("link", "", value.get("owner", "0:0"), target.encode())
        case {"hard": first}:
            node = _node(first, all_of_them[first], all_of_them)
            assert node is not None
            return node._replace(group=first)
    group = path if any(isinstance(other, dict) and other.get("hard") == path for other in all_of_them.values()) else ""
    kind = value.get("kind", "file")
    return Node(kind, value.get("mode", "644"), value.get("owner", "0:0"), value.get("text", "").encode(), group)


def below(tree: dict[str, Node | None], roots: list[str]) -> dict[str, Node | None]:
    """The part of a tree that is in, or is, one of `roots`."""
    return {path: node for path, node in tree.items() if any(path == root or path.startswith(f"{root}/") for root in roots)}


def fill(folder: Path, files: Mapping[str, Any]) -> None:
    """Make the files of a case, with exactly the modes it says. Parents that it does not name are 0755."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, value in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        match value:
            case str() if path.endswith("/"):
                place.mkdir(exist_ok=True)
                place.chmod(int(value or "755", 8))
                continue
            case str():
                place.write_text(value)
            case {"link": target}:
                place.symlink_to(target)
                continue
            case {"hard": first}:
                os.link(folder / first, place)
                continue
            case {"kind": "fifo"}:
                os.mkfifo(place)
            case {"tar": members}:
                place.write_bytes(archive(path, members))
            case {"bytes": data}:
                place.write_bytes(bytes.fromhex(data))
            case _:
                place.write_text(value["text"])
        mode = value.get("mode", "644") if isinstance(value, dict) else "644"
        place.chmod(int(mode, 8))


def archive(name: str, members: Mapping[str, Any]) -> bytes:
    """A tar of these members, in their order, compressed as the name says."""
    out = io.BytesIO()
    suffix = name.rpartition(".")[2]
    kind = {"gz": "gz", "tgz": "gz", "bz2": "bz2", "xz": "xz"}.get(suffix, "")
    with tarfile.open(fileobj=out, mode=f"w:{kind}", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]  # a plain str
        for path, value in members.items():
            node = _node(path, value, members)
            assert node is not None
            info = tarfile.TarInfo(path.strip("/"))
            info.mode = int(node.mode or "777", 8)
            info.uid, info.gid = (int(number) for number in node.owner.split(":"))
            if node.kind == "dir":
                info.type = tarfile.DIRTYPE
            elif node.kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, node.data.decode()
            elif node.group and node.group != path:
                info.type, info.linkname = tarfile.LNKTYPE, node.group
            else:
                info.size = len(node.data)
            tar.addfile(info, io.BytesIO(node.data) if info.isreg() else None)
    return out.getvalue()


def shown(tree: Mapping[str, Node | None]) -> list[str]:
    """One line a path, for a difference that people can read."""
    return [f"{path}: {_line(node)}" for path, node in sorted(tree.items())]


def _line(node: Node | None) -> str:
    if node is None:
        return "gone"
    group = f" = {node.group}" if node.group else ""
    return f"{node.kind} {node.mode} {node.owner} {node.data!r}{group}"


__all__ = ["Case", "Tree", "archive", "below", "fill", "load", "shown"]
