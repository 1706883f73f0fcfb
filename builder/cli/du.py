"""`pybuild du`: what takes space in the store. Changes nothing in it."""

from __future__ import annotations

import os
import sys
from contextlib import closing

from builder.cli.columns import table
from builder.cli.things import as_json, matches, parse_filters, rows
from builder.report import units
from builder.store.collect import ALL_CACHE
from builder.store.inventory import KINDS
from builder.store.peek import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.store.usage import Sized


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    filters = parse_filters(parsed.texts("filter"))
    root = environment.store_root(parsed.text("root"), os.geteuid())
    found = [one for one in contents(root) if matches(one, filters)]
    text = _json(found) if parsed.text("format") == "json" else _text(found, parsed.flag("verbose"))
    sys.stdout.write(text)
    return 0


def contents(root: str) -> list[Sized]:
    """Everything in the store at `root`; nothing where there is none. Raises StoreError."""
    with closing(look(root)) as peek:
        return peek.contents()


def is_reclaimable(one: Sized) -> bool:
    """Whether `prune --all --cache-mounts` could remove it now, or, of images without a name, would forget it."""
    return one.thing.kind in ALL_CACHE and not one.thing.in_use


def _text(found: list[Sized], verbose: bool) -> str:
    by_kind: list[tuple[str, ...]] = [("TYPE", "ITEMS", "SIZE", "RECLAIMABLE")]
    for kind in KINDS:
        some = [one for one in found if one.thing.kind == kind]
        if some:
            sizes = (sum(one.size for one in some), sum(one.size for one in some if is_reclaimable(one)))
            by_kind.append((kind, str(len(some)), *map(units.size, sizes)))
    total = sum(one.size for one in found)
    reclaimable = sum(one.size for one in found if is_reclaimable(one))
    details = table(rows(found)) + "\n" if verbose else ""
    return f"{details}{table(by_kind)}\nReclaimable: {units.size(reclaimable)}\nTotal:       {units.size(total)}\n"


def _json(found: list[Sized]) -> str:
    import json

    kinds = {kind: [one for one in found if one.thing.kind == kind] for kind in KINDS}
    document = {
        "v": 1,
        "bytes": sum(one.size for one in found),
        "reclaimable": sum(one.size for one in found if is_reclaimable(one)),
        "types": [
            {
                "type": kind,
                "items": len(some),
                "bytes": sum(one.size for one in some),
                "reclaimable": sum(one.size for one in some if is_reclaimable(one)),
            }
            for kind, some in kinds.items()
        ],
        "items": [{**as_json(one), "reclaimable": is_reclaimable(one)} for one in found],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
