"""The request of a build as its image carries it: what was asked for, and digests of all that it was built from. Pure.

It is canonical JSON with a format of its own, and lies beside the image: in the store, and as an annotation of the index's
descriptor in an OCI layout (`oci.image.REQUEST_ANNOTATION`); never in what the image's own digests are made of. What a secret,
an agent or a cache holds is not in it, nor a build argument whose value has credentials.
"""

from __future__ import annotations

import hashlib

from builder import canonical
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
LIMIT = 1 << 20
"""Characters of the text."""


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

    @property
    def root(self) -> str:
        """One digest of all the contents."""
        return digest_of(canonical.dumps([digest for _, _, digest in self.contents]))

    @property
    def digest(self) -> str:
        """What the request is called."""
        return digest_of(canonical.dumps(_fields(self)))


def _fields(request: BuildRequest) -> dict[str, object]:
    return {"format": FORMAT, **request._asdict(), "root": request.root}


def dump(request: BuildRequest) -> str:
    """Canonical: the same text for the same value."""
    return canonical.dumps({**_fields(request), "digest": request.digest})


def digest_of(text: str) -> str:
    """``sha256:`` and 64 digits."""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


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
    if found["format"] != FORMAT:
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
    )
    if dump(request) != text:
        # An edited digest, a field more, or a field less: what is believed must be all that there is.
        raise ValueError("it is not what pybuild writes: it was changed")
    return request


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


def differences(then: BuildRequest, now: BuildRequest) -> tuple[Difference, ...]:
    """What a second request has in another way; `then` is that of the image."""
    found = []
    if then.dockerfile != now.dockerfile:
        found.append(Difference("dockerfile", "the Dockerfile has another text"))
    ours = {(line, name): digest for line, name, digest in now.contents}
    if then.dockerfile == now.dockerfile:
        for line, name, known in then.contents:
            if ours.get((line, name), known) != known:
                found.append(Difference("content", f"line {line}, {name}: other files"))
    elif then.root != now.root:
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
