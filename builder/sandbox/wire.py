"""What the builder and its fork server say to each other. Both run the same Python, so `marshal` is enough.

A request is one byte on the server's socket with descriptors beside it: a memory file with the packed `Job`, the run's own
channel, the files by which the command joins cgroups, and its streams, two or three. On the channel the server answers first
with STARTED and the pidfd of the command (not when it could not be started), and at the end with a packed `Reply`; a byte
from the builder, or its end of file, kills the command. Where a command is only expected, the request is another byte with a
memory file that has its packed `Shape`; there is no answer. Texts are bytes here: the two sides may differ in their locale.

Part of the fork server's program.
"""

from __future__ import annotations

import marshal

RUN = b"r"
EXPECT = b"e"
KILL = b"k"
STARTED = b"s"
NETWORK_ENDED = "network-ended"
"""A note: what was behind a command's network ended before the command did."""
END = 40
"""A real-time signal, which no command is sent: tells the keeper of a command (`chroot`) to end all and itself."""
SOCKET = 3
"""The server's descriptor for requests."""
USER_NAMESPACE = "--user-namespace"
"""The argument of the server's program that asks for a user namespace with all ids (`allids`)."""


class Shape:
    """What must be known of a command before its namespaces and its surroundings can be made: fields of a `Job`."""

    network: str
    stack: bytes
    """The program that is started for the network `stack`."""
    shm_size: int
    without: tuple[str, ...]
    emulate: str
    """What a supervisor answers for the command (`emulation`); empty for no supervisor."""
    groups_given: int
    """How many of the descriptors are those of cgroups, which the command joins."""

    def __init__(self, fields: dict[str, object]) -> None:
        self.__dict__.update(fields)


class Job(Shape):
    """A `SandboxSpec` without its types, and what the launcher adds to it."""

    lowers: tuple[bytes, ...]
    upper: bytes
    work: bytes
    argv: tuple[bytes, ...]
    env: tuple[tuple[bytes, bytes], ...]
    cwd: bytes
    uid: int
    gid: int
    groups: tuple[int, ...]
    hostname: bytes
    followed: bool
    """Another command comes after this one."""
    mounts: tuple[dict[str, object], ...]
    """The fields of a `Mount` each."""
    capabilities: int
    """A mask."""
    seccomp: bytes
    notify: bytes
    """The program that asks it, and the handler of each call that is asked about, by its number."""
    calls: tuple[tuple[int, str], ...]
    own_streams: bool
    """The streams were made for this command, and are given to its user."""
    ulimits: tuple[tuple[int, int, int], ...]
    readonly: bool
    init: bool
    no_new_privileges: bool
    cpus: tuple[int, ...]
    random_addresses: bool
    pids_taken: int
    chroot: bool
    """Without namespaces and mounts: see `chroot`."""
    terminal: tuple[int, ...]
    """Rows and columns of the terminal that the command gets; empty for none. The first stream is then a socket, over which
    the other side of the terminal is sent back."""


class Mount:
    """A mount of a `SandboxSpec` without its type, which `kind` names: bind, overlay, tmpfs, file or script."""

    kind: str
    target: bytes
    source: bytes = b""
    content: bytes = b""
    readonly = False
    size = 0
    mode = 0
    uid = 0
    gid = 0
    lowers: tuple[bytes, ...] = ()
    upper: bytes = b""
    work: bytes = b""

    def __init__(self, fields: dict[str, object]) -> None:
        self.__dict__.update(fields)


class Reply:
    """How it ended: the wait status, or the step that failed before the command began, with errno and more words."""

    def __init__(
        self,
        status: int,
        failed_at: str,
        errno: int,
        missing: tuple[str, ...],
        notes: tuple[str, ...] = (),
        used: tuple[float, int] = (0.0, 0),
    ) -> None:
        self.status = status
        self.failed_at = failed_at
        self.errno = errno
        self.missing = missing
        self.notes = notes
        self.used = used
        """Seconds of processor time, and the bytes of memory of the largest process."""


def pack_job(fields: dict[str, object]) -> bytes:
    return marshal.dumps(fields)


def unpack_job(data: bytes) -> Job:
    return Job(marshal.loads(data))


def shape(job: Job) -> Shape:
    return Shape({name: getattr(job, name) for name in Shape.__annotations__})


def pack_reply(reply: Reply) -> bytes:
    return marshal.dumps((reply.status, reply.failed_at, reply.errno, reply.missing, reply.notes, reply.used))


def unpack_reply(data: bytes) -> Reply:
    return Reply(*marshal.loads(data))


def pack_failure(errno: int, failed_at: str) -> bytes:
    """What a child says on its own error channel; nothing at all when the command began."""
    return marshal.dumps((errno, failed_at[:500]))


def unpack_failure(data: bytes) -> tuple[int, str]:
    errno, failed_at = marshal.loads(data)
    return errno, failed_at
