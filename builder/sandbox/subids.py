"""Subordinate ids: who may use which (subuid(5), subgid(5)), and the map of a user namespace that is made of them. Pure.

In the namespace the user keeps the own number, so that ssh, git and every other program that the builder starts takes the
user for who it is. The subordinate ids are all others, 0 first: root of an image is a user of the host that nobody is.
"""

from __future__ import annotations

from builder.values import NamedTuple

_MOST_EXTENTS = 340
"""user_namespaces(7)."""
_LAST_ID = (1 << 32) - 2


class Extent(NamedTuple):
    """`length` ids from `inside` in the namespace are those from `outside` of the parent's."""

    inside: int
    outside: int
    length: int


def ranges(text: str, name: str, uid: int) -> list[tuple[int, int]]:
    """First id and count of each range that a file like /etc/subuid gives to the user, by name or by number, in its order.
    Lines that say nothing usable are passed over, as the tools of shadow do."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) != 3 or fields[0] not in (name, str(uid)):
            continue
        if all(field.isascii() and field.isdigit() and len(field) <= 10 for field in fields[1:]):
            start, count = int(fields[1]), int(fields[2])
            if count > 0 and start + count - 1 <= _LAST_ID:
                found.append((start, count))
    return found


def extents(own: int, found: list[tuple[int, int]]) -> tuple[Extent, ...]:
    """The map: `own` is itself, and the ids 0, 1, ... but for `own` are those of the ranges. What no map can hold, and what
    is there twice, is left out."""
    left = _apart(own, found)
    out: list[Extent] = []
    inside = 0
    for start, count in left:
        if inside <= own < inside + count:
            before = own - inside
            if before:
                out.append(Extent(inside, start, before))
            start, count, inside = start + before, count - before, own + 1
        if count:
            out.append(Extent(inside, start, count))
            inside += count
    out = out[: _MOST_EXTENTS - 1]
    out.append(Extent(own, own, 1))
    return tuple(sorted(out))


def keeps(before: tuple[str, ...], now: tuple[str, ...]) -> bool:
    """Whether each id of one map (inside, outside and count of each extent) is the same by the other, which may have more."""
    later = parsed(now)
    for inside, outside, length in parsed(before):
        end = inside + length
        while inside < end:
            same = next((each for each in later if each.inside <= inside < each.inside + each.length), None)
            if same is None or same.outside - same.inside != outside - inside:
                return False
            step = min(end, same.inside + same.length) - inside
            inside, outside = inside + step, outside + step
    return True


def parsed(words: tuple[str, ...]) -> tuple[Extent, ...]:
    """The extents of a map as newuidmap takes it."""
    numbers = list(map(int, words))
    return tuple(Extent(*numbers[at : at + 3]) for at in range(0, len(numbers), 3))


def _apart(own: int, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges without what an earlier one has, and without `own`: the kernel takes no id twice."""
    taken = [(own, 1)]
    out = []
    for start, count in found:
        pieces = [(start, count)]
        for other, length in taken:
            pieces = [piece for first, size in pieces for piece in _without(first, size, other, length)]
        out += pieces
        taken.append((start, count))
    return out


def _without(start: int, count: int, other: int, length: int) -> list[tuple[int, int]]:
    end, other_end = start + count, other + length
    pieces = [(start, min(end, other) - start), (max(start, other_end), end - max(start, other_end))]
    return [(first, size) for first, size in pieces if size > 0]


def reaches(extents: tuple[Extent, ...]) -> int:
    """How many ids from 0 on are all there."""
    end = 0
    for inside, _, length in extents:
        if inside != end:
            break
        end += length
    return end
