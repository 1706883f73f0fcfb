"""`pybuild save IMAGE...`: images of the store in an archive, which docker, podman and skopeo read."""

from __future__ import annotations

import os
import sys

from builder.cli.lookup import find_all
from builder.cli.upkeep import keep_house
from builder.engine.roots import Roots
from builder.engine.saving import save
from builder.errors import BuildError, UsageError
from builder.export.destination import check
from builder.oci.reference import Reference
from builder.store.images import best
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.oci.digest import Digest
    from builder.store.store import ImageRecord

_FOLDERS = ("oci-dir", "docker-dir")


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
        images: dict[Digest, tuple[ImageRecord, dict[str, None]]] = {}
        for wanted in parsed.positionals:
            records = find_all(wanted, store)
            record = best(records)
            if len(records) > 1:
                sys.stderr.write(
                    f"warning: '{wanted}' stands for several platforms: its image for {record.platform} is saved\n"
                )
            _, names = images.setdefault(record.config, (record, {}))
            if (name := asked_by_name(wanted, record)) is not None:
                names[name] = None
        save(
            {record: tuple(names) for record, names in images.values()},
            form,  # type: ignore[arg-type]  # one of the flag's choices
            dest,
            store,
            Roots(store),
            compression=compression,  # type: ignore[arg-type]  # likewise
            threads=os.cpu_count() or 1,
        )
        keep_house(store, lambda _: None)
    return 0


def asked_by_name(wanted: str, record: ImageRecord) -> str | None:
    """The name that goes with an image: the one that it was asked for by, and none for an id, as with docker. What a digest
    names has no tag, and archives have no place for it."""
    try:
        name = Reference.parse(wanted)
    except BuildError:
        return None
    return record.name if name.identity == record.name and name.digest is None else None
