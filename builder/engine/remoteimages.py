"""Images of registries, or of their mirrors, looked at and not pulled: manifest and config, and layers one by one."""

from __future__ import annotations

from contextlib import contextmanager

from builder.engine.foreign import CONFIG_LIMIT
from builder.engine.origins import Origins
from builder.engine.pulling import choose, top
from builder.engine.referring import request_of
from builder.errors import BuildError, RegistryError
from builder.oci.image import parse_config
from builder.registry.client import Client
from builder.registry.manifests import Index, parse
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.oci.digest import Descriptor
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference
    from builder.registry.access import RegistryAccess
    from builder.registry.repository import Repository


class Looked(NamedTuple):
    config: bytes
    manifest: bytes
    listed: bytes
    """Empty where the name stands for one image."""
    size: int
    """Bytes of the layers as they lie in the registry."""
    layers: tuple[Descriptor, ...] = ()
    request: str = ""
    """What the image says of its build, where that was asked for; empty for nothing."""


def look(reference: Reference, access: RegistryAccess, platform: Platform, warn: Callable[[str], object]) -> Looked:
    """The image for `platform`. `warn` is told of mirrors that fail, and of credentials that cannot be had. Raises NotThere,
    RegistryError, and UsageError for files with credentials or certificates that are no good."""
    with Client(access._replace(warn=warn)) as client:
        return Origins(reference, client, warn).ask(lambda place: _looked(reference, place, platform))


@contextmanager
def opened(
    reference: Reference,
    access: RegistryAccess,
    platform: Platform,
    warn: Callable[[str], object],
    *,
    with_request: bool = False,
) -> Iterator[tuple[Looked, Callable[[Descriptor, str], None]]]:
    """The same, and a function that writes a layer's blob, compared with its digest, to a new file."""
    with Client(access._replace(warn=warn)) as client:
        origins = Origins(reference, client, warn)

        def fetch(descriptor: Descriptor, path: str) -> None:
            def bring(place: Repository) -> None:
                # Anew for each place: one may have broken off in the middle.
                with open(path, "wb") as file:
                    place.blob(descriptor, file.write)

            origins.ask(bring)

        def told(place: Repository) -> Looked:
            found = _looked(reference, place, platform)
            return found._replace(request=request_of(found.manifest, place)) if with_request else found

        yield origins.ask(told), fetch


def _looked(reference: Reference, place: Repository, platform: Platform) -> Looked:
    first = top(reference, place)
    manifest, _, raw = choose(first, reference, place, platform)
    config = place.read(manifest.config, CONFIG_LIMIT)
    try:
        parse_config(config)
    except BuildError as error:
        raise RegistryError(f"'{reference.familiar}' is no image: {error.message}", hint=error.hint) from error
    index = first.data if isinstance(parse(first, f"'{reference.familiar}'"), Index) else b""
    return Looked(config, raw.data, index, sum(layer.size for layer in manifest.layers), manifest.layers)
