"""What a build is asked for, as a value."""

from __future__ import annotations

from builder.context.access import Access
from builder.engine.provided import Provided
from builder.oci.platform import Platform
from builder.sandbox.rungs import Isolation
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

    from builder.cache.places import CacheFrom, CacheTo
    from builder.context.oci_layout import Place
    from builder.engine.bases import When
    from builder.engine.exporting import Output
    from builder.engine.fetching import Remote
    from builder.engine.pins import Pins
    from builder.oci.reference import Reference
    from builder.registry.access import RegistryAccess
    from builder.sandbox.resources import Limits


class Request(NamedTuple):
    """What the user asked for; everything that a build depends on beside the store and the files that it names."""

    context: str
    """The folder; `-` for stdin, and of what is fetched the URL without credentials (`remotes`)."""
    dockerfile: str = ""
    """Path, or an http(s) URL; empty for `Dockerfile`, then `Containerfile`, in the context. In a remote context a path is one
    inside of it, but for an absolute one beside a git repository or a URL."""
    dockerfile_text: bytes | None = None
    """The Dockerfile itself, when it came on stdin."""
    directories: Mapping[str, str] = {}
    """Named contexts that are folders."""
    remotes: Mapping[str, Remote] = {}
    """Contexts that are fetched or piped in, by name; the main one's is empty."""
    layouts: Mapping[str, Place] = {}
    images: Mapping[str, str] = {}
    """Named contexts that are images of the store, by what a FROM would call them."""
    tags: tuple[Reference, ...] = ()
    outputs: tuple[Output, ...] = ()
    target: str = ""
    build_args: Mapping[str, str] = {}
    labels: tuple[tuple[str, str], ...] = ()
    platform: Platform = Platform("linux", "amd64")
    others: tuple[Platform, ...] = ()
    """Further platforms: the result is an index then."""
    machine: Platform = Platform("linux", "amd64")
    """This one's platform, which is that of the build."""
    no_cache: bool = False
    uncached: tuple[str, ...] = ()
    """Names of the stages whose steps are done anew."""
    cache_from: tuple[CacheFrom, ...] = ()
    cache_to: tuple[CacheTo, ...] = ()
    source_date_epoch: int | None = None
    network: Literal["default", "host", "none"] = "default"
    allow: frozenset[str] = frozenset()
    """What the user grants to RUN steps that ask for it: `network.host`, `security.insecure`."""
    hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 64 << 20
    limits: Limits | None = None
    """Of RUN steps; None: those that every command has."""
    jobs: int = 1
    access: Access = Access()
    """For what is fetched from the network."""
    pull: When = "missing"
    """When images come from registries."""
    registry: Callable[[], RegistryAccess] | None = None
    """What registries are reached with, found out when one is; None: not at all."""
    provided: Provided = Provided()
    """Secrets and ssh agents, for RUN --mount."""
    isolation: Isolation = Isolation()
    """The sandbox that RUN steps have."""
    is_recorded: bool = True
    """The store keeps what the image says of its build."""
    locked: bool = False
    """Names mean what `Dockerfile.lock` says."""
    pins: Pins | None = None
    """What they mean; a build takes them from the lock."""
    everything: bool = False
    """All stages count as needed, also those that the target does not reach."""
    ssh_auth_sock: str = ""
    """The user's agent, for contexts that the user named; ADD never has it. Empty for none."""

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """All that are built for, each once."""
        return (self.platform, *self.others)

    @property
    def trees(self) -> tuple[str, ...]:
        """Names of the contexts that files are copied from as they are."""
        return (*self.directories, *(name for name in self.remotes if name))

    @property
    def names(self) -> tuple[str, ...]:
        """Of all named contexts."""
        return (*self.trees, *self.layouts, *self.images)

    @property
    def fetches(self) -> bool:
        """Whether the Dockerfile, or what .dockerignore says, has to be fetched, which takes a store."""
        return "" in self.remotes or self.dockerfile.startswith(("http://", "https://"))
