"""`pybuild inspect IMAGE...`: all about images of the store, of registries (without a pull), of archives and of folders."""

from __future__ import annotations

import json
import os
import sys
import tempfile

from builder.cli.failures import Failures
from builder.cli.formats import shown
from builder.cli.lookup import NONE_NEAR, chosen, familiar, find_all, known_as
from builder.cli.sources import FILES, any_platform, opened, path_and_name
from builder.engine.foreign import CONFIG_LIMIT
from builder.engine.roots import Root, Roots
from builder.errors import UsageError
from builder.gotemplate.values import Fields, NilMap
from builder.oci.digest import Digest
from builder.oci.image import MANIFEST_TYPE, parse_config
from builder.oci.reference import Reference
from builder.store.store import Store
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.oci.platform import Platform
    from builder.store.store import ImageRecord

_INDEX_LIMIT = 4 << 20
# Docker's Config has all of these, whatever an image says: what it leaves out is empty there.
_UNSET: dict[str, object] = {
    **dict.fromkeys(("Hostname", "Domainname", "User", "Image", "WorkingDir", "MacAddress", "StopSignal"), ""),
    **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "ArgsEscaped"), False),
    **dict.fromkeys(("Env", "Cmd", "Entrypoint", "OnBuild", "Shell"), ()),
    **{key: NilMap() for key in ("ExposedPorts", "Volumes", "Labels")},
    **dict.fromkeys(("Healthcheck", "StopTimeout"), None),
}
_NOT_HERE = {"Parent": "", "DockerVersion": "", "Container": "", "Variant": "", "OsVersion": ""}


class Inspected(NamedTuple):
    config: bytes
    names: tuple[str, ...]
    """As people write them."""
    digests: tuple[str, ...]
    size: int
    manifest: bytes = b""
    """With the index that it was chosen from, if any; both as they are."""
    listed: bytes = b""
    digest: str = ""
    """Of the manifest, or of the index."""
    request: str = ""
    """What it says of its build."""
    images: tuple[tuple[str, str], ...] = ()
    """What a name of the store stands for, where that is several images: their platforms and ids."""


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    if parsed.flag("raw") and parsed.flag("config"):
        raise UsageError("--raw and --config exclude each other", hint="leave one of them out")
    if parsed.flag("raw") or parsed.flag("config"):
        sys.stdout.flush()
        for image in [_inspected(name, parsed, environment) for name in parsed.positionals]:
            sys.stdout.buffer.write(image.config if parsed.flag("config") else image.listed or image.manifest)
        return 0
    found, failures = [], Failures()
    for name in parsed.positionals:
        with failures:
            found.append(inspected_object(_inspected(name, parsed, environment)))
    if found:
        sys.stdout.write(shown(found, parsed.text("format")))
        sys.stdout.flush()
    failures.tell()
    return 0


def _inspected(name: str, parsed: Parsed, environment: Environment) -> Inspected:
    asked = parsed.text("platform") or environment.default_platform
    platform = any_platform((asked,) if asked else ())
    if name.startswith("docker://"):
        return _remote(name.removeprefix("docker://"), parsed, environment, platform)
    if parsed.flag("remote"):
        return _remote(name, parsed, environment, platform)
    transport, colon, rest = name.partition(":")
    with Store(environment.store_root(parsed.text("root"), os.geteuid())) as store:
        # An image may be called oci:latest, too.
        if not (colon and transport in FILES and path_and_name(rest) is not None):
            try:
                records = find_all(name, store)
                record = chosen(name, records, store, platform, asked=parsed.text("platform") is not None)
                return _stored(record, records, store, raw=parsed.flag("raw"))
            except UsageError as error:
                if error.hint == NONE_NEAR:
                    error.hint = f"{NONE_NEAR}, or ask its registry: pybuild inspect --remote {name}"
                raise
    path, wanted = path_and_name(rest) or (rest, "")
    return _archived(path, wanted, platform, asked=bool(asked))


def _stored(record: ImageRecord, records: Sequence[ImageRecord], store: Store, *, raw: bool) -> Inspected:
    several = len(records) > 1 or record.whole
    index = store.read_blob(Digest.parse(record.source), _INDEX_LIMIT) if raw and record.whole else b""
    config = store.read_blob(record.config, CONFIG_LIMIT)
    diff_ids = parse_config(config).diff_ids
    # An image may be for several platforms of one name.
    names = list(dict.fromkeys(familiar(other) for other in store.images() if other.config == record.config and other.name))
    tags = [name for name in names if "@" not in name]
    digests = list(dict.fromkeys([*(name for name in names if "@" in name), *known_as(record, store)]))
    manifest = b""
    if raw:
        from builder.engine.rendering import manifest_of

        manifest = manifest_of(record, config, store, Roots(store))
    found = Inspected(config, tuple(tags), tuple(digests), Roots(store).size(Root.of(diff_ids)), manifest, index)
    found = found._replace(request=store.request(record.config))
    if not several:
        return found
    images = tuple((each.platform, str(each.config)) for each in records)
    return found._replace(digest=record.source if record.whole else "", images=images)


def _remote(name: str, parsed: Parsed, environment: Environment, platform: Platform) -> Inspected:
    from builder.cli import progress
    from builder.cli.registries import registry_access
    from builder.engine.remoteimages import look
    from builder.events import BuildWarning

    reference = Reference.parse(name)
    with progress.shown(environment, quiet=False) as reporter:

        def warn(message: str) -> None:
            reporter.emit(BuildWarning("Registry", message))

        found = look(reference, registry_access(parsed, environment), platform, warn)
    digest = Digest.of(found.listed or found.manifest)
    tags = (reference._replace(digest=None).familiar,) if reference.tag else ()
    known = (f"{reference._replace(tag='', digest=None).familiar}@{digest}",)
    return Inspected(found.config, tags, known, found.size, found.manifest, found.listed, str(digest))


def _archived(path: str, wanted: str, platform: Platform, *, asked: bool) -> Inspected:
    from builder.archives.images import choose, images

    with tempfile.TemporaryDirectory(prefix="pybuild-") as scratch, opened(path, scratch) as archive:
        found = choose(images(archive, platform, asked=asked), wanted, path)
    names = tuple(Reference.parse(name).familiar for name in found.names)
    size = sum(layer.size for layer in found.layers)
    digest = str(Digest.of(found.listed or found.manifest)) if found.manifest else ""
    return Inspected(found.config, names, (), size, found.manifest, found.listed, digest, found.request)


def inspected_object(found: Inspected) -> Fields:
    """What docker shows, and what only manifests and indexes say."""
    parsed = parse_config(found.config)
    raw: dict[str, Any] = json.loads(found.config)
    platform = parsed.config.platform
    fields = Fields(
        {
            "Id": str(Digest.of(found.config)),
            "RepoTags": [*found.names],
            "RepoDigests": [*found.digests],
            "Created": raw.get("created") or "",
            "Author": raw.get("author") or "",
            "Architecture": platform.architecture,
            **({"Variant": platform.variant} if platform.variant else {}),
            "Os": platform.os,
            "Size": found.size,
            "Config": _config(raw.get("config") or {}),
            "RootFS": Fields({"Type": "layers", "Layers": [str(diff_id) for diff_id in parsed.diff_ids]}),
        }
    )
    if found.request:
        fields["BuildRequest"] = _request(found.request)
    if found.manifest:
        manifest = json.loads(found.manifest)
        fields["Digest"] = found.digest
        fields["MediaType"] = manifest.get("mediaType") or MANIFEST_TYPE
        fields["Layers"] = manifest.get("layers") or []
        if manifest.get("annotations"):
            fields["Annotations"] = manifest["annotations"]
    if found.listed:
        from builder.oci.index import platforms

        fields["Platforms"] = platforms(json.loads(found.listed))
    if found.images:
        fields["Index"] = found.digest or None
        fields["Platforms"] = [platform for platform, _ in found.images]
        fields["Images"] = [Fields({"Platform": platform, "Id": id}) for platform, id in found.images]
    comment = parsed.history[-1].get("comment", "") if parsed.history else ""
    # Docker's struct calls it ID, its JSON Id: templates may have either.
    return fields.with_unset(
        {**_NOT_HERE, "ID": fields["Id"], "Comment": comment, "VirtualSize": found.size, "Digest": found.digest}
    )


def _request(text: str) -> str:
    """Its digest. What an archive has may be anything."""
    from builder.plan.recorded import parse

    try:
        return parse(text).digest
    except ValueError as error:
        return f"none: {error}"


def _config(raw: dict[str, Any]) -> Fields:
    fields = Fields(raw).with_unset(_UNSET)
    for key in ("ExposedPorts", "Volumes"):
        if isinstance(raw.get(key), dict):
            # Sets, which Go has as maps to an empty struct.
            fields[key] = {name: Fields() for name in raw[key]}
    return fields
