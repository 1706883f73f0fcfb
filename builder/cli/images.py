"""`pybuild images | history | tag | rmi`: what the store holds. Results go to stdout."""

from __future__ import annotations

import os
import sys
import time

from builder.cli.failures import Failures
from builder.cli.formats import listed
from builder.cli.lookup import familiar, find, find_all, is_id_of, known_as, new_name
from builder.engine.roots import Root, Roots
from builder.errors import BuildError, UsageError
from builder.oci.image import parse_config
from builder.oci.reference import Reference
from builder.report import units
from builder.store.images import Member
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.oci.image import ParsedImage
    from builder.store.store import ImageRecord

CONFIG_LIMIT = 16 << 20
_IMAGES = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Platform": "PLATFORM",
}
_DAY = 86400
_UNITS = (
    (730 * _DAY, 365 * _DAY, "year"),
    (60 * _DAY, 30 * _DAY, "month"),
    (14 * _DAY, 7 * _DAY, "week"),
    (_DAY, _DAY, "day"),
    (3600, 3600, "hour"),
    (60, 60, "minute"),
)
"""Seconds from which on a unit is used, and those that it has: docker's, from days on."""
_HISTORY = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        match parsed.command:
            case "images":
                _images(parsed, store)
            case "history":
                _history(parsed, store)
            case "tag":
                _tag(parsed, store)
            case "rmi":
                _rmi(parsed, store)
    return 0


def _images(parsed: Parsed, store: Store) -> None:
    records = store.images()
    sources = {record.source for record in records}
    if parsed.texts("filter") or parsed.positionals:
        from builder.cli.imagefilter import chosen

        records = chosen(records, parsed.texts("filter"), parsed.positionals, store)
    full = parsed.flag("no-trunc")
    if parsed.flag("quiet"):
        _lines(dict.fromkeys(_id(record, full) for record in records))
        return
    rows = []
    damaged = {}
    for record in records:
        name, tag, digest = _name_tag_digest(record, store, sources)
        platform = record.platform
        try:
            image = _parsed(record, store)
            size = units.size(_size(image, store))
            platform = platform or str(image.config.platform.normal())
        except BuildError as error:
            # The others are to be seen, and this one to be named where it is removed.
            size = "damaged"
            damaged[record.config] = error.message
        id, ago, at = _id(record, full), _ago(record.created), _at(record.created)
        rows.append(dict(zip(_IMAGES, (name, tag, digest, id, ago, at, size, platform), strict=True)))
    names = [record.name for record in records if record.name]
    # Where a name stands for one image each, nobody asks what for.
    several = len(set(names)) != len(names)
    columns = ("Repository", "Tag", *(("Digest",) if parsed.flag("digests") else ()), "ID", "CreatedSince", "Size")
    columns += ("Platform",) if several else ()
    sys.stdout.write(listed(rows, _IMAGES, columns, parsed.text("format")))
    for config, message in damaged.items():
        sys.stderr.write(f"warning: the image {config} is damaged: {message}; see: pybuild doctor --store\n")


def _name_tag_digest(record: ImageRecord, store: Store, sources: set[str]) -> tuple[str, str, str]:
    """As Docker shows them: an image that was pulled by its digest has no tag; the digest of another is what its repository
    calls it, where it came from there or went there."""
    if not record.name:
        return "<none>", "<none>", "<none>"
    name, at, digest = familiar(record).partition("@")
    if at:
        return name, "<none>", digest
    name, _, tag = name.rpartition(":")
    there = [known.rpartition("@")[2] for known in known_as(record, store) if known.startswith(f"{name}@")]
    if record.source in there:
        return name, tag, record.source
    # What another tag came as may be an index that holds this image.
    own = [digest for digest in there if digest not in sources]
    return name, tag, (own or there or ["<none>"])[0]


def _history(parsed: Parsed, store: Store) -> None:
    record = find(parsed.positionals[0], store)
    image = _parsed(record, store)
    roots = Roots(store)
    layers = iter(Root.of(image.diff_ids).layers)
    human = parsed.text("human") != "false"
    full = parsed.flag("no-trunc")
    form = parsed.text("format")
    rows = []
    for line in image.history:
        layer = None if line.get("empty_layer") else next(layers, None)
        size = roots.layer_size(layer) if layer else 0
        text = " ".join(str(line.get("created_by", "")).split())
        created = _visible(str(line.get("created", "")))
        values = (
            "<missing>",
            _since(created) if form and human else created[:19] if human else created,
            created,
            _visible(text if full or len(text) <= 60 else text[:59] + "…"),
            units.size(size) if human else str(size),
            _visible(str(line.get("comment", ""))),
        )
        rows.append(dict(zip(_HISTORY, values, strict=True)))
    rows.reverse()
    if rows:
        rows[0]["ID"] = _id(record, full)
    if parsed.flag("quiet"):
        _lines(row["ID"] for row in rows)
        return
    sys.stdout.write(listed(rows, _HISTORY, ("CreatedSince", "CreatedBy", "Size", "Comment"), form))


def _tag(parsed: Parsed, store: Store) -> None:
    source, target = parsed.positionals
    records = find_all(source, store)
    name = str(new_name(target))
    if _is_one(source, records):
        store.tag(name, records[0].config, records[0].blobs)
        return
    members = [Member(each.config, each.blobs, each.platform, each.source) for each in records]
    store.tag_images(name, members)


def _is_one(name: str, records: Sequence[ImageRecord]) -> bool:
    """Whether an image is meant, by its id, and not what its name stands for."""
    return len(records) == 1 and is_id_of(name, records[0].config)


def _rmi(parsed: Parsed, store: Store) -> None:
    failures = Failures()
    for name in parsed.positionals:
        with failures:
            _remove(name, store, force=parsed.flag("force"))
    failures.tell()


def _remove(name: str, store: Store, *, force: bool) -> None:
    try:
        records = find_all(name, store)
    except UsageError as error:
        if not force:
            raise
        # As with docker: what is not there needs no removing.
        sys.stderr.write(f"warning: {error.message}\n")
        return
    record = records[0]
    if _is_one(name, records):
        _remove_one(name, record, store, force=force)
        return
    if record.name:
        store.untag(record.name)
        print(f"Untagged: {familiar(record)}")
    left = {other.config for other in store.images() if record.name or other.name}
    for config in dict.fromkeys(each.config for each in records if each.config not in left):
        if not record.name:
            # An index without a name goes by its id.
            store.remove_image(config)
        print(f"Deleted: {config}")


def _remove_one(name: str, record: ImageRecord, store: Store, *, force: bool) -> None:
    """An image that is named by its id."""
    others = [other for other in store.images() if other.config == record.config and other.name]
    whole = next((other for other in others if other.whole), None)
    if whole is not None:
        raise UsageError(
            f"the image '{name}' is part of the index {whole.source}",
            hint=f"remove the name that stands for it: pybuild rmi {familiar(whole)}",
        )
    names = list(dict.fromkeys(other.name for other in others))
    if len(names) > 1 and not force:
        raise UsageError(f"the image '{name}' has {len(names)} names", hint="remove the names: pybuild rmi " + " ".join(names))
    for removed in dict.fromkeys(store.remove_image(record.config)):
        if removed:
            print(f"Untagged: {Reference.parse(removed).familiar}")
    print(f"Deleted: {record.config}")


def _parsed(record: ImageRecord, store: Store) -> ParsedImage:
    return parse_config(store.read_blob(record.config, CONFIG_LIMIT))


def _size(image: ParsedImage, store: Store) -> int:
    return Roots(store).size(Root.of(image.diff_ids))


def _id(record: ImageRecord, full: bool) -> str:
    return str(record.config) if full else record.config.short


def _visible(text: str) -> str:
    """What others wrote into an image does not act on the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _at(created: int) -> str:
    """As Go writes a time."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(created))


def _since(created: str) -> str:
    """How long ago a time of a config was; itself where it is none."""
    import calendar

    try:
        return _ago(calendar.timegm(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return created


def _ago(created: int) -> str:
    seconds = max(0, int(time.time()) - created)
    for least, size, name in _UNITS:
        if seconds >= least:
            count = seconds // size
            return f"{count} {name}{'s' if count != 1 else ''} ago"
    return "just now"


def _lines(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
