"""`pybuild verify CONTEXT`: build, repeat each step under other circumstances, and say what does not come out the same. With
`--context DIR IMAGE`: whether DIR gives IMAGE. stdout gets the verdict and what differs."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

from builder.build import build
from builder.cli import diff_formats, verify_formats
from builder.cli.build import request_of
from builder.cli.diff import ignores_of, opened_image
from builder.cli.faults import told
from builder.cli.lookup import chosen, find_all
from builder.cli.progress import shown
from builder.cli.surroundings import other_surroundings
from builder.cli.table import COMMANDS
from builder.cli.upkeep import keep_house
from builder.diff import Options, compare
from builder.engine import sides
from builder.engine.foreign import CONFIG_LIMIT
from builder.engine.roots import Roots
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
    from builder.events import Emit
    from builder.request import Request
    from builder.verify.comparison import Require

_FILES_SHOWN = 20


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """0 where all is as --require asks, else 4."""
    variations, unknown = chosen_variations(parsed.texts("vary"))
    if unknown:
        hint = did_you_mean(unknown, VARIATIONS) or f"there are {', '.join(VARIATIONS)}; all and none; -NAME for all but that"
        raise UsageError(f"there is no variation '{unknown}'", hint=hint)
    options = Options(content=not parsed.flag("no-content"), ignores=ignores_of(parsed.texts("ignore")))
    image = ""
    if (folder := parsed.text("context")) is not None:
        if parsed.text("format") == "github":
            raise UsageError(
                "--format=github annotates lines of a Dockerfile, and --context compares images", hint="choose text or json"
            )
        (image,) = parsed.positionals
        parsed = parsed._replace(positionals=(folder,))
    # Of a build's flags it has all but those of results, which are not given.
    results: dict[str, tuple[str, ...]] = {flag.name: () for flag in COMMANDS["build"].flags}
    parsed = parsed._replace(values={**results, **parsed.values})
    request = request_of(parsed, environment, environ)
    wanted = Wanted(variations, options, other_surroundings, parsed.flag("keep-cache-mounts"))
    limit = parsed.number("limit")
    shown_files = _FILES_SHOWN if limit is None else limit
    require = parsed.text("require") or "identical"
    with (
        Store(environment.store_root(parsed.text("root"), os.geteuid())) as store,
        shown(environment, quiet=parsed.flag("quiet")) as reporter,
    ):
        try:
            if image:
                return _compared(image, request, parsed, environment, store, reporter.emit, options, shown_files)
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
            sys.stdout.write(verify_formats.as_github(found, shown_files))
        case _:
            sys.stdout.write(verify_formats.text(found, shown_files))
    sys.stdout.flush()
    return 0 if met else MismatchError.exit_code


def _compared(
    name: str,
    request: Request,
    parsed: Parsed,
    environment: Environment,
    store: Store,
    emit: Emit,
    options: Options,
    limit: int,
) -> int:
    """Whether the request's context gives the image of that name."""
    if request.others:
        raise UsageError("one platform is verified at a time", hint="choose one by --platform")
    require: Require = "semantic" if parsed.text("require") == "semantic" else "manifest"
    with ExitStack() as stack:
        scratch = stack.enter_context(store.scratch())
        folders = [os.path.join(scratch, each) for each in ("image", "layers")]
        for folder in folders:
            os.mkdir(folder)
        image = opened_image(name, parsed, environment, store, request.platform, folders[0], stack, asked=True)
        built = build(request, store, emit)
        record = chosen(str(built.id), find_all(str(built.id), store), store, request.platform, asked=False)
        # What a tag of the store stands for has no manifest before an output is asked for: the config is the proof.
        found = compare(image, sides.of_store(request.context, record, store), store, Roots(store), folders[1], options)
        if image.config == store.read_blob(record.config, CONFIG_LIMIT):
            found = found._replace(verdict="identical", fields=())
    if parsed.text("format") == "json":
        sys.stdout.write(diff_formats.as_json(found, require, limit))
    else:
        sys.stdout.write(diff_formats.text(found, limit))
    sys.stdout.flush()
    return 0 if found.meets(require) else MismatchError.exit_code
