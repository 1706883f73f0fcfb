"""`pybuild diff A B`: two images of the store, of registries or of archives compared. stdout gets what differs, and why."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack

from builder.cli import diff_formats
from builder.cli.lookup import NONE_NEAR, chosen, find_all
from builder.cli.sources import FILES, any_platform, opened, path_and_name
from builder.diff import Options, compare
from builder.dockerfile.ignore import Matcher
from builder.engine import sides
from builder.engine.roots import Roots
from builder.errors import MismatchError, UsageError
from builder.oci.reference import Reference
from builder.store.store import Store
from builder.verify.ignores import Ignores, parse_ignores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.engine.sides import Opened
    from builder.oci.platform import Platform
    from builder.verify.comparison import Comparison, Require

    Fields = Mapping[str, object] | None

_FILES_SHOWN = 50


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """0 where the images are equal as far as --require asks, else 4."""
    options = options_of(parsed, environ)
    require = _require(parsed)
    limit = parsed.number("limit")
    asked = parsed.text("platform") or environment.default_platform
    platform = any_platform((asked,) if asked else ())
    with (
        Store(environment.store_root(parsed.text("root"), os.geteuid())) as store,
        tempfile.TemporaryDirectory(prefix="pybuild-") as scratch,
        ExitStack() as stack,
    ):
        images = []
        for number, name in enumerate(parsed.positionals):
            folder = os.path.join(scratch, str(number))
            os.mkdir(folder)
            images.append(opened_image(name, parsed, environment, store, platform, folder, stack, asked=bool(asked)))
        layers = os.path.join(scratch, "layers")
        os.mkdir(layers)
        found = compare(images[0], images[1], store, Roots(store), layers, options)
    shown = _FILES_SHOWN if limit is None else limit
    sys.stdout.write(formatted(found, require, shown, parsed, environment))
    sys.stdout.flush()
    return 0 if found.meets(require) else MismatchError.exit_code


def _require(parsed: Parsed) -> Require:
    given = parsed.text("require")
    if parsed.flag("semantic"):
        if given not in (None, "semantic"):
            raise UsageError("--semantic and --require exclude each other", hint="leave one of them out")
        return "semantic"
    match given:
        case "diff-ids" | "semantic":
            return given
        case _:
            return "manifest"


def formatted(
    found: Comparison,
    require: Require,
    limit: int,
    parsed: Parsed,
    environment: Environment,
    more: str = "",
    fields: Fields = None,
) -> str:
    """`more` is a text behind what is told, `fields` the same for JSON."""
    match parsed.text("format"):
        case "json":
            return diff_formats.as_json(found, require, limit, fields)
        case "github":
            return diff_formats.as_github(found, require, limit, more, environment.workspace, parsed.command)
        case _:
            return diff_formats.text(found, limit) + more


def options_of(parsed: Parsed, environ: Mapping[str, str]) -> Options:
    """What the flags say of a comparison. Raises UsageError."""
    options = Options(content=not parsed.flag("no-content"), ignores=ignores_of(parsed.texts("ignore")))
    if not parsed.flag("diffoscope"):
        return options
    from builder.cli import diffoscope  # for those who want it

    return options._replace(
        look=diffoscope.looker(environ, lambda said: print(f"warning: {said}", file=sys.stderr)), looks=diffoscope.LOOKS
    )


def ignores_of(texts: tuple[str, ...]) -> Ignores:
    names, fields, globs = parse_ignores(texts)
    if not globs:
        return Ignores(names, fields)
    return Ignores(names, fields, Matcher.parse("\n".join(globs), "--ignore").ignored)


def opened_image(
    name: str,
    parsed: Parsed,
    environment: Environment,
    store: Store,
    platform: Platform,
    scratch: str,
    stack: ExitStack,
    *,
    asked: bool,
    with_request: bool = False,
) -> Opened:
    """An image by what `inspect` would call it: a name or an id of the store, `docker://NAME` for a registry's, `oci:DIR`,
    `oci-archive:FILE` and `docker-archive:FILE`. `with_request`: a registry is asked what it has of the image's build, too.
    Raises UsageError and RegistryError."""
    if name.startswith("docker://"):
        return _remote(name, parsed, environment, platform, stack, with_request)
    transport, colon, rest = name.partition(":")
    place = path_and_name(rest) if colon and transport in FILES else None
    if colon and transport in FILES and place is None and ("/" in rest or not find_all(name, store)):
        raise UsageError(f"there is no file or folder '{rest}'", hint=f"as in {transport}:PATH, or {transport}:PATH:NAME")
    if place is not None:
        from builder.archives.images import choose, images

        archive = stack.enter_context(opened(place[0], scratch))
        return sides.of_archive(name, archive, choose(images(archive, platform, asked=asked), place[1], place[0]))
    try:
        record = chosen(name, find_all(name, store), store, platform, asked=asked)
    except UsageError as error:
        if error.hint == NONE_NEAR:
            error.hint = f"{NONE_NEAR}; an image of a registry: docker://{name}; a file: oci-archive:FILE, or oci:DIR"
        raise
    return sides.of_store(name, record, store)


def _remote(
    name: str, parsed: Parsed, environment: Environment, platform: Platform, stack: ExitStack, with_request: bool
) -> Opened:
    from builder.cli import progress
    from builder.cli.registries import registry_access
    from builder.engine import remoteimages
    from builder.events import BuildWarning

    reporter = stack.enter_context(progress.shown(environment, quiet=False))

    def warn(message: str) -> None:
        reporter.emit(BuildWarning("Registry", message))

    access = registry_access(parsed, environment)
    reference = Reference.parse(name.removeprefix("docker://"))
    looked, fetch = stack.enter_context(remoteimages.opened(reference, access, platform, warn, with_request=with_request))
    return sides.of_registry(name, looked, fetch)
