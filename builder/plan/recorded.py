"""The request of a build as its image carries it: what was asked for, and digests of all that it was built from. Pure.

It is canonical JSON with a format of its own, and lies beside the image: in the store, and as an annotation of the index's
descriptor in an OCI layout (`oci.image.REQUEST_ANNOTATION`); never in what the image's own digests are made of. What a secret,
an agent or a cache holds is not in it, nor a build argument whose value has credentials.
"""

from __future__ import annotations

from builder import canonical
from builder.hashing import sha256
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from builder.plan.listing import Rows

FORMAT = 2
"""The first one has no files."""
LIMIT = 1 << 20
"""Characters of the text."""
FILES_LIMIT = 384 << 10
"""Characters of all the listings in it."""


class BuildRequest(NamedTuple):
    version: str
    """Of pybuild."""
    dockerfile: str
    """The digest of its text."""
    path: str
    """The Dockerfile's in the context; empty where it lies elsewhere."""
    target: str
    args: tuple[tuple[str, str], ...]
    """Build arguments that were given and that the Dockerfile declares."""
    withheld: tuple[str, ...]
    """The names of those whose values have credentials."""
    labels: tuple[tuple[str, str], ...]
    platform: str
    epoch: int | None
    """SOURCE_DATE_EPOCH."""
    network: str
    hosts: tuple[tuple[str, str], ...]
    shm_size: int
    ulimits: tuple[tuple[str, int, int], ...]
    contexts: tuple[str, ...]
    """The names of contexts beside the main one."""
    bases: tuple[tuple[str, str], ...]
    """Names of base images, and their chain IDs; empty for scratch."""
    contents: tuple[tuple[int, str, str], ...]
    """What was taken from contexts, URLs and repositories: line, instruction, and the digest of names, modes and bytes."""
    files: tuple[tuple[str, Rows], ...] | None = ()
    """Which files some of these digests stand for (`builder.plan.listing`). None: it was written in format 1."""

    @property
    def root(self) -> str:
        """One digest of all the contents."""
        return digest_of(canonical.dumps([digest for _, _, digest in self.contents]))

    @property
    def digest(self) -> str:
        """What the request is called."""
        return digest_of(canonical.dumps(_fields(self)))


def _fields(request: BuildRequest) -> dict[str, object]:
    fields = {"format": FORMAT, **request._asdict(), "root": request.root}
    if request.files is None:
        fields["format"] = 1
        del fields["files"]
    return fields


def dump(request: BuildRequest) -> str:
    """Canonical: the same text for the same value."""
    return canonical.dumps({**_fields(request), "digest": request.digest})


def digest_of(text: str) -> str:
    """``sha256:`` and 64 digits."""
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def parse(text: str) -> BuildRequest:
    """What `dump` wrote. Raises ValueError, with words for a person, for anything else: it may come from anybody."""
    if len(text) > LIMIT:
        raise ValueError(f"it is longer than {LIMIT} characters")
    try:
        found: Any = canonical.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise ValueError("it has no format")
    if not 1 <= found["format"] <= FORMAT:
        raise ValueError(f"it has the format {found['format']}, and this pybuild knows {FORMAT}")
    texts = {name: _text(found, name) for name in ("version", "dockerfile", "path", "target", "platform", "network")}
    epoch = found.get("epoch")
    if epoch is not None:
        epoch = _number(found, "epoch")
    request = BuildRequest(
        **texts,
        args=_rows(found, "args", (str, str)),
        withheld=tuple(
            name for (name,) in _rows({"withheld": [[name] for name in _list(found, "withheld")]}, "withheld", (str,))
        ),
        labels=_rows(found, "labels", (str, str)),
        epoch=epoch,
        hosts=_rows(found, "hosts", (str, str)),
        shm_size=_number(found, "shm_size"),
        ulimits=_rows(found, "ulimits", (str, int, int)),
        contexts=tuple(
            name for (name,) in _rows({"contexts": [[name] for name in _list(found, "contexts")]}, "contexts", (str,))
        ),
        bases=_rows(found, "bases", (str, str)),
        contents=_rows(found, "contents", (int, str, str)),
        files=None
        if found["format"] == 1
        else tuple(
            (digest, _rows({"files": rows}, "files", (str, str))) for digest, rows in _rows(found, "files", (str, list))
        ),
    )
    if dump(request) != text:
        # An edited digest, a field more, or a field less: what is believed must be all that there is.
        raise ValueError("it is not what pybuild writes: it was changed")
    if any("\0" in each for each in _texts(found)):
        raise ValueError("there is a NUL in it")
    if request.path.startswith("/") or ".." in request.path.split("/"):
        raise ValueError("its Dockerfile lies outside of the build context")
    if request.network not in ("default", "host", "none"):
        raise ValueError(f"there is no network '{request.network}'")
    return request


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _text(found: Any, name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise ValueError(f"its '{name}' is no text")
    return value


def _number(found: Any, name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"its '{name}' is no number")
    return value


def _list(found: Any, name: str) -> list[Any]:
    value = found.get(name)
    if not isinstance(value, list):
        raise ValueError(f"its '{name}' is no list")
    return value


def _rows(found: Any, name: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    rows = _list(found, name)
    for row in rows:
        well = isinstance(row, list) and len(row) == len(kinds)
        if not well or any(not isinstance(cell, kind) or isinstance(cell, bool) for cell, kind in zip(row, kinds)):
            raise ValueError(f"its '{name}' is damaged")
    return tuple(map(tuple, rows))


class Difference(NamedTuple):
    kind: str
    """``dockerfile``, ``content``, ``base``, ``flag`` or ``version``."""
    text: str
    files: Rows = ()
    """Of a content the paths that differ, each with `changed`, `added` or `removed`; none where they are not known."""


def differences(then: BuildRequest, now: BuildRequest) -> tuple[Difference, ...]:
    """What a second request has in another way; `then` is that of the image."""
    found = []
    same = then.dockerfile == now.dockerfile
    if not same:
        found.append(Difference("dockerfile", "the Dockerfile has another text"))
    # In another Dockerfile the same instruction may be on another line.
    ours = {(same and line, name): digest for line, name, digest in now.contents}
    for line, name, known in then.contents:
        other = ours.get((same and line, name), known)
        if other != known:
            found.append(Difference("content", f"line {line}, {name}: other files", _files(then, known, now, other)))
    if not same and then.root != now.root and not any(each.kind == "content" for each in found):
        found.append(Difference("content", "other files are taken from the context"))
    bases = dict(now.bases)
    for name, known in then.bases:
        if bases.get(name, known) != known:
            found.append(Difference("base", f"{name} is another image now: it was {known}"))
    for name in ("target", "args", "labels", "platform", "epoch", "network", "hosts", "shm_size", "ulimits", "contexts"):
        if (before := getattr(then, name)) != (after := getattr(now, name)):
            found.append(Difference("flag", f"{_FLAGS[name]}: {_shown(before)} then, {_shown(after)} now"))
    if then.version != now.version:
        found.append(Difference("version", f"it was built by pybuild {then.version}, this is {now.version}"))
    return tuple(found)


def _files(then: BuildRequest, known: str, now: BuildRequest, other: str) -> Rows:
    from builder.plan import listing  # for those who compare

    before, after = dict(then.files or ()).get(known), dict(now.files or ()).get(other)
    return listing.changes(before, after) if before and after else ()


_FLAGS = {
    "target": "--target",
    "args": "--build-arg",
    "labels": "--label",
    "platform": "--platform",
    "epoch": "SOURCE_DATE_EPOCH",
    "network": "--network",
    "hosts": "--add-host",
    "shm_size": "--shm-size",
    "ulimits": "--ulimit",
    "contexts": "--build-context",
}


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join("=".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in value) or "none"
    return "none" if value in (None, "") else str(value)
