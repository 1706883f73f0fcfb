"""Which step of an earlier build is which of this one, though lines were added, removed and moved. Pure."""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class Mark(NamedTuple):
    """What a step is known by."""

    number: int
    """In its plan."""
    op: str
    """`run`, `copy`, `workdir` or `base`: only steps of one kind are the same."""
    stage: str
    place: int
    """In the stage."""
    text: str
    """Without stage and place."""


def match(now: Sequence[Mark], before: Sequence[Mark]) -> dict[int, int]:
    """For each step of `now`, by number, the step of `before` that it was; each of these once.

    The same text in the same stage comes first, in order; then the same place of the stage; then the same text elsewhere.
    """
    found: dict[int, int] = {}
    taken: set[int] = set()
    for known_by in (_line, _text_in_stage, _place, _text):
        left: dict[tuple[object, ...], list[int]] = {}
        for mark in reversed(before):
            if mark.number not in taken:
                left.setdefault(known_by(mark), []).append(mark.number)
        for mark in now:
            others = left.get(known_by(mark)) if mark.number not in found else None
            if others:
                found[mark.number] = others.pop()
                taken.add(found[mark.number])
    return found


def _line(mark: Mark) -> tuple[object, ...]:
    return mark[1:]


def _text_in_stage(mark: Mark) -> tuple[object, ...]:
    return (mark.op, mark.stage, mark.text)


def _place(mark: Mark) -> tuple[object, ...]:
    return (mark.op, mark.stage, mark.place)


def _text(mark: Mark) -> tuple[object, ...]:
    return (mark.op, mark.text)


def nearest(now: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> int | None:
    """The candidate, by its place, with the fewest inputs that differ; the first of several. None where all differ in so much
    that they are other steps."""
    best: tuple[int, int] | None = None
    for place, candidate in enumerate(candidates):
        if not _is_alike(now, candidate):
            continue
        distance = differing(now, candidate)
        if best is None or distance < best[0]:
            best = (distance, place)
    return best[1] if best else None


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> int:
    """How many inputs differ; of the environment each variable counts."""
    fields = [field for field in (a.keys() | b.keys()) - {"env"} if a.get(field) != b.get(field)]
    old, new = (dict(each.get("env") or ()) for each in (a, b))
    return len(fields) + len([name for name in old.keys() | new.keys() if old.get(name) != new.get(name)])


_IDENTITY = {"run": ("argv",), "copy": ("dest",), "workdir": ("path",)}
"""Of each kind of step, the inputs that make it the same one."""


def _is_alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    op = a.get("op")
    if op != b.get("op") or not isinstance(op, str):
        return False
    # A COPY elsewhere that goes to the same place is another one, unless it starts from the same files or brings the same.
    own = all(a.get(field) == b.get(field) for field in _IDENTITY.get(op, ()))
    return own and (op != "copy" or a.get("root") == b.get("root") or a.get("content") == b.get("content"))
