"""Images of registries, looked at and not pulled: manifest and config alone."""

from __future__ import annotations

from builder.engine.foreign import CONFIG_LIMIT
from builder.engine.pulling import NotThere, chosen_manifest
from builder.errors import BuildError, RegistryError
from builder.oci.image import parse_config
from builder.registry.client import Client
from builder.registry.manifests import Index, parse
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference
    from builder.registry.access import RegistryAccess


class Looked(NamedTuple):
    config: bytes
    manifest: bytes
    listed: bytes
    """Empty where the name stands for one image."""
    size: int
    """Bytes of the layers as they lie in the registry."""


def look(reference: Reference, access: RegistryAccess, platform: Platform) -> Looked:
    """The image for `platform`. Raises NotThere and RegistryError."""
    with Client(access) as client:
        repository = client.repository(reference)
        first = repository.manifest(reference.digest or reference.tag)
        if first is None:
            raise NotThere(f"{reference.domain} has no image '{reference.familiar}'", hint="check its name and tag")
        raw, manifest = chosen_manifest(first, reference, repository, platform)
        config = repository.read(manifest.config, CONFIG_LIMIT)
        try:
            parse_config(config)
        except BuildError as error:
            raise RegistryError(f"'{reference.familiar}' is no image: {error.message}", hint=error.hint) from error
        index = first.data if isinstance(parse(first, f"'{reference.familiar}'"), Index) else b""
        return Looked(config, raw.data, index, sum(layer.size for layer in manifest.layers))
