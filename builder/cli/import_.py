"""`pybuild import SOURCE [NAME]`: a root file system becomes an image."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from builder.cli.environment import Environment
from builder.cli.flags import Parsed
from builder.importing import import_image
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.store.store import Store


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """Prints the image's id."""
    source, *names = parsed.positionals
    reference = Reference.parse(names[0]) if names else None
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        platform = Platform.of_machine(os.uname().machine)
        image_id = import_image(source, store, platform, warn=lambda message: print(f"warning: {message}", file=sys.stderr))
        store.tag(str(reference) if reference else "", image_id)
    print(image_id)
    return 0
