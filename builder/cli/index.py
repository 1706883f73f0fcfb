"""`pybuild index create`: images of registries joined into one for several platforms. stdout gets the digest of the index."""

from __future__ import annotations

import json
import sys

from builder.cli.lookup import new_name
from builder.cli.progress import shown
from builder.cli.registries import registry_access
from builder.errors import UsageError, did_you_mean
from builder.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed

_VERBS = ("create",)


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    verb, *sources = parsed.positionals
    if verb not in _VERBS:
        hint = did_you_mean(verb, _VERBS) or "there is: pybuild index create -t NAME:TAG IMAGE..."
        raise UsageError(f"'{verb}' is nothing that is done to an index", hint=hint)
    if not sources:
        raise UsageError("an index needs images", hint="pybuild index create -t NAME:TAG IMAGE...")
    targets = [new_name(text) for text in parsed.texts("tag")]
    dry_run = parsed.flag("dry-run")
    if not targets and (not dry_run or parsed.flag("append")):
        raise UsageError("the index needs a name", hint="add -t registry.example/name:tag")
    from builder.engine.joiningimages import create

    with shown(environment, quiet=parsed.flag("quiet")) as reporter:
        made = create(
            [Reference.parse(text) for text in sources],
            targets,
            registry_access(parsed, environment),
            reporter.emit,
            annotations=_annotations(parsed),
            append=parsed.flag("append"),
            dry_run=dry_run,
        )
    sys.stdout.write(f"{json.dumps(json.loads(made.data), indent=2)}\n" if dry_run else f"{made.digest}\n")
    return 0


def _annotations(parsed: Parsed) -> dict[str, str]:
    """`NAME=VALUE`, or as buildx has it with the prefix `index:`. Raises UsageError for a place that is not built."""
    found = {}
    for name, value in parsed.pairs("annotation").items():
        place, colon, rest = name.partition(":")
        if colon and place.partition("[")[0] in ("manifest", "manifest-descriptor", "index-descriptor"):
            raise UsageError(f"annotations of '{place}' are not built yet", hint="index:NAME=VALUE is one of the index")
        found[rest if colon and place == "index" else name] = value or ""
    return found
