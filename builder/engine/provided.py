"""What the command line provides for RUN --mount: secrets and ssh agents, as values. Pure.

No text that is made of these shows a secret.
"""

from __future__ import annotations

from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET_LIMIT = 500 << 10
"""Bytes, as BuildKit has it (session/secrets/secretsprovider)."""


class SecretFile(NamedTuple):
    path: str


class SecretValue(NamedTuple):
    """A secret that is at hand, from the environment."""

    data: bytes

    def __repr__(self) -> str:
        return "SecretValue(...)"


class SecretUnset(NamedTuple):
    """`--secret id=ID,env=NAME` where the environment has no such variable: as if it were not given, but told of."""

    variable: str


class AgentSocket(NamedTuple):
    """A running ssh agent."""

    path: str


class AgentKeys(NamedTuple):
    """Files with private keys, for an agent of ours."""

    paths: tuple[str, ...]


Secret = SecretFile | SecretValue | SecretUnset
Agent = AgentSocket | AgentKeys


class Provided(NamedTuple):
    """By id."""

    secrets: Mapping[str, Secret] = {}
    agents: Mapping[str, Agent] = {}
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where ssh-agent is looked for, as PATH has it."""
