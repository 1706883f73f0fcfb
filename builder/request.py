"""What a build is asked for, as a value."""

from __future__ import annotations

from builder.context.access import Access
from builder.engine.provided import Provided
from builder.oci.platform import Platform
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from builder.cache.places import CacheFrom, CacheTo
    from builder.context.oci_layout import Place
    from builder.engine.exporting import Output
    from builder.oci.reference import Reference


class Request(NamedTuple):
    """What the user asked for; everything that a build depends on beside the store and the files that it names."""

    context: str
    dockerfile: str = ""
    """Path; empty for `Dockerfile`, then `Containerfile`, in the context."""
    dockerfile_text: bytes | None = None
    """The Dockerfile itself, when it came on stdin."""
    directories: Mapping[str, str] = {}
    layouts: Mapping[str, Place] = {}
    tags: tuple[Reference, ...] = ()
    outputs: tuple[Output, ...] = ()
    target: str = ""
    build_args: Mapping[str, str] = {}
    labels: tuple[tuple[str, str], ...] = ()
    platform: Platform = Platform("linux", "amd64")
    no_cache: bool = False
    uncached: tuple[str, ...] = ()
    """Names of the stages whose steps are done anew."""
    cache_from: tuple[CacheFrom, ...] = ()
    cache_to: tuple[CacheTo, ...] = ()
    source_date_epoch: int | None = None
    network: Literal["host", "none"] = "host"
    hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 64 << 20
    jobs: int = 1
    access: Access = Access()
    """For what is fetched from the network."""
    provided: Provided = Provided()
    """Secrets and ssh agents, for RUN --mount."""
