"""What lies in the store as people and programs read it, and the filters by which they choose of it (`du`, `prune`)."""

from __future__ import annotations

import time

from builder.cli.garbage import seconds
from builder.errors import UsageError, did_you_mean
from builder.report import units
from builder.store.inventory import KINDS
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.store.inventory import Kind
    from builder.store.usage import Sized

_NAMES = ("until", "unused-for", "type", "id")
_BUILDX: dict[str, tuple[Kind, ...]] = {
    "regular": ("build-cache", "compressed"),
    "exec.cachemount": ("cache-mount",),
    "source.git.checkout": ("download",),
    "source.local": (),
    "frontend": (),
    "internal": (),
}
"""buildx's own types: what they come to here."""


class Filters(NamedTuple):
    kinds: frozenset[Kind] | None
    """None: all."""
    ids: tuple[str, ...]
    unused_for: int
    """Seconds."""


def parse_filters(texts: Sequence[str]) -> Filters:
    """`--filter` as buildx has it, several of a kind meaning any of them. Raises UsageError."""
    kinds: list[Kind] | None = None
    ids = []
    unused_for = 0
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in _NAMES:
            raise UsageError(
                f"the filter '{text}' is not known",
                hint=(did_you_mean(name, _NAMES) if name not in _NAMES else None)
                or f"it looks like {', '.join(f'{known}=...' for known in _NAMES)}",
            )
        if name == "id":
            id = value.removeprefix("sha256:")
            if not id:
                # A script's variable that is not set must not mean everything.
                raise UsageError(f"the filter '{text}' names nothing", hint="an id, or how it begins: pybuild du --verbose")
            ids.append(id)
        elif name == "type":
            kinds = [*(kinds or []), *_kinds(value)]
        else:
            unused_for = seconds(value)
    return Filters(None if kinds is None else frozenset(kinds), tuple(ids), unused_for)


def _kinds(text: str) -> tuple[Kind, ...]:
    known = tuple(kind for kind in KINDS if kind == text)
    if known:
        return known
    if text in _BUILDX:
        return _BUILDX[text]
    raise UsageError(
        f"there is no type '{text}' in the store", hint=did_you_mean(text, KINDS) or f"they are {', '.join(KINDS)}"
    )


def matches(one: Sized, filters: Filters) -> bool:
    thing = one.thing
    return (
        (filters.kinds is None or thing.kind in filters.kinds)
        and (not filters.ids or any(thing.id.removeprefix("sha256:").startswith(id) for id in filters.ids))
        and int(time.time()) - thing.used >= filters.unused_for
    )


def rows(sized: Iterable[Sized]) -> list[tuple[str, ...]]:
    """For a person, by kind and the last use, under a head."""
    out: list[tuple[str, ...]] = [("ID", "TYPE", "CREATED", "LAST USED", "SIZE", "STATUS", "DESCRIPTION")]
    for one in sorted(sized, key=lambda one: (KINDS.index(one.thing.kind), one.thing.used)):
        thing = one.thing
        description = " ".join(thing.description.split())
        id = thing.id.removeprefix("sha256:")
        out.append(
            (
                id[:12] if len(id) == 64 else id,
                thing.kind,
                _date(thing.created),
                _date(thing.used),
                units.size(one.size),
                _status(one),
                description if len(description) <= 60 else description[:59] + "…",
            )
        )
    return out


def _status(one: Sized) -> str:
    images = one.thing.images
    if images:
        return "in an image" if len(images) == 1 else f"in {len(images)} images"
    return "in use" if one.thing.in_use else "reclaimable"


def as_json(one: Sized) -> dict[str, object]:
    """One thing, for programs. Times are seconds since 1970, null where they are not known."""
    thing = one.thing
    return {
        "id": thing.id,
        "type": thing.kind,
        "bytes": one.size,
        "created": thing.created or None,
        "used": thing.used or None,
        "in_use": thing.in_use,
        "images": list(thing.images),
        "description": thing.description,
    }


def _date(when: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when)) if when else "-"
