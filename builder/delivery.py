"""What comes of a build that is done: outputs, caches, and images in the store under their names."""

from __future__ import annotations

import time

from builder.engine.times import created
from builder.errors import RegistryError
from builder.events import ExportFinished
from builder.oci.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.engine.exporting import Export, Output, Push
    from builder.engine.roots import BuiltImage, Roots
    from builder.engine.scheduler import Outcome
    from builder.events import Emit
    from builder.export.layout import Rendered
    from builder.layers.forms import Forms
    from builder.oci.reference import Reference
    from builder.plan.steps import Plan
    from builder.request import Request
    from builder.store.store import Store


def deliver(
    request: Request,
    images: list[BuiltImage],
    plans: Sequence[Plan],
    outcome: Outcome,
    store: Store,
    roots: Roots,
    emit: Emit,
) -> tuple[Digest, Digest | None]:
    """The id of the image, or the digest of the index, and the digest of the manifest, when one had to be made. Raises
    BuildError kinds; what a registry or an engine does not take is in the store all the same."""
    export = _export(request, images, store, roots, emit)
    try:
        if export is not None:
            _write(request.outputs, export, emit)
    except RegistryError as error:
        # All is there but at the registry, or in the engine, which may take it later.
        image_id = _keep(images, export, request, store)
        store.sync()
        name = request.tags[0].familiar if request.tags else image_id
        kept = f"the image is in the store: pybuild push {name}, or pybuild save {name}"
        error.hint = "; ".join(hint for hint in (error.hint, kept) if hint)
        raise
    if request.cache_to:
        from builder.caches import export as export_caches

        export_caches(request, plans, outcome, store, roots, emit)
    # Named last: a build that fails to deliver leaves no image behind.
    return _keep(images, export, request, store), export.manifest if export is not None else None


def shipped_forms(request: Request) -> Forms | None:
    """What outputs, an index and caches will ask for of layers."""
    rendered = [output for output in request.outputs if output.type in ("oci", "docker", "registry")]
    shipped = {output.compression for output in rendered}
    if request.others and not rendered:
        shipped.add("gzip")
    # A cache that may fail is made in the end, where its failure is its own.
    caches = [to for to in request.cache_to if not (to.inline or to.ignore_error)]
    shipped |= {to.compression for to in caches}
    if not shipped:
        return None
    from builder.layers.forms import Forms  # for those who ask for an output

    others = frozenset(to.compression for to in caches if to.mode == "max")
    files = len(rendered) < len(request.outputs)
    return Forms(frozenset(shipped), others, files, max(1, request.jobs))


def _export(request: Request, images: list[BuiltImage], store: Store, roots: Roots, emit: Emit) -> Export | None:
    """None where there is no output, and no index, which has to be made."""
    if not request.outputs and not request.others:
        return None
    from builder.engine.exporting import Export, handing

    return Export(
        images,
        store,
        roots,
        threads=max(1, request.jobs),
        created=created(request.source_date_epoch),
        push=_pusher(request, store, emit),
        hand_over=handing(store, roots, emit),
    )


def _write(outputs: Sequence[Output], export: Export, emit: Emit) -> None:
    from builder.engine.exporting import no_engine

    for output in outputs:
        if output.type == "engine" and not output.dest:
            emit(no_engine(output))
            continue
        begun = time.monotonic()
        size = export.write(output)
        digest = str(export.manifest) if export.manifest and output.type in ("oci", "docker", "registry") else ""
        emit(ExportFinished(f"{output.type} {output.dest}".rstrip(), digest, size, time.monotonic() - begun))


def _keep(images: list[BuiltImage], export: Export | None, request: Request, store: Store) -> Digest:
    """Put the image, or all of the index, into the store, under its names or, without one, for its id. What is there, and
    whole, is not written again."""
    if request.others:
        assert export is not None
        image_id = export.keep_index(request.tags)
    else:
        image_id, _ = store.put_blob(images[0].config)
        for name in [str(tag) for tag in request.tags] or [""]:
            store.tag(name, image_id, images[0].blobs)
    for image in images:
        store.annotate(Digest.of(image.config), image.annotations)
        if image.request and request.is_recorded:
            store.put_request(Digest.of(image.config), image.request)
    return image_id


def _pusher(request: Request, store: Store, emit: Emit) -> Push | None:
    access = request.registry
    if access is None:
        return None

    def take(image: Rendered, names: Sequence[Reference], *, with_request: bool) -> int:
        from builder.engine.pushing import push  # for those who push

        return push(image, names, access(), store, emit, with_request=with_request)

    return take
