"""An index's images, and which of them is for a platform (OCI image-spec image-index.md). Pure."""

from __future__ import annotations

from builder.oci.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.oci.digest import Descriptor

_KIND = "vnd.docker.reference.type"
"""The annotation by which BuildKit marks what is no image: its attestations are for `unknown/unknown`."""


def suited(manifests: Iterable[Descriptor], platform: Platform) -> list[Descriptor]:
    """Those for `platform`, in their order: of what the platform can run the best alone, as containerd has it (`Only`); where
    none names such a platform, those that name none."""
    images = [one for one in manifests if is_image(one)]
    ranks = {each: rank for rank, each in enumerate(platform.compatible())}
    found = [(ranks[p], one) for one in images if one.platform and (p := Platform(*one.platform).normal()) in ranks]
    if not found:
        return [one for one in images if one.platform is None or not any(one.platform)]
    best = min(rank for rank, _ in found)
    return [one for rank, one in found if rank == best]


def is_image(one: Descriptor) -> bool:
    """Whether it may be an image, or an index of images: no attestation."""
    return not any(key == _KIND for key, _ in one.annotations) and (one.platform is None or one.platform[0] != "unknown")


def shown(manifests: Iterable[Descriptor]) -> str:
    """The platforms that there are, for a hint; empty where nothing says any."""
    named = [str(Platform(*one.platform)) for one in manifests if one.platform and one.platform[0] and is_image(one)]
    return ", ".join(dict.fromkeys(named))
