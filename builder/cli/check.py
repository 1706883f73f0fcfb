"""`pybuild check` and `pybuild build --check`: what a build would warn of, on stdout, and nothing is built."""

from __future__ import annotations

import os
import sys

from builder.check import check
from builder.cli import check_formats
from builder.cli.build import access, platforms
from builder.cli.context_spec import parse_platforms
from builder.cli.contexts import contexts
from builder.cli.environment import build_args
from builder.cli.faults import complain
from builder.errors import DockerfileError
from builder.oci.platform import Platform
from builder.request import Request
from builder.store.peek import Peek
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.check import Report
    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed

_FORMATS = {"text": check_formats.text, "json": check_formats.as_json}


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str], *, as_json: bool = False) -> int:
    """0 where there is nothing to say, else 3 (a check error, SPEC section 3). `as_json` is `--call=check,format=json`."""
    # `build` has a --format of its own.
    form = "json" if as_json else (parsed.text("format") if parsed.command == "check" else None) or "text"
    root = environment.store_root(parsed.text("root"), os.geteuid())
    request = _request(parsed, environment, environ)
    if request.fetches:
        with Store(root) as store:
            report = _checked(request, root, store)
    else:
        report = _checked(request, root, None)
    sys.stdout.write(check_formats.github(report, environment.workspace) if form == "github" else _FORMATS[form](report))
    if form != "json":
        for name in report.unseen:
            complain(f"note: the base '{name}' is not on this machine: variables that it may set are not checked\n")
    if report.error is not None and form == "text":
        sys.stdout.flush()
        raise report.error
    return DockerfileError.exit_code if report.warnings or report.error else 0


def _checked(request: Request, root: str, store: Store | None) -> Report:
    images = Peek(root)
    try:
        return check(request, images, store)
    finally:
        images.close()


def _request(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> Request:
    wanted = parse_platforms(platforms(parsed, environment), os.uname().machine)
    return Request(
        **contexts(parsed)._asdict(),
        target=parsed.text("target") or "",
        build_args=build_args(parsed.pairs("build-arg"), environ),
        platform=wanted[0],
        others=wanted[1:],
        machine=Platform.of_machine(os.uname().machine),
        access=access(environment),
        ssh_auth_sock=environment.ssh_auth_sock,
    )
