"""`pybuild pull IMAGE...`: images of registries, brought into the store. stdout gets their ids."""

from __future__ import annotations

import os
import sys

from builder.cli.build import platforms
from builder.cli.context_spec import parse_platform, parse_platforms
from builder.cli.faults import told
from builder.cli.progress import shown
from builder.cli.registries import registry_access
from builder.cli.upkeep import keep_house
from builder.engine.pulling import pull
from builder.engine.roots import Roots
from builder.errors import RegistryError, UsageError
from builder.events import BuildWarning
from builder.oci.reference import Reference
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.engine.bases import When
    from builder.events import Emit
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.registry.access import RegistryAccess
    from builder.store.store import ImageRecord


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    references = [Reference.parse(name) for name in parsed.positionals]
    wanted = parse_platforms(platforms(parsed, environment), os.uname().machine)
    if parsed.flag("all-platforms") and parsed.texts("platform"):
        raise UsageError("--all-platforms and --platform exclude each other", hint="leave one of them out")
    access = registry_access(parsed, environment)
    root = environment.store_root(parsed.text("root"), os.geteuid())
    with Store(root) as store, shown(environment, quiet=parsed.flag("quiet")) as reporter:
        # Most who pull build upon it, on the day or never: folders are made by the first step that looks into them.
        roots = Roots(store, unpacks=False)
        for reference in references:
            if parsed.flag("all-platforms"):
                sys.stdout.write(f"{_all_brought(reference, access, store, roots, reporter.emit)}\n")
                continue
            for platform in wanted:
                found = _brought(reference, access, store, roots, platform, reporter.emit)
                sys.stdout.write(f"{found.config}\n")
        keep_house(store, reporter.emit)
    return 0


def pulled(
    name: str, parsed: Parsed, environment: Environment, store: Store, known: ImageRecord | None, when: When
) -> ImageRecord:
    """One image, for a command that uses it; `known` is what the store has under that name. Raises UsageError and
    RegistryError."""
    reference = Reference.parse(name)
    access = registry_access(parsed, environment)
    with shown(environment, quiet=parsed.flag("quiet")) as reporter:
        try:
            return _brought(reference, access, store, Roots(store), _platform(parsed, environment), reporter.emit)
        except RegistryError as error:
            if known is None or when != "newer":
                raise
            reporter.emit(BuildWarning("PullFailed", f"{error.message}: the image of the store is used"))
            return known


def _brought(
    reference: Reference, access: RegistryAccess, store: Store, roots: Roots, platform: Platform, emit: Emit
) -> ImageRecord:
    try:
        return pull(reference, access, store, roots, platform, emit)
    except OSError as error:
        # Here it is the store's file system that has no room, and not that of our standard output.
        raise told(error, store.root) from error


def _all_brought(reference: Reference, access: RegistryAccess, store: Store, roots: Roots, emit: Emit) -> Digest:
    from builder.engine.pullingall import pull_all  # for those who want that

    try:
        return pull_all(reference, access, store, roots, emit)
    except OSError as error:
        raise told(error, store.root) from error


def _platform(parsed: Parsed, environment: Environment) -> Platform:
    return parse_platform(platforms(parsed, environment), os.uname().machine)
