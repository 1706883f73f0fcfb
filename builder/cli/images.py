"""`pybuild images | inspect | history | tag | rmi`: what the store holds. Results go to stdout."""

from __future__ import annotations

import json
import os
import sys
import time

from builder.cli.columns import table
from builder.cli.lookup import familiar, find, find_all, new_name
from builder.engine.roots import Root, Roots
from builder.errors import BuildError, UsageError
from builder.oci.image import parse_config
from builder.oci.reference import Reference
from builder.report import units
from builder.store.images import SHORTEST_ID, Member, best
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.oci.image import ParsedImage
    from builder.store.store import ImageRecord

CONFIG_LIMIT = 16 << 20


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        match parsed.command:
            case "images":
                _images(parsed, store)
            case "inspect":
                _inspect(parsed, store)
            case "history":
                _history(parsed, store)
            case "tag":
                _tag(parsed, store)
            case "rmi":
                _rmi(parsed, store)
    return 0


def _images(parsed: Parsed, store: Store) -> None:
    records = store.images()
    full = parsed.flag("no-trunc")
    if parsed.flag("quiet"):
        _lines(dict.fromkeys(_id(record, full) for record in records))
        return
    rows = []
    damaged = {}
    for record in records:
        name, tag = _name_and_tag(record)
        platform = record.platform
        try:
            image = _parsed(record, store)
            size = units.size(_size(image, store))
            platform = platform or str(image.config.platform.normal())
        except BuildError as error:
            # The others are to be seen, and this one to be named where it is removed.
            size = "damaged"
            damaged[record.config] = error.message
        rows.append((name, tag, _id(record, full), _ago(record.created), size, platform))
    names = [record.name for record in records if record.name]
    # Where a name stands for one image each, nobody asks what for.
    columns = 5 if len(set(names)) == len(names) else 6
    head = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "PLATFORM")
    _table(head[:columns], [row[:columns] for row in rows])
    for config, message in damaged.items():
        sys.stderr.write(f"warning: the image {config} is damaged: {message}; see: pybuild doctor --store\n")


def _name_and_tag(record: ImageRecord) -> tuple[str, str]:
    """As Docker shows them: an image that was pulled by its digest has no tag."""
    if not record.name:
        return "<none>", "<none>"
    name, at, _ = familiar(record).partition("@")
    if at:
        return name, "<none>"
    name, _, tag = name.rpartition(":")
    return name, tag


def _inspect(parsed: Parsed, store: Store) -> None:
    out = []
    for name in parsed.positionals:
        records = find_all(name, store)
        record = best(records)
        data = store.read_blob(record.config, CONFIG_LIMIT)
        image = parse_config(data)
        raw = json.loads(data)
        out.append(
            {
                "Id": str(record.config),
                "RepoTags": [familiar(other) for other in store.images() if other.config == record.config and other.name],
                "Created": raw.get("created", ""),
                "Author": raw.get("author", ""),
                "Architecture": image.config.platform.architecture,
                "Os": image.config.platform.os,
                **({"Variant": variant} if (variant := image.config.platform.variant) else {}),
                "Size": _size(image, store),
                "Config": raw.get("config", {}),
                "RootFS": {"Type": "layers", "Layers": [str(diff_id) for diff_id in image.diff_ids]},
                **(_index(records) if len(records) > 1 or record.whole else {}),
            }
        )
    print(json.dumps(out, indent=4, ensure_ascii=False))


def _index(records: Sequence[ImageRecord]) -> dict[str, object]:
    """What the name stands for besides: the images of all platforms, and the index where it is here whole."""
    images = [{"Platform": each.platform, "Id": str(each.config)} for each in records]
    return {"Index": records[0].source if records[0].whole else None, "Platforms": images}


def _history(parsed: Parsed, store: Store) -> None:
    record = find(parsed.positionals[0], store)
    image = _parsed(record, store)
    roots = Roots(store)
    layers = iter(Root.of(image.diff_ids).layers)
    rows = []
    for line in image.history:
        layer = None if line.get("empty_layer") else next(layers, None)
        size = roots.layer_size(layer) if layer else 0
        text = " ".join(str(line.get("created_by", "")).split())
        shown = text if parsed.flag("no-trunc") or len(text) <= 60 else text[:59] + "…"
        rows.append((str(line.get("created", ""))[:19], shown, units.size(size), str(line.get("comment", ""))))
    rows.reverse()
    if parsed.flag("quiet"):
        _lines(_id(record, parsed.flag("no-trunc")) if n == 0 else "<missing>" for n in range(len(rows)))
        return
    _table(("CREATED", "CREATED BY", "SIZE", "COMMENT"), rows)


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
    return len(records) == 1 and _is_id_of(name, str(records[0].config))


def _is_id_of(name: str, digest: str) -> bool:
    digits = name.removeprefix("sha256:")
    return len(digits) >= SHORTEST_ID and digest.removeprefix("sha256:").startswith(digits)


def _rmi(parsed: Parsed, store: Store) -> None:
    for name in parsed.positionals:
        records = find_all(name, store)
        record = records[0]
        others = [other for other in store.images() if other.config == record.config and other.name]
        names = list(dict.fromkeys(other.name for other in others))
        if _is_one(name, records):
            whole = next((other for other in others if other.whole), None)
            if whole is not None:
                raise UsageError(
                    f"the image '{name}' is part of the index {whole.source}",
                    hint=f"remove the name that stands for it: pybuild rmi {familiar(whole)}",
                )
            if len(names) > 1:
                raise UsageError(
                    f"the image '{name}' has {len(names)} names", hint="remove the names: pybuild rmi " + " ".join(names)
                )
            for removed in dict.fromkeys(store.remove_image(record.config)):
                if removed:
                    print(f"Untagged: {Reference.parse(removed).familiar}")
            print(f"Deleted: {record.config}")
            continue
        if record.name:
            store.untag(record.name)
            print(f"Untagged: {familiar(record)}")
        left = {other.config for other in store.images() if record.name or other.name}
        for config in dict.fromkeys(each.config for each in records if each.config not in left):
            if not record.name:
                # An index without a name goes by its id.
                store.remove_image(config)
            print(f"Deleted: {config}")


def _parsed(record: ImageRecord, store: Store) -> ParsedImage:
    return parse_config(store.read_blob(record.config, CONFIG_LIMIT))


def _size(image: ParsedImage, store: Store) -> int:
    return Roots(store).size(Root.of(image.diff_ids))


def _id(record: ImageRecord, full: bool) -> str:
    return str(record.config) if full else record.config.short


def _ago(created: int) -> str:
    seconds = max(0, int(time.time()) - created)
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count != 1 else ''} ago"
    return "just now"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    sys.stdout.write(table([head, *rows]))


def _lines(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
