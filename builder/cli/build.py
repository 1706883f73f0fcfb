"""`pybuild build`: from flags to a request, from events to a person."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.build import Image, Request, build
from builder.cli.context_spec import ContextSpec, parse_build_context, parse_context, parse_hosts, parse_platform
from builder.cli.environment import Environment, build_args
from builder.cli.faults import told
from builder.cli.flags import Parsed, near_command
from builder.cli.output_spec import OutputSpec, parse_output
from builder.errors import BuildError, UsageError
from builder.events import BuildFailed, Debug
from builder.oci.reference import Reference
from builder.report.reporter import open_reporter, screen
from builder.store.store import Store

if TYPE_CHECKING:
    from builder.context.oci_layout import Place
    from builder.engine.exporting import Output

STDIN_LIMIT = 64 << 20


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """Build. stdout carries the image id with -q, or an output with `dest=-`; all else goes to stderr."""
    request = _request(parsed, environment, environ)
    is_tty = os.isatty(2)
    begun = time.monotonic()
    with open_reporter(
        environment.progress_mode(parsed.text("progress"), quiet=parsed.flag("quiet")),
        2,
        color=environment.color(is_tty=is_tty),
        is_tty=is_tty,
        width=lambda: screen(2)[0],
        debug=parsed.flag("debug"),
    ) as reporter:
        for note in parsed.notes:
            reporter.emit(Debug(note))
        try:
            with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
                image = build(request, store, reporter.emit)
            _write_files(parsed, image)
        except (BuildError, OSError, KeyboardInterrupt) as error:
            failure = told(error)
            reporter.emit(BuildFailed(failure, time.monotonic() - begun))
            return failure.exit_code
    if parsed.flag("quiet"):
        sys.stdout.write(f"{image.id}\n")
    return 0


def _request(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> Request:
    context = parse_context(parsed.positionals[0])
    if not os.path.lexists(context) and (near := near_command(context)):
        raise UsageError(f"the build context '{context}' does not exist", hint=near)
    contexts = [parse_build_context(text) for text in parsed.texts("build-context")]
    args = build_args(parsed.pairs("build-arg"), environ)
    epoch = _epoch(parsed, environment, args)
    if epoch is not None:
        # buildx hands the environment's on as a build arg, which a Dockerfile may declare.
        args.setdefault("SOURCE_DATE_EPOCH", str(epoch))
    args = {**dict(environment.proxies), **args}
    tags = tuple(_tag(text) for text in parsed.texts("tag"))
    file = parsed.text("file") or ""
    network = parsed.text("network") or "default"
    return Request(
        context=context,
        dockerfile="" if file == "-" else file,
        dockerfile_text=sys.stdin.buffer.read(STDIN_LIMIT) if file == "-" else None,
        directories={spec.name: spec.path for spec in contexts if spec.kind == "directory"},
        layouts=_layouts(contexts),
        tags=tags,
        outputs=tuple(_output(parse_output(text), tags) for text in parsed.texts("output")),
        target=parsed.text("target") or "",
        build_args=args,
        labels=tuple(sorted((name, value or "") for name, value in parsed.pairs("label").items())),
        platform=parse_platform(_platforms(parsed, environment), os.uname().machine),
        no_cache=parsed.flag("no-cache"),
        source_date_epoch=epoch,
        network="none" if network == "none" else "host",
        hosts=parse_hosts(parsed.texts("add-host")),
        shm_size=parsed.number("shm-size") or 64 << 20,
        jobs=parsed.number("jobs") or os.cpu_count() or 1,
    )


def _layouts(contexts: list[ContextSpec]) -> dict[str, Place]:
    chosen = [spec for spec in contexts if spec.kind == "oci-layout"]
    if not chosen:
        return {}
    from builder.context.oci_layout import Place

    return {spec.name: Place(spec.path, spec.tag, spec.digest) for spec in chosen}


def _platforms(parsed: Parsed, environment: Environment) -> tuple[str, ...]:
    return parsed.texts("platform") or ((environment.default_platform,) if environment.default_platform else ())


def _epoch(parsed: Parsed, environment: Environment, args: Mapping[str, str]) -> int | None:
    given = args.get("SOURCE_DATE_EPOCH")
    if given is not None:
        if not (given.isascii() and given.isdigit() and len(given) <= 12):
            raise UsageError(f"SOURCE_DATE_EPOCH is '{given}', not a number of seconds", hint="date +%s prints one")
        return int(given)
    flag = parsed.number("source-date-epoch")
    return environment.source_date_epoch if flag is None else flag


def _tag(text: str) -> Reference:
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise UsageError(f"the name '{text}' has a digest", hint="a new image is named by a tag; its digest follows from it")
    return reference


def _output(spec: OutputSpec, tags: tuple[Reference, ...]) -> Output:
    from builder.engine.exporting import Output

    for key in spec.attrs:
        if key not in ("tar", "compression", "name", "oci-mediatypes", "force-compression"):
            raise UsageError(f"the key '{key}' of the output type '{spec.type}' is not built yet")
    if spec.attrs.get("oci-mediatypes") == "false" or spec.attrs.get("force-compression") == "true":
        raise UsageError(f"the output type '{spec.type}' has OCI media types and keeps foreign layers as they are")
    names = tuple(_tag(name) for name in spec.attrs.get("name", "").split(",") if name) or tags
    if spec.dest == "-" and os.isatty(1):
        raise UsageError("an archive does not go to a terminal", hint="add dest=FILE, or redirect stdout")
    return Output(
        spec.type,  # type: ignore[arg-type]  # parse_output checks the types
        spec.dest,
        spec.attrs.get("tar") != "false",
        spec.attrs.get("compression", "gzip"),  # type: ignore[arg-type]  # and the compressions
        names,
    )


def _write_files(parsed: Parsed, image: Image) -> None:
    """`--iidfile` and `--metadata-file`, under the keys that buildx uses."""
    if path := parsed.text("iidfile"):
        _write(path, str(image.id))
    if path := parsed.text("metadata-file"):
        import json

        metadata: dict[str, object] = {"containerimage.config.digest": str(image.id)}
        if image.manifest is not None:
            metadata["containerimage.digest"] = str(image.manifest)
        if image.names:
            metadata["image.name"] = ",".join(str(Reference.parse(name)) for name in image.names)
        _write(path, json.dumps(metadata, indent=2, sort_keys=True) + "\n")


def _write(path: str, text: str) -> None:
    """Whole or not at all: a script may be waiting for the file."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, path)
    except OSError as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise UsageError(f"'{path}' cannot be written: {error.strerror}") from error
