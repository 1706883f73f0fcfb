"""What a sandbox is, as values: the one language between the engine and the fork server. Pure.

A mount, a limit, a namespace is a value here; nothing that a sandbox does is decided anywhere else. Paths inside the
sandbox are absolute and already resolved in the image (no symlink in them); paths of the host are absolute.
"""

from __future__ import annotations

from builder.sandbox.capabilities import DOCKER_CAPABILITIES
from builder.values import NamedTuple

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Literal

HARDENING = (
    "capabilities",
    "seccomp",
    "nodev",
    "detached-mounts",
    "masked-paths",
    "readonly-proc",
    "readonly-sys",
    "landlock-scope",
    "pdeathsig",
    "pid-namespace",
    "mount-namespace",
    "ipc-namespace",
    "uts-namespace",
    "cgroup-namespace",
    "own-dev",
    "readonly-nodes",
    "session",
)
"""Each line of the sandbox's hardening. `SandboxSpec.without` names what to leave out: controls of tests do, and `INSECURE`."""

INSECURE = frozenset(
    ("capabilities", "seccomp", "nodev", "masked-paths", "readonly-proc", "readonly-sys", "landlock-scope", "readonly-nodes")
)
"""What `RUN --security=insecure` does without. The namespaces stay, and the host's files are not there. (Who is in a Landlock
domain may not mount.)"""


MOUNT_POINTS = ("/dev", "/proc", "/sys")
"""Folders, not links, that every root must have: the sandbox mounts its own there, and makes nothing in the upper."""


class BindMount(NamedTuple):
    """A folder, file or socket of the host, by its path there."""

    source: str
    target: str
    readonly: bool = True


class OverlayMount(NamedTuple):
    """A folder or file of a file system that is made of layers; what is written to it is in `upper`, which nobody keeps.

    `lowers`, `upper` and `work` are those of a `SandboxSpec`; `source` is a path in that file system, without links.
    """

    lowers: tuple[str, ...]
    upper: str
    work: str
    source: str
    target: str
    readonly: bool = True


class TmpfsMount(NamedTuple):
    target: str
    size: int = 0
    """Bytes; 0 for the kernel's default."""
    mode: int = 0o1777
    readonly: bool = False


class FileMount(NamedTuple):
    """A small file whose content is in the spec and on no disk (hosts, resolv.conf, secrets): gone after the step."""

    target: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    readonly: bool = False

    def __repr__(self) -> str:
        return f"FileMount(target={self.target!r})"


class ScriptMount(NamedTuple):
    """A program whose content is in the spec: mode 0755, read-only, gone after the step."""

    target: str
    content: bytes


Mount = BindMount | OverlayMount | TmpfsMount | FileMount | ScriptMount


class SandboxSpec(NamedTuple):
    """One command in one root file system.

    `lowers` are folders of the host, the topmost first, overlay's own format with `userxattr`; `upper` and `work` lie on
    one file system and are new. `mounts` are made in their order. Their targets exist in the lowers (the engine puts a stub
    layer there); one that lies in an earlier mount, or below /dev, is made there where it is missing, and links that the
    earlier mount holds are followed inside the sandbox.
    """

    lowers: tuple[str, ...]
    upper: str
    work: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    hostname: str = "pybuild"
    network: Literal["host", "none", "stack"] = "host"
    """`stack` is a network of its own, with a user-mode stack behind it."""
    stack: str = ""
    """The program of that, by its path (`stack.find`)."""
    followed: bool = False
    """Another command is going to come after this one: what it needs is made ready meanwhile."""
    mounts: tuple[Mount, ...] = ()
    shm_size: int = 64 * 1024 * 1024
    capabilities: tuple[str, ...] = DOCKER_CAPABILITIES
    without: frozenset[str] = frozenset()
    stdin: Literal["null", "inherit"] = "null"
    emulate: Literal["", "mknod", "owners"] = ""
    """What the user namespace of the builder does not have and a supervisor answers for (`emulation`)."""
    ulimits: tuple[tuple[int, int, int], ...] = ()
    """As setrlimit(2) takes them (number, soft, hard), beside those that every command has (`limits`)."""
    chroot: bool = False
    """No namespace and no mount is made: the command runs in a copy of the lowers (`chroot`), and what it changed is moved to
    `upper`. The network is the host's; `hostname`, `terminal`, `init`, `readonly` and `shm_size` mean nothing."""
    readonly: bool = False
    """Nothing can be written to the root file system; mounts are what they say."""
    init: bool = False
    """The command is the second process of its namespace; the first one waits for it, reaps whoever is left and hands on
    signals."""
    no_new_privileges: bool = False
    """Programs with the set-user-id bit give nobody their owner's rights (prctl(2))."""
    cpus: tuple[int, ...] = ()
    """The processors that it may use, and sees; empty for the builder's."""
    random_addresses: bool = True
    """Whether the kernel chooses anew where programs lie in memory (ASLR)."""
    pids_taken: int = 0
    """Numbers of processes that are used up before it begins."""
    terminal: tuple[int, int] | None = None
    """Rows and columns of a terminal of its own. Its streams are then a socket, over which the terminal's other side comes."""


class Shape(NamedTuple):
    """What must be known of a spec before a process can be made for it: its fields of these names."""

    network: Literal["host", "none", "stack"]
    stack: str
    shm_size: int
    without: frozenset[str]
    emulate: Literal["", "mknod", "owners"]


class Outcome(NamedTuple):
    """How the command ended: `code` as a shell would give it (128 + signal where a signal ended it)."""

    code: int
    signal: int = 0
    exec_error: int = 0
    """errno of the exec or of the change of folder, 0 when the command began."""
    failed_at: str = ""
    """`exec`, `cwd`, or the set-up step that failed (`network`: the stack)."""
    fallbacks: tuple[str, ...] = ()
    """What this machine did not have. Replaced: `clone3`, `close_range`, `openat2`, `mount_setattr`, `mount-api`,
    `overlay-lowerdir+`. Done without: `landlock-scope`, `session-keyring`, `mqueue`, `sealed-server` (the copy of Python),
    `limits` (the builder's own are lower), `capabilities` (the builder has fewer), `mknod` (no devices in a user namespace)."""
    notes: tuple[str, ...] = ()
    """What the supervisor has to say: `switched:UID` (a program ran as another user and was refused nothing), `32-bit` (such a
    program was not run), `unresolved` (somebody's new file was not noted as his), `internal:...` (its own fault), and
    `device:c 1:3`, which a command made. And the server's: `network-ended` (what was behind the network ended first)."""
    cpu_seconds: float = 0.0
    """Processor time, in the kernel and outside, of the command and of all that it started, making the sandbox included."""
    peak_memory: int = 0
    """Bytes: of all its processes together where a cgroup counted them, else of the largest one."""
    oom_kills: int = 0
    """Processes of it that the kernel killed at the memory limit."""
    refused_processes: int = 0
    """Those that it could not start at the limit of their number."""
