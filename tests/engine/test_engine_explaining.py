"""Which files of a COPY changed: two layers side by side, entry by entry, against a model that has all of both at hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.engine.explaining import compared
from builder.layers.entry import Entry
from builder.layers.names import member

NAMES = st.sampled_from(["a", "b", "a.b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
WHAT = st.tuples(st.sampled_from(["file", "dir", "whiteout"]), st.sampled_from("12"), st.sampled_from([0o644, 0o600]))
LAYERS = st.dictionaries(PATHS, WHAT, max_size=8)
Layer = dict[str, tuple[str, str, int]]


def entries(layer: Layer) -> list[Entry]:
    """In canonical order; below what is no folder is nothing."""
    out = []
    for path, (kind, content, mode) in layer.items():
        above = {path[:at] for at in range(len(path)) if path[at] == "/"}
        if all(layer.get(folder, ("dir",))[0] == "dir" for folder in above):
            digest = content * 64 if kind == "file" else ""
            out.append(Entry(path.encode(), kind, mode if kind != "whiteout" else 0, digest=digest))  # type: ignore[arg-type]
    return sorted(out, key=member)


def expected(before: list[Entry], now: list[Entry], dest: str) -> dict[str, set[str]]:
    sides = []
    for side in (before, now):
        found = {}
        for entry in side:
            path = entry.path.decode()
            on_the_way = entry.kind == "dir" and (dest == path or dest.startswith(f"{path}/"))
            if entry.kind != "whiteout" and not on_the_way:
                found[path] = entry
        sides.append(found)
    old, new = sides
    told: dict[str, set[str]] = {"changed": set(), "added": set(), "removed": set(), "modes": set()}
    for path in old.keys() | new.keys():
        name = path.rpartition("/")[2] if path == dest else path.removeprefix(f"{dest}/") if dest else path
        name = f"/{path}" if dest and name == path and path != dest else name
        if path in old and path in new:
            if (old[path].kind, old[path].digest) != (new[path].kind, new[path].digest):
                told["changed"].add(name)
            elif old[path].mode != new[path].mode:
                told["modes"].add(f"{name} ({old[path].mode:o} -> {new[path].mode:o})")
        else:
            one = old if path in old else new
            if one[path].kind != "dir" or not any(other.startswith(f"{path}/") for other in one):
                told["added" if one is new else "removed"].add(name)
    return told


@given(LAYERS, LAYERS, st.sampled_from(["", "a", "a/b"]))
def test_two_layers_side_by_side(before: Layer, now: Layer, dest: str) -> None:
    sides = entries(before), entries(now)
    found = compared(*sides, f"/{dest}")
    for kind, names in expected(*sides, dest).items():
        told = getattr(found, kind)
        assert len(told) == len(names)
        assert sorted(str(told).split(" and ")[0].split(", ")) == (sorted(names)[:5] or [""])
