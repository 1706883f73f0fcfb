"""The members of an archive or of a folder by their names. Links are names of other members, and lead nowhere else."""

from __future__ import annotations

import hashlib
import json
import os

from builder.errors import UsageError
from builder.oci.digest import Digest
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

MOST_MEMBERS = 100_000
"""Docker's old archives have four for each layer."""
_LINKS = 8
_CHUNK = 1 << 20
_LONGEST = 4096
_MESSAGE = 400
_AGAIN = "fetch or make it again"


class Regular(NamedTuple):
    """`at` is where the content begins in the file that holds it."""

    at: int
    size: int


class Link(NamedTuple):
    """A symlink or a hard link; `target` is the member that it leads to."""

    target: str


Member = Regular | Link


class Archive:
    """`opened` gives a descriptor from which the content of a member can be read at its place. Raises UsageError."""

    def __init__(self, shown: str, members: Mapping[str, Member], opened: Callable[[str], AbstractContextManager[int]]) -> None:
        self.shown = shown
        """What errors call it."""
        self._members = members
        self._opened = opened

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def size(self, name: str) -> int:
        return self._get(name)[1].size

    def head(self, name: str, size: int = 16) -> bytes:
        found, member = self._get(name)
        with self._opened(found) as descriptor:
            return os.pread(descriptor, min(size, member.size), member.at)

    def read(self, name: str, limit: int) -> bytes:
        """The content of at most `limit` bytes."""
        size = self.size(name)
        if size > limit:
            raise self.wrong(f"'{name}' has {size} bytes, and may have {limit}")
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        found, member = self._get(name)
        with self._opened(found) as descriptor:
            done = 0
            while done < member.size:
                chunk = os.pread(descriptor, min(_CHUNK, member.size - done), member.at + done)
                if not chunk:
                    raise self.wrong(f"'{name}' ends too early")
                done += len(chunk)
                yield chunk

    def digest(self, name: str, algorithm: str = "sha256") -> Digest:
        hasher = hashlib.new(algorithm)
        for chunk in self.chunks(name):
            hasher.update(chunk)
        return Digest(algorithm, hasher.hexdigest())

    def json(self, name: str, limit: int) -> Any:
        try:
            return json.loads(self.read(name, limit))
        except (ValueError, RecursionError):
            raise self.wrong(f"its '{name}' is no JSON") from None

    def wrong(self, what: str, hint: str | None = _AGAIN) -> UsageError:
        # What it says of itself may be megabytes.
        said = what if len(what) <= _MESSAGE else f"{what[:_MESSAGE]}..."
        return UsageError(f"'{self.shown}' is damaged: {said}", hint=hint)

    def _get(self, name: str) -> tuple[str, Regular]:
        found = self._find(name)
        if found is None:
            raise self.wrong(f"it has no '{name}'")
        return found

    def _find(self, name: str) -> tuple[str, Regular] | None:
        for _ in range(_LINKS):
            member = self._members.get(name)
            match member:
                case None:
                    return None
                case Regular():
                    return name, member
                case Link(target):
                    name = target
        raise self.wrong(f"the links of '{name}' lead nowhere")


def member_name(raw: bytes, shown: str) -> str:
    """A member's name in its one form: without `./` and empty parts. Raises UsageError for one that leads out."""
    name = raw.decode("utf-8", "surrogateescape")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or len(raw) > _LONGEST:
        said = name[:100].encode("utf-8", "backslashreplace").decode()
        raise UsageError(f"'{shown}' holds the name '{said}', which leads out of it", hint="no image tool writes such names")
    return "/".join(parts)


def link_target(name: str, target: bytes, shown: str) -> str:
    """What a symlink at `name` leads to, from the top. Raises UsageError where that is outside."""
    text = target.decode("utf-8", "surrogateescape")
    parts = name.split("/")[:-1]
    for part in text.split("/"):
        if part == ".." and not parts:
            text = "/"
            break
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if text.startswith("/") or not parts or len(target) > _LONGEST:
        raise UsageError(f"'{shown}' holds the link '{name}', which leads out of it", hint="no image tool writes such links")
    return "/".join(parts)
