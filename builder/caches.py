"""The caches of a build besides the store: those that `--cache-from` names are asked, those of `--cache-to` are written."""

from __future__ import annotations

import time

from builder.cache.places import InlineTo, LocalFrom, LocalTo
from builder.errors import BuildError, Interrupted, UsageError
from builder.events import BuildWarning, ExportFinished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.cache.places import CacheFrom, RegistryTo, Sink, Source
    from builder.cancellation import Cancellation
    from builder.engine.imports import Imports
    from builder.engine.roots import Roots
    from builder.engine.scheduler import Outcome
    from builder.events import Emit
    from builder.plan.steps import Plan
    from builder.registry.access import RegistryAccess
    from builder.request import Request
    from builder.store.store import Store


def imports(request: Request, store: Store, roots: Roots, emit: Emit, stop: Cancellation) -> Imports:
    """What to ask when the store does not know a step."""
    from builder.engine.imports import Imports

    sources = [(place.name, _source(place, request, emit, stop)) for place in request.cache_from]
    return Imports(sources, store, roots, emit, stop)


def carried(request: Request, plan: Plan, outcome: Outcome) -> Mapping[str, str]:
    """Annotations of the manifest of the image of one plan, where it is to carry a cache."""
    if not any(to.inline for to in request.cache_to):
        return {}
    from builder.engine.cacheexport import inline_annotations

    return inline_annotations(plan, outcome)


def export(request: Request, plans: Sequence[Plan], outcome: Outcome, store: Store, roots: Roots, emit: Emit) -> None:
    """Write all that stand for themselves. Raises UsageError, StoreError and RegistryError where one cannot be written that
    must be."""
    from builder.engine.cacheexport import export_cache

    for to in request.cache_to:
        if isinstance(to.place, InlineTo):
            continue
        begun = time.monotonic()
        try:
            sink = _sink(to.place, request, store, emit)
            digest, size = export_cache(to, sink, plans, outcome, store, roots, emit, threads=max(1, request.jobs))
        except (BuildError, OSError) as error:
            if not to.ignore_error or isinstance(error, Interrupted):
                raise
            emit(BuildWarning("CacheExport", error.message if isinstance(error, BuildError) else str(error)))
            continue
        emit(ExportFinished(f"cache {to.name}", str(digest), size, time.monotonic() - begun))


def _source(place: CacheFrom, request: Request, emit: Emit, stop: Cancellation) -> Source:
    if isinstance(place, LocalFrom):
        from builder.cache.local import LocalSource

        return LocalSource(place, request.platforms)
    from builder.engine.registrycache import RegistrySource

    return RegistrySource(place, _access(request), request.platforms, stop, emit)


def _sink(place: LocalTo | RegistryTo, request: Request, store: Store, emit: Emit) -> Sink:
    if isinstance(place, LocalTo):
        from builder.cache.localsink import LocalSink

        return LocalSink(place)
    from builder.engine.registrysink import RegistrySink

    return RegistrySink(place, _access(request)(), store, emit)


def _access(request: Request) -> Callable[[], RegistryAccess]:
    if request.registry is None:
        raise UsageError("registries are not reached here")
    return request.registry
