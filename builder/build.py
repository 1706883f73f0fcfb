"""The story of a build: read, parse, resolve, lower, run, assemble, export."""

from __future__ import annotations

import os
import time

from builder.cancellation import Cancellation
from builder.contexts import BuildContexts
from builder.delivery import deliver, shipped_forms
from builder.dockerfile import codec
from builder.dockerfile.ast import Run
from builder.engine import scheduler
from builder.engine.bases import Available, Pulls, named, resolve, to_pull
from builder.engine.executor import Executor
from builder.engine.journal import Journal, Subject
from builder.engine.roots import BuiltImage, Roots
from builder.engine.times import created
from builder.errors import BuildError
from builder.events import BuildFinished, BuildStarted, BuildWarning
from builder.hashing import sha256
from builder.layers.entry import EPOCH
from builder.oci.image import assemble
from builder.plan import checking
from builder.plan.lower import lower
from builder.plan.stages import platform_args, reachable
from builder.plan.state import Settings
from builder.recording import recorded
from builder.redact import redact
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.dockerfile.ast import Dockerfile, Instruction
    from builder.engine.imports import Imports
    from builder.engine.pins import Pins
    from builder.errors import SourceFile
    from builder.events import Emit
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference
    from builder.plan.references import External
    from builder.plan.stages import Stages
    from builder.plan.steps import BaseImage, Plan, Warn
    from builder.request import Request
    from builder.sandbox.cgroups import Groups
    from builder.store.builds import BuiltStep
    from builder.store.store import ImageRecord, Store

COMMENT = "pybuild.dockerfile.v1"


class Image(NamedTuple):
    """What a build gave. `manifest` is there when an output was rendered."""

    id: Digest
    """Of the config; of the index for several platforms."""
    names: tuple[str, ...]
    size: int
    manifest: Digest | None
    plan: Plan
    platforms: tuple[Platform, ...]
    steps: tuple[BuiltStep, ...] = ()
    """What became of each step, and why it ran."""
    request: str = ""
    """What it says of its build (`builder.plan.recorded`); empty for several platforms."""


def build(request: Request, store: Store, emit: Emit) -> Image:
    """Build what `request` asks for. Raises BuildError kinds, told where; the store is valid whatever happens."""
    journal = Journal(store, emit)
    try:
        image = _built(request, store, journal)
    except BaseException as error:
        journal.end(error)
        raise
    journal.end(None, str(image.id))
    return image._replace(steps=journal.steps)


def _built(request: Request, store: Store, journal: Journal) -> Image:
    emit = journal.emit
    begun = time.monotonic()
    stop = Cancellation()
    roots = Roots(store, stop, forms=shipped_forms(request), unpacks=False)
    imports = _imports(request, store, roots, emit, stop)
    with (
        BuildContexts(request, store, emit, stop) as contexts,
        Executor(
            store,
            contexts,
            request.platform,
            emit,
            roots=roots,
            use_cache=not request.no_cache,
            uncached=frozenset(name.lower() for name in request.uncached),
            imports=imports,
            access=request.access,
            provided=request.provided,
            isolation=request.isolation,
            stop=stop,
            journal=journal,
            groups=_groups(request),
        ) as executor,
    ):
        source = contexts.dockerfile()
        emit(BuildStarted(source.name, request.context, request.target))
        try:
            if request.locked:
                request = request._replace(pins=pins_of(contexts))
                executor.pins = request.pins
            dockerfile = _parse(source, store, executor.warm)
            plan, *_ = plans = _checked_plans(dockerfile, request, store, roots, contexts, emit)
            journal.planned(plan, _subject(request, source.name))
            outcome = scheduler.run(plans, executor, emit, jobs=request.jobs, allow=request.allow)
            if imports is not None:
                imports.tell()
        except BuildError as error:
            if error.span is not None:
                error.at(source)
            raise
        images = [_assemble(each, outcome.of(each), request, outcome) for each in plans]
        if not request.others:
            images = [images[0]._replace(request=recorded(dockerfile, request, plan, outcome, store))]
        image_id, manifest = deliver(request, images, plans, outcome, store, roots, emit)
        store.sync()
        names = tuple(tag.familiar for tag in request.tags)
        size = sum(roots.size(image.root) for image in images)
        emit(
            BuildFinished(
                str(image_id),
                names,
                size,
                sum(len(image.root.layers) for image in images),
                outcome.ran,
                outcome.cached,
                plan.skipped,
                time.monotonic() - begun,
                tuple(map(str, request.platforms)) if request.others else (),
            )
        )
        return Image(image_id, names, size, manifest, plan, request.platforms, request=images[0].request)


def _groups(request: Request) -> Groups | None:
    """What the commands' limits need. Before anything runs: a limit is never left out."""
    if request.limits is None:
        return None
    from builder.sandbox import resources  # for those who limit

    resources.require(request.limits, request.isolation.rung)
    return resources.groups(request.limits)


def pins_of(contexts: BuildContexts) -> Pins:
    from builder.engine.pins import Locked  # for those who have a lock
    from builder.plan.lockfile import parse

    source = contexts.lock()
    return Locked(parse(source), os.path.basename(source.name))


def _subject(request: Request, dockerfile: str) -> Subject:
    # In a context that is fetched the Dockerfile has no path of this machine.
    no_path = request.dockerfile_text is not None or not (request.dockerfile or os.path.isdir(request.context))
    seen = (request.network, request.hosts, request.shm_size)
    return Subject(dockerfile, request.context, request.target, no_path, *seen)


def parsed(request: Request, store: Store | None, emit: Emit) -> Dockerfile:
    """The syntax tree of what `request` would build; a store is needed only to fetch it (`Request.fetches`). Raises BuildError
    kinds, told where."""
    from builder.dockerfile.syntax import parse

    with BuildContexts(request, store, emit) as contexts:
        return parse(contexts.dockerfile())


def planned(request: Request, store: Store, emit: Emit) -> tuple[SourceFile, list[Plan]]:
    """The plans of what `request` would build, one for each platform, with the bases that they need in the store, and no step
    done; what there is to warn of is told. Raises BuildError kinds, told where."""
    with BuildContexts(request, store, emit) as contexts:
        source = contexts.dockerfile()
        try:
            return source, _checked_plans(_parse(source, store), request, store, Roots(store), contexts, emit)
        except BuildError as error:
            if error.span is not None:
                error.at(source)
            raise


def _parse(source: SourceFile, store: Store, new: Callable[[], None] = lambda: None) -> Dockerfile:
    """The syntax tree, from the cache where this text was parsed before: then lark is not even imported. `new` is called
    before a text with commands is parsed that was not: it is time to make ready for them."""

    def parse() -> Dockerfile:
        if "RUN" in source.text.upper():
            new()
        from builder.dockerfile.syntax import parse

        return parse(source)

    return _cached_tree("", source, store, parse)


def _parse_trigger(text: str, store: Store | None) -> Instruction:
    """The same for the one instruction of an ONBUILD."""
    from builder.dockerfile.ast import Directives, Dockerfile
    from builder.errors import SourceFile
    from builder.plan import triggers

    if store is None:
        return triggers.parse(text)
    source = SourceFile("ONBUILD", text)
    parsed = _cached_tree("trigger:", source, store, lambda: Dockerfile(source, Directives(), (triggers.parse(text),)))
    return parsed.instructions[0]


def _cached_tree(kind: str, source: SourceFile, store: Store, parse: Callable[[], Dockerfile]) -> Dockerfile:
    key = f"{codec.VERSION}:{kind}{sha256(source.text.encode()).hexdigest()}"
    data = store.ast(key)
    if data is not None:
        try:
            return codec.load(data, source)
        except ValueError:
            pass  # A damaged row of a disposable cache: the text is parsed again.
    dockerfile = parse()
    # Credentials of URLs do not reach the store.
    if redact(source.text) == source.text:
        store.put_ast(key, codec.dump(dockerfile))
    return dockerfile


def _checked_plans(
    dockerfile: Dockerfile, request: Request, store: Store, roots: Roots, contexts: BuildContexts, emit: Emit
) -> list[Plan]:
    """The plan for each platform, all with the same steps, and with all that is to be warned of told, also when there is no
    plan in the end."""
    options = checking.options(dockerfile, request.build_args)
    args = request.build_args
    found: list[Warn] = []
    warnings: list[Warn] = []
    plans = []
    try:
        for platform in request.platforms:
            predefined = platform_args(platform, request.machine)
            found += checking.early(dockerfile, options, target=request.target, build_args=args, predefined=predefined)
            plans.append(_plan(dockerfile, request._replace(platform=platform), store, roots, contexts, found, emit))
            found += checking.late(plans[-1], contexts.leaves_nothing_of)
    finally:
        # What is wrong for each platform is told once.
        warnings += checking.told(list(dict.fromkeys(found)) if request.others else found, dockerfile, options)
        for code, message, span in warnings:
            emit(BuildWarning(code, message, *(span[:2] if span else (0, 0)), dockerfile.source.name))
    checking.enforce(warnings, options)
    if request.pins is not None:
        request.pins.check_sources(plans)
    if not request.others:
        return plans
    from builder.plan.joining import join

    return join(plans)


def _plan(
    dockerfile: Dockerfile,
    request: Request,
    store: Store,
    roots: Roots,
    contexts: BuildContexts,
    warnings: list[Warn],
    emit: Emit,
) -> Plan:
    bases: dict[str, BaseImage] = {}
    stages = staged(dockerfile, request, bases, store)
    # A base may ask for more stages and images by its ONBUILD.
    while wanted := [external for external in stages.externals() if external.key not in bases]:
        roots.unpacks = roots.unpacks or _runs(stages)
        available = _available(stages, request, contexts, _pulls(request, store, roots, emit))
        if request.pins is not None:
            request.pins.check_images(
                (reference, external.platform or request.platform, external.span)
                for external, reference, id in named(wanted, available, store)
                if id is None
            )
        bases |= _resolved(wanted, available, store, roots, request.platform)
        if any(bases[external.key].config.onbuild for external in wanted):
            stages = staged(dockerfile, request, bases, store)
    settings = Settings(
        request.build_args,
        request.platform,
        EPOCH,
        request.labels,
        request.network,
        request.hosts,
        request.shm_size,
        request.trees,
        request.uncached,
        bool(request.others),
        request.limits.ulimits if request.limits else (),
    )
    return lower(stages, bases, settings, dockerfile.directives.escape, warnings=warnings)


def _runs(stages: Stages) -> bool:
    """Whether a command will look into what the target needs, as far as its bases are known."""
    return any(isinstance(each, Run) for index in stages.needed for each in stages.all[index].instructions)


def _resolved(
    wanted: Sequence[External], available: Available, store: Store, roots: Roots, platform: Platform
) -> dict[str, BaseImage]:
    """The bases: images of registries side by side, and what is wrong is told of the first in the Dockerfile."""

    def each(available: Available) -> dict[str, BaseImage]:
        return {external.key: resolve(external, available, store, roots, external.platform or platform) for external in wanted}

    pulls = available.pulls
    if len(wanted) < 2 or pulls is None or len(references := to_pull(wanted, available, store, platform)) < 2:
        return each(available)
    from builder.engine.ahead import Ahead  # for those who pull

    with Ahead(references, pulls.pull) as ahead:
        return each(available._replace(pulls=pulls._replace(pull=ahead.pull)))


def staged(
    dockerfile: Dockerfile, request: Request, bases: Mapping[str, BaseImage] | None = None, store: Store | None = None
) -> Stages:
    """The stages that the target needs, with what the bases that are known ask for by their ONBUILD. Raises DockerfileError
    and UsageError."""
    return reachable(
        dockerfile,
        target=request.target,
        build_args=request.build_args,
        contexts=request.names,
        directories=request.trees,
        predefined=platform_args(request.platform, request.machine),
        onbuild={name: base.config.onbuild for name, base in (bases or {}).items()},
        parse_trigger=lambda text: _parse_trigger(text, store),
        everything=request.everything,
    )


def _available(stages: Stages, request: Request, contexts: BuildContexts, pulls: Pulls | None) -> Available:
    names = tuple(stage.name for stage in stages.all if stage.name)
    return Available(contexts.openers(), request.layouts, names, request.images, pulls, request.pins)


def _pulls(request: Request, store: Store, roots: Roots, emit: Emit) -> Pulls | None:
    access = request.registry
    if access is None:
        return None

    def bring(reference: Reference, platform: Platform, stop: Cancellation | None = None) -> ImageRecord:
        from builder.engine.pulling import pull  # for those who pull

        return pull(reference, access(), store, roots, platform, emit, stop)

    forbidden = "--offline" if request.access.offline else "--pull=never"
    return Pulls(request.pull, bring, lambda message: emit(BuildWarning("PullFailed", message)), forbidden)


def _assemble(plan: Plan, outcome: scheduler.Outcome, request: Request, whole: scheduler.Outcome) -> BuiltImage:
    when = created(request.source_date_epoch)
    history: list[Mapping[str, object]] = list(plan.base.history)
    for line in plan.history:
        empty = {} if line.step in outcome.changed else {"empty_layer": True}
        history.append({"created": when, "created_by": line.created_by, "comment": COMMENT, **empty})
    diff_ids = [layer.diff_id for layer in outcome.root.layers]
    config = assemble(plan.config, diff_ids, history, created=when)
    return BuiltImage(plan.platform, config, outcome.root, plan.base.blobs, _carried(request, plan, whole))


def _imports(request: Request, store: Store, roots: Roots, emit: Emit, stop: Cancellation) -> Imports | None:
    """The caches to ask; none with --no-cache."""
    if not request.cache_from or request.no_cache:
        return None
    from builder.caches import imports

    return imports(request, store, roots, emit, stop)


def _carried(request: Request, plan: Plan, outcome: scheduler.Outcome) -> Mapping[str, str]:
    """Annotations of the manifest: an inline cache, where one is asked for."""
    if not request.cache_to:
        return {}
    from builder.caches import carried

    return carried(request, plan, outcome)
