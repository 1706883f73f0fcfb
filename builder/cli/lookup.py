"""An image of the store by what a user calls it: a name as Docker normalises it, or the first digits of its id."""

from __future__ import annotations

from builder.errors import BuildError, UsageError, did_you_mean
from builder.oci.image import parse_config
from builder.oci.reference import Reference
from builder.store.images import best

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.cli.flags import Parsed
    from builder.engine.bases import When
    from builder.oci.digest import Digest
    from builder.oci.platform import Platform
    from builder.store.store import ImageRecord, Store

_CONFIG_LIMIT = 16 << 20

NONE_NEAR = "see: pybuild images"


def find(name: str, store: Store, platform: Platform | None = None) -> ImageRecord:
    """Of what stands for several platforms the best for `platform`, or for this machine. Raises UsageError when there is none,
    with a near name."""
    return best(find_all(name, store), platform)


def find_all(name: str, store: Store) -> list[ImageRecord]:
    """All images that the name, or the id of an index, stands for; mostly one. Raises as `find`."""
    found = []
    try:
        found = store.find_images(Reference.parse(name).identity)
    except UsageError:
        # Upper case or a colon in odd places: it can still be an id.
        if not _is_id(name):
            raise
    if not found and _is_id(name):
        found = store.find_images(name.removeprefix("sha256:"))
    if not found:
        # What nearly all names end in makes no two of them alike.
        known = [familiar(record).removesuffix(":latest") for record in store.images() if record.name]
        near = did_you_mean(name.removesuffix(":latest"), known)
        raise UsageError(f"there is no image '{name}' in the store", hint=near or NONE_NEAR)
    return found


def chosen(name: str, records: Sequence[ImageRecord], store: Store, platform: Platform, *, asked: bool) -> ImageRecord:
    """The best for `platform` of what `name` stands for. Raises UsageError where that is `asked` for, and there is none."""
    found = best(records, platform)
    if asked and not platform.runs(platform_of(found, store)):
        has = ", ".join(str(platform_of(each, store)) for each in records)
        raise UsageError(f"the image '{name}' in the store is not for {platform}", hint=f"it is for {has}")
    return found


def platform_of(record: ImageRecord, store: Store) -> Platform:
    """What the image says that it is for. Raises BuildError for a damaged config."""
    return parse_config(store.read_blob(record.config, _CONFIG_LIMIT)).config.platform.normal()


def when(parsed: Parsed) -> When:
    """When images are pulled. `--pull` alone is `always`, as with buildx; Buildah has the others."""
    names: dict[str, When] = {"always": "always", "true": "always", "newer": "newer", "never": "never"}
    for flag in ("always", "never"):
        # Buildah's, of a build alone.
        if f"pull-{flag}" in parsed.values and parsed.flag(f"pull-{flag}"):
            return names[flag]
    return names.get(parsed.text("pull") or "", "missing")


def new_name(text: str) -> Reference:
    """A name to give to an image. Raises UsageError for one with a digest, and for what is no reference."""
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise UsageError(f"the name '{text}' has a digest", hint="a new image is named by a tag; its digest follows from it")
    return reference


def familiar(record: ImageRecord) -> str:
    """The name that a person writes; `<none>` without one."""
    try:
        return Reference.parse(record.name).familiar if record.name else "<none>"
    except BuildError:
        return record.name


def known_as(record: ImageRecord, store: Store) -> list[str]:
    """What registries call the image by digest, from which it came or to which it went, as a person writes it."""
    return [Reference.parse(name).familiar for name in store.repositories(record.config) if "@" in name]


def is_id_of(name: str, digest: Digest) -> bool:
    """Whether an image, or an index, is called by its id."""
    return _is_id(name) and digest.hex.startswith(name.removeprefix("sha256:"))


def _is_id(name: str) -> bool:
    digits = name.removeprefix("sha256:")
    return 4 <= len(digits) <= 64 and all(c in "0123456789abcdef" for c in digits)
