"""An index's images, and which of them is for a platform (OCI image-spec image-index.md). Pure."""

from __future__ import annotations

from builder.oci.image import DOCKER_INDEX_TYPE, INDEX_TYPE
from builder.oci.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.oci.digest import Descriptor

_INDEXES = (INDEX_TYPE, DOCKER_INDEX_TYPE)
_KIND = "vnd.docker.reference.type"
"""The annotation by which BuildKit marks what is no image: its attestations are for `unknown/unknown`."""


def platforms(index: object) -> list[str]:
    """The platforms that an index's JSON names, in its order; attestations are for none."""
    listed = index.get("manifests") if isinstance(index, dict) else None
    found = {}
    for one in listed if isinstance(listed, list) else ():
        where = one.get("platform") if isinstance(one, dict) else None
        if isinstance(where, dict) and where.get("os") != "unknown":
            found["/".join(str(where[key]) for key in ("os", "architecture", "variant") if where.get(key))] = True
    return list(found)


def suited(manifests: Iterable[Descriptor], platform: Platform) -> list[Descriptor]:
    """Those for `platform`, in their order: of what the platform can run the best alone, as containerd has it (`Only`). Where
    none names a platform at all, any may be; beside those that do, an index without one may hold it."""
    images = [one for one in manifests if is_image(one)]
    ranks = {each: rank for rank, each in enumerate(platform.compatible())}
    found = [(ranks[p], one) for one in images if one.platform and (p := Platform(*one.platform).normal()) in ranks]
    if not found:
        unsaid = [one for one in images if one.platform is None or not any(one.platform)]
        return unsaid if len(unsaid) == len(images) else [one for one in unsaid if one.media_type in _INDEXES]
    best = min(rank for rank, _ in found)
    return [one for rank, one in found if rank == best]


def suited_each(manifests: Sequence[Descriptor], platforms: Iterable[Platform]) -> list[Descriptor]:
    """The first for each of the platforms that there is one for, each once."""
    return list(dict.fromkeys(one for platform in platforms for one in suited(manifests, platform)[:1]))


def is_image(one: Descriptor) -> bool:
    """Whether it may be an image, or an index of images: no attestation."""
    return not any(key == _KIND for key, _ in one.annotations) and (one.platform is None or one.platform[0] != "unknown")


def shown(manifests: Iterable[Descriptor]) -> str:
    """The platforms that there are, for a hint; empty where nothing says any."""
    named = [str(Platform(*one.platform)) for one in manifests if one.platform and one.platform[0] and is_image(one)]
    return ", ".join(dict.fromkeys(named))
