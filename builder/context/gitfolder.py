"""The `.git` folder that `ADD --keep-git-dir` leaves, the same bytes for the same commit, on every machine.

git's own one differs each time: its index has inodes and times, its packs depend on git's version, on threads and on what the
server sent, its logs have the hour. This one is written by hand, from the objects alone (gitformat-pack(5),
gitformat-index(5), gitrepository-layout(5)): one pack of the commit, its tag, its trees and files, sorted and not compressed,
so that no zlib has a say; an index without the state of files, which the first `git status` looks up; HEAD at the commit,
as BuildKit leaves it; the branch or tag that was named; and a config whose URL has no credentials. There is no history: the
commit is the only one (`shallow`), as with BuildKit's depth of 1. Submodules are plain files in it.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib

from builder.context.gitcommand import remote_section
from builder.errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Protocol

    from builder.context.gitcommand import Git

    class _Hash(Protocol):
        def update(self, data: bytes, /) -> None: ...
        def digest(self) -> bytes: ...
        def hexdigest(self) -> str: ...


_TYPES = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
_STORED = 0xFFFF
"""The longest block of deflate that is not compressed (RFC 1951, section 3.2.4)."""


def write(folder: str, git: Git, commit: str, name: str, tag: str) -> None:
    """Make `folder`, which is not there yet. `name` is the full name of the branch or tag, `tag` the id of an annotated one;
    either may be empty. Raises GitFailed, and RegistryError for a server that sent too little."""
    for path in ("", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags"):
        os.mkdir(os.path.join(folder, path))
        os.chmod(os.path.join(folder, path), 0o755)

    def put(path: str, data: bytes) -> None:
        with open(os.path.join(folder, path), "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)

    put("HEAD", f"{commit}\n".encode())
    put("config", _config(git.shown, sha256=len(commit) == 64))
    if name.startswith("refs/"):
        peeled = f"^{commit}\n" if tag else ""
        put("packed-refs", f"# pack-refs with: peeled fully-peeled sorted \n{tag or commit} {name}\n{peeled}".encode())
    if b"\nparent " in git.run("cat-file", "commit", commit).partition(b"\n\n")[0]:
        put("shallow", f"{commit}\n".encode())
    put("index", _index(git.run("ls-tree", "-r", "-z", "--full-tree", commit), len(commit)))
    _pack(os.path.join(folder, "objects", "pack"), git, commit, tag)


def _config(url: str, *, sha256: bool) -> bytes:
    form = "[extensions]\n\tobjectformat = sha256\n" if sha256 else ""
    core = f"[core]\n\trepositoryformatversion = {int(sha256)}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
    return (core + form).encode() + remote_section(url) + b"\tfetch = +refs/heads/*:refs/remotes/origin/*\n"


def _index(listing: bytes, digits: int) -> bytes:
    """Version 2, from `git ls-tree -r -z`. Sizes of 0 make git compare the content."""
    rows = []
    for line in listing.split(b"\0")[:-1]:
        meta, _, path = line.partition(b"\t")
        digits_of_mode, _, name = meta.split(b" ")
        rows.append((path, int(digits_of_mode, 8), bytes.fromhex(name.decode())))
    rows.sort()
    out = [struct.pack(">4sII", b"DIRC", 2, len(rows))]
    for path, mode, oid in rows:
        entry = struct.pack(">6I", 0, 0, 0, 0, 0, 0) + struct.pack(">4I", mode, 0, 0, 0) + oid
        entry += struct.pack(">H", min(len(path), 0xFFF)) + path
        out.append(entry + bytes(8 - len(entry) % 8))
    data = b"".join(out)
    return data + _hasher(digits)(data).digest()


def _pack(folder: str, git: Git, commit: str, tag: str) -> None:
    listed = git.run("rev-list", "--objects", "--no-object-names", "--no-walk", commit).decode().split()
    ids = sorted({*listed, *([tag] if tag else ())})
    unfinished = os.path.join(folder, "new")
    digest = _hasher(len(commit))()
    wanted = "".join(f"{oid}\n" for oid in ids).encode()
    with git.output("cat-file", "--batch", stdin=wanted) as path, open(path, "rb") as objects, open(unfinished, "wb") as pack:

        def put(data: bytes) -> None:
            digest.update(data)
            pack.write(data)

        put(struct.pack(">4sII", b"PACK", 2, len(ids)))
        for oid in ids:
            _object(objects, oid, put)
        pack.write(digest.digest())
    final = os.path.join(folder, f"pack-{digest.hexdigest()}")
    os.rename(unfinished, final + ".pack")
    # It reads the whole pack, and each object must have its name.
    git.run("index-pack", "--index-version=2", "-o", final + ".idx", final + ".pack")
    for end in (".pack", ".idx"):
        os.chmod(final + end, 0o444)


def _object(objects: IO[bytes], oid: str, put: Callable[[bytes], None]) -> None:
    """Copy one answer of `git cat-file --batch` into the pack."""
    header = objects.readline().split()
    if len(header) != 3 or header[0] != oid.encode() or header[1] not in _TYPES:
        raise RegistryError(f"the git repository lacks the object {oid}", hint="it is damaged: try again")
    size = int(header[2])
    left, first = size >> 4, _TYPES[header[1]] << 4 | size & 15
    while left:
        put(bytes((first | 0x80,)))
        left, first = left >> 7, left & 0x7F
    put(bytes((first,)))
    for piece in _stored(objects, size):
        put(piece)
    objects.read(1)


def _stored(file: IO[bytes], size: int) -> Iterator[bytes]:
    """A zlib stream (RFC 1950) of the next `size` bytes, in blocks that are not compressed."""
    yield b"\x78\x01"
    check = 1
    left = size
    while True:
        data = file.read(min(left, _STORED))
        left -= len(data)
        if left and not data:
            raise RegistryError("the git repository is damaged: an object is too short", hint="try again")
        check = zlib.adler32(data, check)
        yield struct.pack("<BHH", not left, len(data), len(data) ^ 0xFFFF) + data
        if not left:
            break
    yield struct.pack(">I", check)


def _hasher(digits: int) -> Callable[..., _Hash]:
    # The object ids' own algorithm: git checks packs and indexes by it.
    return hashlib.sha256 if digits == 64 else hashlib.sha1
