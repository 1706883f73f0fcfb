"""`pybuild load`: images of an archive, brought into the store. stdout gets their names, as with docker."""

from __future__ import annotations

import os
import sys

from builder.archives.images import images
from builder.cli.build import platforms
from builder.cli.context_spec import parse_platforms
from builder.cli.progress import shown
from builder.cli.sources import opened
from builder.cli.upkeep import keep_house
from builder.engine.loading import load
from builder.engine.roots import Roots
from builder.events import Notice
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    asked = platforms(parsed, environment)
    wanted = parse_platforms(asked, os.uname().machine)
    root = environment.store_root(parsed.text("root"), os.geteuid())
    with Store(root) as store, shown(environment, quiet=parsed.flag("quiet")) as reporter, store.scratch() as scratch:
        with opened(parsed.text("input") or "-", scratch) as archive:
            # What is not of several platforms is found for each.
            found = {
                (Digest.of(image.config), image.names, image.tag): image
                for platform in wanted
                for image in images(archive, platform, asked=bool(asked))
            }
            loaded = load(archive, list(found.values()), store, Roots(store, unpacks=False), reporter.emit)
        for image in loaded:
            for name in image.names:
                sys.stdout.write(f"Loaded image: {Reference.parse(name).familiar}\n")
            if not image.names:
                sys.stdout.write(f"Loaded image ID: {image.id}\n")
            if image.tag:
                reporter.emit(
                    Notice(f"the archive has only the tag '{image.tag}' of it; name it: pybuild tag {image.id.short} NAME")
                )
        keep_house(store, reporter.emit)
    return 0
