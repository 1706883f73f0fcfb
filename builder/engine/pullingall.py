"""An index of a registry, brought into the store whole: the images of all its platforms, and its bytes as they are."""

from __future__ import annotations

from itertools import islice

from builder.cancellation import Cancellation
from builder.engine.pulling import Chosen, below, bring, fetch_blob, opened, top
from builder.errors import RegistryError
from builder.oci.image import CONFIG_TYPE
from builder.oci.index import is_image
from builder.oci.platform import Platform
from builder.registry.manifests import Index, parse
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.engine.origins import Origins
    from builder.engine.roots import Roots
    from builder.events import Emit
    from builder.oci.digest import Descriptor, Digest
    from builder.oci.reference import Reference
    from builder.registry.access import RegistryAccess
    from builder.registry.manifests import ImageManifest, Raw
    from builder.registry.repository import Repository
    from builder.store.store import Store

_DEEPEST, _MOST = 3, 200
"""Indexes in indexes, and manifests in all of them."""

_CONFIGS = (CONFIG_TYPE, "application/vnd.docker.container.image.v1+json", "")
"""Of images; what else is in an index, as signatures, is kept and not looked into."""


class _Found(NamedTuple):
    raw: Raw
    parsed: ImageManifest | Index
    platform: Platform | None
    is_image: bool
    """No index, and no attestation."""


def pull_all(reference: Reference, access: RegistryAccess, store: Store, roots: Roots, emit: Emit) -> Digest:
    """Bring all of it into the store, under its name, and return its digest; the id of the image where it is no index. Raises
    as `pulling.pull`."""
    stop = Cancellation()
    with opened(reference, access, stop, emit) as origins:
        return _pulled(reference, origins, stop, store, roots, emit)


def _pulled(reference: Reference, origins: Origins, stop: Cancellation, store: Store, roots: Roots, emit: Emit) -> Digest:
    repository, raw, found = origins.ask(lambda place: _listed(reference, place))
    if len(found) > _MOST:
        raise RegistryError(f"the index '{reference.familiar}' names more than {_MOST} manifests")
    members = []
    needed: list[Digest] = []
    for each in found:
        needed.append(each.raw.digest)
        if isinstance(each.parsed, Index):
            continue
        needed += [each.parsed.config.digest, *(layer.digest for layer in each.parsed.layers)]
        if each.is_image and each.parsed.config.media_type in _CONFIGS:
            chosen = Chosen(each.parsed, each.platform, each.raw)
            members.append(bring(chosen, reference, repository, origins, stop, store, roots, emit))
        else:
            for blob in (each.parsed.config, *each.parsed.layers):
                fetch_blob(blob, origins, store)
    if not members:
        raise RegistryError(f"the index '{reference.familiar}' has no image", hint="is it an image at all?")
    for each in found:
        _put(each.raw, store)
    members = [member._replace(source=str(raw.digest)) for member in members]
    store.put_repository([member.config for member in members], f"{reference.name}@{raw.digest}")
    if not isinstance(found[-1].parsed, Index):
        store.tag_images(reference.identity, members)
        return members[0].config
    once = {member.platform: member for member in reversed(members)}
    store.tag_images(reference.identity, list(once.values())[::-1], dict.fromkeys(needed))
    return raw.digest


def _listed(reference: Reference, repository: Repository) -> tuple[Repository, Raw, list[_Found]]:
    raw = top(reference, repository)
    return repository, raw, list(islice(_manifests(raw, None, True, reference, repository, 0), _MOST + 1))


def _manifests(
    raw: Raw, said: Descriptor | None, image: bool, reference: Reference, repository: Repository, depth: int
) -> Iterator[_Found]:
    """All that the index names, each before what names it."""
    parsed = parse(raw, f"'{reference.familiar}'")
    if isinstance(parsed, Index):
        if depth == _DEEPEST:
            raise RegistryError(f"the indexes of '{reference.familiar}' are nested too deeply")
        for one in parsed.manifests:
            found = below(one.digest, reference, repository)
            yield from _manifests(found, one, image and is_image(one), reference, repository, depth + 1)
    platform = Platform(*said.platform).normal() if said is not None and said.platform else None
    yield _Found(raw, parsed, platform, image and not isinstance(parsed, Index))


def _put(raw: Raw, store: Store) -> None:
    with store.blob_writer(raw.digest.algorithm) as writer:
        writer.write(raw.data)
        writer.commit(raw.digest)
