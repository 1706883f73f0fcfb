"""Images of archives, brought into the store: what comes is compared with its digests and diff IDs before it counts, and no
image of an archive has a name before all of them are there."""

from __future__ import annotations

from builder.engine import foreign
from builder.engine.roots import Root
from builder.errors import BuildError, UsageError
from builder.events import Notice, Transfer
from builder.oci.digest import Digest
from builder.oci.image import LAYER_TYPE, parse_config
from builder.oci.reference import Reference
from builder.plan import recorded
from builder.store.store import Member
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.archives.archive import Archive
    from builder.archives.found import Found
    from builder.engine.rendering import Blobs
    from builder.engine.roots import Roots
    from builder.events import Emit
    from builder.oci.digest import Descriptor
    from builder.store.store import Store


class Loaded(NamedTuple):
    id: Digest
    names: tuple[str, ...]
    """Normalised."""
    tag: str
    """As in `Found`."""


def load(archive: Archive, images: Sequence[Found], store: Store, roots: Roots, emit: Emit) -> list[Loaded]:
    """Bring the images into the store, under their names. Raises UsageError for what is damaged, StoreError."""
    ready = []
    known = {record.config: record.blobs for record in store.images()}
    for image in images:
        id = Digest.of(image.config)
        try:
            blobs = known[id] if id in known else _bring(archive, image, store, roots, emit)
        except BuildError as error:
            if type(error) is not BuildError:
                raise
            raise UsageError(f"'{archive.shown}' is damaged: {error.message}", hint=error.hint) from error
        ready.append((image, id, blobs))
    loaded = []
    named: dict[str, list[tuple[Found, Member]]] = {}
    for image, id, blobs in ready:
        store.put_blob(image.config)
        for name in image.names:
            named.setdefault(name, []).append((image, Member(id, blobs)))
        loaded.append(Loaded(id, image.names, image.tag))
    for name, found in named.items():
        members = _members(found)
        for before in store.find_images(name):
            if before.config not in [member.config for member in members]:
                emit(Notice(f"{Reference.parse(name).familiar} was the name of {before.config.short}, which stays without it"))
        store.tag_images(name, members)
    for _, id, blobs in ready:
        # Those that have no name, and those that lost it to a later one.
        store.tag("", id, blobs)
    for image, id, _ in ready:
        if image.request:
            _keep_request(image, id, store, emit)
    return loaded


def _keep_request(image: Found, id: Digest, store: Store, emit: Emit) -> None:
    try:
        recorded.parse(image.request)
    except ValueError as error:
        emit(Notice(f"what {id.short} says of its build is not kept: {error}"))
        return
    if not store.request(id):
        # What a build of one's own says counts for more.
        store.put_request(id, image.request)


def _members(found: Sequence[tuple[Found, Member]]) -> list[Member]:
    """What a name is to stand for: the images for several platforms that an archive has under it, the last for each."""
    if len({member.config for _, member in found}) == 1:
        return [found[-1][1]]
    members = {}
    for image, member in found:
        platform = str(image.platform or parse_config(image.config).config.platform.normal())
        source = str(Digest.of(image.listed)) if image.listed else ""
        members[platform] = member._replace(platform=platform, source=source)
    return list(members.values())


def _bring(archive: Archive, image: Found, store: Store, roots: Roots, emit: Emit) -> Blobs:
    parsed = parse_config(image.config)
    shown = Reference.parse(image.names[0]).familiar if image.names else image.tag or Digest.of(image.config).short
    foreign.check_layers(shown, parsed, image.layers)
    layers = _known(image, parsed.diff_ids, store, roots)
    wanted = foreign.missing(parsed, layers, store, roots)
    moved, total = 0, sum(layer.size for layer in wanted)
    emit(Transfer(f"loading {shown}", 0, total))

    def fetch(descriptor: Descriptor, _diff_id: Digest) -> str:
        nonlocal moved
        _copy(archive, image.places[descriptor.digest], descriptor, store)
        moved = min(total, moved + descriptor.size)
        emit(Transfer(f"loading {shown}", moved, total))
        return ""

    blobs = foreign.bring(shown, parsed, layers, store, roots, fetch)
    if not image.packs:
        return blobs
    # As with an import: the tar stays, and is packed when an output asks for it.
    plain = [
        blob.media_type == LAYER_TYPE and blob.digest == diff_id for blob, diff_id in zip(blobs, parsed.diff_ids, strict=True)
    ]
    return [None if is_plain else blob for blob, is_plain in zip(blobs, plain, strict=True)]


def _known(image: Found, diff_ids: Sequence[Digest], store: Store, roots: Roots) -> list[Descriptor]:
    """The layers to bring. What the store has in the form in which it once came needs no tar beside it."""
    layers = []
    root = Root()
    for layer, diff_id in zip(image.layers, diff_ids, strict=True):
        root = root.on_top(diff_id)
        came = store.foreign(diff_id) if image.packs and layer.digest == diff_id and roots.has(root) else None
        layers.append(came if came is not None and store.has_blob(came.digest) else layer)
    return layers


def _copy(archive: Archive, place: str, descriptor: Descriptor, store: Store) -> None:
    with store.blob_writer(descriptor.digest.algorithm) as writer:
        for chunk in archive.chunks(place):
            writer.write(chunk)
        try:
            writer.commit(descriptor.digest)
        except BuildError as error:
            if type(error) is not BuildError:
                raise
            raise archive.wrong(f"the layer '{place}' is not {descriptor.digest}") from error
