"""`pybuild verify --context DIR IMAGE`: whether a tree of sources gives an image, by what the image says of its own build."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from shlex import quote

from builder.build import build
from builder.cli import diff_formats
from builder.cli.build import platforms, request_of
from builder.cli.diff import formatted, opened_image
from builder.cli.faults import told
from builder.cli.lookup import chosen, find_all
from builder.cli.progress import shown
from builder.cli.sources import any_platform
from builder.cli.upkeep import keep_house
from builder.diff import compare
from builder.engine import sides
from builder.engine.foreign import CONFIG_LIMIT
from builder.engine.roots import Roots
from builder.errors import MismatchError, UsageError
from builder.events import BuildWarning
from builder.plan import recorded
from builder.reading import NAMES
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.diff import Options
    from builder.engine.sides import Opened
    from builder.events import Emit
    from builder.plan.recorded import BuildRequest, Difference
    from builder.request import Request
    from builder.verify.comparison import Require

    Flags = tuple[tuple[str, str], ...]
    """Names and values."""

_SHM_SIZE = 64 << 20
_SHOWN = 20
"""Files of one COPY."""


def compared(parsed: Parsed, environment: Environment, environ: Mapping[str, str], options: Options, limit: int) -> int:
    """0 where it does, as far as --require asks, else 4; `limit` files are shown."""
    (name,) = parsed.positionals
    folder = parsed.text("context") or ""
    parsed = parsed._replace(positionals=(folder,))
    if parsed.text("platform") and len(platforms(parsed, environment)) > 1:
        raise UsageError("one platform is verified at a time", hint="choose one by --platform")
    # What is wrong with the flags is told before anything is opened.
    request_of(parsed, environment, environ)
    with (
        Store(environment.store_root(parsed.text("root"), os.geteuid())) as store,
        shown(environment, quiet=parsed.flag("quiet")) as reporter,
    ):
        try:
            return _compared(name, folder, parsed, environment, environ, store, reporter.emit, options, limit)
        except OSError as error:
            raise told(error, store.root) from error
        finally:
            keep_house(store, reporter.emit)


def _compared(
    name: str,
    folder: str,
    parsed: Parsed,
    environment: Environment,
    environ: Mapping[str, str],
    store: Store,
    emit: Emit,
    options: Options,
    limit: int,
) -> int:
    require: Require = "manifest"
    match parsed.text("require"):
        case "diff-ids" | "semantic" as given:
            require = given
    with ExitStack() as stack:
        scratch = stack.enter_context(store.scratch())
        folders = [os.path.join(scratch, each) for each in ("image", "layers")]
        for each in folders:
            os.mkdir(each)
        asked = bool(platforms(parsed, environment))
        platform = any_platform(platforms(parsed, environment))
        image = opened_image(name, parsed, environment, store, platform, folders[0], stack, asked=asked, with_request=True)
        then = _said(image, store, emit)
        if then is not None:
            _require_contexts(then, parsed, image.name)
        flags: Flags = ()
        request = request_of(parsed, environment, environ)
        if then is not None:
            flags = recorded_flags(parsed, folder, then)
            request = _requested(parsed, flags, image.name, environment, environ)
        if request.others:
            raise UsageError("one platform is verified at a time", hint="choose one by --platform")
        # The image may well be the same: then it goes on saying what it said.
        built = build(request._replace(is_recorded=False, no_cache=True), store, emit)
        record = chosen(str(built.id), find_all(str(built.id), store), store, request.platform, asked=False)
        found = compare(image, sides.of_store(request.context, record, store), store, Roots(store), folders[1], options)
        if image.config == store.read_blob(record.config, CONFIG_LIMIT):
            # The config is the proof, as the layers are what it says: how they are packed is the output's, not the source's.
            found = found._replace(verdict="identical")
        now = recorded.parse(built.request)
    others = recorded.differences(then, now) if then is not None else ()
    fields = {"request": _object(then, others, flags)}
    more = _text(then, others, flags)
    if then is not None and not others and found.verdict != "identical":
        more += f"  so a step does not come out the same again: pybuild verify {folder} says which, and why\n"
    if any(each.kind == "base" for each in others) and not parsed.flag("locked") and _has_lock(folder, request.dockerfile):
        more += "  a lock file lies beside the Dockerfile: with --locked the images are those that it names\n"
    sys.stdout.write(formatted(found, require, limit, parsed, environment, more, fields))
    sys.stdout.flush()
    return 0 if found.meets(require) else MismatchError.exit_code


def _require_contexts(then: BuildRequest, parsed: Parsed, name: str) -> None:
    """A name that was a folder then must not become an image of somebody's registry now. Raises UsageError."""
    given = {context.partition("=")[0] for context in parsed.texts("build-context")}
    missing = [context for context in then.contexts if context not in given]
    if missing:
        raise UsageError(
            f"'{name}' was built with the build context '{missing[0]}', and this source has none of that name",
            hint=f"say where it is: --build-context {missing[0]}=DIR",
        )


def _said(image: Opened, store: Store, emit: Emit) -> BuildRequest | None:
    """The request of the image; of one whose name brought none, what the store has of the same."""
    from builder.oci.digest import Digest

    text = image.request or store.request(Digest.of(image.config))
    if not text:
        emit(BuildWarning("NoRequest", f"{image.name} says nothing of its build: the flags given here are those that count"))
        return None
    try:
        return recorded.parse(text)
    except ValueError as error:
        emit(BuildWarning("NoRequest", f"what {image.name} says of its build does not count: {error}"))
        return None


def _has_lock(folder: str, dockerfile: str) -> bool:
    return any(os.path.isfile(f"{name}.lock") for name in [dockerfile or os.path.join(folder, each) for each in NAMES])


def _requested(parsed: Parsed, flags: Flags, name: str, environment: Environment, environ: Mapping[str, str]) -> Request:
    """What the image says that it was built by. Raises UsageError where that cannot be, or is not to be had for the asking."""
    if ("network", "host") in flags and "network.host" not in parsed.texts("allow"):
        raise UsageError(
            f"'{name}' was built with the host's network, which no image gets by its own word",
            hint="say --allow network.host to build it so, or --network=default to build it without",
        )
    try:
        return request_of(with_flags(parsed, flags), environment, environ)
    except UsageError as error:
        # The flags that were given have been looked at: it is one of the image's.
        raise UsageError(f"what '{name}' says of its build cannot be: {error.message}", hint=error.hint) from error


def with_flags(parsed: Parsed, flags: Flags) -> Parsed:
    """The command line with these flags and their values, too."""
    values = dict(parsed.values)
    for flag, value in flags:
        if flag != "build-arg":
            values[flag] = (*values[flag], value)
    # Of arguments a later one of the same name wins: those that were given.
    args = (*(value for flag, value in flags if flag == "build-arg"), *parsed.values["build-arg"])
    return parsed._replace(values={**values, "build-arg": args})


def recorded_flags(parsed: Parsed, folder: str, said: BuildRequest) -> Flags:
    """The flags of the image's own build, with their values, that are not given otherwise."""
    given = parsed.pairs("build-arg")
    # Without -f a Dockerfile counts before a Containerfile.
    named = said.path not in ("", NAMES[0]) and (said.path != NAMES[1] or os.path.lexists(os.path.join(folder, said.path)))
    wanted: dict[str, tuple[str, ...]] = {
        "target": (said.target,) if said.target else (),
        "label": tuple(f"{name}={value}" for name, value in said.labels),
        "platform": (said.platform,),
        "source-date-epoch": () if said.epoch is None else (str(said.epoch),),
        "network": (said.network,) if said.network != "default" else (),
        "add-host": tuple(f"{name}:{address}" for name, address in said.hosts),
        "shm-size": (str(said.shm_size),) if said.shm_size != _SHM_SIZE else (),
        "ulimit": tuple(f"{name}={soft}:{hard}" for name, soft, hard in said.ulimits),
        "file": (os.path.join(folder, said.path),) if named else (),
    }
    args = tuple(("build-arg", f"{name}={value}") for name, value in said.args if name not in given)
    return (*((flag, value) for flag, values in wanted.items() if not parsed.values[flag] for value in values), *args)


def _text(then: BuildRequest | None, others: tuple[Difference, ...], flags: Flags) -> str:
    if then is None:
        return ""
    head = f"\nthe request of the image is {then.digest}, made of the contents {then.root}\n"
    if told := [f"--{flag}={value}" for flag, value in flags if flag not in ("platform", "file")]:
        head += f"  with the flags of its own build: {diff_formats.safe(' '.join(map(quote, told)))}\n"
    if not others:
        return f"{head}  this one is the same\n"
    return head + "".join(map(_told, others))


def _told(each: Difference) -> str:
    lines = [
        f"  {diff_formats.safe(each.text)}",
        *(f"    {how:8} {diff_formats.safe(path)}" for path, how in each.files[:_SHOWN]),
    ]
    if len(each.files) > _SHOWN:
        lines.append(f"    and {len(each.files) - _SHOWN} more")
    return "".join(f"{line}\n" for line in lines)


def _object(then: BuildRequest | None, others: tuple[Difference, ...], flags: Flags) -> dict[str, object] | None:
    if then is None:
        return None
    differences = [
        {"kind": each.kind, "text": each.text, "files": [{"path": path, "change": how} for path, how in each.files]}
        for each in others
    ]
    taken = [f"--{flag}={value}" for flag, value in flags]
    return {"digest": then.digest, "root": then.root, "flags": taken, "differences": differences}
