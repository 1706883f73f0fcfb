"""Which images an archive holds: an OCI layout, Docker's archive, both in one, or skopeo's `dir:`."""

from __future__ import annotations

from builder.archives.docker import directory_image, docker_images
from builder.archives.oci import oci_images
from builder.errors import UsageError, did_you_mean
from builder.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.archives.archive import Archive
    from builder.archives.found import Found
    from builder.oci.platform import Platform


def images(archive: Archive, platform: Platform, *, asked: bool = False) -> list[Found]:
    """The images, in the archive's order. Of several platforms `platform` is taken; one that is there alone is taken whatever
    it is for, unless the platform was `asked` for. Raises UsageError."""
    if "oci-layout" in archive:
        # Docker from 25 on writes both, of which the layout says more.
        return oci_images(archive, platform, asked=asked, docker="manifest.json" in archive)
    if "manifest.json" in archive:
        return directory_image(archive) if "version" in archive else docker_images(archive)
    if "repositories" in archive:
        raise UsageError(
            f"'{archive.shown}' was written by a Docker older than 1.10", hint="load and save it once with a newer one"
        )
    raise UsageError(
        f"'{archive.shown}' holds no image: it has neither manifest.json nor oci-layout",
        hint="the files of a root file system become an image by: pybuild import",
    )


def choose(found: list[Found], wanted: str, shown: str) -> Found:
    """The image that is called `wanted`, by name or by tag alone; the only one for none. Raises UsageError."""
    if not wanted:
        if len(found) == 1:
            return found[0]
        known = ", ".join(_called(image) for image in found[:20])
        raise UsageError(f"'{shown}' has {len(found)} images", hint=f"say which by :NAME: {known}" if found else None)
    for image in found:
        names = {*image.names, *(name.rpartition(":")[2] for name in image.names)}
        if wanted in names or wanted == image.tag or _identity(wanted) in image.names:
            return image
    known_names = [_called(image) for image in found]
    hint = did_you_mean(wanted, known_names) or f"it has: {', '.join(known_names[:20])}"
    raise UsageError(f"'{shown}' has no image '{wanted}'", hint=hint)


def _called(image: Found) -> str:
    return ", ".join(Reference.parse(name).familiar for name in image.names) or image.tag or "one without a name"


def _identity(text: str) -> str:
    try:
        return Reference.parse(text).identity
    except UsageError:
        return ""
