"""The plan: a graph of steps that make file systems, and the config that the image will have. Pure.

A step names the steps that it builds on by their `id`, the step's place in `Plan.steps`; that order is topological.
"""

from __future__ import annotations

from builder.plan.origins import ContextOrigin as ContextOrigin
from builder.plan.origins import StageOrigin as StageOrigin
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    from builder.dockerfile.checks.warning import Warn as Warn
    from builder.errors import Span
    from builder.oci.digest import Descriptor, Digest
    from builder.oci.image import History, ImageConfig
    from builder.oci.platform import Platform
    from builder.plan.modes import Mode
    from builder.plan.mounts import Mount
    from builder.plan.origins import Origin as Origin


class BaseImage(NamedTuple):
    """What a FROM or `--from` name turned out to be, with its layers in the store. `scratch` has no layer."""

    name: str
    config: ImageConfig
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    blobs: tuple[Descriptor | None, ...] = ()
    """Of its layers, the blobs that they came in, which ship as they are; None, or none at all, for layers that we pack."""


class CopySource(NamedTuple):
    """One source of a COPY, expanded, and where it stands in the Dockerfile."""

    path: str
    span: Span


class InlineSource(NamedTuple):
    """A heredoc of COPY or ADD: a file `name` of root with mode 0644."""

    name: str
    data: bytes
    """What it holds, expanded."""
    span: Span


class UrlSource(NamedTuple):
    """A file of ADD that is downloaded, http or https."""

    url: str
    checksum: str
    """`sha256:` and 64 digits, or empty."""
    span: Span
    unpack: bool = False
    """Whether an archive is unpacked; a local one is by default, this one is not."""


class GitSource(NamedTuple):
    """A git repository of ADD: the contents of its folder `subdir` are copied (`builder.plan.giturl.GitRemote`)."""

    url: str
    ref: str
    """Empty for the repository's default branch."""
    subdir: str
    keep_git_dir: bool
    checksum: str
    """The commit's first digits, or empty."""
    span: Span
    submodules: bool = True


Source = CopySource | InlineSource | UrlSource | GitSource


class Script(NamedTuple):
    """A heredoc of RUN that begins with `#!`: the command finds it as the read-only file /dev/pipes/`name`, mode 0755."""

    name: str
    data: bytes


class BaseStep(NamedTuple):
    """The file system of a base image."""

    id: int
    name: str
    span: Span
    base: BaseImage


class RunStep(NamedTuple):
    id: int
    name: str
    span: Span
    parent: int
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    """What the command sees, without HOME, which the image's passwd decides."""
    cwd: str
    user: str
    hostname: str
    network: Literal["default", "host", "none"]
    hosts: tuple[tuple[str, str], ...]
    """`--add-host`: name and address."""
    shm_size: int
    """Bytes of /dev/shm."""
    proxy: tuple[tuple[str, str], ...]
    """Proxy variables given as build args and not declared: seen by the command, in no key and no history."""
    mounts: tuple[Mount, ...] = ()
    """In the order of the flags: a later one may lie in an earlier one."""
    security: Literal["sandbox", "insecure"] = "sandbox"
    script: Script | None = None
    security_span: Span | None = None
    """Where `--security` stands."""
    stage: str = ""
    """The stage that it stands in, as messages call it; in no key."""
    platform: Platform | None = None
    """Of its stage; None: the build's."""
    ulimits: tuple[tuple[str, int, int], ...] = ()
    """`--ulimit`: name, soft and hard, -1 for no limit; in the order of the names."""
    network_span: Span | None = None
    """Where `--network=host` stands."""


class CopyStep(NamedTuple):
    """COPY and ADD."""

    id: int
    name: str
    span: Span
    parent: int
    keyword: str
    origin: Origin
    sources: tuple[Source, ...]
    dest: str
    """Absolute; a trailing slash says that it is a folder."""
    dest_span: Span
    chown: str
    chown_span: Span
    chmod: Mode | None
    unpack: bool
    """Whether local archives are unpacked."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out, below each source."""
    parents: bool = False
    """The folders of a source's path are kept, those after `/./` alone where that stands in it."""
    link: bool = False
    """The layer is made on nothing, whatever lies below."""
    stage: str = ""
    """The stage that it stands in, as messages call it; in no key."""


class WorkdirStep(NamedTuple):
    """Makes the folder where it is missing."""

    id: int
    name: str
    span: Span
    parent: int
    path: str
    user: str
    """Who owns the folders that are made; empty for root."""
    stage: str = ""
    """The stage that it stands in, as messages call it; in no key."""


Step = BaseStep | RunStep | CopyStep | WorkdirStep


class Place(NamedTuple):
    """Where a step stands, and what a command would find there; in no key."""

    stage: str
    """The stage's label."""
    number: int
    """The step's place in it, from 1; 0 for an image that another step copies or mounts from."""
    total: int
    env: tuple[tuple[str, str], ...]
    args: tuple[str, ...]
    """Those names of `env` that are ARGs."""
    cwd: str
    user: str


class Plan(NamedTuple):
    steps: tuple[Step, ...]
    target: int
    """The step whose file system is the image's."""
    platform: Platform
    config: ImageConfig
    base: BaseImage
    """What the target's chain of stages began with: its history comes first."""
    history: tuple[History, ...]
    """Of the instructions since the base; the step of a RUN, COPY, ADD or WORKDIR says whether there is a layer."""
    skipped: tuple[str, ...]
    """Names of the stages that the target does not need."""
    warnings: tuple[Warn, ...]
    triggers: tuple[tuple[int, str], ...] = ()
    """Ids of the steps that an ONBUILD of their base brought, each with the trigger's text."""
    places: tuple[Place, ...] = ()
    """Of each step, in their order."""


def parents(step: Step) -> tuple[int, ...]:
    """The ids of the steps that must be done before `step`."""
    match step:
        case BaseStep():
            return ()
        case CopyStep(parent=parent, origin=StageOrigin(step=source)):
            return (parent, source)
        case RunStep(parent=parent, mounts=mounts):
            return (parent, *_mounted(mounts))
        case _:
            return (step.parent,)


def _mounted(mounts: tuple[Mount, ...]) -> list[int]:
    if not mounts:
        return []
    from builder.plan.mounts import BindMount, CacheMount

    origins = [mount.origin for mount in mounts if isinstance(mount, BindMount | CacheMount)]
    return [origin.step for origin in origins if isinstance(origin, StageOrigin)]
