"""Two merged trees compared, path by path. Pure."""

from __future__ import annotations

from builder.layers.entry import EPOCH
from builder.layers.names import show
from builder.values import NamedTuple
from builder.verify.difference import Aspect, FileChange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.layers.entry import Entry
    from builder.layers.index import Tree

_LONGEST = 200
"""Characters of one value that is shown."""


class Image(NamedTuple):
    """The merged tree of an image, and for each layer whether it ships the constant time, whatever its entries' true times."""

    tree: Tree
    constant: tuple[bool, ...]

    def groups(self) -> dict[bytes, tuple[bytes, ...]]:
        """Each path that has hard links, to all names of its content."""
        owners: dict[bytes, list[bytes]] = {}
        for entry in self.tree.walk(b""):
            if entry.kind == "hardlink":
                owners.setdefault(entry.link, [entry.link]).append(entry.path)
        return {path: tuple(sorted(group)) for group in owners.values() for path in group}

    def is_constant(self, path: bytes) -> bool:
        number = self.tree.layer_of(path)
        # A root that no layer says anything of has no time.
        return number < 0 or self.constant[number]


def compare_trees(a: Image, b: Image) -> Iterator[FileChange]:
    """What differs, in path order. True times alone are no difference, and neither is a name of a hard link's content that
    owns it in one tree and not in the other."""
    groups_a, groups_b = a.groups(), b.groups()
    left, right = a.tree.walk(b""), b.tree.walk(b"")
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.path < other.path):
            assert one is not None
            yield FileChange(one.path, "removed", a=one, layer_a=a.tree.layer_of(one.path))
            one = next(left, None)
        elif one is None or other.path < one.path:
            yield FileChange(other.path, "added", b=other, layer_b=b.tree.layer_of(other.path))
            other = next(right, None)
        else:
            path = one.path
            constant = a.is_constant(path), b.is_constant(path)
            names = groups_a.get(path, ()), groups_b.get(path, ())
            if one != other or constant[0] != constant[1] or names[0] != names[1]:
                aspects = tuple(_aspects(one, other, constant, names))
                if any(aspect.name != "true-mtime" for aspect in aspects):
                    yield FileChange(path, "changed", aspects, one, other, a.tree.layer_of(path), b.tree.layer_of(path))
            one, other = next(left, None), next(right, None)


def kind_of(entry: Entry) -> str:
    """What it is, whoever owns its content."""
    return "file" if entry.kind == "hardlink" else entry.kind


def _aspects(
    a: Entry, b: Entry, constant: tuple[bool, bool], names: tuple[tuple[bytes, ...], tuple[bytes, ...]]
) -> Iterator[Aspect]:
    kinds = kind_of(a), kind_of(b)
    if kinds[0] != kinds[1]:
        yield Aspect("type", *kinds)
    if a.mode != b.mode:
        yield Aspect("mode", f"{a.mode:04o}", f"{b.mode:04o}")
    if (a.uid, a.gid) != (b.uid, b.gid):
        yield Aspect("owner", f"{a.uid}:{a.gid}", f"{b.uid}:{b.gid}")
    if kinds == ("file", "file"):
        if a.size != b.size:
            yield Aspect("size", str(a.size), str(b.size))
        if a.digest != b.digest:
            yield Aspect("content", f"sha256:{a.digest}", f"sha256:{b.digest}")
    if kinds == ("symlink", "symlink") and a.link != b.link:
        yield Aspect("target", _cut(show(a.link)), _cut(show(b.link)))
    if a.rdev != b.rdev:
        yield Aspect("device", "{}:{}".format(*a.rdev), "{}:{}".format(*b.rdev))
    if a.xattrs != b.xattrs:
        yield Aspect("xattrs", _xattrs(a, b), _xattrs(b, a))
    if names[0] != names[1]:
        yield Aspect("links", _names(names[0]), _names(names[1]))
    ships = [EPOCH * 10**9 if is_constant else entry.mtime for entry, is_constant in zip((a, b), constant)]
    if ships[0] != ships[1] and (a.path or not any(constant)):
        # The root has none where no layer names it.
        yield Aspect("mtime", _time(ships[0]), _time(ships[1]))
    if all(constant) and a.mtime != b.mtime and a.mtime and b.mtime:
        yield Aspect("true-mtime", _time(a.mtime), _time(b.mtime))


def _time(nanoseconds: int) -> str:
    """RFC 3339; the count of seconds where the year has not four digits."""
    seconds, rest = divmod(nanoseconds, 10**9)
    days, second = divmod(seconds, 86400)
    # Civil from days, in years that begin in March (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    era, of_era = divmod(days + 719468, 146097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * of_year + 2) // 153
    day, month = of_year - (153 * from_march + 2) // 5 + 1, from_march + (3 if from_march < 10 else -9)
    year = year_of_era + era * 400 + (month <= 2)
    if not 0 <= year <= 9999:
        return f"{seconds} s"
    part = f".{rest:09d}" if rest else ""
    return f"{year:04}-{month:02}-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{part}Z"


def _xattrs(own: Entry, other: Entry) -> str:
    """Those that the other has not, or not so."""
    return _cut(", ".join(f"{show(name)}={value.hex()}" for name, value in own.xattrs if (name, value) not in other.xattrs))


def _names(group: tuple[bytes, ...]) -> str:
    return _cut(", ".join(f"/{show(path)}" for path in group))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
