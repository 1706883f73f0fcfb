"""`pybuild pull IMAGE...`: images of registries, brought into the store. stdout gets their ids."""

from __future__ import annotations

import os
import sys

from builder.cli.build import platforms
from builder.cli.context_spec import parse_platform
from builder.cli.progress import shown
from builder.cli.registries import registry_access
from builder.cli.upkeep import keep_house
from builder.engine.pulling import pull
from builder.engine.roots import Roots
from builder.oci.reference import Reference
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    references = [Reference.parse(name) for name in parsed.positionals]
    platform = parse_platform(platforms(parsed, environment), os.uname().machine)
    access = registry_access(parsed, environment)
    root = environment.store_root(parsed.text("root"), os.geteuid())
    with Store(root) as store, shown(environment, quiet=parsed.flag("quiet")) as reporter:
        roots = Roots(store)
        for reference in references:
            found = pull(reference, access, store, roots, platform, reporter.emit)
            sys.stdout.write(f"{found.config}\n")
        keep_house(store, reporter.emit)
    return 0
