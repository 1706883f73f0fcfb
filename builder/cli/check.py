"""`pybuild check` and `pybuild build --check`: what a build would warn of, on stdout, and nothing is built."""

from __future__ import annotations

import os
import sys

from builder.check import check
from builder.cli import check_formats
from builder.cli.build import STDIN_LIMIT, layouts, platforms
from builder.cli.context_spec import parse_build_context, parse_context, parse_platform
from builder.cli.environment import build_args
from builder.cli.faults import complain
from builder.errors import DockerfileError
from builder.request import Request
from builder.store.peek import Peek

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed

_FORMATS = {"text": check_formats.text, "json": check_formats.as_json, "github": check_formats.github}


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str], *, as_json: bool = False) -> int:
    """0 where there is nothing to say, else 3 (a check error, SPEC section 3). `as_json` is `--call=check,format=json`."""
    # `build` has a --format of its own.
    form = "json" if as_json else (parsed.text("format") if parsed.command == "check" else None) or "text"
    images = Peek(environment.store_root(parsed.text("root"), os.geteuid()))
    try:
        report = check(_request(parsed, environment, environ), images)
    finally:
        images.close()
    sys.stdout.write(_FORMATS[form](report))
    if form != "json":
        for name in report.unseen:
            complain(f"note: the base '{name}' is not on this machine: variables that it may set are not checked\n")
    if report.error is not None and form == "text":
        sys.stdout.flush()
        raise report.error
    return DockerfileError.exit_code if report.warnings or report.error else 0


def _request(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> Request:
    contexts = [parse_build_context(text) for text in parsed.texts("build-context")]
    file = parsed.text("file") or ""
    return Request(
        context=parse_context(parsed.positionals[0]),
        dockerfile="" if file == "-" else file,
        dockerfile_text=sys.stdin.buffer.read(STDIN_LIMIT) if file == "-" else None,
        directories={spec.name: spec.path for spec in contexts if spec.kind == "directory"},
        layouts=layouts(contexts),
        target=parsed.text("target") or "",
        build_args=build_args(parsed.pairs("build-arg"), environ),
        platform=parse_platform(platforms(parsed, environment), os.uname().machine),
    )
