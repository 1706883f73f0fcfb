"""`pybuild images NAME --filter KEY=VALUE`: docker's filters. Those of one key are alternatives; all keys have to fit."""

from __future__ import annotations

from builder.cli.lookup import familiar, find
from builder.dockerfile import goglob
from builder.errors import BuildError, DockerfileError, UsageError, did_you_mean
from builder.oci.image import parse_config
from builder.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.store.store import ImageRecord, Store

    Fits = Callable[[ImageRecord], bool]

_KEYS = ("before", "dangling", "label", "reference", "since")
_CONFIG_LIMIT = 16 << 20


def chosen(records: Sequence[ImageRecord], filters: Sequence[str], names: Sequence[str], store: Store) -> list[ImageRecord]:
    """The images that fit. `before` and `since` go by when an image got its name here: what reproducible builds say of their
    time is the same for all. Raises UsageError."""
    tests: dict[str, list[Fits]] = {}
    for text in [*filters, *(f"reference={name}" for name in names)]:
        key, equals, value = text.partition("=")
        if not equals or key not in _KEYS:
            raise UsageError(f"'{text}' is no filter of images", hint=did_you_mean(key, _KEYS) or f"it is {'=, '.join(_KEYS)}=")
        tests.setdefault(key, []).append(_fits(key, value, store))
    # Each label has to be there, as with docker; of the other keys one is enough.
    return [
        r for r in records if all((all if key == "label" else any)(fits(r) for fits in some) for key, some in tests.items())
    ]


def _fits(key: str, value: str, store: Store) -> Fits:
    match key:
        case "dangling":
            if value.lower() not in ("true", "false", "1", "0"):
                raise UsageError(f"'{value}' is not a value of the filter 'dangling'", hint="true or false")
            return lambda record: (not record.name) == (value.lower() in ("true", "1"))
        case "label":
            name, equals, wanted = value.partition("=")
            return lambda record: _has_label(record, name, wanted if equals else None, store)
        case "reference":
            _check_pattern(value)
            return lambda record: any(goglob.match(value, text) for text in _texts(record, value))
        case "before":
            limit = find(value, store).created
            return lambda record: record.created < limit
    limit = find(value, store).created
    return lambda record: record.created > limit


def _texts(record: ImageRecord, pattern: str) -> list[str]:
    """What a pattern may stand for: the familiar name, without its tag too; and what is no pattern, for the whole name."""
    if not record.name:
        return []
    try:
        reference = Reference.parse(record.name)
    except BuildError:
        return [familiar(record)]
    bare = reference._replace(tag="", digest=None)
    whole = [] if goglob.has_meta(pattern) else [str(reference), str(bare)]
    return [reference.familiar, bare.familiar, *whole]


def _has_label(record: ImageRecord, name: str, wanted: str | None, store: Store) -> bool:
    try:
        labels = dict(parse_config(store.read_blob(record.config, _CONFIG_LIMIT)).config.labels)
    except BuildError:
        # What `images` says of a damaged one without a filter.
        return False
    return name in labels and (wanted is None or labels[name] == wanted)


def _check_pattern(pattern: str) -> None:
    try:
        goglob.match(pattern, "")
    except DockerfileError as error:
        raise UsageError(error.message, hint=error.hint) from None
