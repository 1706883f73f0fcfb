"""What happens during a build, as values: the one stream that tty, plain and json read. Pure.

Times are seconds. `step` is the step's number in the plan, from 1; `name` is what a person reads for it, as
``[build 2/5] RUN make``. The JSON form (`builder.report.json`) is the stable interface.
"""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from builder.errors import BuildError


class BuildStarted(NamedTuple):
    dockerfile: str
    context: str
    target: str


class PlanReady(NamedTuple):
    steps: int


class StepStarted(NamedTuple):
    step: int
    name: str
    line: int
    """The line in the Dockerfile, 0 where there is none."""


class StepLog(NamedTuple):
    """Bytes that a step's command wrote, both streams in order, cut anywhere."""

    step: int
    data: bytes


class StepUsage(NamedTuple):
    """What a step's command used, told when it has ended."""

    step: int
    cpu_seconds: float
    """Of all its processes, in the kernel and outside."""
    peak_memory: int
    """Bytes: of all its processes together where they have a cgroup of their own, as under `--memory`; else of the largest."""
    network: str
    """What it had: the program behind a network of its own (``slirp4netns``, ``pasta``), ``host`` or ``none``."""
    sandbox: str
    """The rung that it ran in: ``root``, ``userns``, ``single-uid`` or ``chroot``."""


class StepFinished(NamedTuple):
    step: int
    name: str
    line: int
    status: Literal["done", "cached", "failed", "cancelled"]
    seconds: float
    diff_id: str
    """Empty where the step changed no file."""
    size: int
    """Bytes of the layer's content, uncompressed."""
    key: str = ""
    """The hash of all that the result depends on; empty for a base, and where the step did not end."""


class StepExplained(NamedTuple):
    """Why a step ran and did not come from the cache; told before its `StepFinished`."""

    step: int
    name: str
    line: int
    reasons: tuple[tuple[str, str, int], ...]
    """A stable name, a sentence for a person, and the number of the step that it follows from, 0 for none."""


class BuildWarning(NamedTuple):
    """Something that the user should know and that does not stop the build. `code` is stable, in CamelCase.

    `line` and `column` of the Dockerfile count from 1, 0 where no place is meant; an empty `file` is the build's Dockerfile.
    """

    code: str
    message: str
    line: int = 0
    column: int = 0
    file: str = ""


class Notice(NamedTuple):
    """Something that goes on outside of the steps and may take a while, as fetching a context."""

    message: str


class SandboxChosen(NamedTuple):
    """What RUN steps run in, told before the first one where it is not root's own."""

    rung: str
    """As `--isolation` has it."""
    message: str


class Debug(NamedTuple):
    message: str


class Transfer(NamedTuple):
    """How far a pull or a push is: told as it begins, a few times a second, and at its end, with `done` the same as `total`."""

    what: str
    """For a person: ``pulling docker.io/library/debian:12``."""
    done: int
    total: int
    """Bytes that have to go, compressed; 0 where all is there already."""


class CacheImported(NamedTuple):
    """What a build took from a cache that `--cache-from` names, told when its steps are done."""

    cache: str
    steps: int
    size: int
    """Bytes that were fetched, as they lie in the cache."""


class ExportFinished(NamedTuple):
    """An output, or a cache, was written. `digest` is the manifest digest, empty for outputs without one."""

    output: str
    digest: str
    size: int
    seconds: float


class BuildFinished(NamedTuple):
    image_id: str
    names: tuple[str, ...]
    size: int
    """Uncompressed bytes of all layers."""
    layers: int
    ran: int
    cached: int
    skipped: tuple[str, ...]
    """Stages that the target does not need."""
    seconds: float
    platforms: tuple[str, ...] = ()
    """Where it is an index, those that it has images for: `image_id` is the index's digest then."""


class BuildFailed(NamedTuple):
    error: BuildError
    seconds: float


Event = (
    BuildStarted
    | PlanReady
    | StepStarted
    | StepLog
    | StepExplained
    | StepUsage
    | StepFinished
    | BuildWarning
    | Notice
    | SandboxChosen
    | Debug
    | Transfer
    | CacheImported
    | ExportFinished
    | BuildFinished
    | BuildFailed
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Emit = Callable[[Event], None]
