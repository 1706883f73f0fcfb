"""`pybuild lock CONTEXT`: pin what the names in a Dockerfile stand for, in `Dockerfile.lock` beside it. stdout gets what
changed, a line each."""

from __future__ import annotations

import os
import sys

from builder.cli.build import access, platforms, write_whole
from builder.cli.context_spec import parse_platforms
from builder.cli.contexts import contexts
from builder.cli.environment import build_args
from builder.cli.faults import told
from builder.cli.progress import shown
from builder.cli.provide import provide
from builder.cli.registries import registry_access
from builder.cli.upkeep import keep_house
from builder.errors import MismatchError
from builder.locking import find
from builder.oci.platform import Platform
from builder.plan.lockfile import render
from builder.report.text import clean
from builder.request import Request
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.locking import Change, Found


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """0 where the lock is written, or says already what it should; with --check 4 where it does not."""
    request = _request(parsed, environment, environ)
    upgrade = parsed.texts("upgrade")
    root = environment.store_root(parsed.text("root"), os.geteuid())
    with Store(root) as store, shown(environment, quiet=parsed.flag("quiet")) as reporter:
        try:
            found = find(
                request,
                store,
                reporter.emit,
                upgrade=[name for name in upgrade if name != "*"],
                anew="*" in upgrade,
            )
        except OSError as error:
            raise told(error, store.root) from error
        keep_house(store, reporter.emit)
    sys.stdout.write("".join(f"{_line(change)}\n" for change in found.changes))
    sys.stdout.flush()
    missing = not os.path.lexists(found.path)
    if parsed.flag("check"):
        if found.changes or missing:
            raise MismatchError(_stale(found, missing=missing), hint="`pybuild lock` without --check writes it")
    elif found.changes or missing:
        # The name is the sources' own, and a link of theirs may lead anywhere.
        write_whole(found.path, render(found.lock), streams=False)
    return 0


def _line(change: Change) -> str:
    # Names are of the Dockerfile and of the lock, which may be anybody's.
    name = clean(change.name)
    if not change.before:
        return f"+ {name} {change.after}"
    if not change.after:
        return f"- {name} {change.before}"
    return f"~ {name} {change.before} -> {change.after}"


def _stale(found: Found, *, missing: bool) -> str:
    if missing:
        return f"there is no lock file '{found.path}'"
    number = len(found.changes)
    return f"{found.path} is not up to date: {number} {'name is' if number == 1 else 'names are'} pinned otherwise now"


def _request(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> Request:
    wanted = parse_platforms(platforms(parsed, environment), os.uname().machine)
    given = provide((), parsed.texts("ssh"), environ, agent=environment.ssh_auth_sock, path=environment.path)
    offline = parsed.flag("offline")
    target = parsed.text("target") or ""
    return Request(
        **contexts(parsed)._asdict(),
        target=target,
        everything=not target,
        build_args={**dict(environment.proxies), **build_args(parsed.pairs("build-arg"), environ)},
        platform=wanted[0],
        others=wanted[1:],
        machine=Platform.of_machine(os.uname().machine),
        access=access(environment, given)._replace(offline=offline),
        pull="never" if offline else "missing",
        registry=lambda: registry_access(parsed, environment),
        ssh_auth_sock=environment.ssh_auth_sock,
    )
