"""What a RUN has mounted beside its own file system, every default filled in (reference, "RUN --mount"). Pure.

`mountflags` makes these of the flags. Nothing of a mount stays in the layer.
"""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from builder.errors import Span
    from builder.plan.origins import Origin

    Sharing = Literal["shared", "private", "locked"]


class BindMount(NamedTuple):
    """Files of a context, a stage or an image. What is written to it is dropped."""

    target: str
    """Absolute and cleaned, as in every kind of mount."""
    origin: Origin
    source: str
    """Absolute in the origin, cleaned."""
    readonly: bool
    span: Span
    """Of the flag, as in every kind of mount."""


class CacheMount(NamedTuple):
    """A folder that outlives the build."""

    target: str
    id: str
    sharing: Sharing
    origin: Origin | None
    """What a new one begins with; None for nothing."""
    source: str
    """Absolute in the origin, cleaned."""
    readonly: bool
    mode: int
    uid: int
    gid: int
    span: Span


class TmpfsMount(NamedTuple):
    target: str
    size: int
    """Bytes at most; 0 without a limit of its own."""
    readonly: bool
    span: Span


class SecretMount(NamedTuple):
    """A secret of the command line as a file, a variable or both."""

    target: str
    """Empty where it is a variable alone."""
    id: str
    env: str
    """The variable's name; empty where it is a file alone."""
    required: bool
    mode: int
    uid: int
    gid: int
    span: Span


class SshMount(NamedTuple):
    """The socket of an ssh agent, or keys behind one."""

    target: str
    id: str
    required: bool
    mode: int
    uid: int
    gid: int
    span: Span


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


def kind(mount: Mount) -> str:
    """As `type=` names it."""
    match mount:
        case BindMount():
            return "bind"
        case CacheMount():
            return "cache"
        case TmpfsMount():
            return "tmpfs"
        case SecretMount():
            return "secret"
        case SshMount():
            return "ssh"
