"""What a FROM or `--from` name stands for, with its layers brought into the store."""

from __future__ import annotations

from builder.engine.foreign import CONFIG_LIMIT, base_image, from_layout
from builder.engine.roots import Root, Use
from builder.errors import BuildError, DockerfileError, MismatchError, RegistryError, UsageError, did_you_mean
from builder.layers.entry import EPOCH, Item
from builder.oci.digest import Digest
from builder.oci.image import ImageConfig, parse_config
from builder.oci.reference import Reference
from builder.plan import keys, triggers
from builder.plan.stages import matching_context
from builder.plan.steps import BaseImage
from builder.store.store import Record
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Literal, Protocol

    from builder.cancellation import Cancellation
    from builder.context.oci_layout import Place
    from builder.engine.pins import Pins
    from builder.engine.roots import Roots
    from builder.engine.sources import SourceTree
    from builder.oci.image import ParsedImage
    from builder.oci.platform import Platform
    from builder.plan.stages import External
    from builder.store.store import ImageRecord, Store

    When = Literal["always", "missing", "never", "newer"]

    class Pull(Protocol):
        """Of the command line, or of what pulls side by side."""

        def __call__(self, reference: Reference, platform: Platform, stop: Cancellation | None = None) -> ImageRecord: ...


class Pulls(NamedTuple):
    """How images come from registries."""

    when: When
    pull: Pull
    """Raises RegistryError."""
    warn: Callable[[str], object]
    """Told why an image of the store is used that may be old."""
    forbidden: str = "--pull=never"
    """The flag that forbids to pull, with `when="never"`."""


class Available(NamedTuple):
    """Where names may lead."""

    directories: Mapping[str, Callable[[], SourceTree]]
    """Named contexts that files are copied from, opened when they are called."""
    layouts: Mapping[str, Place]
    """Named contexts that are OCI layouts."""
    stage_names: tuple[str, ...]
    """For the hint at a misspelt `--from`."""
    images: Mapping[str, str] = {}
    """Named contexts that are images: what each is called."""
    pulls: Pulls | None = None
    """Registries; None where only the store counts."""
    pins: Pins | None = None
    """What names are taken to mean; None: what they mean today."""


def resolve(external: External, available: Available, store: Store, roots: Roots, platform: Platform) -> BaseImage:
    """The image behind a name. Raises DockerfileError, with its place, for one that is not there. One for another
    platform is the plan's to warn of, as in BuildKit."""
    try:
        context = matching_context(external.name, available.directories)
        if context is not None:
            return _from_directory(external.name, available.directories[context](), store, roots, platform)
        image = matching_context(external.name, available.images)
        if image is not None:
            external = external._replace(name=available.images[image])
            # No stage is meant.
            available = available._replace(stage_names=())
        context = matching_context(external.name, available.layouts) if image is None else None
        if context is not None:
            base = from_layout(external.name, available.layouts[context], store, roots, platform)
        elif external.name == "scratch":
            return BaseImage("scratch", ImageConfig(platform, workdir="/"))
        else:
            base = _from_store(external, available, store, platform)
    except BuildError as error:
        if type(error) is BuildError:
            # The image is no good: that is not a step which failed.
            error = UsageError(error.message, error.span, hint=error.hint)
        if error.span is None:
            error.span = external.span
        if external.trigger:
            triggers.told(error, external.trigger)
        raise error
    return base


def _from_store(external: External, available: Available, store: Store, platform: Platform) -> BaseImage:
    found = _by_id(external.name, store)
    try:
        reference = Reference.parse(external.name)
    except BuildError as error:
        if found is None:
            raise DockerfileError(error.message, external.span, hint=error.hint) from None
    else:
        pins = available.pins
        if pins is None or found is not None:
            found = _by_name(reference, found, external, available, store, platform)
        else:
            found = _by_pin(pins, reference, external, available, store, platform)
    parsed = parse_config(store.read_blob(found.config, CONFIG_LIMIT))
    blobs = found.blobs
    if blobs is None:
        blobs = tuple(store.foreign(diff_id) for diff_id in parsed.diff_ids)
    return base_image(external.name, parsed, blobs)


def _by_pin(
    pins: Pins, reference: Reference, external: External, available: Available, store: Store, platform: Platform
) -> ImageRecord:
    """What the name is pinned to."""
    from builder.engine.pins import check_id, moved  # for those who have a lock

    pin = pins.image(reference, platform, external.span)
    if pin is None:
        return _by_name(reference, None, external, available, store, platform)
    if not pin.digest:
        found = store.find_image(pin.id.partition(":")[2])
        if found is None:
            raise MismatchError(
                f"the lock pins '{reference.familiar}' to the image {pin.id}, which is not in the store",
                external.span,
                hint=f"it came from no registry: build or import it, then pybuild lock --upgrade={reference.familiar}",
            )
        return found
    exact = reference._replace(digest=Digest.parse(pin.digest))
    try:
        found = _by_name(exact, None, external, available, store, platform)
    except BuildError as error:
        error.hint = moved(reference.familiar, pin, error.hint)
        raise
    check_id(pin, found, store, reference.familiar)
    return found


def _by_name(
    reference: Reference,
    by_id: ImageRecord | None,
    external: External,
    available: Available,
    store: Store,
    platform: Platform,
) -> ImageRecord:
    """The image that counts: what the store has, or what a registry gives. `by_id` is one whose id begins so."""
    pulls = available.pulls
    found, counts = _stored(reference, by_id, pulls, store, platform)
    if found is not None and counts:
        return found
    if found is not None and pulls is not None and pulls.when != "never" and found is not by_id:
        parsed = parse_config(store.read_blob(found.config, CONFIG_LIMIT))
        if _was_pulled(found, parsed) and not platform.runs(parsed.config.platform):
            return _for_other(reference, found, parsed.config.platform, pulls, platform)
    near = did_you_mean(external.name, available.stage_names)
    if near and external.role == "FROM" and external.name.lower() in (name.lower() for name in available.stage_names):
        near = f"FROM sees the stages before it: move the stage '{external.name}' up"
    if pulls is None or pulls.when == "never":
        raise _missing(reference, external, near, store, pulls)
    try:
        return pulls.pull(reference, platform)
    except RegistryError as error:
        if found is not None and pulls.when == "newer":
            pulls.warn(f"{error.message}: the image of the store is used")
            return found
        from builder.engine.pulling import NotThere, lacking

        if near and external.role != "FROM" and isinstance(error, NotThere):
            raise _unknown_stage(external, near) from error
        if found is None:
            lacking(error, reference, near or _near_image(reference, store))
        raise


def to_pull(
    externals: Iterable[External], available: Available, store: Store, platform: Platform
) -> list[tuple[Reference, Platform]]:
    """What `resolve` will ask registries for, in order, and for which platform; what is wrong with the rest it says itself."""
    found: list[tuple[Reference, Platform]] = []
    if available.pulls is None or available.pulls.when == "never":
        return found
    for external, reference, by_id in named(externals, available, store):
        wanted = external.platform or platform
        if available.pins is not None and by_id is None:
            pin = available.pins.image(reference, wanted, external.span)
            if pin is not None:
                if not pin.digest:
                    continue
                reference = reference._replace(digest=Digest.parse(pin.digest))
        if not all(_stored(reference, by_id, available.pulls, store, wanted)):
            found.append((reference, wanted))
    return found


def named(
    externals: Iterable[External], available: Available, store: Store
) -> Iterator[tuple[External, Reference, ImageRecord | None]]:
    """Those that stand for images of registries or of the store, with the image whose id the name is the beginning of."""
    for external in externals:
        name = external.name
        if matching_context(name, available.directories) is not None:
            continue
        image = matching_context(name, available.images)
        if image is None and (name == "scratch" or matching_context(name, available.layouts) is not None):
            continue
        text = name if image is None else available.images[image]
        try:
            reference = Reference.parse(text)
        except BuildError:
            continue
        yield external, reference, _by_id(text, store)


def _stored(
    reference: Reference, by_id: ImageRecord | None, pulls: Pulls | None, store: Store, platform: Platform
) -> tuple[ImageRecord | None, bool]:
    """What the store has, and whether nobody else has to be asked about it. `by_id` is one whose id begins so."""
    found = store.find_image(reference.identity, platform) or _by_tag(reference, store, platform) or by_id
    if found is None or pulls is None or pulls.when == "never" or found is by_id:
        return found, True
    parsed = parse_config(store.read_blob(found.config, CONFIG_LIMIT))
    if _was_pulled(found, parsed) and not platform.runs(parsed.config.platform):
        # A registry may have it for the platform that is wanted.
        return found, False
    # What a digest names cannot change.
    return found, reference.digest is not None or pulls.when == "missing"


def _by_tag(reference: Reference, store: Store, platform: Platform) -> ImageRecord | None:
    """The image under the tag beside a digest, if it came as that very digest."""
    if reference.digest is None or not reference.tag:
        return None
    tagged = store.find_image(f"{reference.name}:{reference.tag}", platform)
    return (
        tagged if tagged is not None and f"{reference.name}@{reference.digest}" in store.repositories(tagged.config) else None
    )


def _was_pulled(record: ImageRecord, parsed: ParsedImage) -> bool:
    """Whether a registry may have it for other platforms: not what was built or imported here."""
    blobs = record.blobs or ()
    return bool(record.source) or (bool(blobs) and all(blobs) and len(blobs) == len(parsed.diff_ids))


def _for_other(reference: Reference, found: ImageRecord, has: Platform, pulls: Pulls, platform: Platform) -> ImageRecord:
    """The image for a platform that the one of the store is not for. The latter counts, with the plan's warning, where no
    registry has one at all."""
    try:
        return pulls.pull(reference, platform)
    except RegistryError as error:
        from builder.engine.pulling import NotThere

        if isinstance(error, NotThere):
            return found
        error.message = f"the image '{reference.familiar}' in the store is for {has}, not {platform}: {error.message}"
        raise


def _missing(reference: Reference, external: External, near: str | None, store: Store, pulls: Pulls | None) -> DockerfileError:
    if near and external.role != "FROM":
        return _unknown_stage(external, near)
    why = f", and {pulls.forbidden} forbids to fetch it" if pulls is not None else ""
    name = reference._replace(digest=None).familiar
    return DockerfileError(
        f"there is no image '{reference.familiar}' in the store{why}",
        external.span,
        hint=near
        or _near_image(reference, store)
        or f"pybuild pull {reference.familiar}, or pybuild import ROOTFS.tar {name}, or --build-context {external.name}=oci-layout://FOLDER",
    )


def _unknown_stage(external: External, near: str) -> DockerfileError:
    return DockerfileError(f"unknown stage '{external.name}'", external.span, hint=near)


def _near_image(reference: Reference, store: Store) -> str | None:
    names = [_short(Reference.parse(record.name)) for record in store.images() if record.name]
    return did_you_mean(_short(reference), names)


def _short(reference: Reference) -> str:
    """As most people write it: what nearly all names end in makes no two of them alike."""
    return reference.familiar.removesuffix(":latest")


def _by_id(name: str, store: Store) -> ImageRecord | None:
    hexes = name.removeprefix("sha256:")
    if len(hexes) < 12 or any(c not in "0123456789abcdef" for c in hexes):
        return None
    return store.find_image(hexes)


def _from_directory(name: str, tree: SourceTree, store: Store, roots: Roots, platform: Platform) -> BaseImage:
    from builder.engine.selection import content_digest, whole

    picked = whole(tree)
    key = keys.directory_key(content_digest((picked,), owners=True, modes=True))
    record = store.lookup(key.hex)
    if record is None:
        # 0:0 comes from the context; the constant time is SPEC section 6's.
        items = [Item(item.entry._replace(mtime=EPOCH * 10**9), item.source) for item in picked.items]
        made = roots.add(Root(), items, Use(as_folder=False))
        record = store.put_record(Record(key.hex, key.preimage, made.layers[-1].diff_id if made.layers else None))
    root = Root.of([record.diff_id] if record.diff_id else [])
    history = ({"created_by": f"FROM {name}", "comment": "pybuild: a directory"},) if root.layers else ()
    return BaseImage(name, ImageConfig(platform, workdir="/"), tuple(layer.diff_id for layer in root.layers), history)
