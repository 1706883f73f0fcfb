"""`pybuild push IMAGE [NAME]`: an image of the store, taken to a registry. stdout gets the manifest's digest."""

from __future__ import annotations

import os
import sys

from builder.cli.context_spec import parse_platform
from builder.cli.lookup import chosen, find_all, is_id_of, new_name
from builder.cli.progress import shown
from builder.cli.registries import registry_access
from builder.cli.upkeep import keep_house
from builder.engine.foreign import CONFIG_LIMIT
from builder.engine.pushing import push
from builder.engine.rendering import kept_blobs, render
from builder.engine.roots import Root, Roots
from builder.errors import BuildError, UsageError
from builder.oci.digest import Digest
from builder.oci.image import parse_config
from builder.oci.reference import Reference
from builder.store.images import best
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.export.layout import Rendered
    from builder.store.store import ImageRecord


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    source, target = (*parsed.positionals, "")[:2]
    root = environment.store_root(parsed.text("root"), os.geteuid())
    with Store(root) as store, shown(environment, quiet=parsed.flag("quiet")) as reporter:
        records = find_all(source, store)
        asked = parsed.text("platform")
        if asked:
            records = [chosen(source, records, store, parse_platform((asked,), os.uname().machine), asked=True)]
        record = best(records)
        name = new_name(target) if target else _own_name(source, record)
        if record.whole and not asked and (len(records) > 1 or not is_id_of(source, record.config)):
            from builder.engine.indexes import rendered  # for those who have one

            if parsed.text("compression"):
                raise UsageError(
                    f"'{source}' is an index, whose digests say how its layers are compressed", hint="leave --compression out"
                )
            # What the digests of an index say cannot be packed otherwise.
            image = rendered(Digest.parse(record.source), store)
        else:
            image = _rendered(record, parsed.text("compression") or "gzip", store)
        access = registry_access(parsed, environment)
        push(image, (name,), access, store, reporter.emit, with_request=parsed.flag("request"))
        sys.stdout.write(f"{Digest.of(image.manifest)}\n")
        keep_house(store, reporter.emit)
    return 0


def _own_name(source: str, record: ImageRecord) -> Reference:
    """What the image was asked for by, which an id is not."""
    try:
        name = Reference.parse(source)
    except BuildError:
        name = None
    if name is None or name.identity != record.name:
        raise UsageError(
            f"'{source}' is no name to push to", hint=f"say where to: pybuild push {source} registry.example/name:tag"
        )
    return new_name(source)


def _rendered(record: ImageRecord, form: str, store: Store) -> Rendered:
    config = store.read_blob(record.config, CONFIG_LIMIT)
    root = Root.of(parse_config(config).diff_ids)
    threads = os.cpu_count() or 1
    blobs, said = kept_blobs(record, root, store), store.annotations(record.config)
    image = render(config, root, blobs, form, store, Roots(store), threads=threads, annotations=said)  # type: ignore[arg-type]  # one of the flag's choices
    return image._replace(request=store.request(record.config))
