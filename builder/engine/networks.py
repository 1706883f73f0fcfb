"""Which network a command gets: by default one of its own where this machine has a user-mode stack, else the host's."""

from __future__ import annotations

import os
from _thread import allocate_lock  # `threading` costs 1 ms at start

from builder.errors import SandboxError
from builder.sandbox import stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from builder.engine.container import Process
    from builder.sandbox.rungs import Isolation
    from builder.sandbox.spec import SandboxSpec
    from builder.sandbox.stack import Stack

    Network = Literal["default", "host", "none"]


_CHROOT = stack.Stack("", "a chroot has no network of its own", "'pybuild doctor' says what a stronger rung takes")


def had_network(spec: SandboxSpec) -> str:
    """As events and records name it: the stack's program, ``host`` or ``none``."""
    return os.path.basename(spec.stack) if spec.network == "stack" else spec.network


class Networks:
    """For one build, or one command; for several threads. The stack is looked for once, by the first command that needs it,
    and `warn` is told once where there is none."""

    def __init__(self, isolation: Isolation, warn: Callable[[str], None]) -> None:
        self._path = isolation.path
        self._required = isolation.require_network
        self._chroot = isolation.rung == "chroot"
        self._warn = warn
        self._lock = allocate_lock()
        self._stack: Stack | None = None
        self._failed: tuple[str, ...] = ()
        self._told = False

    def connect(self, process: Process, network: Network) -> Process:
        """`process` with the network that is asked for. Raises SandboxError where the host's is refused in place of it."""
        process = process._replace(chroot=self._chroot)
        if self._chroot and network == "none":
            raise SandboxError("--isolation=chroot cannot take the network away", hint="leave --network=none out")
        if network == "host" and self._required:
            raise SandboxError(
                "--require-isolated-network: this command is to have the machine's own network",
                hint="leave --network=host out, or --require-isolated-network",
            )
        if network != "default":
            return process._replace(network=network, stack="")
        with self._lock:
            if self._stack is None:
                self._stack = _CHROOT if self._chroot else stack.find(self._path)
            found, told = self._stack, self._told
            self._told = self._told or not found.program
        if found.program:
            return process._replace(network="stack", stack=found.program)
        why = found.reason if self._chroot else f"there is no network stack here: {found.reason}"
        if self._required:
            raise SandboxError(f"--require-isolated-network: {why}", hint=found.hint)
        if not told:
            self._warn(
                f"the network of commands is the host's, since {why}; {found.hint}."
                " --network=host says that it is meant, --require-isolated-network makes it an error"
            )
        return process._replace(network="host", stack="")

    def reconnect(self, process: Process, failure: int) -> Process:
        """The same for a process whose stack did not come up, and for all that come after it; `failure` is the errno."""
        with self._lock:
            if process.stack not in self._failed:
                self._failed = (*self._failed, process.stack)
                other = stack.find(self._path, self._failed)
                self._stack = other if other.program else stack.broken(stack.Stack(process.stack), failure)
        return self.connect(process, "default")
