"""An index's images, and which of them is for a platform (OCI image-spec image-index.md). Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.oci.digest import Descriptor
    from builder.oci.platform import Platform


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
    """Those for `platform`, in their order: what names it comes before what names none, and the same variant before others."""
    all_of_them = list(manifests)
    found = [d for d in all_of_them if d.platform is not None and d.platform[:2] == platform[:2]]
    found = found or [d for d in all_of_them if d.platform is None]
    if len({d.platform for d in found}) > 1:
        found = [d for d in found if d.platform and d.platform[2] == platform.variant] or found
    return found
