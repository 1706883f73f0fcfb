"""The story of `pybuild check`: read, parse, see what the bases say, lower all stages, tell. Nothing is run or written."""

from __future__ import annotations

from builder.contexts import BuildContexts
from builder.dockerfile.checks.options import Options
from builder.dockerfile.syntax import parse
from builder.engine.foreign import CONFIG_LIMIT
from builder.errors import BuildError, DockerfileError
from builder.layers.entry import EPOCH
from builder.oci.image import ImageConfig, parse_config
from builder.oci.reference import Reference
from builder.plan import checking
from builder.plan.lower import lower
from builder.plan.stages import External, matching_context, platform_args, reachable
from builder.plan.state import Settings
from builder.plan.steps import BaseImage
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.dockerfile.ast import Dockerfile
    from builder.dockerfile.checks.warning import Warn
    from builder.errors import SourceFile
    from builder.oci.platform import Platform
    from builder.plan.stages import Stages
    from builder.request import Request
    from builder.store.peek import Peek
    from builder.store.store import Store

_NEEDS_BASE = ("UndefinedVar",)
"""Rules that would take every variable of an unseen base for undefined."""


class Report(NamedTuple):
    """What a check found. `unseen` are the bases that are nowhere on this machine; `error` is why a build would fail."""

    source: SourceFile
    warnings: tuple[Warn, ...]
    unseen: tuple[str, ...]
    error: DockerfileError | None


def check(request: Request, images: Peek, store: Store | None = None) -> Report:
    """Check what `request` would build: of its target, or without one of all stages. `store` is for a request that fetches.

    Raises UsageError and StoreError; what is wrong in the Dockerfile is in the report.
    """
    found: list[Warn] = []
    unseen: list[str] = []
    dockerfile, options, error = None, Options(), None
    with BuildContexts(request, store, lambda _: None) as contexts:
        source = contexts.dockerfile()
        try:
            dockerfile = parse(source)
            options = checking.options(dockerfile, request.build_args)
            for platform in request.platforms:
                one = request._replace(platform=platform)
                _find(dockerfile, options, one, images, contexts, found, unseen)
            # What is wrong for each platform is told once.
            found = list(dict.fromkeys(found)) if request.others else found
        except DockerfileError as caught:
            error = caught
            if error.span is not None:
                error.at(source)
    warnings = checking.told(found, dockerfile, options) if dockerfile is not None else []
    if error is None:
        try:
            checking.enforce(warnings, options)
        except DockerfileError as caught:
            error = caught
            error.at(source)
    return Report(source, tuple(warnings), tuple(dict.fromkeys(unseen)), error)


def _find(
    dockerfile: Dockerfile,
    options: Options,
    request: Request,
    images: Peek,
    contexts: BuildContexts,
    found: list[Warn],
    unseen: list[str],
) -> None:
    """Add to `found` and `unseen`, which keep what came before an error."""
    predefined = platform_args(request.platform, request.machine)
    args = request.build_args
    found += checking.early(dockerfile, options, target=request.target, build_args=args, predefined=predefined)
    stages = reachable(
        dockerfile,
        target=request.target,
        build_args=args,
        contexts=request.names,
        directories=request.trees,
        predefined=predefined,
        everything=not request.target,
    )
    bases: dict[str, BaseImage] = {}
    for external in stages.externals():
        config = _config(external, request, images)
        if config is None:
            unseen.append(external.name)
        bases[external.key] = BaseImage(external.name, config or ImageConfig(_platform(external, request)))
    settings = Settings(
        args, request.platform, EPOCH, request.labels, request.network, request.hosts, request.shm_size, request.trees
    )  # fmt: skip
    blind = _blind_lines(stages, unseen)
    seen: list[Warn] = []
    try:
        plan = lower(
            stages,
            bases,
            settings,
            dockerfile.directives.escape,
            warnings=seen,
            forgives=lambda instruction: "$" in instruction.text and instruction.span.line in blind,
        )
        seen += checking.late(plan, contexts.leaves_nothing_of)
    finally:
        found += (warn for warn in seen if not (warn.code in _NEEDS_BASE and warn.span and warn.span.line in blind))


def _config(external: External, request: Request, images: Peek) -> ImageConfig | None:
    """The config of a base; None where it is not on this machine. Raises DockerfileError for a layout that is none."""
    image = matching_context(external.name, request.images)
    if image is not None:
        external = external._replace(name=request.images[image])
    if external.name == "scratch" or (image is None and matching_context(external.name, request.trees) is not None):
        return ImageConfig(_platform(external, request), workdir="/")
    layout = matching_context(external.name, request.layouts) if image is None else None
    try:
        if layout is not None:
            return _of_layout(layout, request, _platform(external, request))
        return _of_store(external.name, images, _platform(external, request))
    except BuildError as error:
        raise DockerfileError(error.message, external.span, hint=error.hint) from None


def _platform(external: External, request: Request) -> Platform:
    return external.platform or request.platform


def _of_layout(name: str, request: Request, platform: Platform) -> ImageConfig:
    from builder.context.oci_layout import Layout

    layout = Layout(request.layouts[name])
    return parse_config(layout.read(layout.manifest(platform).config, CONFIG_LIMIT)).config


def _of_store(name: str, images: Peek, platform: Platform) -> ImageConfig | None:
    digits = name.removeprefix("sha256:")
    by_id = images.find_image(digits) if len(digits) >= 12 and not digits.strip("0123456789abcdef") else None
    try:
        # A name comes before an id, as in a build.
        record = images.find_image(str(Reference.parse(name)), platform) or by_id
    except BuildError:
        if by_id is None:
            raise
        record = by_id
    data = images.read_blob(record.config) if record is not None else None
    config = None if data is None else parse_config(data).config
    if config is not None and record is not None and record.source and not platform.runs(config.platform):
        return None  # A build would pull the right one.
    return config


def _blind_lines(stages: Stages, unseen: list[str]) -> frozenset[int]:
    """The lines of stages whose base, at the bottom, may set variables that nobody here knows of."""
    lines: set[int] = set()
    blind: set[int] = set()
    for index in stages.needed:
        stage = stages.all[index]
        base = stage.base
        if base.name in unseen if isinstance(base, External) else base.number in blind:
            blind.add(index)
            lines.update(n for i in stage.instructions for n in range(i.span.line, i.span.end_line + 1))
    return frozenset(lines)
