"""What a build ships, seen as a person would look at it: the flattened tar, path by path."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path
from typing import NamedTuple

from tests.conftest import Pybuild


class Shipped(NamedTuple):
    kind: str
    mode: int
    owner: str
    data: bytes = b""
    """Content of a file, target of a symlink, the path that a hard link repeats."""


def a_dir(mode: int = 0o755, owner: str = "0:0") -> Shipped:
    return Shipped("dir", mode, owner)


def a_file(data: bytes, mode: int = 0o644, owner: str = "0:0") -> Shipped:
    return Shipped("file", mode, owner, data)


def a_link(target: bytes, owner: str = "0:0") -> Shipped:
    return Shipped("symlink", 0o777, owner, target)


def run_build(pybuild: Pybuild, context: Path, dockerfile: str, *flags: str | Path) -> str:
    """Build; what it wrote to stderr."""
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    done = pybuild("--progress=plain", *flags, context)
    assert done.returncode == 0, done.stderr
    return done.stderr


def ship(pybuild: Pybuild, context: Path, dockerfile: str, *flags: str | Path) -> dict[str, Shipped]:
    """Build with `-o type=tar`; what is in it but the Dockerfile's own name, by path."""
    out = context.parent / "shipped.tar"
    run_build(pybuild, context, dockerfile, *flags, "-o", f"type=tar,dest={out}")
    return read(out)


def refused(pybuild: Pybuild, context: Path, dockerfile: str, *flags: str | Path, code: int = 3) -> str:
    """Build what cannot be built; the message. There is no traceback in it."""
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    done = pybuild("--progress=plain", *flags, context)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def read(tar: Path) -> dict[str, Shipped]:
    kinds = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink"}
    found = {}
    with tarfile.open(tar, encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            kind = kinds.get(member.type) or {tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char"}[member.type]
            data = os.fsencode(member.linkname)
            if kind == "file":
                file = archive.extractfile(member)
                assert file is not None
                data = file.read()
            found[member.name] = Shipped(kind, stat.S_IMODE(member.mode), f"{member.uid}:{member.gid}", data)
    return found


def under(found: dict[str, Shipped], folder: str) -> dict[str, Shipped]:
    """What is in the folder, by path from there; the folder itself is `.`."""
    inside = {path[len(folder) + 1 :]: entry for path, entry in found.items() if path.startswith(f"{folder}/")}
    return {".": found[folder], **inside} if folder in found else inside


class Member(NamedTuple):
    """A member of an archive that a test packs."""

    name: str
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 0
    link: str = ""


def pack(path: Path, *members: Member, mode: str = "w") -> Path:
    """A tar archive of exactly these members, in this order; `mode` as tarfile has it."""
    import io

    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]  # a plain str
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.mode, info.uid, info.gid = member.kind, member.mode, member.uid, member.gid
            info.mtime, info.linkname, info.size = member.mtime, member.link, len(member.data)
            archive.addfile(info, io.BytesIO(member.data))
    return path


def a_base(pybuild: Pybuild, folder: Path, *members: Member, name: str = "base:1") -> None:
    """Put an image of one layer with these members into the store, with owners and times as they say."""
    done = pybuild("import", pack(folder / "base.tar", *members), name)
    assert done.returncode == 0, done.stderr
