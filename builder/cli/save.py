"""`pybuild save IMAGE...`: images of the store in an archive, which docker, podman and skopeo read."""

from __future__ import annotations

import os
import sys

from builder.cli.lookup import chosen, find_all, is_id_of
from builder.cli.sources import any_platform
from builder.cli.upkeep import keep_house
from builder.engine.roots import Roots
from builder.engine.saving import Saved, save
from builder.errors import BuildError, UsageError
from builder.export.destination import check
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.store.images import best
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.store.store import ImageRecord

_FOLDERS = ("oci-dir", "docker-dir")
_OCI = ("oci-archive", "oci-dir")


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    form = parsed.text("format") or "docker-archive"
    dest = parsed.text("output") or "-"
    compression = parsed.text("compression") or "gzip"
    if parsed.text("compression") and form == "docker-archive":
        raise UsageError(
            "layers in Docker's archive are not compressed", hint="choose another --format, or: pybuild save ... | zstd"
        )
    if form in _FOLDERS and dest == "-":
        raise UsageError(f"the format {form} is a folder and needs one", hint="add -o DIR")
    if dest == "-" and os.isatty(1):
        raise UsageError("an archive does not go to a terminal", hint="add -o FILE, or redirect stdout")
    check(dest, folder=form in _FOLDERS)
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        images: dict[Digest, Saved] = {}
        for wanted in parsed.positionals:
            found = _wanted(wanted, parsed, store, oci=form in _OCI)
            if found.whole and parsed.text("compression"):
                raise UsageError(
                    f"'{wanted}' is an index, whose digests say how its layers are compressed",
                    hint="leave --compression out, or choose one image by --platform",
                )
            id = Digest.parse(found.record.source) if found.whole else found.record.config
            known = images.setdefault(id, found)
            images[id] = known._replace(names=tuple(dict.fromkeys((*known.names, *found.names))))
        save(
            tuple(images.values()),
            form,  # type: ignore[arg-type]  # one of the flag's choices
            dest,
            store,
            Roots(store),
            compression=compression,  # type: ignore[arg-type]  # likewise
            threads=os.cpu_count() or 1,
        )
        keep_house(store, lambda _: None)
    return 0


def _wanted(wanted: str, parsed: Parsed, store: Store, *, oci: bool) -> Saved:
    """What goes into the archive: of what stands for several platforms the whole index, where it is here and the form holds
    one, else the image for the platform, which has to be there. Raises UsageError."""
    records = find_all(wanted, store)
    asked = parsed.text("platform")
    if asked is None and oci and records[0].whole and not (len(records) == 1 and is_id_of(wanted, records[0].config)):
        record = best(records)
        return Saved(record, _names(wanted, record), whole=True)
    record = chosen(wanted, records, store, any_platform((asked,) if asked else ()), asked=bool(asked) or len(records) > 1)
    if len(records) > 1 and not asked:
        sys.stderr.write(f"warning: '{wanted}' stands for several platforms: its image for {record.platform} is saved\n")
    return Saved(record, _names(wanted, record))


def _names(wanted: str, record: ImageRecord) -> tuple[str, ...]:
    name = asked_by_name(wanted, record)
    return (name,) if name is not None else ()


def asked_by_name(wanted: str, record: ImageRecord) -> str | None:
    """The name that goes with an image: the one that it was asked for by, and none for an id, as with docker. What a digest
    names has no tag, and archives have no place for it."""
    try:
        name = Reference.parse(wanted)
    except BuildError:
        return None
    return record.name if name.identity == record.name and name.digest is None else None
