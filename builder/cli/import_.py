"""`pybuild import SOURCE [NAME]`: a root file system becomes an image."""

from __future__ import annotations

import os
import sys

from builder.cli.context_spec import parse_platform
from builder.cli.lookup import new_name
from builder.engine.times import created
from builder.errors import UsageError
from builder.importing import import_image
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """Prints the image's id."""
    source, *names = parsed.positionals
    reference = new_name(names[0]) if names else None
    if source == "-":
        if os.isatty(0):
            raise UsageError("an archive is not read from a terminal", hint="redirect standard input, or name a file")
        source = "/dev/stdin"
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        platform = parse_platform(parsed.texts("platform"), os.uname().machine)
        image_id = import_image(
            source,
            store,
            platform,
            created=created(environment.source_date_epoch),
            warn=lambda message: print(f"warning: {message}", file=sys.stderr),
        )
        store.tag(str(reference) if reference else "", image_id)
    print(image_id)
    return 0
