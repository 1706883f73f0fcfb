"""ssh agents for RUN --mount=type=ssh: the user's own, or one of ours that holds the keys of files.

A step never gets the agent's socket itself. It gets one of the builder's, which passes on two requests, to list keys and to
sign with one, and answers all others with a failure, as BuildKit does: a command cannot add, remove or lock keys.

The protocol is draft-ietf-sshm-ssh-agent: a length of four bytes, then a byte for the kind of message, then its body.
"""

from __future__ import annotations

import os
import socket
import threading

from builder.engine.keyagent import KeyAgent
from builder.engine.provided import AgentSocket
from builder.errors import BuildError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from builder.engine.provided import Agent, AgentKeys, Provided
    from builder.store.store import Store

_FAILURE = b"\x00\x00\x00\x01\x05"
_ALLOWED = (11, 13)
"""SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST."""
_MESSAGE_LIMIT = 256 << 10
"""Bytes, OpenSSH's own."""
_CONNECTIONS = 32
"""Of one step at once; more wait."""


class Agents:
    """The agents of one build, each begun when a step first needs it. For several threads; close it."""

    def __init__(self, provided: Provided, store: Store) -> None:
        self._provided = provided
        self._store = store
        self._lock = threading.Lock()
        self._own: dict[str, KeyAgent] = {}

    @property
    def given(self) -> Mapping[str, Agent]:
        return self._provided.agents

    def connect(self, agent: Agent) -> socket.socket:
        """A new connection. Raises UsageError."""
        if isinstance(agent, AgentSocket):
            try:
                return _connect(agent.path)
            except OSError as error:
                raise UsageError(
                    f"the ssh agent at '{agent.path}' does not answer: {error.strerror}",
                    hint="is it running? ssh-add -l asks it",
                ) from error
        return _connect(self._key_agent(agent).socket)

    def close(self) -> None:
        with self._lock:
            for agent in self._own.values():
                agent.close()
            self._own.clear()

    def _key_agent(self, keys: AgentKeys) -> KeyAgent:
        name = "\0".join(keys.paths)
        with self._lock:
            if name not in self._own:
                agent = KeyAgent(self._store.scratch(), self._provided.path)
                try:
                    for path in keys.paths:
                        agent.add(path)
                except BaseException:
                    agent.close()
                    raise
                self._own[name] = agent
            return self._own[name]


class Forward:
    """A socket at `path` that a step's command may connect to. A context manager: its end closes all connections."""

    def __init__(self, agents: Agents, agent: Agent, folder: str) -> None:
        self._agents = agents
        self._agent = agent
        self.path = os.path.join(folder, "agent")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._ended = False
        self._threads: list[threading.Thread] = []
        self._places = threading.Semaphore(_CONNECTIONS)

    def __enter__(self) -> Forward:
        try:
            # Whether the agent is there at all is told before the command runs.
            self._agents.connect(self._agent).close()
            with _Short(self.path) as path:
                self._listener.bind(path)
            self._listener.listen()
        except BaseException:
            self._listener.close()
            raise
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._ended = True
            self._listener.shutdown(socket.SHUT_RDWR)
            for connection in self._open:
                _shut(connection)
        self._places.release()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]  # one of the two below
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            self._places.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # Shut down: the step is over.
            if not self._keep(connection):
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        upstream: socket.socket | None = None
        try:
            while (message := _receive(connection)) is not None:
                if message[4] not in _ALLOWED:
                    connection.sendall(_FAILURE)
                    continue
                if upstream is None:
                    upstream = self._agents.connect(self._agent)
                    if not self._keep(upstream):
                        return
                upstream.sendall(message)
                answer = _receive(upstream)
                if answer is None:
                    return
                connection.sendall(answer)
        except (OSError, BuildError):
            return  # Either side is gone; the command sees its connection end.
        finally:
            self._forget(connection)
            if upstream is not None:
                self._forget(upstream)
            self._places.release()

    def _keep(self, connection: socket.socket) -> bool:
        with self._lock:
            if not self._ended:
                self._open.add(connection)
                return True
        connection.close()
        return False

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
            connection.close()


def _receive(connection: socket.socket) -> bytes | None:
    """One whole message with its length; None at the end, and for what is no message."""
    head = _exactly(connection, 4)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    body = _exactly(connection, length) if 0 < length <= _MESSAGE_LIMIT else None
    return None if body is None else head + body


def _exactly(connection: socket.socket, length: int) -> bytes | None:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            return None
        data += more
    return data


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # The other side was first.


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _Short(path) as short:
            connection.connect(short)
    except BaseException:
        connection.close()
        raise
    return connection


class _Short:
    """A short path to a socket whose own may have more than the 107 bytes that the kernel takes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        folder, name = os.path.split(os.path.abspath(self._path))
        self._fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{name}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._fd)
