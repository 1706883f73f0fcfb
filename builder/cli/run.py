"""`pybuild run IMAGE [COMMAND...]`: the image's command, or another one, in the sandbox."""

from __future__ import annotations

import os

from builder.cli.build import platforms
from builder.cli.context_spec import parse_platform
from builder.cli.faults import complain
from builder.cli.limit_spec import parse_limits
from builder.cli.lookup import familiar, find, platform_of, when
from builder.cli.run_spec import parse_changes
from builder.errors import RegistryError, UsageError
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.run import RunRequest, run
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.store.store import ImageRecord


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """The command's own exit code."""
    name, *argv = parsed.positionals
    terminal = parsed.flag("tty")
    changes = parse_changes(parsed, environ)
    if terminal and not (os.isatty(0) and os.isatty(1)):
        raise UsageError("--tty needs a terminal on stdin and stdout", hint="leave -t out: streams are handed on as they are")
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        image = _image(name, parsed, environment, store)
        own, has = Platform.of_machine(os.uname().machine), platform_of(image, store)
        if not platforms(parsed, environment) and has not in own.compatible():
            complain(f"warning: the image is for {has}, this machine is {own}: --platform={has} says that it is meant\n")
        limits = parse_limits(parsed)
        isolation = environment.sandbox._replace(require_network=parsed.flag("require-isolated-network"))
        network: Literal["default", "host", "none"] = parsed.text("network") or "default"  # type: ignore[assignment]
        request = RunRequest(image, tuple(argv), network, terminal, isolation=isolation, limits=limits)
        request = request._replace(
            interactive=parsed.flag("interactive"),
            init=parsed.flag("init"),
            shm_size=parsed.number("shm-size") or request.shm_size,
            changes=changes,
        )
        return run(request, store, _warn)


def _warn(message: str) -> None:
    complain(f"warning: {message}\n")


def _image(name: str, parsed: Parsed, environment: Environment, store: Store) -> ImageRecord:
    """The image, pulled where --pull wants that. Raises UsageError and RegistryError."""
    policy = when(parsed)
    near = None
    given = platforms(parsed, environment)
    platform = parse_platform(given, os.uname().machine) if given else None
    try:
        found = find(name, store, platform)
    except UsageError as error:
        if policy == "never":
            raise
        found, near = None, error.hint
        if policy == "always" and name in ("always", "missing", "never", "newer"):
            # Docker's takes the word that comes next.
            near = f"did you mean --pull={name}?"
    if found is not None and platform is not None and not platform.runs(has := platform_of(found, store)):
        if policy == "never" or familiar(found) != _familiar(name):
            raise UsageError(f"the image '{name}' in the store is for {has}, not {platform}", hint="leave --platform out")
        found, near = None, f"the image of the store is for {has}"
    # What an id or a digest names cannot change.
    elif found is not None and (policy in ("missing", "never") or "@" in name or familiar(found) != _familiar(name)):
        return found
    from builder.cli.pull import pulled  # for those who pull
    from builder.engine.pulling import lacking

    try:
        return pulled(name, parsed, environment, store, found, policy)
    except RegistryError as error:
        if found is None:
            lacking(error, Reference.parse(name), near if near is not None and near.startswith("did you mean") else None)
        raise


def _familiar(name: str) -> str:
    try:
        return Reference.parse(name).familiar
    except UsageError:
        return ""  # It is an id.
