"""`pybuild verify CONTEXT`: build, repeat each step under other circumstances, and say what does not come out the same. With
`--context DIR IMAGE`: whether DIR gives IMAGE. stdout gets the verdict and what differs."""

from __future__ import annotations

import os
import sys

from builder.cli import verify_formats
from builder.cli.build import request_of
from builder.cli.diff import options_of
from builder.cli.faults import told
from builder.cli.progress import shown
from builder.cli.surroundings import other_surroundings
from builder.cli.table import COMMANDS
from builder.cli.upkeep import keep_house
from builder.errors import MismatchError, UsageError, did_you_mean
from builder.store.store import Store
from builder.verify.verification import VARIATIONS
from builder.verify.verification import chosen as chosen_variations
from builder.verifying import Wanted, verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.request import Request

_FILES_SHOWN = 20
_MOST_RUNS = 1000


def _request(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> Request:
    request = request_of(parsed, environment, environ)
    if "" not in request.remotes and request.context != "-" and not os.path.lexists(request.context):
        raise UsageError(
            f"the build context '{request.context}' does not exist",
            hint="give the folder that holds the sources; whether they give an image is told by:"
            f" pybuild verify --context DIR {request.context}",
        )
    return request


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """0 where all is as --require asks, else 4."""
    variations, unknown = chosen_variations(parsed.texts("vary"))
    if unknown:
        hint = did_you_mean(unknown, VARIATIONS) or f"there are {', '.join(VARIATIONS)}; all and none; -NAME for all but that"
        raise UsageError(f"there is no variation '{unknown}'", hint=hint)
    options = options_of(parsed, environ)
    # Of a build's flags those of results are as if they were not given.
    lacking: dict[str, tuple[str, ...]] = {flag.name: () for flag in COMMANDS["build"].flags}
    results: dict[str, tuple[str, ...]] = {flag.name: () for flag in COMMANDS["verify"].flags if flag.status == "ignored"}
    parsed = parsed._replace(values={**lacking, **parsed.values, **results})
    limit = parsed.number("limit")
    shown_files = _FILES_SHOWN if limit is None else limit
    if parsed.text("context") is not None:
        from builder.cli.verify_source import compared  # for those who have an image

        return compared(parsed, environment, environ, options, shown_files)
    request = _request(parsed, environment, environ)
    runs = parsed.number("runs")
    if runs is not None and not 0 < runs <= _MOST_RUNS:
        raise UsageError(f"--runs={runs} is no number of runs", hint=f"a number from 1 to {_MOST_RUNS}")
    require = parsed.text("require") or "identical"
    wanted = Wanted(
        variations,
        options,
        other_surroundings,
        parsed.flag("keep-cache-mounts"),
        runs or 1,
        packs=require == "identical",
    )
    with (
        Store(environment.store_root(parsed.text("root"), os.geteuid())) as store,
        shown(environment, quiet=parsed.flag("quiet")) as reporter,
    ):
        try:
            found = verify(request, store, reporter.emit, wanted)
        except OSError as error:
            raise told(error, store.root) from error
        finally:
            keep_house(store, reporter.emit)
    met = found.meets(require)
    match parsed.text("format"):
        case "json":
            sys.stdout.write(verify_formats.as_json(found, require, shown_files))
        case "github":
            sys.stdout.write(verify_formats.as_github(found, shown_files, environment.workspace))
        case _:
            sys.stdout.write(verify_formats.text(found, shown_files))
    sys.stdout.flush()
    return 0 if met else MismatchError.exit_code
