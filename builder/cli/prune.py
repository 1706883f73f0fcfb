"""`pybuild prune`: free space in the store. What no image needs and nobody uses goes, or a part of it."""

from __future__ import annotations

import os
import sys

from builder.cli.columns import table
from builder.cli.things import as_json, parse_filters, rows
from builder.errors import StoreError, UsageError
from builder.report import units
from builder.store.collect import ALL_CACHE, CACHE, Rule
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.store.usage import Sized


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """Prints what was freed. Asks before, when a person sits at a terminal."""
    rule = _rule(parsed)
    dry = parsed.flag("dry-run")
    root = environment.store_root(parsed.text("root"), os.geteuid())
    if not (dry or parsed.flag("force")) and os.isatty(0) and not _agreed(rule):
        sys.stdout.write("Nothing was removed.\n")
        return 0
    try:
        removed = _removed(root, rule, dry_run=dry)
    except StoreError as error:
        from builder.store import emergency

        # On a full disk not even the rows of what goes can be removed.
        if dry or not emergency.is_full(root):
            raise
        room = emergency.make_room(root, rule)
        if not room:
            raise emergency.explained(error) from error
        removed = room + _removed(root, rule, dry_run=False)
    total = sum(one.size for one in removed)
    if parsed.text("format") == "json":
        import json

        document = {"v": 1, "dry_run": dry, "bytes": total, "items": [as_json(one) for one in removed]}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return 0
    if (parsed.flag("verbose") or dry) and removed:
        sys.stdout.write(table(rows(removed)) + "\n")
    sys.stdout.write(f"Total: {units.size(total)}\n")
    return 0


def _removed(root: str, rule: Rule, *, dry_run: bool) -> list[Sized]:
    if not os.path.lexists(root):
        return []  # Nor is a store made to find it empty.
    with Store(root) as store:
        return store.housekeeping().remove((rule,), dry_run=dry_run)


def _rule(parsed: Parsed) -> Rule:
    filters = parse_filters(parsed.texts("filter"))
    kinds = ALL_CACHE if parsed.flag("cache-mounts") else CACHE
    if filters.kinds is not None:
        lasting = sorted(filters.kinds - ALL_CACHE)
        if lasting:
            hint = "remove images by 'pybuild rmi', those without a name by --all" if "image" in lasting else None
            raise UsageError(f"'{lasting[0]}' is nothing that prune removes", hint=hint)
        kinds = filters.kinds
    reserve = [parsed.number(name) for name in ("keep-storage", "reserved-space")]
    return Rule(
        kinds,
        filters.ids,
        filters.unused_for,
        parsed.number("max-used-space"),
        parsed.number("min-free-space") or 0,
        max(size or 0 for size in reserve),
        # Who asks for one type of things does not ask for images.
        parsed.flag("all") and filters.kinds is None,
    )


def _agreed(rule: Rule) -> bool:
    what = ["cache that no image needs"]
    if rule.nameless:
        what.insert(0, "all images without a name")
    if "cache-mount" in rule.kinds:
        what.append("cache mounts")
    sys.stderr.write(f"This removes {', '.join(what)}. Go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
