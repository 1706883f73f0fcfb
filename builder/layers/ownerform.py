"""How folders of the store say whose their files are. A small module: a cached build asks it, and `owners` takes more."""

from __future__ import annotations

_known: list[str] = []


def form() -> str:
    """Empty where the kernel says it; `noted` where notes do, in a user namespace with a single user; in one with more ids its
    map: what is another id there is another owner on the disk.

    A folder of one form says nothing in another. A process does not change its namespace once it has looked into a store.
    """
    if not _known:
        with open("/proc/self/uid_map", "rb") as file:
            extents = [line.split() for line in file]
        if len(extents) == 1 and extents[0][2] == b"1":
            _known.append("noted")
        elif extents == [[b"0", b"0", b"4294967295"]]:
            _known.append("")
        else:
            _known.append(",".join(b":".join(extent).decode() for extent in extents))
    return _known[0]


def noted() -> bool:
    return form() == "noted"


def has_map() -> bool:
    """Whether this is a user namespace with some ids."""
    return form() not in ("", "noted")


def ids() -> int:
    """How many user ids from 0 on there are in this user namespace; 0 where there is none of that kind."""
    end = 0
    for first, _, count in sorted(tuple(map(int, extent.split(":"))) for extent in form().split(",")) if has_map() else ():
        end = first + count if first == end else end
    return end


def outside(uid: int, gid: int) -> str:
    """Which of the two no file and no process can have here, in words; empty where both can be had."""
    if not has_map():
        return ""
    for what, id, path in (("user", uid, "/proc/self/uid_map"), ("group", gid, "/proc/self/gid_map")):
        with open(path, "rb") as file:
            extents = [tuple(map(int, line.split())) for line in file]
        if not any(first <= id < first + count for first, _, count in extents):
            return f"the {what} {id} is not among the ids of this user namespace: 0 to {max(f + n for f, _, n in extents) - 1}"
    return ""
